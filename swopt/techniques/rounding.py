"""Rounds a weight matrix to a few bits with one scale a row, clipped where the error is least.

Groups of a row's inputs may have whole factors beside the row's scale: two levels of scales, as in
VS-Quant (Dai et al., MLSys 2021).
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Groups:
    """Factors that groups of inputs have in a weight matrix.

    Attributes:
        inputs: Of a group; the last may have fewer.
        factors: 1 to `most_factor`, uint8 `[outputs, groups]`.
    """

    inputs: int
    factors: NDArray[np.uint8]

    def of_rows(self, rows: slice) -> "Groups":
        """Those of some outputs."""
        return replace(self, factors=self.factors[rows])

    def of_columns(self, columns: slice) -> "Groups":
        """Those of some inputs, which may begin within a group: then groups are smaller."""
        inputs = math.gcd(self.inputs, columns.start)
        parts = self.factors.repeat(self.inputs // inputs, axis=1)
        return Groups(inputs, parts[:, columns.start // inputs : -(-columns.stop // inputs)])

    def spread(self, inputs: int) -> NDArray[np.int8]:
        """The factor of each weight, `[outputs, inputs]`."""
        return self.factors.astype(np.int8).repeat(self.inputs, axis=1)[:, :inputs]


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight matrix in integers.

    Attributes:
        values: int8 `[outputs, inputs]`: of `bits` bits, two's complement, times its group's
            factor.
        scale: float64 `[outputs]`; `values * scale` is what stands for the weight.
        bits: Bits of each value as it is stored.
        groups: Which inputs have factors of their own.
    """

    values: NDArray[np.int8]
    scale: NDArray[np.float64]
    bits: int
    groups: Groups | None = None

    @property
    def product_bits(self) -> int:
        """Bits of each value as it is multiplied."""
        return self.bits if self.groups is None else grouped_bits(self.bits)


def grouped_bits(bits: int) -> Literal[4, 8]:
    """Bits that hold a weight of `bits` bits times its group's factor."""
    return 4 if bits <= 2 else 8


def most_factor(bits: int) -> int:
    """The greatest factor of a group of weights of so many bits."""
    return 4 if bits <= 2 else 16


@dataclass(frozen=True)
class Steps:
    """What the integers of a tensor stand for: (integer - zero) * size.

    Attributes:
        size: Over 0.
        zero: The integer that stands for 0.
        bits: Of each integer where a linear layer reads them: 8 or 4.
    """

    size: float
    zero: int = 0
    bits: Literal[8, 4] = 8


CLIPPINGS = np.concatenate([np.linspace(0.2, 0.98, 40), [1.0]])
"""Clipping points that are tried, as shares of a channel's largest magnitude."""


