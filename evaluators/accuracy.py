"""How well a model answers: likelihood, accuracy, balanced accuracy, AUC, and paired differences.

True answers enter the program here and nowhere above the workload.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from swopt.compiler.integer_model import IntegerModel
from swopt.workloads.vqa import SYNTHETIC, Labels
from swopt.workloads.workload import Workload

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Answered:
    """A model's scores on one split, with what was true.

    Attributes:
        log_probabilities: Over the fixed answer set, `[n, answers]`.
        labels: The true answers.
        sets: The image set of each question.
    """

    log_probabilities: Array
    labels: Labels
    sets: tuple[str, ...]

    def nll_nats(self) -> Array:
        """Negative log-likelihood of the true answer of each question, `[n]`."""
        rows = np.arange(len(self.labels.answers))
        nll: Array = -self.log_probabilities[rows, self.labels.answers]
        return nll

    def right(self) -> Array:
        """1 where the likeliest of all answers is the true one, else 0, `[n]`."""
        likeliest = self.log_probabilities.argmax(1)
        return np.asarray(likeliest == self.labels.answers, np.float64)

    def of(self, name: str) -> "Answered":
        """The questions of one image set."""
        index = [i for i, each in enumerate(self.sets) if each == name]
        labels = Labels(self.labels.answers[index], tuple(self.labels.choices[i] for i in index))
        return Answered(self.log_probabilities[index], labels, (name,) * len(index))


@dataclass(frozen=True)
class Paired:
    """A mean of differences between two models on the same questions.

    Attributes:
        mean: Mean difference.
        standard_error: Of that mean, from the spread of the differences.
    """

    mean: float
    standard_error: float


def answer(
    workload: Workload, model: IntegerModel | None, split: Literal["val", "test"]
) -> Answered:
    """Asks every question of `split`; `None` asks the uncompressed float model."""
    questions = workload.test() if split == "test" else workload.validation()
    scores = workload.score_uncompressed(questions) if model is None else model.score(questions)
    return Answered(scores.double().numpy(), workload.labels(split), questions.sets)


def paired(ours: Array, theirs: Array) -> Paired:
    """Mean of `ours - theirs` over the same questions, with its standard error."""
    difference = ours - theirs
    spread = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    return Paired(float(difference.mean()), spread / math.sqrt(len(difference)))


def validation_metrics(design: Answered, uncompressed: Answered) -> dict[str, float]:
    """The figures that a search sees, under the names of `evaluators.metrics`."""
    increase = paired(design.nll_nats(), uncompressed.nll_nats())
    return {
        "nll_nats": float(design.nll_nats().mean()),
        "nll_increase_nats": increase.mean,
        "nll_increase_se_nats": increase.standard_error,
        "accuracy": float(design.right().mean()),
    }


def figures_by_set(
    design: Answered, baseline: Answered, uncompressed: Answered
) -> dict[str, dict[str, float]]:
    """Figures by image set for the one look at test images.

    Returns:
        Set -> figure -> value: those of `figures` for each model behind its name, and the paired
        differences of accuracy and NLL between design and baseline with their standard errors.
    """
    table: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(design.sets):
        ours, base = design.of(name), baseline.of(name)
        models: Mapping[str, Answered] = {
            "design": ours,
            "baseline": base,
            "uncompressed": uncompressed.of(name),
        }
        row = {f"{who}_{k}": v for who, part in models.items() for k, v in figures(part).items()}
        accuracy = paired(ours.right(), base.right())
        nll = paired(ours.nll_nats(), base.nll_nats())
        row |= {
            "questions": float(len(ours.sets)),
            "accuracy_difference": accuracy.mean,
            "accuracy_difference_se": accuracy.standard_error,
            "nll_difference_nats": nll.mean,
            "nll_difference_se_nats": nll.standard_error,
        }
        table[name] = row
    return table


def figures(part: Answered) -> dict[str, float]:
    """Accuracy with its standard error, balanced accuracy, NLL; AUC and majority where defined.

    They are defined where all questions allow the same answers, so not on the synthetic set, and
    the AUC where more than one of them is true.
    """
    right = part.right()
    accuracy = float(right.mean())
    result = {
        "accuracy": accuracy,
        "accuracy_se": math.sqrt(accuracy * (1 - accuracy) / len(right)),
        "nll_nats": float(part.nll_nats().mean()),
    }
    if len(set(part.labels.choices)) == 1 and SYNTHETIC not in part.sets:
        truth = part.labels.answers
        present = np.unique(truth)
        result["balanced_accuracy"] = float(np.mean([right[truth == a].mean() for a in present]))
        if len(present) > 1:
            result["auc"] = auc(part)
        result["majority"] = float(np.bincount(truth).max() / len(truth))
    return result


def auc(part: Answered) -> float:
    """Area under the ROC curve, as MedMNIST takes it: the mean of each answer against the rest.

    Scores are the probabilities among the answers that the question allows. With two answers both
    areas are the same.
    """
    choices = part.labels.choices[0]
    among = np.exp(part.log_probabilities[:, choices])
    among /= among.sum(1, keepdims=True)
    areas = [
        _area(among[:, column], part.labels.answers == choice)
        for column, choice in enumerate(choices)
        if 0 < np.sum(part.labels.answers == choice) < len(part.labels.answers)
    ]
    return float(np.mean(areas))


def _area(scores: Array, positive: NDArray[np.bool_]) -> float:
    """Chance that a positive scores above a negative, ties counting half (Mann-Whitney)."""
    above = scores[positive][:, None] - scores[~positive][None, :]
    return float(np.mean((above > 0) + 0.5 * (above == 0)))
