"""The contract of the reciprocal of a softmax total.

Protocol: `v` of any cycle gives its `r` after `latency` cycles; one value a cycle, and nothing
stalls. The lanes' setup has one register for the mantissas of both table units, so a `v` below
2^15 comes too: its result is not looked at, nor is what stands at `r` before the first one.
"""

import numpy as np

from hwlib.contracts.contract import Expected, Port, Trace, UnitContract, delayed
from hwlib.reference import vector

SMALLEST = 1 << 15
"""The smallest mantissa that has a result; the largest is 2^16 - 1."""

STRAYS = 1024
"""Smaller mantissas that are strewn in."""


def stimulus(latency: int, seed: int) -> Trace:
    """Every mantissa in random order, with `STRAYS` among them that have no result.

    Args:
        latency: Cycles of the unit under test.
        seed: Seed of order and strays.

    Returns:
        `v`: int64 [cycles].
    """
    rng = np.random.default_rng(seed)
    strays = rng.integers(0, SMALLEST, STRAYS)
    v = rng.permutation(np.concatenate([np.arange(SMALLEST, 1 << 16), strays]))
    return {"v": np.concatenate([v, v[:latency]])}


def expected(inputs: Trace, latency: int) -> Expected:
    """The integer reference.

    Args:
        inputs: As `stimulus` gives them.
        latency: Cycles from a mantissa to its result.

    Returns:
        `r`, compared in every cycle with the result of a mantissa that has one.
    """
    defined = inputs["v"] >= SMALLEST
    results = vector.reciprocal(np.where(defined, inputs["v"], SMALLEST))
    return delayed("r", results, defined, latency)


CONTRACT = UnitContract(
    unit="reciprocal",
    class_name="Reciprocal",
    ports=(Port("v", "input", 16), Port("r", "output", 16)),
    latency_bounds=(1, 4),
    stimulus=stimulus,
    expected=expected,
)
