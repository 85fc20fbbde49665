"""What all tests share: none asserts how long something takes, and Ctrl-C reaches every child."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a shell that put the tests aside
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for the session and all its workers: a core is built and mapped once.

    That of `DOVETAIL_TEST_STORE` outlives the session, for `make test-long` after `make test`.
    """
    if named := os.environ.get("DOVETAIL_TEST_STORE"):
        folder = Path(named)
    else:
        base = tmp_path_factory.getbasetemp()
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "store"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def fresh_store(cache_dir: Path, tmp_path: Path) -> Path:
    """A store that knows no verdict and no figure; only what was built and mapped is shared."""
    store = tmp_path / "store"
    store.mkdir()
    for room in ("simulators", "silicon"):
        (cache_dir / room).mkdir(exist_ok=True)
        (store / room).symlink_to(cache_dir / room)
    return store
