"""The folder of a model that is being fine-tuned: what is kept on the way, and what is left.

`progress.json` says what is being made and `progress.pt` how far it is; both go when the model is
there. Every file is there whole or not at all.
"""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dovetail.errors import FolderRefused, NoSpace
from dovetail.formatting import one_line
from dovetail.journal import FULL
from evaluators.cache import sha256, write_atomically
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
                raise FolderRefused(f"{path} holds a finished model; name a new folder with --out")
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
                before, now = json.loads(there.read_text()), json.loads(json.dumps(about))
                if other := [
                    name for name in {**before, **now} if before.get(name) != now.get(name)
                ]:
                    raise FolderRefused(
                        f"{self.path} holds the beginning of another fine-tuning, of another "
                        f"{other[0]}; give the same command, or name a new folder with --out"
                    )
                return self._state()
        self._write(UNFINISHED, json.dumps(about, indent=1).encode())
        return None

    def _state(self) -> bytes | None:
        """What was kept last."""
        if not (path := self.path / STATE).exists():
            return None
        digest, _, state = path.read_bytes().partition(b"\n")
        if digest != sha256(state).encode():
            raise FolderRefused(f"{path} was changed; remove that file to begin at the first step")
        return state

    def restore(self, into: Callable[[bytes], None], state: bytes) -> None:
        """Goes on from a state; FolderRefused where it is none."""
        try:
            into(state)
        except ValueError as error:
            said = one_line(str(error), 200)
            raise FolderRefused(f"{self.path / STATE}: {said}; remove that file") from None

    def keep(self, state: bytes) -> None:
        """Keeps a state to go on from, behind its hash."""
        self._write(STATE, sha256(state).encode() + b"\n" + state)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While nobody else makes a model there; the folder was begun.

        Raises:
            FolderRefused: Another process does.
        """
        with (self.path / UNFINISHED).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise FolderRefused(
                    f"another process makes a model in {self.path}; wait for it, or name a new "
                    "folder with --out"
                ) from None
            yield

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
        except (OSError, ValueError, AttributeError) as error:
            said = one_line(str(error), 120)
            raise FolderRefused(
                f"{self.path} cannot be used ({said}); name another with --out"
            ) from None

    def _write(self, name: str, content: bytes) -> None:
        try:
            write_atomically(self.path / name, content)
        except OSError as error:
            where = f"{self.path / name} cannot be written ({error.strerror})"
            if error.errno in FULL:
                raise NoSpace(f"{where}; make room and give the same command again") from None
            raise FolderRefused(f"{where}; name another folder with --out") from None
