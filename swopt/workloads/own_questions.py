"""One's own questions beside the model that was fine-tuned to them: packed once, read by each run.

What `vqa_rows` or `medical_vqa` read becomes a table: each image once, in the size that `tiny-vlm`
sees, and every answer one of a fixed set, the answers of the training questions, as models for
medical questions that classify have it (MEVF, Nguyen et al., MICCAI 2019).
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from swopt.workloads.checkpoint import QUESTIONS, TinyVlm, unusable
from swopt.workloads.image_grid import WHOLE, fitted
from swopt.workloads.vqa import SPLITS, Labels, Questions, Split
from swopt.workloads.vqa_rows import Kind, PackedRow, Question, Row, normalized

KINDS: tuple[Kind, ...] = ("closed", "open")
"""The sets of such a workload."""

ANSWERS_MAX = 4096
"""Most answers that a model chooses from; the rarer ones of training are left out."""

HELD_OUT = 8
"""Where there is no split for validation or for the test, one training image in so many is it."""

CALIBRATION_QUESTIONS = 64
"""Training questions that ranges are calibrated on."""

_SEED = 23
"""Chooses the images that are held out, and the questions of calibration."""


class NoQuestions(ValueError):
    """Rows that nothing can be learnt from; says why, and what to do."""


@dataclass(frozen=True)
class Table:
    """Questions in columns, `n` of them about `m` images.

    Attributes:
        images: uint8 `[m, 32, 32, 3]`.
        image: Which of them each question is about, int64 `[n]`.
        texts: The questions.
        answers: Index into the answer set, int64 `[n]`.
        kinds: Index into `KINDS`, int64 `[n]`.
        splits: Index into `SPLITS`, int64 `[n]`.
    """

    images: NDArray[np.uint8]
    image: NDArray[np.int64]
    texts: tuple[str, ...]
    answers: NDArray[np.int64]
    kinds: NDArray[np.int64]
    splits: NDArray[np.int64]

    def of(self, split: Split) -> NDArray[np.int64]:
        """The questions of a split, by index."""
        return np.flatnonzero(self.splits == SPLITS.index(split))

    def questions(self, indices: NDArray[np.int64]) -> Questions:
        """Some of them, without their answers."""
        return Questions(
            self.images[self.image[indices]],
            tuple(self.texts[i] for i in indices),
            tuple(KINDS[self.kinds[i]] for i in indices),
        )


_COLUMNS = ("images", "image", "answers", "kinds", "splits")


@dataclass(frozen=True)
class Packed:
    """What came of rows.

    Attributes:
        table: The questions.
        answers: The answer set, the most frequent first.
        unseen: Split -> questions left out whose answer is not in the set.
        long: Split -> questions left out that have too many words.
        merged: Answers that were taken for others, from which signs or articles alone tell them.
        shared: Images that more than one split has questions about.
    """

    table: Table
    answers: tuple[str, ...]
    unseen: dict[Split, int]
    long: dict[Split, int]
    merged: int
    shared: int

    def content(self) -> bytes:
        """Table and answer set as `questions.npz`."""
        file, table = BytesIO(), self.table
        columns = {name: getattr(table, name) for name in _COLUMNS}
        texts, answer_set = np.array(table.texts), np.array(self.answers)
        np.savez_compressed(file, texts=texts, answer_set=answer_set, **columns)
        return file.getvalue()


def pack(rows: Iterable[Row | PackedRow], words_max: int, words_of: "Words") -> Packed:
    """Makes rows a table.

    Args:
        rows: As they are read.
        words_max: Words that a question may have.
        words_of: Counts as the model's tokenizer does.

    Raises:
        NoQuestions: There are none to learn from, or all have one answer.
    """
    long: Counter[Split] = Counter()
    kept: list[Question] = []
    pictures = _Pictures()
    about: list[int] = []
    for row in rows:
        if len(words_of(row.question)) > words_max:
            long[row.split] += 1
            continue
        about.append(pictures.place_of(row))
        kept.append(Question(row.line, row.question, row.answer, row.kind, row.split))
    image = np.array(about, np.int64)
    splits = _held_out(np.array([SPLITS.index(row.split) for row in kept], np.int64), image)
    said = [" ".join(normalized(row.answer)) for row in kept]
    learnt = Counter(text for text, split in zip(said, splits, strict=True) if split == 0)
    answers = tuple(sorted(learnt, key=lambda text: (-learnt[text], text))[:ANSWERS_MAX])
    if len(answers) < 2:
        raise NoQuestions(
            f"the training questions have {len(answers)} different answers, and a model learns to "
            'choose from two or more; rows of training say "split": "train"'
        )
    at_answer = {text: index for index, text in enumerate(answers)}
    index = np.array([at_answer.get(text, -1) for text in said], np.int64)
    known = np.flatnonzero(index >= 0)
    table = Table(
        images=pictures.all(),
        image=image[known],
        texts=tuple(kept[i].question for i in known),
        answers=index[known],
        kinds=np.array([KINDS.index(kept[i].kind) for i in known], np.int64),
        splits=splits[known],
    )
    for split in ("val", "test"):
        if not np.any(splits == SPLITS.index(split)):
            raise NoQuestions(
                f"there is no question of the split {split}, and there are too few training images "
                "to hold some out for it; give rows of that split, or more images"
            )
        if not len(table.of(split)):
            raise NoQuestions(
                f"no question of the split {split} has an answer that a training question has; "
                "give more rows of training"
            )
    unseen = Counter(SPLITS[splits[i]] for i in np.flatnonzero(index < 0))
    return Packed(table, answers, dict(unseen), dict(long), _merged(kept), _shared(splits, image))


class _Pictures:
    """The different images of rows, each once, in the size that the model sees."""

    def __init__(self) -> None:
        self._small: list[NDArray[np.uint8]] = []
        self._places: dict[bytes, int] = {}
        self._of_packed: dict[bytes, int] = {}

    def place_of(self, row: Row | PackedRow) -> int:
        """Where a row's image stands among them; packed ones are unpacked once."""
        if isinstance(row, Row):
            return self._place(row.image)
        if row.packed not in self._of_packed:
            self._of_packed[row.packed] = self._place(row.image)
        return self._of_packed[row.packed]

    def all(self) -> NDArray[np.uint8]:
        """All of them, uint8 `[m, 32, 32, 3]`."""
        return np.array(self._small, np.uint8).reshape(-1, WHOLE, WHOLE, 3)

    def _place(self, image: NDArray[np.uint8]) -> int:
        small = fitted(image)
        place = self._places.setdefault(small.tobytes(), len(self._small))
        if place == len(self._small):
            self._small.append(small)
        return place


