"""The contract of a signed multiplier of 4, 8 or 16 bits. No core has it: elements bring their own.

Protocol: `a` and `b` of any cycle give their product at `y` after `latency` cycles; one product a
cycle, and nothing stalls. What stands at `y` before the first result is not looked at. Multipliers
of 4 and of 8 bits may be off by up to 1/64 of their largest product; all they give is tabulated.
"""

from functools import partial
from itertools import product

import numpy as np
import numpy.typing as npt

from hwlib.contracts.contract import Approximation, Expected, Port, Trace, UnitContract, delayed

SIZES = (4, 8, 16)
"""Bits of an operand."""

TABULATED_BITS = 8
"""Widest operands whose products are all driven."""

RANDOM = 1 << 16
"""Random pairs after the corners where not all can be driven."""


def contract(bits: int) -> UnitContract:
    """The contract of a multiplier.

    Args:
        bits: Of each operand, two's complement, one of `SIZES`; the product has twice as many.
    """
    tabulated = bits <= TABULATED_BITS
    return UnitContract(
        unit=f"multiplier_{bits}",
        class_name="Multiplier",
        class_arguments=(bits,),
        ports=(
            Port("a", "input", bits, signed=True),
            Port("b", "input", bits, signed=True),
            Port("y", "output", 2 * bits, signed=True),
        ),
        latency_bounds=(1, 4),
        stimulus=partial(stimulus, bits),
        expected=expected,
        approximation=(
            Approximation(1 << (2 * bits - 8), 1 << 2 * bits, partial(_row, bits))
            if tabulated
            else None
        ),
    )


def stimulus(bits: int, latency: int, seed: int) -> Trace:
    """Every pair of operands in random order; of wide ones corners with corners, then random.

    Args:
        bits: Of each operand.
        latency: Cycles of the unit under test.
        seed: Seed of the order and of the random values.

    Returns:
        `a`, `b`: int64 [cycles].
    """
    rng = np.random.default_rng(seed)
    half = 1 << (bits - 1)
    if bits <= TABULATED_BITS:
        every = rng.permutation(1 << 2 * bits)
        pairs = np.stack([every >> bits, every & 2 * half - 1], axis=1) - half
    else:
        corners = [-half, 1 - half, -half // 2, -2, -1, 0, 1, 2, half // 2, half - 2, half - 1]
        edges = np.array(list(product(corners, corners)))
        sizes = rng.integers(0, bits, (RANDOM, 2))
        pairs = np.concatenate([edges, rng.integers(-half, half, (RANDOM, 2)) >> sizes])
    pairs = np.concatenate([pairs, pairs[:latency]])
    return {name: np.ascontiguousarray(pairs[:, i]) for i, name in enumerate("ab")}


def expected(inputs: Trace, latency: int) -> Expected:
    """The exact product.

    Args:
        inputs: As `stimulus` gives them.
        latency: Cycles from operands to their product.

    Returns:
        `y`, compared in every cycle with a result.
    """
    results = inputs["a"] * inputs["b"]
    return delayed("y", results, np.ones(len(results), np.bool_), latency)


def _row(bits: int, inputs: Trace) -> npt.NDArray[np.int64]:
    half = 1 << (bits - 1)
    return (inputs["a"] + half) << bits | inputs["b"] + half
