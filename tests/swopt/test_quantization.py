"""Bits follow the hierarchy, and clipping never does worse than none."""

import numpy as np
import pytest

from swopt.techniques.quantization import (
    QuantizationKnobs,
    TowerBits,
    bits_of,
    packed_bits,
)
from swopt.techniques.rounding import quantize


def test_the_deepest_level_that_speaks_wins() -> None:
    knobs = QuantizationKnobs(
        bits=7,
        vision=TowerBits(bits=6, mlp_bits=5),
        connector_bits=4,
        overrides={"vision.1": 3, "vision.1.mlp.up": 2, "head": 8},
    )
    expected = {
        "decoder.0.mlp.gate": 7,
        "vision.0.attention.query": 6,
        "vision.0.mlp.down": 5,
        "vision.1.mlp.down": 3,
        "vision.1.attention.key": 3,
        "vision.1.mlp.up": 2,
        "connector": 4,
        "head": 8,
    }
    assert {name: bits_of(knobs, name) for name in expected} == expected
    assert bits_of(QuantizationKnobs(), "head") == 8
    assert bits_of(QuantizationKnobs(head_bits=3), "head") == 3
    assert bits_of(QuantizationKnobs(decoder=TowerBits(attention_bits=2)), "decoder.9.mlp.up") == 8


def test_memory_rounds_bits_up_to_2_4_or_8() -> None:
    assert [packed_bits(bits) for bits in range(2, 9)] == [2, 4, 4, 8, 8, 8, 8]


@pytest.mark.parametrize("bits", range(2, 9))
def test_clipping_beats_the_largest_magnitude_and_values_fit_their_bits(bits: int) -> None:
    rng = np.random.default_rng(bits)
    weight = rng.standard_t(3, (16, 64))
    power = rng.uniform(0.1, 4, 64)
    made = quantize(weight, bits, power)
    assert made.values.min() >= -(2 ** (bits - 1))
    assert made.values.max() <= 2 ** (bits - 1) - 1
    plain_scale = np.abs(weight).max(1, keepdims=True) / (2 ** (bits - 1) - 1)
    plain = np.rint(weight / plain_scale) * plain_scale
    error = ((weight - made.values * made.scale[:, None]) ** 2) @ power
    assert (error <= ((weight - plain) ** 2) @ power + 1e-12).all()
    if bits < 5:
        assert error.sum() < 0.9 * (((weight - plain) ** 2) @ power).sum()


def test_a_silent_channel_and_weights_on_the_grid_are_kept_exactly() -> None:
    weight = np.zeros((2, 8))
    weight[1] = np.arange(-4, 4) * 0.25
    weight[1, 0] = 0.75
    made = quantize(weight, 3, np.ones(8))
    assert np.array_equal(made.values * made.scale[:, None], weight)
    assert (made.scale > 0).all()
