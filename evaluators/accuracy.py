"""How well a model answers: likelihood, accuracy, balanced accuracy, AUC, and paired differences.

True answers enter the program here and nowhere above the workload.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from swopt.workloads.vqa import SYNTHETIC, Labels

if TYPE_CHECKING:
    from swopt.compiler.integer_model import IntegerModel
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
    workload: "Workload", model: "IntegerModel | None", split: Literal["val", "test"]
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
        differences of accuracy, balanced accuracy, AUC and NLL between design and baseline with
        their standard errors; accuracies with `shuffled` answers as a control.
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
        dealt = [shuffled(part, _SHUFFLE_SEED) for part in (ours, base)]
        for who, part in zip(("design", "baseline"), dealt, strict=True):
            row[f"{who}_accuracy_shuffled"] = float(part.right().mean())
        if "design_balanced_accuracy" in row:
            balanced = balanced_difference(ours, base)
            row["balanced_accuracy_difference"] = balanced.mean
            row["balanced_accuracy_difference_se"] = balanced.standard_error
        if "design_auc" in row:
            area = auc_difference(ours, base)
            row["auc_difference"], row["auc_difference_se"] = area.mean, area.standard_error
        table[name] = row
    return table


_SHUFFLE_SEED = 17


def shuffled(part: Answered, seed: int) -> Answered:
    """A control: the true answers dealt to other questions at random."""
    order = np.random.default_rng(seed).permutation(len(part.sets))
    answers, choices = part.labels.answers[order], tuple(part.labels.choices[i] for i in order)
    return Answered(part.log_probabilities, Labels(answers, choices), part.sets)


def balanced_difference(ours: Answered, theirs: Answered) -> Paired:
    """Of balanced accuracy, on the same questions: the mean of the paired means of each answer."""
    difference, truth = ours.right() - theirs.right(), ours.labels.answers
    by_answer = [paired(difference[truth == a], 0 * difference[truth == a]) for a in set(truth)]
    count = len(by_answer)
    return Paired(
        sum(each.mean for each in by_answer) / count,
        math.sqrt(sum(each.standard_error**2 for each in by_answer)) / count,
    )


def auc_difference(ours: Answered, theirs: Answered) -> Paired:
    """Of the AUC, on the same questions.

    The variance is that of the sum of what each question adds to the areas (DeLong et al.,
    Biometrics 1988, over all answers at once).
    """
    influence = _influence(ours) - _influence(theirs)
    return Paired(auc(ours) - auc(theirs), math.sqrt(float((influence**2).sum())))


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
    return float(np.mean([_above(*each).mean() for each in _against_the_rest(part)]))


def _against_the_rest(part: Answered) -> list[tuple[Array, NDArray[np.bool_]]]:
    """The probability of each answer that is true somewhere but not everywhere, and where it is."""
    choices, truth = part.labels.choices[0], part.labels.answers
    among = np.exp(part.log_probabilities[:, choices])
    among /= among.sum(1, keepdims=True)
    return [
        (among[:, column], truth == choice)
        for column, choice in enumerate(choices)
        if 0 < np.sum(truth == choice) < len(truth)
    ]


def _above(scores: Array, positive: NDArray[np.bool_]) -> Array:
    """1 where a positive scores above a negative, ties a half, `[positives, negatives]`.

    Its mean is the area (Mann-Whitney).
    """
    difference = scores[positive][:, None] - scores[~positive][None, :]
    return np.asarray((difference > 0) + 0.5 * (difference == 0), np.float64)


def _influence(part: Answered) -> Array:
    """What each question adds to the AUC's difference from its expectation, `[n]`."""
    areas = _against_the_rest(part)
    influence = np.zeros(len(part.labels.answers))
    for scores, positive in areas:
        above = _above(scores, positive)
        influence[positive] += (above.mean(1) - above.mean()) / above.shape[0] / len(areas)
        influence[~positive] += (above.mean(0) - above.mean()) / above.shape[1] / len(areas)
    return influence
