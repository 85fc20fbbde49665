"""The journal: append-only JSON lines, the only state of a run.

A line is `{"checksum":"<crc32>","record":<event>}` and a newline; the checksum (8 hex digits) is
over the raw bytes of the record, so that any changed byte shows. `docs/journal.md` is the format's
specification.

A line is on disk (fdatasync) before `append` returns, and nothing is written that could not be read
again. What a crash can leave is a last line without its newline: it was never acknowledged, and is
cut when the next line is written. Anything else that does not fit is corruption, and refused with
the line's number. A journal without one whole line is no run yet: its folder is free.
"""

import errno
import fcntl
import json
import os
import shlex
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Self

from pydantic import ValidationError

from dovetail.errors import FolderRefused, JournalCorrupt, NoSpace
from dovetail.events import EVENT, SCHEMA_VERSION, RunEvent, title
from dovetail.formatting import one_line
from dovetail.reading import first_fault

NAME = "journal.jsonl"
LOCK = "journal.lock"

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when there is no room."""

_HEAD = b'{"checksum":"'
_MIDDLE = b'","record":'
_DIGITS = 8


def encode(event: RunEvent) -> bytes:
    """The event's line, newline included."""
    record = EVENT.dump_json(event)
    return _HEAD + f"{zlib.crc32(record):08x}".encode() + _MIDDLE + record + b"}\n"


def decode(line: bytes, number: int) -> RunEvent:
    """The event of one line, without its newline.

    Args:
        line: The raw bytes.
        number: The line's number from 1, for the message and for the event's `sequence`.

    Raises:
        JournalCorrupt: the bytes are not those that were written, the line is out of its order, or
            its format is newer than this program.
    """
    if not _is_line(line):
        raise JournalCorrupt(
            f"line {number} of the journal was changed: its checksum does not fit its bytes; "
            "restore the file from a copy"
        )
    record = line[len(_HEAD) + _DIGITS + len(_MIDDLE) : -1]
    try:
        fields = json.loads(record)
    except (ValueError, RecursionError):
        raise JournalCorrupt(f"line {number} of the journal is no event: it is no JSON") from None
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise JournalCorrupt(
            f"line {number} of the journal has format {version}, and this Dovetail reads "
            f"formats up to {SCHEMA_VERSION}; install a newer Dovetail"
        )
    try:
        event = EVENT.validate_json(record)
    except ValidationError as error:
        where, _, law = first_fault(error)
        fault = one_line(f"{where} {law}")
        raise JournalCorrupt(f"line {number} of the journal is no event: {fault}") from None
    if event.sequence != number - 1:
        raise JournalCorrupt(
            f"line {number} of the journal has sequence {event.sequence}, not {number - 1}: "
            "lines were removed, repeated or moved"
        )
    return event


def parse(content: bytes) -> tuple[list[RunEvent], int]:
    """The events of a journal's bytes, and how many bytes at the end are a torn line.

    Raises:
        JournalCorrupt: with the line's number.
    """
    *lines, tail = content.split(b"\n")
    events = [decode(line, number) for number, line in enumerate(lines, start=1)]
    if tail and not _may_be_torn(tail):
        raise JournalCorrupt(
            f"line {len(lines) + 1} of the journal was changed: more bytes stand where it ends; "
            "restore the file from a copy"
        )
    return events, len(tail)


