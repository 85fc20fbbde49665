"""The bit-exact models of what the vector lanes compute, channel by channel.

All shapes are free; a trailing axis of lanes is usual. Every shift is arithmetic. `round_shift`
rounds half up (towards plus infinity), as every rounding of the core does.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from hwlib.behaviour import EXACT, Built
from hwlib.reference import tables

Integers = npt.NDArray[np.integer[Any]]
Wide = npt.NDArray[np.int64]

ROTARY_BITS = 14
"""Fraction bits of the cosines and sines: Q1.14."""

SHIFT_MAX = 47
"""Largest shift of a factor: from 48 bits on every product rounds to 0."""


def saturate(value: Integers, bits: int) -> Wide:
    """`value` clipped to two's complement of `bits` bits."""
    clipped: Wide = np.clip(value.astype(np.int64), -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return clipped


def round_shift(value: Integers, shift: Integers | int) -> Wide:
    """(value + 2^(shift-1)) >> shift for a shift of 1 bit or more."""
    wide = np.asarray(shift, np.int64)
    shifted: Wide = (value.astype(np.int64) + (np.int64(1) << (wide - 1))) >> wide
    return shifted


def bit_length(value: Integers) -> Wide:
    """Bits of a value >= 0: 0 for 0, else 1 + floor(log2)."""
    rest = np.asarray(value, np.int64)
    bits = np.zeros(rest.shape, np.int64)
    for step in (32, 16, 8, 4, 2, 1):
        high = rest >= np.int64(1) << step
        bits += high * step
        rest = np.where(high, rest >> step, rest)
    return bits + (rest > 0)


def scale(
    value: Integers,
    multiplier: Integers | int,
    shift: Integers | int,
    zero: int,
    bits: int = 8,
) -> Wide:
    """The lanes' own requantizer: round(value * multiplier >> shift) + zero, saturated to `bits`.

    Args:
        value: int16.
        multiplier: 0..65535.
        shift: 1..47.
        zero: -128..127.
        bits: 8 or 4.
    """
    product = value.astype(np.int64) * np.asarray(multiplier, np.int64)
    return saturate(round_shift(product, shift) + zero, bits)


def add(a: Integers, b: Integers) -> Wide:
    """Sum of two int16 streams, saturating."""
    return saturate(a.astype(np.int64) + b, 16)


def activate(x: Integers, name: tables.Activation, built: Built = EXACT) -> Wide:
    """GELU or SiLU: int16 in 1/64 -> int16 in 1/256."""
    if "activation" in built:
        rows = (x.astype(np.int64) & 0xFFFF) + (name == "silu") * (1 << 16)
        return np.asarray(built["activation"][rows], np.int64)
    table = tables.activation(name)
    magnitude = np.abs(x.astype(np.int64))
    inside = magnitude < len(table)
    curve = np.where(inside, table[np.where(inside, magnitude, 0)], 0)
    return saturate((np.maximum(x.astype(np.int64), 0) << 2) - curve, 16)


def gate(g: Integers, up: Integers, shift: int, built: Built = EXACT) -> Wide:
    """silu(g) * up: int16 in 1/64 and int16 -> int16, round(silu(g) * up >> shift)."""
    return saturate(round_shift(activate(g, "silu", built) * up.astype(np.int64), shift), 16)


def rotate(x1: Integers, x2: Integers, cosine: Integers, sine: Integers) -> tuple[Wide, Wide]:
    """Rotary embedding of one pair of channels, j and j + head_dim / 2.

    Args:
        x1: int16, channel j.
        x2: int16, channel j + head_dim / 2.
        cosine: Q1.14.
        sine: Q1.14.

    Returns:
        (x1 cos - x2 sin, x2 cos + x1 sin), each rounded once and saturated to int16.
    """
    a, b = x1.astype(np.int64), x2.astype(np.int64)
    c, s = cosine.astype(np.int64), sine.astype(np.int64)
    return (
        saturate(round_shift(a * c - b * s, ROTARY_BITS), 16),
        saturate(round_shift(b * c + a * s, ROTARY_BITS), 16),
    )


def inverse_sqrt(v: Integers, built: Built = EXACT) -> Wide:
    """About 2^23 / sqrt(v): v 2^14..2^16-1 -> 2^15..2^16-1, by chords of a table."""
    if "inverse_sqrt" in built:
        return np.asarray(built["inverse_sqrt"][v], np.int64)
    starts, falls = tables.inverse_sqrt()
    wide = v.astype(np.int64)
    segment = wide // tables.RSQRT_SEGMENT - (1 << 14) // tables.RSQRT_SEGMENT
    result: Wide = starts[segment] - (falls[segment] * (wide % tables.RSQRT_SEGMENT) >> 10)
    return result


def reciprocal(v: Integers, built: Built = EXACT) -> Wide:
    """About 2^31 / v: v 2^15..2^16-1 -> 2^15..2^16-1, by chords of a table."""
    if "reciprocal" in built:
        return np.asarray(built["reciprocal"][v], np.int64)
    starts, falls = tables.reciprocal()
    wide = v.astype(np.int64)
    segment = wide // tables.RECIPROCAL_SEGMENT - (1 << 15) // tables.RECIPROCAL_SEGMENT
    result: Wide = starts[segment] - (falls[segment] * (wide % tables.RECIPROCAL_SEGMENT) >> 9)
    return result


def norm_statistics(
    x: Integers,
    inverse_count: int,
    mean_shift: int,
    epsilon: int,
    base: int,
    centred: bool,
    built: Built = EXACT,
) -> tuple[Wide, Wide, Wide]:
    """First pass of a norm: mean, inverse deviation and shift of each lane.

    Args:
        x: int16 `[channels, ...]`.
        inverse_count: 0..65535, about 2^(mean_shift + 4) / channels.
        mean_shift: 1..47.
        epsilon: 1..2^32-1, added to channels^2 times the variance.
        base: Shift of the second pass for a deviation of one bit; may be negative.
        centred: LayerNorm; else RMSNorm, whose mean is 0.
        built: Of the core's units.

    Returns:
        mean in 1/16 (22 bits), r (16 bits, 2^15 times a number in 1..2), shift (1..63), `[...]`.
    """
    count = x.shape[0]
    wide = x.astype(np.int64)
    total = wide.sum(0) if centred else np.zeros(x.shape[1:], np.int64)
    squares = (wide * wide).sum(0)
    mean = round_shift(total * inverse_count, mean_shift)
    variance = count * squares - total * total + epsilon
    half_bits = (bit_length(variance) + 1) // 2
    mantissa = np.where(
        half_bits > 8, variance >> np.maximum(2 * half_bits - 16, 0),
        variance << np.maximum(16 - 2 * half_bits, 0),
    )  # fmt: skip
    return mean, inverse_sqrt(mantissa, built), np.maximum(1, base + half_bits)


def normalize(x: Integers, mean: Integers, r: Integers, shift: Integers) -> Wide:
    """Second pass of a norm: int16 -> int16, `round((16 x - mean) * r >> shift)`, saturated."""
    return saturate(round_shift(((x.astype(np.int64) << 4) - mean) * r, shift), 16)


def affine(
    z: Integers, gamma: Integers, beta: Integers, shift: Integers, zero: int, bits: int = 8
) -> Wide:
    """The end of a norm: round((z * gamma + beta) >> shift) + zero, saturated to `bits`.

    Args:
        z: int16.
        gamma: int16 of each channel.
        beta: int32 of each channel, at the scale of the product.
        shift: 1..47 of each channel.
        zero: -128..127.
        bits: 8 or 4.
    """
    product = z.astype(np.int64) * gamma.astype(np.int64) + beta.astype(np.int64)
    return saturate(round_shift(product, shift) + zero, bits)
