"""The bit-exact model of the online softmax, one block of keys after the other.

Scores are int16 in 1/32 octave, so a probability is a table entry shifted right. The running
maximum is a whole number of octaves: what was summed before is rescaled by a shift alone, and the
order of the blocks is part of the numbers. Source: online softmax (Milakov & Gimelshein 2018) with
powers of two as in SOLE; the whole-octave maximum is derived here.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwlib.behaviour import EXACT, Built
from hwlib.reference import tables
from hwlib.reference.vector import Integers, Wide, bit_length, reciprocal, round_shift, saturate

EMPTY = -(1 << 15)
"""The running maximum, in octaves, of a row that has seen no key."""

ALIGNED_BITS = 23
"""Bits of a weighted sum that has been aligned to its total."""

ALPHA_MAX = 31
"""Largest rescaling shift: beyond it nothing is left of 32 bits."""


@dataclass(frozen=True)
class State:
    """What a row carries from block to block.

    Attributes:
        maximum: Running maximum in octaves, or `EMPTY`.
        total: Sum of the unnormalised probabilities, under 2^32.
        alpha: Shift that the last block asked of everything summed before it, 0..31.
    """

    maximum: Wide
    total: Wide
    alpha: Wide


def empty(shape: tuple[int, ...]) -> State:
    """Rows that have seen no key."""
    zeros = np.zeros(shape, np.int64)
    return State(np.full(shape, EMPTY, np.int64), zeros, zeros)


def block(
    scores: Integers,
    seen: npt.NDArray[np.bool_],
    state: State,
    entries: int,
    built: Built = EXACT,
) -> tuple[Wide, State]:
    """One block of keys.

    Args:
        scores: int16 `[keys, ...]`.
        seen: Whether a row may look at a key, `[keys, ...]`; a row that sees none keeps its state.
        state: Of the rows, `[...]`.
        entries: Of the exponential's table: 4, 8, 16 or 32.
        built: Of the core's units.

    Returns:
        Unnormalised probabilities 0..127 `[keys, ...]`, and the new state.
    """
    wide = scores.astype(np.int64)
    best = np.where(seen, wide, EMPTY * tables.OCTAVE).max(0)
    octaves = (best + tables.OCTAVE - 1) >> 5
    before_empty = state.maximum == EMPTY
    maximum = np.where(seen.any(0), np.maximum(octaves, state.maximum), state.maximum)
    alpha = np.where(before_empty, 0, np.minimum(ALPHA_MAX, maximum - state.maximum))
    distance = np.where(seen, (maximum << 5) - wide, 0)
    values = np.where(seen, exponential(distance, entries, built), 0)
    total = (state.total >> alpha) + values.sum(0)
    return values, State(maximum, total, alpha)


def exponential(distance: Integers, entries: int, built: Built = EXACT) -> Wide:
    """127 * 2^(-distance / 32), rounded, by a table of `entries` over one octave."""
    wide = distance.astype(np.int64)
    octave, fraction = np.minimum(wide >> 5, 15), wide & (tables.OCTAVE - 1)
    if "exponential" in built:
        return np.asarray(built["exponential"][octave * tables.OCTAVE + fraction], np.int64)
    entry = tables.exponential(entries)[fraction * entries // tables.OCTAVE]
    value: Wide = (entry + ((np.int64(1) << octave) >> 1)) >> octave
    return value


def accumulate(weighted: Integers, partial: Integers, alpha: Integers) -> Wide:
    """Rescales the weighted sums of earlier blocks and adds this one's; 32 bits, wrapping."""
    total = (weighted.astype(np.int64) >> alpha) + partial
    wrapped: Wide = total.astype(np.int32).astype(np.int64)
    return wrapped


def divide(weighted: Integers, total: Integers, built: Built = EXACT) -> Wide:
    """Weighted sums over their totals, int32 -> int16 in 1/256; a total of 0 gives 0.

    Args:
        weighted: int32 `[channels, ...]`; at most 127 times its total, or the quotient saturates.
        total: Under 2^32, `[...]`.
        built: Of the core's units.
    """
    wide = np.asarray(total, np.int64)
    excess = bit_length(wide) - 16
    mantissa = np.where(excess >= 0, wide >> np.maximum(excess, 0), wide << np.maximum(-excess, 0))
    r = reciprocal(np.where(wide == 0, 1 << 15, mantissa), built)
    down = excess + 3
    w = weighted.astype(np.int64)
    aligned = np.where(down >= 0, w >> np.maximum(down, 0), w << np.maximum(-down, 0))
    quotient = saturate(round_shift(saturate(aligned, ALIGNED_BITS) * r, 20), 16)
    return np.where(wide == 0, 0, quotient)
