"""A content-addressed store of results, one for all runs of a user."""

import fcntl
import hashlib
import json
import os
import platform
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

Value = TypeVar("Value", bound=BaseModel)


def root() -> Path:
    """The store's folder: `DOVETAIL_CACHE_DIR`, else `dovetail` in the user's cache folder.

    The XDG base directory specification has a relative `XDG_CACHE_HOME` ignored: it would put a
    store into every folder that a command is typed in.
    """
    if named := os.environ.get("DOVETAIL_CACHE_DIR"):
        return Path(named).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "dovetail"


def key(inputs: Mapping[str, str]) -> str:
    """SHA-256 over named inputs, in whatever order they are given."""
    text = json.dumps(dict(inputs), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sha256(content: str | bytes) -> str:
    """SHA-256 of a text (as UTF-8) or of bytes, in hex."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


@cache
def code_sha256(*floors: str) -> str:
    """SHA-256 over the sources that shape a number.

    It is part of every key, so that a result never outlives the code that made it.

    Args:
        floors: Packages; none for hwlib, swopt and evaluators.
    """
    house = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for floor in floors or ("hwlib", "swopt", "evaluators"):
        for path in sorted((house / floor).rglob("*.py")):
            digest.update(str(path.relative_to(house)).encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of installed packages, without importing them."""
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


class NotKept(Exception):
    """A value would have to be made, where only kept ones were asked for."""


_ONLY_KEPT: ContextVar[bool] = ContextVar("only_kept", default=False)


@contextmanager
def only_kept() -> Iterator[None]:
    """Within it `remembered` makes nothing: what is not stored raises `NotKept`."""
    token = _ONLY_KEPT.set(True)
    try:
        yield
    finally:
        _ONLY_KEPT.reset(token)


def remembered(
    cache_dir: Path, room: str, key: str, kind: type[Value], measure: Callable[[], Value]
) -> Value:
    """The value stored under `key`, or else `measure()`, which is then stored.

    Args:
        cache_dir: The store's folder.
        room: Sub-folder, the name of what is stored.
        key: Content address of everything that the value depends on.
        kind: The value's model; a stored text that does not fit it is measured again.
        measure: Makes the value. What it raises passes through and nothing is stored.

    Raises:
        NotKept: Within `only_kept`, where nothing is stored.
    """
    path = cache_dir / room / key[:2] / f"{key}.json"
    if (kept := _kept(path, kind)) is not None:
        return kept
    if _ONLY_KEPT.get():
        raise NotKept(room)
    # Workers side by side often measure designs that share a netlist: one of them does it.
    with claimed(path, wait=True):
        value = _kept(path, kind)
        if value is None:
            value = measure()
            write_atomically(path, value.model_dump_json().encode())
    return value


def _kept(path: Path, kind: type[Value]) -> Value | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


@contextmanager
def claimed(path: Path, wait: bool) -> Iterator[bool]:
    """Whether it falls to the caller to make a file, which processes side by side may all need.

    False where another is making it and `wait` is false. With `wait` the claim comes when the other
    is done, or dead: whoever has one looks again whether the file is there. A claim saves work; two
    makers of one file do no harm.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    claim = path.parent / f".making-{path.name}"
    with claim.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks
            pass
        try:
            yield True
        finally:
            claim.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that a reader, or a crash, sees all of it or nothing.

    It gets the mode that the umask gives; `tempfile` would keep a shared store to its writer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".writing-{secrets.token_hex(8)}"
    try:
        with temporary.open("xb") as file:
            file.write(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
