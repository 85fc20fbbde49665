"""What the tests of this room share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store of simulators for the whole session and all its workers: each is built once."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "simulators"
    folder.mkdir(exist_ok=True)
    return folder
