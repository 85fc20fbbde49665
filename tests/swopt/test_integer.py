"""The torch twin computes what `hwlib.reference` computes, to the bit, and stands for the float."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwlib.reference.matmul import add_wrapping, matmul
from hwlib.reference.requantize import requantize
from swopt.compiler.integer import IntegerLinear, Range, requantizers
from swopt.plan import CompressionPlan, compress
from swopt.techniques.quantization import QuantizationKnobs, QuantizedWeight, quantize
from swopt.workloads.workload import Workload


def _reference(layer: IntegerLinear, x_q: np.ndarray) -> np.ndarray:
    """The same layer by the hardware's numpy models alone."""
    acc = add_wrapping(matmul(x_q, layer.weight.numpy()), layer.bias.numpy())
    if layer.output == "int32":
        return acc
    return requantize(acc, layer.multiplier.numpy(), layer.shift.numpy(), layer.output_zero_point)


def _layer(inputs: int, outputs: int, seed: int, bits: int = 8) -> tuple[IntegerLinear, np.ndarray]:
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 0.2, (outputs, inputs))
    bias = rng.normal(0, 1, outputs)
    spread = 0.2 * np.sqrt(inputs) * 3
    made = quantize(weight, bits, np.ones(inputs))
    layer = IntegerLinear(made, bias, Range(-2.0, 4.0), Range(-spread, spread), "int8")
    return layer, weight


@pytest.mark.parametrize("inputs", [1, 64, 256, 1024, 1040, 1536])
def test_twin_equals_the_reference_at_corners_and_at_random(inputs: int) -> None:
    layer, _ = _layer(inputs, 16, seed=inputs)
    rng = np.random.default_rng(1)
    corners: list[Callable[[], np.ndarray]] = [
        lambda: np.full(inputs, -128, np.int8),
        lambda: np.full(inputs, 127, np.int8),
        lambda: np.where(layer.weight[0].numpy() > 0, 127, -128).astype(np.int8),
        lambda: np.zeros(inputs, np.int8),
    ]
    x_q = np.stack([corner() for corner in corners])
    x_q = np.concatenate([x_q, rng.integers(-128, 128, (32, inputs), np.int8)])
    for output in ("int8", "int32"):
        layer.output = output  # type: ignore[assignment]
        y_q = layer.integer(torch.from_numpy(x_q)).numpy()
        expected = _reference(layer, x_q)
        assert y_q.dtype == expected.dtype
        assert np.array_equal(y_q, expected)


def test_sums_beyond_what_float32_holds_stay_exact() -> None:
    values = np.full((4, 1536), -127, np.int8)
    made = QuantizedWeight(values, np.full(4, 0.01), 8)
    layer = IntegerLinear(made, np.zeros(4), Range(-1, 1), Range(-1, 1), "int32")
    x_q = np.full((1, 1536), -127, np.int8)
    x_q[0, -1] = 0
    y_q = layer.integer(torch.from_numpy(x_q)).numpy() - layer.bias.numpy()
    assert y_q.tolist() == [[1535 * 127 * 127] * 4]


def test_sums_wrap_at_32_bits_as_the_accumulators_do() -> None:
    layer, _ = _layer(64, 4, seed=0)
    layer.bias.fill_(2**31 - 5)
    x_q = np.random.default_rng(0).integers(-128, 128, (16, 64), np.int8)
    y_q = layer.integer(torch.from_numpy(x_q)).numpy()
    assert np.array_equal(y_q, _reference(layer, x_q))
    assert (matmul(x_q, layer.weight.numpy()) > 4).any()


def test_a_layer_stands_for_its_float_layer() -> None:
    layer, weight = _layer(128, 32, seed=3)
    x = torch.from_numpy(np.random.default_rng(3).uniform(-2, 4, (64, 128))).float()
    bias = np.random.default_rng(3)
    bias.normal(0, 0.2, (32, 128))
    expected = x.double().numpy() @ weight.T + bias.normal(0, 1, 32)
    error = np.abs(layer(x).numpy() - expected)
    inside = np.abs(expected) < layer.output_scale * 120
    assert error[inside].mean() < layer.output_scale


@given(
    st.lists(
        st.floats(min_value=2.0**-31, max_value=2.0**14, allow_nan=False), min_size=1, max_size=8
    )
)
@settings(max_examples=200, deadline=None)
def test_multiplier_and_shift_meet_every_factor_to_sixteen_bits(factors: list[float]) -> None:
    multiplier, shift = requantizers(np.array(factors))
    assert ((multiplier >= 0) & (multiplier < 2**16)).all()
    assert ((shift >= 1) & (shift <= 47)).all()
    met = np.ldexp(multiplier.astype(np.float64), -shift)
    assert np.all(np.abs(met - factors) <= np.array(factors) * 2.0**-16)


def test_factors_out_of_reach_vanish_or_are_refused() -> None:
    multiplier, shift = requantizers(np.array([2.0**-60, 2.0**-17 * (1 - 2.0**-30)]))
    assert multiplier[0] == 0
    assert np.ldexp(float(multiplier[1]), -int(shift[1])) == 2.0**-17
    with pytest.raises(ValueError, match="at most 32767"):
        requantizers(np.array([2.0**15]))


def test_every_linear_layer_of_an_inference_equals_the_reference(workload: Workload) -> None:
    plan = CompressionPlan(quantization=QuantizationKnobs(bits=4, head_bits=8))
    compressed = compress(workload, plan)
    traces = compressed.record(workload.validation().take([0, 1]))
    assert [t.name for t in traces if t.question == 1] == list(compressed.layers)
    for trace in traces:
        assert trace.x_q.dtype == np.int8
        assert np.array_equal(trace.y_q, _reference(trace.layer, trace.x_q)), trace.name
    shapes = {t.name: (t.x_q.shape, t.y_q.shape) for t in traces if t.question == 0}
    assert shapes["vision.0.mlp.up"] == ((64, 64), (64, 256))
    assert shapes["connector"] == ((16, 256), (16, 64))
    assert shapes["head"][0] == (1, 64)
    assert traces[-1].y_q.dtype == np.int32


def test_recording_leaves_no_trace_behind(workload: Workload) -> None:
    compressed = compress(workload, CompressionPlan())
    question = workload.validation().take([3])
    before = compressed.score(question)
    compressed.record(question)
    assert torch.equal(before, compressed.score(question))
    assert len(compressed.record(question)) == len(compressed.layers)