def _merged(rows: Sequence[Question]) -> int:
    """Answers that others are the same as but for signs and articles."""
    forms: dict[tuple[str, ...], set[str]] = {}
    for row in rows:
        plain = " ".join(row.answer.lower().rstrip(".!?").split())
        forms.setdefault(normalized(row.answer), set()).add(plain)
    return sum(len(each) - 1 for each in forms.values())


def _shared(splits: NDArray[np.int64], image: NDArray[np.int64]) -> int:
    """Images that more than one split has questions about."""
    return sum(len(set(splits[image == each].tolist())) > 1 for each in np.unique(image))


def words_max(base: TinyVlm) -> int:
    """Words of a question that a model takes beside the tokens of its image."""
    vision, text = base.config["vision_config"], base.config["text_config"]
    side = (
        int(vision["image_size"]) // int(vision["patch_size"]) // int(base.config["scale_factor"])
    )
    return int(text["max_position_embeddings"]) - side * side


class Words(Protocol):
    """The words of a text, as a model's tokenizer takes it apart."""

    def __call__(self, text: str) -> Sequence[str]:
        """The words."""
        ...


def _held_out(splits: NDArray[np.int64], image: NDArray[np.int64]) -> NDArray[np.int64]:
    """Splits with some training images given to those that have none, all questions of each."""
    splits = splits.copy()
    training = np.unique(image[splits == 0])
    order = np.random.default_rng(_SEED).permutation(training)
    share = max(1, len(order) // HELD_OUT)
    for split in (1, 2):
        if not np.any(splits == split) and len(order) > 2 * share:
            moved, order = order[:share], order[share:]
            splits[(splits == 0) & np.isin(image, moved)] = split
    return splits


@dataclass(frozen=True)
class OwnQuestions:
    """A `QuestionBank` of one's own.

    Attributes:
        name: Where they are from, in a word.
        table: All of them.
        answers: The answer set.
        unseen: Split -> questions that were left out, whose answer is not in the set.
        digest: SHA-256 of the file that they were read from.
    """

    name: str
    table: Table
    answers: tuple[str, ...]
    unseen: dict[str, int]
    digest: str

    @property
    def sets(self) -> tuple[str, ...]:
        """The kinds of questions that are measured on."""
        present = set(self.table.kinds[self.table.of("val")].tolist())
        return tuple(kind for index, kind in enumerate(KINDS) if index in present)

    @property
    def sha256(self) -> dict[str, str]:
        """Of the table's file."""
        return {QUESTIONS: self.digest}

    def describe(self) -> str:
        """Where they are from, how many there are, and how many were left out."""
        counts = {split: len(self.table.of(split)) for split in SPLITS}
        said = (
            f"{counts['train']} training, {counts['val']} validation and {counts['test']} test "
            f"questions of {self.name}, with {len(self.answers)} answers"
        )
        gone = {split: self.unseen.get(split, 0) for split in ("val", "test")}
        if any(gone.values()):
            said += (
                f" ({gone['val']} and {gone['test']} more are left out, whose answer is not among "
                "them)"
            )
        return said

    def asked(self, split: Split) -> tuple[Questions, Labels]:
        """The questions of a split; of `train` the few that serve calibration."""
        chosen = self.table.of(split)
        if split == "train":
            chosen = np.random.default_rng(_SEED).permutation(chosen)[:CALIBRATION_QUESTIONS]
        choices = [self._choices(kind) for kind in range(len(KINDS))]
        labels = Labels(
            self.table.answers[chosen], tuple(choices[self.table.kinds[i]] for i in chosen)
        )
        return self.table.questions(chosen), labels

    def practice(self, seed: int) -> Questions:
        """All training questions, the same for every seed."""
        return self.table.questions(self.table.of("train"))

    def _choices(self, kind: int) -> tuple[int, ...]:
        """Answers that questions of a kind have."""
        return tuple(np.unique(self.table.answers[self.table.kinds == kind]).tolist())


def load(vlm: TinyVlm) -> OwnQuestions:
    """The questions that a model was fine-tuned to.

    Raises:
        swopt.workloads.checkpoint.CheckpointError: They are missing or changed.
    """
    about = vlm.training
    try:
        sha256 = about["files_sha256"][QUESTIONS]
        table, answers = _table(vlm.folder / QUESTIONS, sha256)
        if answers != vlm.answers:
            raise ValueError(f"training.json has other answers than {QUESTIONS}")
        return OwnQuestions(about["of"], table, answers, about["unseen"], sha256)
    except Exception as error:  # numpy raises what it likes for a damaged file
        raise unusable(vlm.folder, error) from error


@lru_cache(maxsize=4)
def _table(path: Path, sha256: str) -> tuple[Table, tuple[str, ...]]:
    """What `Packed.content` wrote; read once for as long as it is to be the same."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path.name} is not the file that training.json names")
    with np.load(BytesIO(content), allow_pickle=False) as stored:
        columns = {name: stored[name] for name in _COLUMNS}
        texts, answers = (tuple(map(str, stored[name])) for name in ("texts", "answer_set"))
        return Table(texts=texts, **columns), answers
