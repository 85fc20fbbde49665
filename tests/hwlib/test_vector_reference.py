"""The integers of the vector lanes stand for the functions that they are named after."""

import math
from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwlib.reference import softmax, tables, vector

INT16 = np.arange(-(1 << 15), 1 << 15)


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


@given(st.integers(-(1 << 46), 1 << 46), st.integers(1, 47))
def test_a_rounding_shift_is_the_exact_quotient_rounded_half_up(value: int, shift: int) -> None:
    exact = math.floor(Fraction(value, 1 << shift) + Fraction(1, 2))
    assert int(vector.round_shift(np.array(value), shift)) == exact


@given(st.integers(0, (1 << 62) - 1))
def test_bit_length_is_that_of_python(value: int) -> None:
    assert int(vector.bit_length(np.array(value))) == value.bit_length()


@given(st.integers(-(1 << 40), 1 << 40), st.sampled_from([8, 16, 23]))
def test_saturation_keeps_what_fits_and_ends_at_the_ends(value: int, bits: int) -> None:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    assert int(vector.saturate(np.array(value), bits)) == sorted((low, value, high))[1]


@pytest.mark.parametrize("entries", [4, 8, 16, 32])
def test_the_exponential_table_lies_within_half_an_entry_of_the_power_of_two(entries: int) -> None:
    table = tables.exponential(entries)
    assert table.shape == (entries,)
    assert (np.diff(table) < 0).all()
    score = np.arange(tables.OCTAVE)
    met = table[score * entries // tables.OCTAVE] / tables.PROBABILITY_MAX
    true = 2.0 ** (-score / tables.OCTAVE)
    half_entry = 2 ** (0.5 / entries) - 1
    assert np.abs(met / true - 1).max() < half_entry + 1 / tables.PROBABILITY_MAX


def test_an_activation_is_within_half_a_step_inside_its_table_and_tiny_beyond() -> None:
    x = INT16[np.abs(INT16) < 64 * 120]
    for name, function in (("gelu", _gelu), ("silu", _silu)):
        error = np.abs(vector.activate(x, name) / 256 - function(x / 64))
        assert error[np.abs(x) < 512].max() <= 0.5 / 256 + 1e-12
        assert error.max() <= 8 / (1 + math.exp(8)) + 1e-12


@pytest.mark.parametrize("name", get_args(tables.Activation))
def test_an_activation_saturates_and_vanishes_at_the_ends(name: tables.Activation) -> None:
    ends = vector.activate(np.array([-32768, -512, 0, 512, 8191, 8192, 32767]), name)
    assert ends.tolist() == [0, 0, 0, 2048, 32764, 32767, 32767]


def test_gate_is_silu_times_the_other() -> None:
    rng = np.random.default_rng(0)
    x, up = rng.integers(-600, 600, 500), rng.integers(-3000, 3000, 500)
    error = vector.gate(x, up, 9) - _silu(x / 64) * 256 * up / 512
    assert np.abs(error).max() < 0.5 + 0.5 * 3000 / 512 + 0.7 * 3000 / 512
    assert vector.gate(np.array([32767]), np.array([-32768]), 1)[0] == -32768


def test_the_inverse_square_root_is_met_everywhere() -> None:
    v = np.arange(1 << 14, 1 << 16)
    r = vector.inverse_sqrt(v)
    assert r.min() >= 1 << 15
    assert r.max() < 1 << 16
    assert np.abs(r * np.sqrt(v) / 2**23 - 1).max() < 2.5e-4


def test_the_reciprocal_is_met_everywhere() -> None:
    v = np.arange(1 << 15, 1 << 16)
    r = vector.reciprocal(v)
    assert r.min() >= 1 << 15
    assert r.max() < 1 << 16
    assert np.abs(r * v / 2**31 - 1).max() < 8e-5


def _normalized(x: np.ndarray, epsilon: int, centred: bool) -> np.ndarray:
    """Both passes of a norm over the first axis, as floats."""
    count = len(x)
    power = count.bit_length() - 1
    statistics = vector.norm_statistics(
        x, round(2**18 / count), 14, epsilon, 9 - power, centred=centred
    )
    z = vector.normalize(x, *statistics)
    return z * (count / 2**power) / 1024


@pytest.mark.parametrize("count", [12, 64, 96, 576])
@pytest.mark.parametrize("centred", [True, False])
def test_a_norm_is_that_of_floats(count: int, centred: bool) -> None:
    rng = np.random.default_rng(count)
    size = np.array([2, 30, 1000, 8000] * 8)
    x = np.rint(rng.normal(0, 1, (count, 32)) * size + (size if centred else 0))
    x = np.clip(x, -32768, 32767).astype(np.int64)
    epsilon = 1000
    middle = x.mean(0) if centred else 0
    deviation = np.sqrt(((x - middle) ** 2).mean(0) + epsilon / count**2)
    true = (x - middle) / deviation
    # A chord's error, the mean's last step of 1/16 and half a step of the result.
    bound = 2.5e-4 * np.abs(true) + 0.07 / deviation + 2 * 0.5 / 1024
    assert (np.abs(_normalized(x, epsilon, centred) - true) <= bound).all()
    large = size >= 1000
    assert np.abs(_normalized(x, epsilon, centred) - true)[:, large].max() < 2e-3


def test_a_norm_of_equal_channels_is_zero_and_of_one_outlier_the_root_of_their_number() -> None:
    assert (_normalized(np.full((64, 1), 32767), 1, True) == 0).all()
    assert (_normalized(np.zeros((64, 1), np.int64), 1, False) == 0).all()
    alone = np.zeros((64, 2), np.int64)
    alone[5] = 32767, -32768
    assert _normalized(alone, 1, False)[5] == pytest.approx([8, -8], abs=2e-3)


def test_epsilon_counts_in_steps_of_count_squared() -> None:
    x = np.array([[1], [-1]] * 32)
    for epsilon in (1, 64**2 * 3, 64**2 * 99):
        expected = 1 / math.sqrt(1 + epsilon / 64**2)
        assert _normalized(x, epsilon, True)[0, 0] == pytest.approx(expected, abs=1e-3)


def test_the_end_of_a_norm_scales_each_channel_and_saturates() -> None:
    z = np.array([[1024], [1024], [-32768]])
    gamma, beta = np.array([[2000], [-2000], [32767]]), np.array([[1 << 16], [0], [0]])
    y = vector.affine(z, gamma, beta, np.array([[16], [16], [16]]), 3)
    assert y[:, 0].tolist() == [32 + 3, -31 + 3, -128]


@given(st.integers(-32768, 32767), st.integers(-32768, 32767), st.floats(0, 6.3))
def test_a_rotation_is_that_of_the_plane(x1: int, x2: int, angle: float) -> None:
    c, s = (round(f(angle) * 16384) for f in (math.cos, math.sin))
    turned = vector.rotate(*(np.array(v) for v in (x1, x2, c, s)))
    exact = complex(x1, x2) * complex(math.cos(angle), math.sin(angle))
    for met, true in zip(turned, (exact.real, exact.imag), strict=True):
        assert abs(int(met) - min(max(true, -32768), 32767)) <= 2.6


def test_a_rotation_by_nothing_changes_nothing() -> None:
    one, zero = np.full(INT16.shape, 1 << 14), np.zeros(INT16.shape, np.int64)
    turned = vector.rotate(INT16, INT16[::-1], one, zero)
    assert np.array_equal(turned[0], INT16)
    assert np.array_equal(turned[1], INT16[::-1])


def _softmax(
    scores: np.ndarray, seen: np.ndarray, block: int, entries: int
) -> tuple[np.ndarray, softmax.State]:
    """Shares of `[keys, rows]` after all blocks, as floats."""
    state = softmax.empty(scores.shape[1:])
    values = np.zeros(scores.shape)
    for start in range(0, len(scores), block):
        some = slice(start, start + block)
        made, state = softmax.block(scores[some], seen[some], state, entries)
        values *= 2.0**-state.alpha
        values[some] = made
    return values / np.maximum(values.sum(0), 1), state


@pytest.mark.parametrize("block", [4, 16, 64])
def test_the_online_softmax_is_close_to_that_of_floats(block: int) -> None:
    rng = np.random.default_rng(block)
    scores = np.rint(rng.normal(0, 60, (64, 200))).astype(np.int64)
    seen = rng.random(scores.shape) < 0.8
    shares, _ = _softmax(scores, seen, block, 16)
    true = np.where(seen, 2.0 ** (scores / tables.OCTAVE), 0)
    true /= true.sum(0)
    assert (shares[~seen] == 0).all()
    apart = np.abs(shares - true).sum(0) / 2
    assert apart.mean() < 0.02
    assert apart.max() < 0.1


@given(
    st.lists(st.integers(-800, 800), min_size=1, max_size=12),
    st.integers(-900, 900),
    st.sampled_from([4, 8, 16, 32]),
)
def test_whole_octaves_added_to_every_score_change_nothing(
    scores: list[int], octaves: int, entries: int
) -> None:
    base = np.array(scores)
    seen = np.ones(base.shape, bool)
    empty = softmax.empty(())
    values, state = softmax.block(base, seen, empty, entries)
    moved, other = softmax.block(base + octaves * tables.OCTAVE, seen, empty, entries)
    assert np.array_equal(values, moved)
    assert int(state.total) == int(other.total)
    assert int(other.maximum - state.maximum) == octaves


def test_a_row_that_sees_no_key_of_a_block_keeps_its_state() -> None:
    rng = np.random.default_rng(3)
    scores = rng.integers(-300, 300, (8, 5))
    _, before = softmax.block(scores, np.ones((8, 5), bool), softmax.empty((5,)), 8)
    values, after = softmax.block(scores + 999, np.zeros((8, 5), bool), before, 8)
    assert (values == 0).all()
    assert np.array_equal(after.maximum, before.maximum)
    assert np.array_equal(after.total, before.total)
    assert (after.alpha == 0).all()


def test_a_greater_maximum_shifts_what_was_summed() -> None:
    one = np.ones((1, 1), bool)
    _, first = softmax.block(np.array([[0]]), one, softmax.empty((1,)), 32)
    _, second = softmax.block(np.array([[96]]), one, first, 32)
    top = int(tables.exponential(32)[0])
    assert first.total.tolist() == [top]
    assert second.alpha.tolist() == [3]
    assert second.total.tolist() == [(top >> 3) + top]
    assert softmax.accumulate(np.array([-800]), np.array([5]), second.alpha).tolist() == [-95]


@settings(max_examples=300)
@given(st.integers(1, (1 << 32) - 1), st.floats(-127, 127))
def test_a_division_is_met_to_a_step(total: int, quotient: float) -> None:
    weighted = round(min(max(quotient * total, -(1 << 31)), (1 << 31) - 1))
    met = int(softmax.divide(np.array([weighted]), np.array(total))[0])
    true = 256 * weighted / total
    assert abs(met - true) <= 1 + 1e-4 * abs(true)


def test_a_total_of_nothing_divides_to_nothing() -> None:
    weighted = np.array([[-(1 << 31)], [0], [(1 << 31) - 1]])
    assert (softmax.divide(weighted, np.array([0])) == 0).all()
