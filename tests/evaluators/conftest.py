"""What the tests of this room share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store of simulators for the whole session: each netlist is built once."""
    return tmp_path_factory.mktemp("simulators")
