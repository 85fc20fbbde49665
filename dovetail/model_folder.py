"""The folder of a model that is being fine-tuned: what is kept on the way, and what is left.

`progress.json` says what is being made and `progress.pt` how far it is; both go when the model is
there. Every file is there whole or not at all.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dovetail.errors import FolderRefused, NoSpace
from dovetail.formatting import one_line
from dovetail.journal import FULL
from swopt.workloads.checkpoint import UNFINISHED

STATE, RECORD = "progress.pt", "training.json"


class ModelFolder:
    """A folder that a model is put into, step by step.

    Args:
        path: Where.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self) -> None:
        """Looks whether a model may be made there; nothing is written.

        Raises:
            FolderRefused: It holds something else, a finished model too.
        """
        path = self.path
        with self._usable():
            if (path / RECORD).exists():
                raise FolderRefused(f"{path} holds a model; name a new folder with --out")
            begun = (path / UNFINISHED).is_file()
            if path.exists() and not begun and (not path.is_dir() or any(path.iterdir())):
                raise FolderRefused(f"{path} holds something else; name a new folder with --out")

    def begin(self, about: dict[str, Any]) -> bytes | None:
        """Makes the folder, or finds the state that was kept of the same fine-tuning.

        Args:
            about: All that its outcome hangs on, as JSON has it.

        Raises:
            FolderRefused: It holds something else, or cannot be written.
        """
        self.check()
        with self._usable():
            if (there := self.path / UNFINISHED).is_file():
                if json.loads(there.read_text()) != json.loads(json.dumps(about)):
                    raise FolderRefused(
                        f"{self.path} holds the beginning of another fine-tuning, with other data, "
                        "settings or versions; give the same command, or name a new folder with "
                        "--out"
                    )
                state = self.path / STATE
                return state.read_bytes() if state.is_file() else None
        self._write(UNFINISHED, json.dumps(about, indent=1).encode())
        return None

    def keep(self, state: bytes) -> None:
        """Keeps a state to go on from."""
        self._write(STATE, state)

    def finish(self, files: dict[str, bytes], record: dict[str, Any]) -> None:
        """Writes the model, `training.json` last; what was kept on the way goes."""
        for name, content in files.items():
            self._write(name, content)
        self._write(RECORD, (json.dumps(record, indent=2) + "\n").encode())
        for name in (STATE, UNFINISHED):
            (self.path / name).unlink(missing_ok=True)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """What reading there raises, as a refusal."""
        try:
            yield
        except (OSError, ValueError) as error:
            said = one_line(str(error), 120)
            raise FolderRefused(
                f"{self.path} cannot be used ({said}); name another with --out"
            ) from None

    def _write(self, name: str, content: bytes) -> None:
        from evaluators.cache import write_atomically

        try:
            write_atomically(self.path / name, content)
        except OSError as error:
            where = f"{self.path / name} cannot be written ({error.strerror})"
            if error.errno in FULL:
                raise NoSpace(f"{where}; make room and give the same command again") from None
            raise FolderRefused(f"{where}; name another folder with --out") from None
