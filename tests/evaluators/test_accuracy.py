"""Figures against closed forms, and labels that come from the workload alone."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluators.accuracy import (
    Answered,
    Paired,
    answer,
    auc,
    auc_difference,
    balanced_difference,
    figures,
    figures_by_set,
    paired,
    shuffled,
    validation_metrics,
)
from swopt.compiler.integer_model import integer_model
from swopt.plan import CompressionPlan
from swopt.techniques.quantization import QuantizationKnobs
from swopt.workloads.vqa import Labels
from swopt.workloads.workload import load_workload


def _answered(probabilities: list[list[float]], truth: list[int], name: str = "a") -> Answered:
    table = np.log(np.array(probabilities))
    choices = (tuple(range(table.shape[1])),) * len(truth)
    return Answered(table, Labels(np.array(truth), choices), (name,) * len(truth))


def test_figures_of_a_case_done_by_hand() -> None:
    part = _answered([[0.8, 0.2], [0.6, 0.4], [0.7, 0.3], [0.1, 0.9]], [0, 0, 1, 1])
    row = figures(part)
    assert row["accuracy"] == 0.75
    assert row["accuracy_se"] == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
    assert row["balanced_accuracy"] == 0.75
    assert row["majority"] == 0.5
    assert row["nll_nats"] == pytest.approx(-np.log([0.8, 0.6, 0.3, 0.9]).mean())
    assert row["auc"] == 0.75  # of 4 pairs, only (0.6 for 0, 0.7 for 1) is the wrong way round


def test_auc_is_half_for_constant_scores_and_ignores_answers_that_cannot_be() -> None:
    assert auc(_answered([[0.5, 0.5]] * 6, [0, 1, 0, 1, 0, 1])) == 0.5
    table = np.log(np.array([[0.1, 0.2, 0.7], [0.3, 0.1, 0.6]]))
    part = Answered(table, Labels(np.array([1, 0]), ((0, 1), (0, 1))), ("a", "a"))
    assert auc(part) == 1.0
    assert part.right().tolist() == [0.0, 0.0]


def test_paired_error_is_that_of_the_differences() -> None:
    rng = np.random.default_rng(0)
    hardness = rng.normal(0, 5, 400)
    ours, theirs = hardness + rng.normal(0.1, 0.5, 400), hardness
    seen = paired(ours, theirs)
    assert seen.mean == pytest.approx((ours - theirs).mean())
    assert seen.standard_error == pytest.approx((ours - theirs).std(ddof=1) / 20)
    assert seen.standard_error < 0.05 < hardness.std() / 20


def _two_models(seed: int, answers: int) -> tuple[Answered, Answered]:
    """Two models on 240 questions, the second a noisier version of the first."""
    rng = np.random.default_rng(seed)
    truth = np.minimum(rng.integers(0, answers + 1, 240), answers - 1)
    scores = rng.normal(0, 1, (240, answers))
    scores[np.arange(240), truth] += 1
    return tuple(  # type: ignore[return-value]
        _answered(np.exp(s - np.logaddexp.reduce(s, 1, keepdims=True)).tolist(), truth.tolist())
        for s in (scores, scores + rng.normal(0, 0.7, scores.shape))
    )


def _taken(part: Answered, index: NDArray[np.int64]) -> Answered:
    labels = Labels(part.labels.answers[index], (part.labels.choices[0],) * len(index))
    return Answered(part.log_probabilities[index], labels, ("a",) * len(index))


@pytest.mark.parametrize("answers", [2, 4])
@pytest.mark.parametrize("difference", [auc_difference, balanced_difference])
def test_errors_of_paired_differences_are_those_of_a_bootstrap(
    answers: int, difference: Callable[[Answered, Answered], Paired]
) -> None:
    ours, theirs = _two_models(3, answers)
    seen = difference(ours, theirs)
    rng, drawn = np.random.default_rng(1), []
    by_answer = [np.flatnonzero(ours.labels.answers == a) for a in set(ours.labels.answers)]
    for _ in range(600):
        index = np.concatenate([rng.choice(rows, len(rows)) for rows in by_answer])
        drawn.append(difference(_taken(ours, index), _taken(theirs, index)).mean)
    assert seen.standard_error == pytest.approx(np.std(drawn), rel=0.12)
    assert abs(seen.mean - np.mean(drawn)) < 0.2 * seen.standard_error
    assert difference(ours, ours) == Paired(0.0, 0.0)


def test_shuffled_answers_leave_only_chance() -> None:
    truth = np.random.default_rng(0).integers(0, 2, 400)
    sure = _answered([[0.9, 0.1] if t == 0 else [0.1, 0.9] for t in truth], truth.tolist())
    dealt = shuffled(sure, 1)
    assert sure.right().mean() == 1.0
    assert abs(dealt.right().mean() - 0.5) < 0.1
    assert sorted(dealt.labels.answers) == sorted(truth)
    row = figures_by_set(sure, sure, sure)["a"]
    assert row["design_accuracy_shuffled"] == row["baseline_accuracy_shuffled"] < 0.6


def test_sets_are_reported_apart() -> None:
    mixed = Answered(
        np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]])),
        Labels(np.array([0, 1, 1]), ((0, 1),) * 3),
        ("a", "b", "b"),
    )
    table = figures_by_set(mixed, mixed, mixed)
    assert list(table) == ["a", "b"]
    assert table["a"]["design_accuracy"] == 1.0
    assert table["b"]["baseline_accuracy"] == 0.5
    assert table["b"]["accuracy_difference"] == table["b"]["accuracy_difference_se"] == 0.0
    assert table["b"]["questions"] == 2


def test_a_coarser_model_answers_worse_than_the_baseline(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    workload = load_workload(tmp_path)
    uncompressed = answer(workload, None, "val")
    baseline = answer(workload, integer_model(workload, CompressionPlan()), "val")
    coarse_plan = CompressionPlan(quantization=QuantizationKnobs(bits=2))
    coarse = answer(workload, integer_model(workload, coarse_plan), "val")
    near = validation_metrics(baseline, uncompressed)
    far = validation_metrics(coarse, uncompressed)
    assert abs(near["nll_increase_nats"]) < 0.02 < far["nll_increase_nats"]
    assert near["nll_nats"] - near["nll_increase_nats"] == pytest.approx(
        uncompressed.nll_nats().mean()
    )
    assert set(figures(baseline)) == {"accuracy", "accuracy_se", "nll_nats"}
