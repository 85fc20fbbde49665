"""Weights in groups, against every factor there is."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from swopt.techniques import compensation, rounding
from swopt.techniques.compensation import Moment
from swopt.techniques.rounding import QuantizedWeight, most_factor

Floats = NDArray[np.float64]


def drawn(seed: int, outputs: int = 12, inputs: int = 44) -> Floats:
    """Weights whose sizes differ from stretch to stretch."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.normal(0, 1, (outputs, -(-inputs // 8)))).repeat(8, 1)[:, :inputs]
    drawn: Floats = rng.standard_normal((outputs, inputs)) * sizes
    return drawn


def lost(weight: Floats, made: QuantizedWeight, power: Floats) -> Floats:
    """Of each output."""
    error = weight - made.values * made.scale[:, None]
    total: Floats = (error**2 * power).sum(1)
    return total


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("group", [16, 32])
def test_each_value_is_one_of_its_bits_times_its_groups_factor(bits: int, group: int) -> None:
    weight, power = drawn(bits), np.random.default_rng(1).uniform(0.1, 2, 44)
    made = rounding.quantize(weight, bits, power, group)
    assert made.groups is not None and made.bits == bits
    factors = made.groups.factors
    assert factors.shape == (12, -(-44 // group))
    assert factors.min() >= 1 and factors.max() <= most_factor(bits)
    stored = made.values / made.groups.spread(44)
    assert np.array_equal(stored, np.rint(stored))
    assert stored.min() >= -(1 << bits - 1) and stored.max() < 1 << bits - 1
    half = 1 << made.product_bits - 1
    assert made.product_bits == (4 if bits == 2 else 8)
    assert made.values.min() >= -half and made.values.max() < half


@pytest.mark.parametrize("bits", [2, 4])
def test_groups_lose_less_where_sizes_differ(bits: int) -> None:
    power = np.random.default_rng(2).uniform(0.1, 2, 64)
    weight = drawn(3, 40, 64)
    whole = lost(weight, rounding.quantize(weight, bits, power), power).sum()
    grouped = lost(weight, rounding.quantize(weight, bits, power, 16), power).sum()
    assert grouped < 0.8 * whole


def test_factors_are_near_the_best_of_all_that_there_are() -> None:
    """At the scale that was found: of one group at a time no other factor loses much less."""
    rng = np.random.default_rng(4)
    weight, power = drawn(5, 6, 32), rng.uniform(0.1, 2, 32)
    made = rounding.quantize(weight, 4, power, 16)
    assert made.groups is not None
    found, best = 0.0, 0.0
    for row, group in itertools.product(range(6), range(2)):
        part = slice(16 * group, 16 * group + 16)
        errors = []
        for factor in range(1, 17):
            size = made.scale[row] * factor
            values = np.clip(np.rint(weight[row, part] / size), -8, 7)
            errors.append(((weight[row, part] - values * size) ** 2 * power[part]).sum())
        found += errors[made.groups.factors[row, group] - 1]
        best += min(errors)
    assert found <= 1.05 * best


def test_a_row_of_zeros_and_inputs_without_power_are_rounded_too() -> None:
    weight = drawn(6)
    weight[3] = 0
    made = rounding.quantize(weight, 4, np.zeros(44), 16)
    assert not made.values[3].any() and np.isfinite(made.scale).all() and (made.scale > 0).all()


@pytest.mark.parametrize(
    ("start", "stop", "inputs"), [(0, 44, 32), (32, 44, 32), (16, 40, 16), (24, 44, 8)]
)
def test_some_inputs_of_a_matrix_keep_their_factors(start: int, stop: int, inputs: int) -> None:
    groups = rounding.quantize(drawn(8), 4, np.ones(44), 32).groups
    assert groups is not None
    part = groups.of_columns(slice(start, stop))
    assert part.inputs == inputs
    assert np.array_equal(part.spread(stop - start), groups.spread(44)[:, start:stop])
    rows = groups.of_rows(slice(2, 5))
    assert np.array_equal(rows.spread(44), groups.spread(44)[2:5])


@pytest.mark.parametrize("bits", [2, 4])
def test_compensated_groups_lose_no_more_than_nearest_steps(bits: int) -> None:
    rng = np.random.default_rng(bits)
    x = rng.standard_normal((300, 44)) @ rng.standard_normal((44, 44))
    moment = Moment((x.T @ x / len(x)).astype(np.float32))
    weight, exact = drawn(7), moment.mean.astype(np.float64)
    nearest = rounding.quantize(weight, bits, exact.diagonal().copy(), 16)
    made = compensation.quantize(weight, bits, moment, 16)
    assert nearest.groups is not None and made.groups is not None
    assert np.array_equal(made.groups.factors, nearest.groups.factors)
    losses = []
    for each in (made, nearest):
        error = weight - each.values * each.scale[:, None]
        losses.append(((error @ exact) * error).sum(1))
    assert (losses[0] <= losses[1]).all() and losses[0].sum() < 0.8 * losses[1].sum()
    assert np.array_equal(made.values % made.groups.spread(44), np.zeros_like(made.values))
