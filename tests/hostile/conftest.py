"""What the tests of this room share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.canaries import SECRET, Canaries


@pytest.fixture
def canaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Canaries]:
    """Canaries around one attack, with a key in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    folder = tmp_path / "canaries"
    folder.mkdir()
    made = Canaries(folder)
    yield made
    made.close()