def quantize(
    weight: NDArray[np.float64],
    bits: int,
    input_power: NDArray[np.float64],
    group: int | None = None,
) -> QuantizedWeight:
    """Rounds to `bits` bits, symmetric, one scale a channel, clipped where the error is least.

    The error of channel n is sum_k E[x_k^2] (w_nk - v_nk s_n)^2: the output's expected squared
    error where inputs are uncorrelated. Of equal errors the largest clipping point wins.

    Args:
        weight: `[outputs, inputs]`.
        bits: 2..8; values reach from -2^(bits-1) to 2^(bits-1) - 1.
        input_power: Mean square of each input, `[inputs]`.
        group: Inputs that have a factor of their own, for at most 4 bits; None for none.
    """
    if group is not None:
        return _quantized_in_groups(weight, bits, input_power, group)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    largest = np.abs(weight).max(1)
    largest[largest == 0] = 1.0
    values, best_scale = np.empty(weight.shape, np.int8), np.empty(len(weight))
    step = max(1, SEARCHED_AT_ONCE // max(1, weight.shape[1]))
    for start in range(0, len(weight), step):
        part = slice(start, start + step)
        scale = _best_scale(weight[part], largest[part], low, high, input_power)
        rounded = np.clip(np.rint(weight[part] / scale[:, None]), low, high)
        values[part], best_scale[part] = rounded, scale
    return QuantizedWeight(values, best_scale, bits)


ROW_CLIPPINGS = (1.0, 0.9, 0.8, 0.7, 0.6)
"""Clipping points of a row's greatest factor that are tried, as shares of its largest magnitude."""

GROUP_CLIPPINGS = tuple(float(share) for share in np.linspace(0.3, 1.0, 15))
"""The same of a group's own factor."""


def _quantized_in_groups(
    weight: NDArray[np.float64], bits: int, power: NDArray[np.float64], group: int
) -> QuantizedWeight:
    """With each group's best factor at each scale, and the scale at which the error is least."""
    outputs, inputs = weight.shape
    count = -(-inputs // group)
    spare = count * group - inputs
    relative = np.pad(power / (float(power.max()) or 1.0), (0, spare))
    powers: NDArray[np.float32] = relative.astype(np.float32).reshape(count, group)
    grouped = np.pad(weight, ((0, 0), (0, spare))).reshape(outputs, count, group)
    scale, factors = np.empty(outputs), np.empty((outputs, count), np.uint8)
    step = max(1, SEARCHED_AT_ONCE // max(1, count * group))
    for start in range(0, outputs, step):
        part = slice(start, start + step)
        scale[part], factors[part] = _best_factors(grouped[part], bits, powers)
    groups = Groups(group, factors)
    spread, low, high = groups.spread(inputs), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    values = np.clip(np.rint(weight / (scale[:, None] * spread)), low, high).astype(np.int8)
    return QuantizedWeight(values * spread, scale, bits, groups)


def _best_factors(
    weight: NDArray[np.float64], bits: int, power: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """The scale and the factors of least error, `[outputs]` and `[outputs, groups]`.

    Args:
        weight: `[outputs, groups, inputs of a group]`.
        bits: Of each.
        power: Of its inputs, but for a factor, `[groups, inputs of a group]`.
    """
    low, high, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, most_factor(bits)
    sizes = np.abs(weight).max(2)
    largest = sizes.max(1)
    largest[largest == 0] = 1.0
    best, scale = np.full(len(weight), np.inf), largest / high / most
    factors = np.ones(sizes.shape, np.uint8)
    for row_share in ROW_CLIPPINGS:
        least = row_share * largest / high / most
        steps = (weight / least[:, None, None]).astype(np.float32)  # of factor 1
        wanted = sizes / high / least[:, None]
        error = np.full(sizes.shape, np.inf, np.float32)
        chosen = np.ones(sizes.shape, np.uint8)
        for share in GROUP_CLIPPINGS:
            factor = np.clip(np.rint(share * wanted), 1, most).astype(np.float32)
            off = steps / factor[..., None]
            np.subtract(off, np.clip(np.rint(off), low, high), out=off)
            lost = np.einsum("ogi,gi->og", np.square(off, out=off), power) * factor**2
            better = lost < error
            error[better], chosen[better] = lost[better], factor[better]
        total = error.sum(1, dtype=np.float64) * least**2
        rows = total < best
        best[rows], scale[rows], factors[rows] = total[rows], least[rows], chosen[rows]
    return scale, factors


SEARCHED_AT_ONCE = 1 << 15
"""Weights whose clipping is searched together: they stay in a processor's cache."""

_NEAR, _NEAR_A_STEP = 3e-5, 2e-6
"""Relative error of an error in float32, from above: of the sums, and for each step that a weight
may have, as float32 holds what is left behind the step the worse the more there are."""

_NEAR_STEPS = 1e-4
"""How far float32 is off where a weight lies on a step, in steps, from above."""

_CUTS_CHECKED = (3, 6, 12, 18, 24)
"""Clipping points, counted from the largest, behind which to look whether smaller ones can win."""


def _best_scale(
    weight: NDArray[np.float64],
    largest: NDArray[np.float64],
    low: int,
    high: int,
    power: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The scale of least error of each channel, `[outputs]`.

    float32 tells which clipping points can be the best; of these alone float64 finds it.
    """
    near = 1 + _NEAR + _NEAR_A_STEP * -low
    errors = _float32_errors(weight, largest, low, high, power)  # [clippings, outputs]
    on_steps = (CLIPPINGS[:, None] * largest / high) ** 2 * (_NEAR_STEPS**2 * power.sum())
    within = errors - on_steps <= (errors + on_steps).min(0) * near**2
    best_error, best_scale = np.full(len(weight), np.inf), largest / high
    for share, possible in zip(CLIPPINGS, within, strict=True):
        rows = np.flatnonzero(possible)
        if not len(rows):
            continue
        scale = share * largest[rows] / high
        chosen = weight[rows]
        off = chosen / scale[:, None]
        np.clip(np.rint(off, out=off), low, high, out=off)
        np.subtract(chosen, np.multiply(off, scale[:, None], out=off), out=off)
        # Summed row by row, whichever rows there are, so that equal errors are found equal.
        error = np.multiply(np.square(off, out=off), power, out=off).sum(1)
        better = error <= best_error[rows]
        best_error[rows[better]], best_scale[rows[better]] = error[better], scale[better]
    return best_scale


def _float32_errors(
    weight: NDArray[np.float64],
    largest: NDArray[np.float64],
    low: int,
    high: int,
    power: NDArray[np.float64],
) -> NDArray[np.float64]:
    """About the errors of all clipping points, `[clippings, outputs]`.

    From the largest point down; those that cannot win any more stay at infinity: what clipping
    alone loses grows as the point falls.
    """
    # Against overflow and loss: only ratios of powers count.
    top = float(power.max()) or 1.0
    weights, powers = weight.astype(np.float32), (power / top).astype(np.float32)
    steps, rounded = np.empty_like(weights), np.empty_like(weights)
    errors = np.full((len(CLIPPINGS), len(weight)), np.inf)
    for count, index in enumerate(reversed(range(len(CLIPPINGS)))):
        scale = CLIPPINGS[index] * largest / high
        np.multiply(weights, (1 / scale).astype(np.float32)[:, None], out=steps)
        np.rint(steps, out=rounded)
        np.clip(rounded, low, high, out=rounded)
        np.subtract(steps, rounded, out=steps)
        np.multiply(steps, steps, out=steps)
        errors[index] = (steps @ powers).astype(np.float64) * scale**2 * top
        if count in _CUTS_CHECKED:
            ends = (np.array([[low], [high]]) * scale).astype(np.float32)[..., None]
            np.clip(weights, *ends, out=steps)
            np.subtract(weights, steps, out=steps)
            np.multiply(steps, steps, out=steps)
            lost = (steps @ powers).astype(np.float64) * top
            if bool((lost > 1.01 * errors.min(0)).all()):
                break
    return errors
