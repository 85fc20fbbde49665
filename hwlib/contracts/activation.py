"""The contract of the activation functions.

Protocol: `x` and `silu` of any cycle give their `y` after `latency` cycles; one value a cycle, the
function may change from each to the next, and nothing stalls. What stands at `y` before the first
result is not looked at. A unit may be off by up to `TOLERANCE`: the model is then scored with what
it gives.
"""

import numpy as np
import numpy.typing as npt

from hwlib.contracts.contract import Approximation, Expected, Port, Trace, UnitContract, delayed
from hwlib.reference import vector

TOLERANCE = 64
"""In 1/256: a quarter."""


def stimulus(latency: int, seed: int) -> Trace:
    """Every int16 through both functions, in random order.

    Args:
        latency: Cycles of the unit under test.
        seed: Seed of the order.

    Returns:
        `x`, `silu`: int64 [cycles].
    """
    every = np.random.default_rng(seed).permutation(1 << 17)
    order = np.concatenate([every, every[:latency]])
    return {"x": (order >> 1) - (1 << 15), "silu": order & 1}


def expected(inputs: Trace, latency: int) -> Expected:
    """The integer reference of the chosen function.

    Args:
        inputs: As `stimulus` gives them.
        latency: Cycles from inputs to their result.

    Returns:
        `y`, compared in every cycle with a result.
    """
    x = inputs["x"]
    results = np.where(inputs["silu"] == 1, vector.activate(x, "silu"), vector.activate(x, "gelu"))
    return delayed("y", results, np.ones(len(x), np.bool_), latency)


def row(inputs: Trace) -> npt.NDArray[np.int64]:
    """Row of a table: GELU of x as 16 unsigned bits, then SiLU, [cycles]."""
    return inputs["silu"] << 16 | inputs["x"] & 0xFFFF


CONTRACT = UnitContract(
    unit="activation",
    class_name="ActivationFunction",
    ports=(
        Port("x", "input", 16, signed=True),
        Port("silu", "input", 1),
        Port("y", "output", 16, signed=True),
    ),
    latency_bounds=(1, 4),
    stimulus=stimulus,
    expected=expected,
    approximation=Approximation(TOLERANCE, 1 << 17, row),
)
