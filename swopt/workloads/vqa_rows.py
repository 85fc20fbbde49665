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
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
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
_KEPT_IMAGES = 8
"""Images whose pixels are kept while rows are read: rows about one image often stand together."""

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
    """Reads rows with their images; as `each_of` raises."""
    return tuple(each_of(path))


def each_of(path: Path) -> Iterator[Row]:
    """Reads rows one after the other, so that not all images are in memory at once.

    Raises:
        RowError: In one sentence, the line and the law that it breaks.
        ModuleNotFoundError: An image is a JPEG, and pillow is not installed.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise RowError(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise RowError(f"{path} is no text in UTF-8") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise RowError(f"{path} holds no row; it should have one a line, as JSON")
    pixels = lru_cache(maxsize=_KEPT_IMAGES)(
        lambda named: pictures.read(_image(path.parent, named))
    )
    for number, line in numbered:
        yield _row(path, number, line, pixels)


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
    if any("\ud800" <= sign <= "\udfff" for sign in value):
        raise RowError(f"{place}: {name} has half of a character (a lone surrogate); write it anew")
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
    plain = unicodedata.normalize("NFC", text.lower())
    kept = "".join(sign if _is_of_word(sign) else " " for sign in plain)
    return tuple(word for word in kept.split() if word not in _ARTICLES)


def _is_of_word(sign: str) -> bool:
    """A letter, a digit, a hyphen, or a mark on a letter, which vowels of many scripts are."""
    return sign.isalnum() or sign in "_-" or unicodedata.category(sign).startswith("M")


def _row(path: Path, number: int, line: str, pixels: Callable[[str], NDArray[np.uint8]]) -> Row:
    place = f"{path}, line {number}"
    try:
        found = json.loads(line, object_pairs_hook=_each_once)
    except _Twice as twice:
        raise RowError(f"{place}, has {str(twice)[:40]!r} twice") from None
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
    kind = _one_of(place, found, "kind", get_args(Kind), usual_kind(answer))
    split = _one_of(place, found, "split", get_args(Split), "test")
    try:
        return Row(number, question, answer, kind, split, pixels(image))
    except ValueError as error:
        raise RowError(f"{place}: {error}") from None


class _Twice(Exception):
    """A key that an object has twice."""


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return found


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
    if named.startswith("data:"):
        raise ValueError("its image begins with data:; leave all up to the comma out")
    path = folder / named
    try:
        if "\0" in named or not path.is_file():
            raise ValueError(f"its image {named[:200]!r} is no file")
        if path.stat().st_size > IMAGE_BYTES:
            raise ValueError(f"its image is larger than {IMAGE_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"its image {named[:200]} cannot be read ({error.strerror})") from None
