"""Visual question answering: for each image set the questions, their phrasings and answers."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from swopt.workloads.synthetic import ATTRIBUTES, draw

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
"""In the order of their use."""

SYNTHETIC = "synthetic"
"""The name of the synthetic set wherever sets are named."""

SYNTHETIC_SEEDS: dict[Split, int] = {"train": 1, "val": 2, "test": 3}
"""What the splits of the synthetic set are drawn from."""

IMAGE, PAD, UNKNOWN = "<image>", "<pad>", "<unk>"


@dataclass(frozen=True)
class Task:
    """One question of one image set.

    Attributes:
        phrasings: Ways to ask it, at least 3, in words of the tokenizer.
        answers: Single words in the order of their label.
        ordinal: Whether neighbouring labels are closer than distant ones.
    """

    phrasings: tuple[str, ...]
    answers: tuple[str, ...]
    ordinal: bool = False


def _which(scan: str, what: str, *answers: str) -> tuple[Task, ...]:
    phrasings = (
        f"which {what} does this {scan} show ?",
        f"what is the {what} in this {scan} ?",
        f"name the {what} of the {scan} .",
    )
    return (Task(phrasings, answers),)


_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver"),
    *("lung-left", "lung-right", "pancreas", "spleen"),
)
_FINDINGS = (
    *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia"),
    *("pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
)

TASKS: dict[str, tuple[Task, ...]] = {
    "breastmnist": (
        Task(
            (
                "is this breast ultrasound malignant or benign ?",
                "what does the breast ultrasound show ?",
                "name the finding in this ultrasound .",
            ),
            ("malignant", "benign"),
        ),
    ),
    "retinamnist": (
        Task(
            (
                "how severe is the retinopathy in this fundus ?",
                "which grade of retinopathy does this fundus show ?",
                "grade the retinopathy .",
            ),
            ("absent", "mild", "moderate", "severe", "proliferative"),
            ordinal=True,
        ),
    ),
    "pneumoniamnist": _which("chest x-ray", "finding", "normal", "pneumonia"),
    "chestmnist": tuple(
        Task(
            (
                f"is there {finding} in this chest x-ray ?",
                f"does this chest x-ray show {finding} ?",
                f"{finding} ?",
            ),
            ("no", "yes"),
        )
        for finding in _FINDINGS
    ),
    "pathmnist": _which(
        *("histology slide", "tissue", "adipose", "background", "debris", "lymphocytes", "mucus"),
        *("muscle", "mucosa", "stroma", "adenocarcinoma"),
    ),
    "dermamnist": _which(
        *("skin photograph", "lesion", "actinic-keratosis", "basal-cell-carcinoma"),
        *("benign-keratosis", "dermatofibroma", "melanoma", "nevus", "vascular"),
    ),
    "octmnist": _which(
        *("retinal tomography", "disease", "neovascularization", "macular-edema", "drusen"),
        "normal",
    ),
    "bloodmnist": _which(
        *("blood smear", "cell", "basophil", "eosinophil", "erythroblast"),
        *("immature-granulocyte", "lymphocyte", "monocyte", "neutrophil", "platelet"),
    ),
    "tissuemnist": _which(
        *("kidney microscopy", "cell", "collecting-duct", "distal-tubule"),
        *("glomerular-endothelial", "interstitial-endothelial", "leukocyte", "podocyte"),
        *("proximal-tubule", "ascending-limb"),
    ),
    "organamnist": _which("axial tomography", "organ", *_ORGANS),
    "organcmnist": _which("coronal tomography", "organ", *_ORGANS),
    "organsmnist": _which("sagittal tomography", "organ", *_ORGANS),
    SYNTHETIC: tuple(
        Task(phrasings, ATTRIBUTES[name])
        for name, phrasings in {
            "lesion": (
                "is there a lesion in this scan ?",
                "does this scan show a lesion ?",
                "lesion ?",
            ),
            "margin": (
                "is the margin smooth or irregular ?",
                "what is the margin of the lesion ?",
                "name the margin .",
            ),
            "side": (
                "on which side is the lesion ?",
                "is the lesion left or right ?",
                "which side ?",
            ),
            "orientation": (
                "is the lesion wide or tall ?",
                "what is the orientation of the lesion ?",
                "wide or tall ?",
            ),
            "size": (
                "is the lesion small or large ?",
                "what is the size of the lesion ?",
                "how large is it ?",
            ),
            "bright": (
                "how many bright spots are there ?",
                "are there bright spots ?",
                "count the bright spots .",
            ),
            "dark": (
                "how many dark spots are there ?",
                "are there dark spots ?",
                "count the dark spots .",
            ),
            "disc": (
                "on which side is the disc ?",
                "is the disc left or right ?",
                "where is the disc ?",
            ),
        }.items()
    ),
}
"""Image set -> its questions. ChestMNIST has one a finding; the synthetic set one an attribute."""


@dataclass(frozen=True)
class LabelledImages:
    """One split of one set, with what is known of each image.

    Attributes:
        name: The set's name.
        images: uint8 `[n, 28, 28, 3]`.
        labels: int64 `[n, tasks]`, the answer's index in its task, -1 where it does not apply.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Questions:
    """Questions without their answers: what a model sees.

    Attributes:
        images: uint8 `[n, 28, 28, 3]`.
        texts: One question each.
        sets: The image set that each comes from.
    """

    images: NDArray[np.uint8]
    texts: tuple[str, ...]
    sets: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: NDArray[np.int64] | list[int]) -> "Questions":
        """The questions at `indices`, in that order."""
        return Questions(
            self.images[np.asarray(indices, np.int64)],
            tuple(self.texts[i] for i in indices),
            tuple(self.sets[i] for i in indices),
        )


