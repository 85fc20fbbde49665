"""Laws that a network has to keep to be lowered, and the error that says which one it breaks."""

import numpy as np
import numpy.typing as npt

from hwlib.behaviour import Built, exact_products


class LoweringError(ValueError):
    """The model breaks a law of the core; the message has law, value and remedy."""


def check_sums(
    weight: npt.NDArray[np.int8],
    bias: npt.NDArray[np.int32],
    activation_bits: int = 8,
    accumulator_bits: int = 32,
    slack: int = 0,
) -> None:
    """Interval analysis: holds the sums that any activations can give to the accumulators.

    Args:
        weight: int8 [N, K].
        bias: int32 [N], added in 32 bits.
        activation_bits: Of an activation, two's complement.
        accumulator_bits: Of a sum before the bias.
        slack: How far a product of the core's elements may be from the exact one.

    Raises:
        LoweringError: A sum could wrap, before or after the bias.
    """
    wide = weight.astype(np.int64)
    positive, negative = np.maximum(wide, 0).sum(axis=1), np.maximum(-wide, 0).sum(axis=1)
    most = 1 << (activation_bits - 1)
    off = slack * weight.shape[1]
    high = (most - 1) * positive + most * negative + off
    low = -most * positive - (most - 1) * negative - off
    remedy = "split the inner dimension, or use smaller weights or wider accumulators"
    check_range(int(low.min()), int(high.max()), accumulator_bits, remedy)
    check_range(int((low + bias).min()), int((high + bias).max()), 32, remedy)


def slack_of(built: Built) -> int:
    """How far a product of the core's elements is from the exact one at most."""
    if "mac" not in built:
        return 0
    return int(abs(built["mac"] - exact_products()).max())


def check_range(lowest: int, highest: int, bits: int, remedy: str) -> None:
    """Holds what sums can reach to two's complement of so many bits.

    Raises:
        LoweringError: They reach beyond.
    """
    if highest >= 1 << (bits - 1) or lowest < -(1 << (bits - 1)):
        raise LoweringError(
            f"sums can reach {lowest}..{highest}, beyond the {bits}-bit accumulators; {remedy}"
        )
