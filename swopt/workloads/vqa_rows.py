"""One's own visual question answering: JSON lines of image, question and answer, and their scores.

A row has `image` (a path, relative to the file, or a PNG or JPEG in base64), `question` and
`answer`, and may have `kind` (`closed` or `open`; without it, an answer of yes or no is closed) and
`split`. `swopt.workloads.medical_vqa` gives rows of the public medical sets.

Closed questions are scored by accuracy and open ones by token recall, as LLaVA-Med does for medical
sets (Li et al., NeurIPS 2023): the share of the true answer's words that stand in what was said.
Recall alone does not punish talking at length, so open ones also have an exact match and a token F1
(Rajpurkar et al., SQuAD, EMNLP 2016).
"""

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from swopt.workloads import pictures, png
from swopt.workloads.vqa import Split

Kind = Literal["closed", "open"]

IMAGE_BYTES = 1 << 26
"""Largest image file that is read."""

_FIELDS = frozenset({"image", "question", "answer", "kind", "split"})
_NO_WORD = re.compile(r"[^\w\s-]")
_ARTICLES = frozenset({"a", "an", "the"})
_BASE64 = (
    base64.b64encode(png.SIGNATURE)[:10].decode(),
    base64.b64encode(pictures.JPEG).decode(),
)


class RowError(ValueError):
    """A row that breaks a law; says which line and which law."""


@dataclass(frozen=True)
class Question:
    """A question about an image, and its answer.

    Attributes:
        line: Where in the file it stands, from 1 on.
        question: As it is to be asked.
        answer: The true one.
        kind: How it is scored.
        split: What it is for.
    """

    line: int
    question: str
    answer: str
    kind: Kind
    split: Split


@dataclass(frozen=True)
class Row(Question):
    """A question with its image.

    Attributes:
        image: uint8 `[height, width, 3]`.
    """

    image: NDArray[np.uint8]


@dataclass(frozen=True)
class PackedRow(Question):
    """A question with its image as the file has it; rows of one image share its bytes.

    Attributes:
        file: Where it stands, for messages.
        packed: A JPEG or a PNG.
    """

    file: str
    packed: bytes = field(repr=False)

    @property
    def image(self) -> NDArray[np.uint8]:
        """uint8 `[height, width, 3]`, unpacked anew each time.

        Raises:
            RowError: It is none, damaged or too large.
            ModuleNotFoundError: pillow is not installed.
        """
        try:
            return pictures.read_any(self.packed)
        except ValueError as error:
            raise RowError(f"{self.file}, row {self.line}: {error}") from None


@dataclass(frozen=True)
class RowScore:
    """What was said to a set of rows.

    Attributes:
        closed: 1 where the answer is the true one, by closed question, float64 `[n]`.
        open: Token recall, by open question, float64 `[n]`.
        open_exact: 1 where the answer is the true one, by open question, float64 `[n]`.
        open_f1: Token F1, by open question, float64 `[n]`.
    """

    closed: NDArray[np.float64]
    open: NDArray[np.float64]
    open_exact: NDArray[np.float64]
    open_f1: NDArray[np.float64]


def read(path: Path) -> tuple[Row, ...]:
    """Reads rows with their images.

    Raises:
        RowError: In one sentence, the line and the law that it breaks.
        ModuleNotFoundError: An image is a JPEG, and pillow is not installed.
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


def check_words(path: Path, rows: Sequence[Question], words: Collection[str]) -> None:
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


def text_of(place: str, name: str, value: object) -> str:
    """The text of a field, without the blanks around it.

    Args:
        place: Where the row stands.
        name: Of the field.
        value: What the row has there; None for nothing.

    Raises:
        RowError: It is no text, or empty.
    """
    if not isinstance(value, str) or not value.strip():
        raise RowError(f"{place}, needs {name}, a text that is not empty")
    return value.strip()


def normalized(text: str) -> tuple[str, ...]:
    """The words that answers are compared by: lower case, no punctuation, no articles.

    A text of nothing else, such as `+` or `the`, is compared as it is, in lower case.
    """
    return _words(text) or tuple(text.lower().split())


def usual_kind(answer: str) -> Kind:
    """Closed where the answer is yes or no."""
    return "closed" if normalized(answer) in (("yes",), ("no",)) else "open"


def exact_match(said: str, answer: str) -> bool:
    """Whether both are the same words."""
    return normalized(said) == normalized(answer)


def token_recall(said: str, answer: str) -> float:
    """Share of the true answer's words, each as often as it stands there, that were said."""
    wanted, given = Counter(normalized(answer)), Counter(normalized(said))
    return (wanted & given).total() / wanted.total()


def token_f1(said: str, answer: str) -> float:
    """Harmonic mean of token recall and of the share of what was said that is right."""
    wanted, given = Counter(normalized(answer)), Counter(normalized(said))
    return 2 * (wanted & given).total() / (wanted.total() + given.total())


def score(rows: Sequence[Question], said: Sequence[str]) -> RowScore:
    """Scores what was said, one text a row.

    Raises:
        ValueError: There are more or fewer texts than rows.
    """
    if len(rows) != len(said):
        raise ValueError(f"{len(rows)} rows take as many answers, not {len(said)}")
    pairs = [(row.kind, text, row.answer) for row, text in zip(rows, said, strict=True)]

    def scored(kind: Kind, compare: Callable[[str, str], float]) -> NDArray[np.float64]:
        return np.array([compare(text, true) for k, text, true in pairs if k == kind], np.float64)

    return RowScore(
        closed=scored("closed", exact_match),
        open=scored("open", token_recall),
        open_exact=scored("open", exact_match),
        open_f1=scored("open", token_f1),
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(w for w in _NO_WORD.sub(" ", text.lower()).split() if w not in _ARTICLES)


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
    image, question, answer = (
        text_of(place, n, found.get(n)) for n in ("image", "question", "answer")
    )
    if not _words(answer):
        raise RowError(f"{place}: its answer has no word to be compared")
    kind = _one_of(place, found, "kind", get_args(Kind), usual_kind(answer))
    split = _one_of(place, found, "split", get_args(Split), "test")
    try:
        pixels = pictures.read(_image(path.parent, image))
    except ValueError as error:
        raise RowError(f"{place}: {error}") from None
    return Row(number, question, answer, kind, split, pixels)


def _one_of(place: str, row: dict[str, Any], name: str, known: Sequence[str], usual: str) -> Any:
    value = row.get(name, usual)
    if value not in known:
        raise RowError(f"{place}: {name} is one of {', '.join(known)}, not {str(value)[:40]!r}")
    return value


def _image(folder: Path, named: str) -> bytes:
    """The file's content: what base64 holds that begins as a PNG or JPEG does, else of a path."""
    if named.startswith(_BASE64):
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