@dataclass(frozen=True)
class Labels:
    """The true answers of as many questions, which only training and scoring may see.

    Attributes:
        answers: int64 `[n]`, indices into the workload's answer set.
        choices: For each question the indices that its own task allows.
    """

    answers: NDArray[np.int64]
    choices: tuple[tuple[int, ...], ...]


def shortest(text: str) -> str:
    """The shortest way to ask a question of the tables, of equal ones the first; else `text`."""
    for tasks in TASKS.values():
        for task in tasks:
            if text in task.phrasings:
                return min(task.phrasings, key=lambda phrasing: len(phrasing.split()))
    return text


def synthetic_images(split: Split, count: int) -> LabelledImages:
    """The first `count` images of one split of the synthetic set; each split has its own seed."""
    drawn = draw(SYNTHETIC_SEEDS[split], count)
    return LabelledImages(
        SYNTHETIC, drawn.images, np.stack([drawn.truth[name] for name in ATTRIBUTES], 1)
    )


def answer_set(sets: tuple[str, ...]) -> tuple[str, ...]:
    """Every answer that a question of `sets` may have, each once, in the order of the tables."""
    return tuple(dict.fromkeys(a for name in sets for task in TASKS[name] for a in task.answers))


def one_question_each(
    part: LabelledImages, answers: tuple[str, ...], seed: int
) -> tuple[Questions, Labels]:
    """Asks one question of each image: a task that applies to it and a phrasing, by `seed`."""
    rng = np.random.default_rng(seed)
    tasks = TASKS[part.name]
    texts: list[str] = []
    truth: list[int] = []
    choices: list[tuple[int, ...]] = []
    for labels in part.labels:
        applicable = np.flatnonzero(labels >= 0)
        index = int(applicable[rng.integers(len(applicable))])
        task = tasks[index]
        texts.append(task.phrasings[int(rng.integers(len(task.phrasings)))])
        truth.append(answers.index(task.answers[int(labels[index])]))
        choices.append(tuple(answers.index(answer) for answer in task.answers))
    questions = Questions(part.images, tuple(texts), (part.name,) * len(texts))
    return questions, Labels(np.array(truth, np.int64), tuple(choices))


def asked_of(
    parts: tuple[LabelledImages, ...], answers: tuple[str, ...], seed: int
) -> tuple[Questions, Labels]:
    """One question of each image of several sets, set after set."""
    asked = [one_question_each(part, answers, seed) for part in parts]
    questions = Questions(
        np.concatenate([q.images for q, _ in asked]),
        tuple(text for q, _ in asked for text in q.texts),
        tuple(name for q, _ in asked for name in q.sets),
    )
    labels = Labels(
        np.concatenate([known.answers for _, known in asked]),
        tuple(choice for _, known in asked for choice in known.choices),
    )
    return questions, labels


def vocabulary() -> tuple[str, ...]:
    """The words of all questions and answers, after the special tokens; under 512."""
    words = {
        word
        for tasks in TASKS.values()
        for task in tasks
        for text in (*task.phrasings, *task.answers)
        for word in text.split()
    }
    return (PAD, UNKNOWN, IMAGE, *sorted(words))
