"""The contract of a dot product of 2, 4 or 8 pairs of int8. No core has it: this one sums in place.

Protocol: `a_0`.. and `b_0`.. of any cycle give the sum of their products at `y` after `latency`
cycles, exactly; one sum a cycle, and nothing stalls. What stands at `y` before the first result is
not looked at.
"""

from functools import partial

import numpy as np

from hwlib.contracts.contract import Expected, Port, Trace, UnitContract, delayed

SIZES = (2, 4, 8)
"""Pairs of operands."""

CORNERS = (-128, -127, -1, 0, 1, 126, 127)
"""Values that come more often than others."""

CYCLES = 1 << 15
"""Random cycles after those in which all pairs are alike."""


def contract(lanes: int) -> UnitContract:
    """The contract of a dot product.

    Args:
        lanes: Pairs of operands, one of `SIZES`.
    """
    names = [f"{side}_{lane}" for side in "ab" for lane in range(lanes)]
    return UnitContract(
        unit=f"dot_product_{lanes}",
        class_name="DotProduct",
        class_arguments=(lanes,),
        ports=(
            *(Port(name, "input", 8, signed=True) for name in names),
            Port("y", "output", sum_bits(lanes), signed=True),
        ),
        latency_bounds=(1, 6),
        stimulus=partial(stimulus, lanes),
        expected=partial(expected, lanes),
    )


def sum_bits(lanes: int) -> int:
    """Bits that hold the sum of so many products of -128 and -128."""
    return 15 + lanes.bit_length()


def stimulus(lanes: int, latency: int, seed: int) -> Trace:
    """Every pair of operands in each lane, beside random ones and corners in the others.

    Args:
        lanes: Pairs of operands.
        latency: Cycles of the unit under test.
        seed: Seed of the random values.

    Returns:
        `a_0`.. and `b_0`..: int64 [cycles].
    """
    rng = np.random.default_rng(seed)
    corners = np.tile(np.array(np.meshgrid(CORNERS, CORNERS)).reshape(2, 1, -1), (1, lanes, 1))
    swept = np.stack([rng.permutation(1 << 16) for _ in range(lanes)])
    every = np.stack([swept >> 8, swept & 255]) - 128
    loose = rng.integers(-128, 128, (2, lanes, CYCLES))
    often = rng.random(loose.shape) < 0.3
    loose[often] = rng.choice(CORNERS, np.count_nonzero(often))
    values = np.concatenate([corners, every, loose, loose[:, :, :latency]], axis=2)
    return {
        f"{side}_{lane}": np.ascontiguousarray(values[at, lane])
        for at, side in enumerate("ab")
        for lane in range(lanes)
    }


def expected(lanes: int, inputs: Trace, latency: int) -> Expected:
    """The exact sum of products.

    Args:
        lanes: Pairs of operands.
        inputs: As `stimulus` gives them.
        latency: Cycles from operands to their sum.

    Returns:
        `y`, compared in every cycle with a result.
    """
    products = [inputs[f"a_{lane}"] * inputs[f"b_{lane}"] for lane in range(lanes)]
    results = np.sum(products, axis=0)
    return delayed("y", results, np.ones(len(results), np.bool_), latency)
