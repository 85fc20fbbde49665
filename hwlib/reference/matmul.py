"""The bit-exact model of the array: an integer matrix product in wrapping 32-bit sums."""

import numpy as np
import numpy.typing as npt


def matmul(x: npt.NDArray[np.int8], weight: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """Sums of products as the array accumulates them.

    Args:
        x: Activations, int8 [M, K].
        weight: Weights, int8 [N, K].

    Returns:
        int32 [M, N]: sum over K of x * weight, modulo 2^32.
    """
    # int32 arithmetic of numpy wraps as the accumulators do.
    product: npt.NDArray[np.int32] = x.astype(np.int32) @ weight.astype(np.int32).T
    return product


def add_wrapping(
    left: npt.NDArray[np.int32], right: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """Sum of two int32 arrays modulo 2^32: the bias adder."""
    total: npt.NDArray[np.int32] = (left.astype(np.int64) + right.astype(np.int64)).astype(np.int32)
    return total
