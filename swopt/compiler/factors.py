"""A factor as the rescaler takes it: a multiplier of 16 bits and a shift."""

import math

import numpy as np
from numpy.typing import NDArray

from hwlib.reference.vector import SHIFT_MAX

MULTIPLIER_BITS = 16


def requantizers(factor: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Multiplier and shift with multiplier / 2^shift nearest to each factor.

    Args:
        factor: `[N]`, from 0 to under 2^15.

    Returns:
        Multiplier 0..65535 and shift 1..47, int64 `[N]`. The multiplier has its top bit set unless
        the shift is at a limit, so the factor is met to 2^-16.

    Raises:
        ValueError: A factor is too large for the requantizer.
    """
    _, exponent = np.frexp(factor)
    shift = np.clip(MULTIPLIER_BITS - exponent.astype(np.int64), 1, SHIFT_MAX)
    multiplier = np.rint(np.ldexp(factor, shift)).astype(np.int64)
    carried = (multiplier == 2**MULTIPLIER_BITS) & (shift > 1)
    shift = np.where(carried, shift - 1, shift)
    multiplier = np.where(carried, multiplier // 2, multiplier)
    if len(factor) and multiplier.max() >= 2**MULTIPLIER_BITS:
        largest = math.ldexp(2**MULTIPLIER_BITS - 1, -1)
        raise ValueError(f"requantizer factor must be at most {largest}, not {factor.max()}")
    return multiplier, shift
