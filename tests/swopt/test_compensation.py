"""Compensated rounding loses less than the nearest steps do, by the loss that it is about."""

from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from swopt.compiler.integer_model import weight_only_model
from swopt.plan import CompressionPlan
from swopt.techniques import compensation, rounding
from swopt.techniques.compensation import Moment
from swopt.techniques.quantization import QuantizationKnobs, Rounding, WeightBits
from swopt.techniques.rounding import QuantizedWeight
from swopt.workloads.workload import Workload

Floats = NDArray[np.float64]


def drawn(outputs: int, inputs: int, seed: int) -> tuple[Floats, Moment, Floats]:
    """A weight, the moment of what it reads, and what it reads: inputs that hang together."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4 * inputs, inputs // 2)) @ rng.standard_normal((inputs // 2, inputs))
    x += 0.3 * rng.standard_normal(x.shape)
    weight = rng.standard_normal((outputs, inputs))
    return weight, moment_of(x), x


def moment_of(x: Floats) -> Moment:
    return Moment((x.T @ x / len(x)).astype(np.float32))


def lost(weight: Floats, made: QuantizedWeight, x: Floats) -> Floats:
    """Mean squared error of each output, on the inputs themselves."""
    return np.asarray(np.square(x @ (weight - made.values * made.scale[:, None]).T).mean(0))


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_no_output_loses_more_and_all_together_lose_much_less(bits: int) -> None:
    weight, moment, x = drawn(24, 96, bits)
    made = compensation.quantize(weight, bits, moment)
    nearest = rounding.quantize(weight, bits, moment.mean.diagonal().astype(np.float64))
    assert made.values.min() >= -(2 ** (bits - 1))
    assert made.values.max() <= 2 ** (bits - 1) - 1
    ours, theirs = lost(weight, made, x), lost(weight, nearest, x)
    assert (ours <= theirs * (1 + 1e-6)).all()
    assert ours.sum() < 0.6 * theirs.sum()


def test_it_comes_close_to_the_best_of_all_roundings() -> None:
    """Of four inputs every combination can be tried: the loss lies near the least."""
    near, plain, best = 0.0, 0.0, 0.0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((50, 1)) + 0.3 * rng.standard_normal((50, 4))
        weight, moment = rng.standard_normal((1, 4)), moment_of(x)
        made = compensation.quantize(weight, 3, moment)
        all_of_them = [
            QuantizedWeight(np.array([steps], np.int8), made.scale, 3)
            for steps in product(range(-4, 4), repeat=4)
        ]
        best += min(float(lost(weight, each, x)[0]) for each in all_of_them)
        near += float(lost(weight, made, x)[0])
        power = moment.mean.diagonal().astype(np.float64)
        plain += float(lost(weight, rounding.quantize(weight, 3, power), x)[0])
    assert best <= near
    assert near - best < 0.5 * (plain - best)


def test_independent_inputs_have_nothing_to_make_up_for() -> None:
    weight = np.random.default_rng(1).standard_normal((5, 70))
    made = compensation.quantize(weight, 4, Moment(np.eye(70, dtype=np.float32)))
    nearest = rounding.quantize(weight, 4, np.ones(70))
    assert np.array_equal(made.values, nearest.values)


def test_pieces_of_inputs_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, moment, _ = drawn(6, 80, 3)
    made = compensation.quantize(weight, 4, moment)
    monkeypatch.setattr(compensation, "INPUTS_AT_ONCE", 80)
    assert np.array_equal(made.values, compensation.quantize(weight, 4, moment).values)


def test_inputs_that_are_never_there_and_silent_outputs() -> None:
    weight, moment, _ = drawn(6, 20, 4)
    moment.mean[3], moment.mean[:, 3], weight[2] = 0, 0, 0
    made = compensation.quantize(weight, 3, moment)
    assert not made.values[2].any()
    silent = compensation.quantize(weight, 3, Moment(np.zeros((20, 20), np.float32)))
    assert np.isfinite(silent.scale).all()


def test_moments_of_layers_that_read_the_same_are_one_and_those_of_their_inputs() -> None:
    torch.manual_seed(0)
    first, twin, other = (torch.nn.Linear(5, 3) for _ in range(3))
    texts = [torch.randn(1, 4, 5), torch.randn(1, 7, 5)]

    def calibrate() -> None:
        for x in texts:
            first(x)
            twin(x)
            other(2 * x)

    layers = {"first": first, "twin": twin, "other": other}
    found = compensation.second_moments(layers, calibrate, skip=1)
    rows = torch.cat([x[0, 1:] for x in texts]).double()
    expected = (rows.T @ rows / len(rows)).numpy()
    assert found["twin"] is found["first"]
    assert np.allclose(found["first"].mean, expected, rtol=1e-6)
    assert np.allclose(found["other"].mean, 4 * expected, rtol=1e-6)


def test_a_model_of_few_bits_stays_nearer_to_the_float_model(workload: Workload) -> None:
    """In weights alone, at 3 bits; at 8 the two roundings are one."""
    questions = workload.calibration()

    def divergence(bits: WeightBits, kind: Rounding) -> float:
        knobs = QuantizationKnobs(bits=bits, rounding=kind)
        model = weight_only_model(workload, CompressionPlan(quantization=knobs))
        theirs = workload.score_uncompressed(questions).double()
        ours = workload.score(model, questions).double()
        return float((theirs.exp() * (theirs - ours)).sum(1).mean())

    assert divergence(3, "compensated") < 0.6 * divergence(3, "nearest")
    assert divergence(8, "compensated") == divergence(8, "nearest")
