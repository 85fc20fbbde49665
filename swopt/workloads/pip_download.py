"""Has the pip of this interpreter download a file from a package index; it installs nothing."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

WATCH_S = 0.2
"""How often a download is looked at."""


class Ended(NamedTuple):
    """How pip ended."""

    code: int
    """Its exit code."""

    said: str
    """Its last complaint, or else its last line; `no word` where there is none."""


def pip_download(
    wanted: Sequence[str], what: str, made: Path, end: float, watch: Callable[[], None]
) -> Ended:
    """Downloads into a folder, with pip's own temporary files in it.

    Args:
        wanted: What pip is asked for, with the options that say how.
        what: A name of it for messages.
        made: The folder.
        end: When it has to be there, on the monotonic clock.
        watch: Called now and then; what it raises ends the download.

    Raises:
        ConnectionError: This Python has no pip, or the time is over.
    """
    if importlib.util.find_spec("pip") is None:
        raise ConnectionError(f"this Python has no pip to fetch {what} with")
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"),
        *("--disable-pip-version-check", "--no-input", "--dest", str(made), *wanted),
    ]
    complaints = made / "pip.txt"
    with complaints.open("wb") as said:
        running = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=os.environ | {"TMPDIR": str(made)},
        )
        try:
            while running.poll() is None:
                if time.monotonic() > end:
                    raise ConnectionError(f"{what} did not come in the time given")
                watch()
                time.sleep(WATCH_S)
        finally:
            running.kill()
            code = running.wait()
    lines = complaints.read_text(encoding="utf-8", errors="replace").split("\n")
    spoken = [line.strip() for line in lines if line.strip()]
    worst = [line for line in spoken if line.startswith("ERROR:")] or spoken or ["no word"]
    return Ended(code, worst[-1].removeprefix("ERROR:").strip())
