"""Where 15 steps are best spent, against published optima and by trial."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swopt.compiler.clipping import clipped_range
from swopt.compiler.ranges import Calibration, Observer, Range


def _seen(inputs: np.ndarray) -> Calibration:
    layer = torch.nn.Linear(1, 1)
    observer = Observer({"layer": layer})
    with torch.no_grad():
        layer(torch.from_numpy(inputs.astype(np.float32))[:, None])
    return observer.finish()["layer"]


def _error(inputs: np.ndarray, clipping: Range) -> float:
    """Mean squared error of rounding to 4 bits, one value at a time."""
    scale, zero = clipping.quantizer(4)
    steps = np.clip(np.rint(inputs / scale) + zero, -8, 7)
    return float((((steps - zero) * scale - inputs) ** 2).mean())


@pytest.mark.parametrize(
    ("draw", "best"),
    [
        # Banner, Nahshan & Soudry 2019, "Post training 4-bit quantization", section 3.1.
        ("laplace", 5.03),
        # Max 1960, "Quantizing for minimum distortion", table II: 16 steps of .3352 deviations.
        ("normal", 8 * 0.3352),
    ],
)
def test_clipping_is_at_the_published_optimum(draw: str, best: float) -> None:
    inputs = getattr(np.random.default_rng(0), draw)(size=400_000)
    made = clipped_range(_seen(inputs), 4)
    assert made.high - made.low == pytest.approx(2 * best, rel=0.1)


def test_a_uniform_range_is_not_clipped() -> None:
    inputs = np.random.default_rng(1).uniform(-1, 3, 100_000)
    made = clipped_range(_seen(inputs), 4)
    assert (made.low, made.high) == pytest.approx((-1, 3), rel=0.1)


def test_one_huge_value_does_not_take_the_steps_of_all_others() -> None:
    rng = np.random.default_rng(2)
    inputs = np.append(rng.normal(size=20_000), 40.0)
    seen = _seen(inputs)
    assert _error(inputs, clipped_range(seen, 4)) < 0.3 * _error(inputs, seen.inputs)


@given(st.integers(0, 1000), st.floats(-3, 3), st.floats(0.01, 5))
def test_clipping_is_no_worse_than_the_whole_range(seed: int, mean: float, size: float) -> None:
    inputs = np.random.default_rng(seed).standard_t(3, 2000) * size + mean
    seen = _seen(inputs)
    # The histogram moves a value by half a bin at most.
    slack = (seen.inputs.high - seen.inputs.low) / len(seen.histogram)
    made, whole = (_error(inputs, r) ** 0.5 for r in (clipped_range(seen, 4), seen.inputs))
    assert made <= whole + slack


def test_a_histogram_counts_every_value_in_its_part_of_the_range() -> None:
    inputs = np.random.default_rng(3).normal(size=5000).astype(np.float32)
    seen = _seen(inputs)
    expected, _ = np.histogram(inputs, len(seen.histogram), (seen.inputs.low, seen.inputs.high))
    # A value on an edge may round to either side of it.
    assert np.abs(np.cumsum(seen.histogram - expected)).max() <= 1
    assert seen.histogram.sum() == 5000


def test_a_layer_that_reads_one_value_only_is_no_special_case() -> None:
    for value in (0.0, 2.5, -1.5):
        made = clipped_range(_seen(np.full(7, value)), 4)
        scale, zero = made.quantizer(4)
        steps = np.clip(np.rint(value / scale) + zero, -8, 7)
        assert (steps - zero) * scale == pytest.approx(value, abs=1e-6)


@given(st.floats(-100, 100), st.floats(0.001, 100), st.sampled_from([2, 4, 8]))
def test_a_quantizer_holds_zero_and_both_ends(low: float, span: float, bits: int) -> None:
    both = Range(low, low + span)
    scale, zero = both.quantizer(bits)
    least = -(1 << (bits - 1))
    assert least <= zero <= -least - 1
    for end in (min(low, 0.0), max(low + span, 0.0)):
        assert least - 0.51 <= end / scale + zero <= -least - 1 + 0.51
