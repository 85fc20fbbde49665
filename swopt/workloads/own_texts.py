"""One's own texts for a language model, from a file or a folder, in windows of tokens."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from swopt.workloads.code import WINDOW

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEXT_BYTES = 1 << 28
"""Most bytes of all texts together."""

HELD_OUT = 8
"""One file in so many is for validation; where there are fewer files, the last windows are."""

_SEED = 23
"""Chooses the files that are held out."""


class TextError(ValueError):
    """Texts that nothing can be learnt from; says why, and what to do."""


@dataclass(frozen=True)
class Texts:
    """Windows of tokens.

    Attributes:
        training: int64 `[n, WINDOW]`.
        validation: int64 `[m, WINDOW]`.
        files: How many there were.
        sha256: Of their names and contents.
    """

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    files: int
    sha256: str


def read(path: Path, suffix: str, tokenizer: "Tokenizer") -> Texts:
    """Reads a text, or all texts below a folder whose names end so.

    Texts of a split stand one behind the other, in the order of their names; what is left behind
    the last whole window is not used.

    Args:
        path: A file, whatever its name ends with, or a folder; links are not followed.
        suffix: Such as `.py`.
        tokenizer: Of the model.

    Raises:
        TextError: There is none, one is no UTF-8, or they are too short or too many.
    """
    texts = list(_contents(path, suffix))
    digest = hashlib.sha256()
    for name, content in texts:
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    ids = [_tokens(name, content, tokenizer) for name, content in texts]
    held = _held_out(len(ids))
    training = _windows([each for at, each in enumerate(ids) if at not in held])
    validation = _windows([each for at, each in enumerate(ids) if at in held])
    if not held:
        last = max(1, len(training) // HELD_OUT)
        training, validation = training[:-last], training[-last:]
    if not len(training) or not len(validation):
        raise TextError(
            f"{path} has {sum(map(len, ids)):,} tokens in {len(ids)} files, too few for training "
            f"and validation in windows of {WINDOW}; give more text"
        )
    return Texts(training, validation, len(ids), digest.hexdigest())


def _contents(path: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of each text, by name."""
    if path.is_dir():
        files = sorted(_below(path, suffix))
        if not files:
            raise TextError(f"{path} holds no file whose name ends with {suffix}; see --suffix")
    else:
        files = [path]
    total = 0
    for file in files:
        try:
            total += file.stat().st_size
            if total > TEXT_BYTES:
                raise TextError(f"{path} holds more than {TEXT_BYTES >> 20} MiB of text; give less")
            yield str(file.relative_to(path)) if file != path else file.name, file.read_bytes()
        except OSError as error:
            raise TextError(f"{file} cannot be read ({error.strerror})") from None


def _below(folder: Path, suffix: str) -> Iterator[Path]:
    for home, _, names in os.walk(folder, followlinks=False):
        for name in names:
            if name.endswith(suffix) and (file := Path(home) / name).is_file():
                yield file


def _tokens(name: str, content: bytes, tokenizer: "Tokenizer") -> Sequence[int]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise TextError(f"{name} is no text in UTF-8; convert it, or leave it out") from None
    ids: Sequence[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def _held_out(count: int) -> frozenset[int]:
    """Which of some files are for validation."""
    order = np.random.default_rng(_SEED).permutation(count).tolist()
    return frozenset(order[: count // HELD_OUT])


def _windows(texts: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    stream = np.array([token for text in texts for token in text], np.int64)
    count = len(stream) // WINDOW
    windows: NDArray[np.int64] = stream[: count * WINDOW].reshape(count, WINDOW)
    return windows
