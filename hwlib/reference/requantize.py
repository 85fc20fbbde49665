"""The bit-exact model of the requantizer."""

from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.integer[Any]]

SHIFT_MAX = 47
"""Largest shift: from 48 bits on every product rounds to 0."""


def requantize(
    acc: Integers, multiplier: Integers, shift: Integers, zero_point: Integers | int
) -> npt.NDArray[np.int8]:
    """Scales 32-bit sums to int8: sat8(((acc * multiplier + 2^(shift-1)) >> shift) + zero_point).

    The shift is arithmetic, so halves round up (towards plus infinity).

    Args:
        acc: Sums with the bias in, in the range of int32, any shape.
        multiplier: 0..65535, broadcast against `acc`.
        shift: 1..47, broadcast against `acc`.
        zero_point: -128..127, broadcast against `acc`.

    Returns:
        int8, of the broadcast shape.

    Raises:
        ValueError: A multiplier or a shift is out of range.
    """
    multiplier, shift = np.asarray(multiplier), np.asarray(shift)
    if shift.size and not (shift.min() >= 1 and shift.max() <= SHIFT_MAX):
        raise ValueError(
            f"requantizer shift must be 1..{SHIFT_MAX} bits, "
            f"not {int(shift.min())}..{int(shift.max())}"
        )
    if multiplier.size and not (multiplier.min() >= 0 and multiplier.max() < 65536):
        raise ValueError(
            "requantizer multiplier must be 0..65535, "
            f"not {int(multiplier.min())}..{int(multiplier.max())}"
        )
    wide_shift = shift.astype(np.int64)
    # |acc * multiplier| < 2^47 and the rounding term is at most 2^46: int64 holds the sum.
    product = np.asarray(acc).astype(np.int64) * multiplier.astype(np.int64)
    scaled = (product + (np.int64(1) << (wide_shift - 1))) >> wide_shift
    y: npt.NDArray[np.int8] = np.clip(scaled + zero_point, -128, 127).astype(np.int8)
    return y
