"""Costs and figures of a cascade against closed forms, and controls that must find nothing."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators import cascade as evaluated
from evaluators.accuracy import answer
from evaluators.cascade import Asked, StageCost
from evaluators.design import DesignPoint
from evaluators.pipeline import Pipeline
from evaluators.target import Target
from swopt.compiler.integer_model import integer_model
from swopt.plan import CompressionPlan
from swopt.techniques import cascade
from swopt.techniques.cascade import ALWAYS, CascadeKnobs
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs
from swopt.workloads.vqa import Labels
from swopt.workloads.workload import load_workload

SMALL = StageCost(energy_j=1e-6, latency_s=1e-3, origin="given")
LARGE = StageCost(energy_j=5e-6, latency_s=4e-3, origin="given")
COST = (SMALL, LARGE)


def _knobs(**given: object) -> CascadeKnobs:
    return CascadeKnobs.model_validate({"small": CompressionPlan()} | given)


def _asked(n: int, seed: int = 0, knows: bool = True) -> Asked:
    """Two answers; the small stage errs where it is unsure (or, if not `knows`, anywhere)."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    sure = rng.uniform(0.55, 0.99, n)
    right = rng.random(n) < (sure if knows else 0.75)
    told = np.where(right, truth, 1 - truth)
    small = np.where(np.arange(2) == told[:, None], sure[:, None], 1 - sure[:, None])
    large_right = rng.random(n) < 0.95
    chosen = np.where(large_right, truth, 1 - truth)
    large = np.where(np.arange(2) == chosen[:, None], 0.95, 0.05)
    sets = tuple(np.where(np.arange(n) % 3 == 0, "a", "b"))
    labels = Labels(truth, ((0, 1),) * n)
    return Asked(np.log(large), {"rephrasings": np.log(small)[None]}, labels, sets)


def test_a_question_costs_its_passes_and_what_is_escalated() -> None:
    rng = np.random.default_rng(1)
    table = np.log(rng.dirichlet(np.ones(3), (3, 40)))
    asked = Asked(
        table[0],
        {"both": table},
        Labels(np.zeros(40, np.int64), ((0, 1, 2),) * 40),
        ("a",) * 40,
    )
    knobs = _knobs(views="both", passes=3, signal="agreement", threshold=0.9)
    seen = evaluated.run(asked, COST, knobs)
    votes = [len(set(table[:, i].argmax(-1))) > 1 for i in range(40)]
    assert 0 < sum(votes) < 40
    np.testing.assert_array_equal(seen.escalated, votes)
    np.testing.assert_allclose(seen.energy_j, 3e-6 + np.array(votes) * 5e-6)
    np.testing.assert_allclose(seen.latency_s, 3e-3 + np.array(votes) * 4e-3)


def test_always_escalating_answers_as_the_large_stage_and_costs_the_passes_more() -> None:
    asked = _asked(90)
    large = evaluated.always_large(asked, LARGE)
    seen = evaluated.figures(evaluated.run(asked, COST, _knobs(threshold=ALWAYS)), large)
    assert seen.accuracy_difference == seen.nll_difference_nats
    assert seen.nll_difference_nats.mean == seen.nll_difference_nats.standard_error == 0
    assert seen.energy_j.mean == pytest.approx(6e-6)
    never = evaluated.figures(evaluated.run(asked, COST, _knobs()), large)
    assert never.escalated.mean == 0
    assert never.energy_j.mean == pytest.approx(1e-6)


def test_sets_count_alike_however_many_questions_they_have() -> None:
    values = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    seen = evaluated.macro(values, ("a",) * 4 + ("b",) * 2 + ("c",) * 2)
    assert seen.mean == pytest.approx(0.75 / 3)
    assert seen.standard_error == pytest.approx(math.sqrt(0.25 / 4) / 3)


def test_random_escalation_lies_on_the_line_between_the_stages() -> None:
    asked = _asked(300)
    large = evaluated.always_large(asked, LARGE)
    small = evaluated.run(asked, COST, _knobs())
    ends = [evaluated.figures(each, large).accuracy.mean for each in (small, large)]
    half = evaluated.figures(evaluated.random_escalation(small, large, 0.5), large)
    assert half.accuracy.mean == pytest.approx(sum(ends) / 2)
    assert half.energy_j.mean == pytest.approx(1e-6 + 0.5 * 5e-6)
    drawn = np.random.default_rng(3).random((4000, 300)) < 0.5
    mean = np.where(drawn, large.right, small.right).mean(0)
    assert evaluated.macro(mean, asked.sets).mean == pytest.approx(half.accuracy.mean, abs=0.005)


def test_a_signal_that_knows_beats_its_shuffled_self_and_one_that_does_not_does_not() -> None:
    knobs = _knobs(threshold=0.8)
    knowing = evaluated.shuffled(_asked(600), knobs, 200, seed=5)
    assert knowing.accuracy_as_good < 0.02
    assert knowing.nll_as_good < 0.02
    blind = [evaluated.shuffled(_asked(600, s, knows=False), knobs, 60, 5) for s in range(12)]
    assert 0.2 < np.mean([each.accuracy_as_good for each in blind]) < 0.8
    share = evaluated.macro(
        (cascade.signals(_asked(600).small["rephrasings"], knobs) < 0.8) * 1.0, _asked(600).sets
    ).mean
    asked = _asked(600)
    small = evaluated.run(asked, COST, _knobs())
    mixed = evaluated.random_escalation(small, evaluated.always_large(asked, LARGE), share)
    expected = evaluated.macro(mixed.right, asked.sets).mean
    assert knowing.accuracy == pytest.approx(expected, abs=0.01)


