"""The contracts of the two units that take a mantissa: inverse square root and reciprocal.

Protocol: `v` of any cycle gives its `r` after `latency` cycles; one value a cycle, and nothing
stalls. The lanes' setup has one register for the mantissas of both units, so mantissas come too
that a unit has no result for: that result is not looked at, nor is what stands at `r` before the
first one. A unit may be off by up to `TOLERANCE`: the model is then scored with what it gives.
"""

from collections.abc import Callable

import numpy as np

from hwlib.contracts.contract import Approximation, Expected, Port, Trace, UnitContract, delayed
from hwlib.reference import vector
from hwlib.reference.vector import Wide

STRAYS = 1024
"""Smaller mantissas that are strewn in."""

TOLERANCE = 512
"""Of results from 2^15 on: 1.6 %."""


def contract(
    unit: str, class_name: str, smallest: int, reference: Callable[[Wide], Wide]
) -> UnitContract:
    """The contract of a unit for every mantissa from `smallest` to 2^16 - 1.

    The stimulus is all of them in random order, with `STRAYS` below among them.

    Args:
        unit: The unit's name.
        class_name: The class that its file defines.
        smallest: The smallest mantissa that has a result.
        reference: The integer reference, mantissas to results.
    """

    def stimulus(latency: int, seed: int) -> Trace:
        rng = np.random.default_rng(seed)
        strays = rng.integers(0, smallest, STRAYS)
        v = rng.permutation(np.concatenate([np.arange(smallest, 1 << 16), strays]))
        return {"v": np.concatenate([v, v[:latency]])}

    def expected(inputs: Trace, latency: int) -> Expected:
        defined = inputs["v"] >= smallest
        results = reference(np.where(defined, inputs["v"], smallest))
        return delayed("r", results, defined, latency)

    return UnitContract(
        unit=unit,
        class_name=class_name,
        ports=(Port("v", "input", 16), Port("r", "output", 16)),
        latency_bounds=(1, 4),
        stimulus=stimulus,
        expected=expected,
        approximation=Approximation(TOLERANCE, 1 << 16, lambda inputs: inputs["v"]),
    )


INVERSE_SQRT = contract("inverse_sqrt", "InverseSqrt", 1 << 14, vector.inverse_sqrt)

RECIPROCAL = contract("reciprocal", "Reciprocal", 1 << 15, vector.reciprocal)
