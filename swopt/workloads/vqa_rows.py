"""One's own visual question answering: JSON lines of image, question and answer, and their scores.

A row has `image` (a path, relative to the file, or a PNG in base64), `question` and `answer`, and
may have `kind` (`closed` or `open`; without it, an answer of yes or no is closed) and `split`.

Closed questions are scored by accuracy and open ones by token recall, as medical VQA sets are
(VQA-RAD, SLAKE, PathVQA; LLaVA-Med, Li et al., NeurIPS 2023): the share of the true
answer's words that stand in what was said. Recall alone does not punish talking at length.
"""

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from swopt.workloads import png
from swopt.workloads.vqa import Split

Kind = Literal["closed", "open"]

IMAGE_BYTES = 1 << 26
"""Largest image file that is read."""

_FIELDS = frozenset({"image", "question", "answer", "kind", "split"})
_NO_WORD = re.compile(r"[^\w\s-]")
_ARTICLES = frozenset({"a", "an", "the"})


class RowError(ValueError):
    """A row that breaks a law; says which line and which law."""


@dataclass(frozen=True)
class Row:
    """A question about an image.

    Attributes:
        line: Where in the file it stands, from 1 on.
        image: uint8 `[height, width, 3]`.
        question: As it is to be asked.
        answer: The true one.
        kind: How it is scored.
        split: What it is for.
    """

    line: int
    image: NDArray[np.uint8]
    question: str
    answer: str
    kind: Kind
    split: Split


@dataclass(frozen=True)
class RowScore:
    """What was said to a set of rows.

    Attributes:
        closed: 1 where the answer is the true one, by closed question, float64 `[n]`.
        open: Token recall, by open question, float64 `[n]`.
    """

    closed: NDArray[np.float64]
    open: NDArray[np.float64]


def read(path: Path) -> tuple[Row, ...]:
    """Reads rows with their images.

    Raises:
        RowError: In one sentence, the line and the law that it breaks.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise RowError(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise RowError(f"{path} is no text in UTF-8") from None
    rows = tuple(_row(path, n, line) for n, line in enumerate(lines, 1) if line.strip())
    if not rows:
        raise RowError(f"{path} holds no row; it should have one a line, as JSON")
    return rows


def check_words(path: Path, rows: Sequence[Row], words: Collection[str]) -> None:
    """Refuses rows whose words a closed vocabulary lacks, such as `vqa.vocabulary()`.

    Raises:
        RowError: The first such row, and its word.
    """
    for row in rows:
        for word in f"{row.question} {row.answer}".split():
            if word not in words:
                raise RowError(
                    f"{path}, line {row.line}: the model's vocabulary of {len(words)} words lacks "
                    f"{word[:40]!r}; ask in its words, or use a model with a tokenizer of pieces"
                )


def normalized(text: str) -> tuple[str, ...]:
    """The words that answers are compared by: lower case, no punctuation, no articles."""
    return tuple(w for w in _NO_WORD.sub(" ", text.lower()).split() if w not in _ARTICLES)


def closed_match(said: str, answer: str) -> bool:
    """Whether both are the same words."""
    return normalized(said) == normalized(answer)


def token_recall(said: str, answer: str) -> float:
    """Share of the true answer's words, each as often as it stands there, that were said."""
    wanted, given = Counter(normalized(answer)), Counter(normalized(said))
    return (wanted & given).total() / wanted.total()


def score(rows: Sequence[Row], said: Sequence[str]) -> RowScore:
    """Scores what was said, one text a row.

    Raises:
        ValueError: There are more or fewer texts than rows.
    """
    if len(rows) != len(said):
        raise ValueError(f"{len(rows)} rows take as many answers, not {len(said)}")
    pairs = list(zip(rows, said, strict=True))
    return RowScore(
        np.array([closed_match(s, r.answer) for r, s in pairs if r.kind == "closed"], np.float64),
        np.array([token_recall(s, r.answer) for r, s in pairs if r.kind == "open"], np.float64),
    )


def _row(path: Path, number: int, line: str) -> Row:
    place = f"{path}, line {number}"
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise RowError(f"{place}, is no JSON; the file may be cut off") from None
    if not isinstance(found, dict):
        raise RowError(f"{place}, is no JSON object of image, question and answer")
    if unknown := sorted(found.keys() - _FIELDS):
        known = ", ".join(sorted(_FIELDS))
        raise RowError(f"{place}, has {unknown[0][:40]!r}, which is none of {known}")
    image, question, answer = (_text(place, found, n) for n in ("image", "question", "answer"))
    if not normalized(answer):
        raise RowError(f"{place}: its answer has no word to be compared")
    usual: Kind = "closed" if normalized(answer) in (("yes",), ("no",)) else "open"
    kind = _one_of(place, found, "kind", get_args(Kind), usual)
    split = _one_of(place, found, "split", get_args(Split), "test")
    try:
        pixels = png.read(_image(path.parent, image))
    except ValueError as error:
        raise RowError(f"{place}: {error}") from None
    return Row(number, pixels, question, answer, kind, split)


def _text(place: str, row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise RowError(f"{place}, needs {name}, a text that is not empty")
    return value.strip()


def _one_of(place: str, row: dict[str, Any], name: str, known: Sequence[str], usual: str) -> Any:
    value = row.get(name, usual)
    if value not in known:
        raise RowError(f"{place}: {name} is one of {', '.join(known)}, not {str(value)[:40]!r}")
    return value


def _image(folder: Path, named: str) -> bytes:
    """The file's content: what base64 holds that begins as a PNG does, else of a path."""
    if named.startswith(base64.b64encode(png.SIGNATURE)[:10].decode()):
        try:
            return base64.b64decode(named, validate=True)
        except binascii.Error:
            raise ValueError("its image is no whole base64") from None
    path = folder / named
    try:
        if path.stat().st_size > IMAGE_BYTES:
            raise ValueError(f"its image is larger than {IMAGE_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"its image {named[:200]} cannot be read ({error.strerror})") from None