def read(folder: Path) -> list[RunEvent]:
    """The events of the run in `folder`, without changing a byte; a torn last line is left out.

    Raises:
        FolderRefused: there is no run, nothing was recorded yet, or it cannot be read.
        JournalCorrupt: a line was changed.
    """
    try:
        content = (folder / NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FolderRefused(
            f"{folder} holds no run: there is no {NAME} in it; `dovetail runs` lists what there is"
        ) from None
    except OSError as error:
        raise FolderRefused(f"{folder / NAME} cannot be read ({error.strerror})") from None
    events, _ = parse(content)
    if not events:
        raise FolderRefused(
            f"nothing was recorded in {folder} yet, so there is no run to go on with; the folder "
            f"may be used again: dovetail run --out {shlex.quote(str(folder))}"
        )
    return events


def begun(folder: Path) -> bool:
    """Whether the folder holds a journal with a line on record, readable or not."""
    try:
        content = (folder / NAME).read_bytes()
    except OSError:
        return False
    return not _nothing_recorded(content)


class Journal:
    """A run's journal, open for appending; one process at a time."""

    def __init__(self, file: IO[bytes], lock: IO[str], clock: Callable[[], float]) -> None:
        self.events: list[RunEvent] = []
        """Every event on record, in order of arrival."""
        self.torn_bytes = 0
        """Bytes of an unfinished last line found at opening; the next line takes their place."""
        self._file, self._lock, self._clock = file, lock, clock
        self._end = 0
        self._append = threading.Lock()

    @classmethod
    def create(cls, folder: Path, clock: Callable[[], float] = time.time) -> Self:
        """Starts the journal of a new run.

        The folder may exist if it is empty, or holds a journal in which nothing was recorded yet.

        Raises:
            FolderRefused: the folder is a run already, holds something else, or is in use.
        """
        try:
            if folder.exists() and not folder.is_dir():
                raise FolderRefused(f"{folder} is a file, not a folder; name a folder with --out")
            folder.mkdir(parents=True, exist_ok=True)
            _refuse_taken(folder)
            file, lock = _opened(folder, "a+b")
            # Only under the lock is it sure that nobody has just begun a run here.
            if _recorded(file):
                file.close()
                lock.close()
                raise FolderRefused(f"{folder} has just become a run; name another folder")
            file.truncate(0)
        except OSError as error:
            raise _refusal(error, folder, "name another folder with --out") from None
        return cls(file, lock, clock)

    @classmethod
    def resume(cls, folder: Path, clock: Callable[[], float] = time.time) -> Self:
        """Opens the journal of a run that exists; its file changes with the next line alone.

        Raises:
            FolderRefused: there is no run, nothing was recorded yet, another process works on it,
                or it cannot be written.
            JournalCorrupt: a line was changed.
        """
        read(folder)
        try:
            file, lock = _opened(folder, "r+b")
        except OSError as error:
            raise _refusal(error, folder, "make it writable, or resume a copy of it") from None
        journal = cls(file, lock, clock)
        content = file.read()
        journal.events, journal.torn_bytes = parse(content)
        journal._end = len(content) - journal.torn_bytes
        file.seek(journal._end)
        return journal

    def append(self, event: RunEvent) -> RunEvent:
        """Puts one event on record; it is on disk when this returns.

        Returns:
            The event with its sequence and time.

        Raises:
            NoSpace: the disk is full; the record ends with the event before.
            ValueError: it could not be read again, such as for a number that is not finite.
        """
        with self._append:
            stamps: dict[str, Any] = {"sequence": len(self.events), "time_s": self._clock()}
            stamped = event.model_copy(update=stamps)
            line = encode(stamped)
            _check_readable(stamped, line)
            try:
                # What a failure left of a line, here or in the process before, goes first.
                self._file.truncate(self._end)
                self._file.seek(self._end)
                _write_all(self._file, line)
                os.fdatasync(self._file.fileno())
            except OSError as error:
                if error.errno not in FULL:
                    raise
                self._file.truncate(self._end)
                raise NoSpace(
                    f"no room for the journal ({error.strerror}); make room and go on with "
                    "`dovetail resume`"
                ) from None
            self._end += len(line)
            self.events.append(stamped)
            return stamped

    def close(self) -> None:
        """Releases the lock; later appends fail."""
        with self._append:
            self._file.close()
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_readable(event: RunEvent, line: bytes) -> None:
    """Raises ValueError where the event would not come back from its line as it is."""
    try:
        # JSON has no word for them, and `encode` writes null.
        json.dumps(event.model_dump(mode="json"), allow_nan=False)
    except ValueError:
        raise ValueError(f"{title(event)} holds a number that is not finite") from None
    try:
        decode(line[:-1], event.sequence + 1)
    except JournalCorrupt as error:
        raise ValueError(f"{title(event)} could not be read again: {error}") from None


def _nothing_recorded(content: bytes) -> bool:
    """Whether a journal's bytes hold no acknowledged line: none at all, or one torn line."""
    return b"\n" not in content and (not content or _may_be_torn(content))


def _recorded(file: IO[bytes]) -> bool:
    file.seek(0)
    return not _nothing_recorded(file.read())


def _refuse_taken(folder: Path) -> None:
    """Raises FolderRefused where a folder is a run, or holds what is none of ours."""
    if begun(folder):
        raise FolderRefused(
            f"{folder} is a run already; go on with it (dovetail resume "
            f"{shlex.quote(str(folder))}) or name another folder with --out"
        )
    if any(path.name not in (NAME, LOCK) for path in folder.iterdir()):
        raise FolderRefused(f"{folder} is not an empty folder; name another one with --out")


def _is_line(line: bytes) -> bool:
    """Whether the bytes, without a newline, are a line with a fitting checksum."""
    start = len(_HEAD) + _DIGITS + len(_MIDDLE)
    digits, record = line[len(_HEAD) : len(_HEAD) + _DIGITS], line[start:-1]
    framed = line == _HEAD + digits + _MIDDLE + record + b"}"
    return framed and digits == f"{zlib.crc32(record):08x}".encode()


def _may_be_torn(tail: bytes) -> bool:
    """Whether bytes without a newline are what a crash leaves: the beginning of a line.

    A whole line and one more byte is not: there a newline was changed.
    """
    return _HEAD.startswith(tail[: len(_HEAD)]) and not _is_line(tail[:-1])


def _write_all(file: IO[bytes], line: bytes) -> None:
    while line:
        line = line[file.write(line) :]


def _opened(folder: Path, mode: str) -> tuple[IO[bytes], IO[str]]:
    """The journal's file and its lock, held.

    Raises:
        FolderRefused: another process holds it.
        OSError: the system says no.
    """
    lock = _locked(folder)
    try:
        file: IO[bytes] = (folder / NAME).open(mode, buffering=0)
    except OSError:
        lock.close()
        raise
    return file, lock


def _locked(folder: Path) -> IO[str]:
    """The lock file, held; the system releases it when the process ends, however it ends."""
    file = (folder / LOCK).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read(20).strip()
        file.close()
        who = f"process {holder}" if holder.isdigit() else "another process"
        raise FolderRefused(
            f"{who} works on {folder}; wait until it ends, or end it, or name another folder"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _refusal(error: OSError, folder: Path, remedy: str) -> FolderRefused | NoSpace:
    if error.errno in FULL:
        return NoSpace(f"no room for a run in {folder} ({error.strerror}); make room")
    return FolderRefused(f"cannot write in {folder} ({error.strerror}); {remedy}")