def test_the_chosen_threshold_is_the_lowest_that_is_within_the_margin() -> None:
    asked = _asked(600)
    large = evaluated.always_large(asked, LARGE)
    chosen = evaluated.choose(asked, COST, _knobs(), 0.05)
    points = evaluated.curve(asked, COST, _knobs())
    tried = evaluated.thresholds(cascade.signals(asked.small["rephrasings"], _knobs()))
    inside = [evaluated.within(each, 0.05) for each in points]
    assert chosen.threshold == tried[inside.index(True)]
    assert 0 < chosen.threshold < 1
    cheap = evaluated.figures(evaluated.run(asked, COST, chosen), large)
    shares = [each.escalated.mean for each in points]
    assert shares == sorted(shares)
    assert cheap.escalated.mean == shares[inside.index(True)]
    assert evaluated.choose(asked, COST, _knobs(), 10.0).threshold == 0
    with pytest.raises(ValueError, match=r"margin must be 0 nats or more, not -0\.1"):
        evaluated.choose(asked, COST, _knobs(), -0.1)


def test_fewer_questions_escalate_more_and_not_less() -> None:
    many, few = _asked(3000), _asked(60)
    shares = [
        evaluated.run(asked, COST, evaluated.choose(asked, COST, _knobs(), 0.1)).escalated.mean()
        for asked in (many, few)
    ]
    assert shares[0] < shares[1]


def test_calibration_alone_is_no_gain_of_a_cascade() -> None:
    asked = _asked(900, knows=True)
    told = cascade.calibrated(asked.small["rephrasings"][0], 1 / 0.4)  # too flat or too sharp
    twice = Asked(told, {"rephrasings": told[None]}, asked.labels, asked.sets)
    knobs = evaluated.calibrate(twice, _knobs())
    raw = evaluated.figures(evaluated.run(twice, COST, knobs), evaluated.always_large(twice, LARGE))
    assert abs(raw.nll_difference_nats.mean) > 0.01
    fair = evaluated.at_temperature(twice, evaluated.calibrate_large(twice))
    level = evaluated.figures(evaluated.run(fair, COST, knobs), evaluated.always_large(fair, LARGE))
    assert level.nll_difference_nats.mean == pytest.approx(0, abs=1e-9)


def test_what_cannot_be_measured_is_said_in_a_sentence(tmp_path: Path) -> None:
    design = DesignPoint(
        compression=CompressionPlan(quantization=QuantizationKnobs(overrides={"vision.9": 4}))
    )
    with pytest.raises(ValueError, match=r"cannot be measured \(invalid\): override 'vision.9'"):
        evaluated.stage_cost(Pipeline(data_dir=tmp_path, cache_dir=tmp_path), design, Target())
    with pytest.raises(ValueError, match="asked 1 times by rephrasings, too few for 2 passes"):
        evaluated.run(_asked(9), COST, _knobs(passes=2))
    with pytest.raises(ValueError, match="1 draw or more, not 0"):
        evaluated.shuffled(_asked(9), _knobs(), 0, seed=1)


@pytest.mark.slow
def test_a_cascade_of_two_real_stages_on_the_synthetic_set(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    workload = load_workload(tmp_path)
    coarse = CompressionPlan(
        quantization=QuantizationKnobs(bits=2), pruning=PruningKnobs(vision_blocks=(1, 2, 3))
    )
    small, large = integer_model(workload, coarse), integer_model(workload, CompressionPlan())
    val = evaluated.ask(workload, small, large, "val", {"rephrasings": 3, "augmentations": 2})
    np.testing.assert_array_equal(val.small["rephrasings"][0], val.small["augmentations"][0])
    np.testing.assert_array_equal(val.large, answer(workload, large, "val").log_probabilities)
    assert not np.array_equal(val.small["rephrasings"][0], val.small["rephrasings"][1])
    val = evaluated.at_temperature(val, evaluated.calibrate_large(val))
    knobs = evaluated.calibrate(val, _knobs(small=coarse, passes=3))
    assert 0.2 < knobs.temperature < 2
    knobs = evaluated.choose(val, COST, knobs, 0.02)
    alone = evaluated.always_large(val, LARGE)
    chosen = evaluated.figures(evaluated.run(val, COST, knobs), alone)
    assert evaluated.within(chosen, 0.02)
    assert chosen.energy_j.mean == pytest.approx(3e-6 + chosen.escalated.mean * 5e-6)
    ends = evaluated.curve(val, COST, knobs)
    assert ends[0].nll_nats.mean > ends[-1].nll_nats.mean  # rounding to 2 bits is not free
    assert ends[-1].nll_difference_nats.mean == 0
