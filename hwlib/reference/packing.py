"""How channel entries and weights lie in DRAM."""

import numpy as np
import numpy.typing as npt

CHANNEL = np.dtype([("bias", "<i4"), ("multiplier", "<u2"), ("shift", "u1"), ("unused", "u1")])
"""One entry of a channel table."""


def unpack_weights(packed: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.int8]:
    """Weights of 8, 4 or 2 bits in two's complement, lowest first, sign-extended to int8.

    Args:
        packed: uint8, any length.
        bits: Bits of one weight.

    Returns:
        int8 [8 / bits * length].
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    raw = packed[:, None] >> shifts & np.uint8((1 << bits) - 1)
    sign = 1 << (bits - 1)
    wide: npt.NDArray[np.int8] = ((raw.astype(np.int16) ^ sign) - sign).astype(np.int8)
    return wide.ravel()


def pack_weights(weights: npt.NDArray[np.int8], bits: int) -> npt.NDArray[np.uint8]:
    """Weights as they lie in DRAM: two's complement of `bits`, the first lowest.

    Args:
        weights: int8, any shape whose size is a multiple of 8 / bits, in range.
        bits: Bits of one weight.

    Returns:
        uint8 [size * bits / 8].
    """
    per_byte = 8 // bits
    raw = weights.reshape(-1, per_byte).view(np.uint8) & np.uint8((1 << bits) - 1)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    packed: npt.NDArray[np.uint8] = np.bitwise_or.reduce(raw << shifts, axis=1).astype(np.uint8)
    return packed
