"""The contract of the requantizer.

Protocol: a sum that is at `acc` in an enabled cycle gives its result at `y` after `latency`
enabled cycles; cycles without `enable` leave everything as it is. `multiplier`, `shift` and
`zero_point` stand still from the first sum of a drain until its last result.
"""

import numpy as np
import numpy.typing as npt

from hwlib.contracts.contract import Expected, Port, Trace, UnitContract
from hwlib.reference.requantize import requantize

RANDOM_DRAINS = 40
"""Random drains after the corners."""

_ACC_CORNERS = (-(2**31), -(2**31) + 1, -65536, -65535, -1, 0, 1, 65535, 65536, 2**31 - 1)


def stimulus(latency: int, seed: int) -> Trace:
    """Drains of a few sums each, with cycles without `enable` strewn in.

    The first drains hold the corners of every parameter; random ones choose the multiplier so
    that about half the results are inside int8. Between two drains the pipeline runs empty.

    Args:
        latency: Cycles of the unit under test.
        seed: Seed of the random values.

    Returns:
        `enable`, `acc`, `multiplier`, `shift`, `zero_point`: int64 [cycles].
    """
    rng = np.random.default_rng(seed)
    blocks: list[npt.NDArray[np.int64]] = []

    def drain(sums: npt.NDArray[np.int64], multiplier: int, shift: int, zero_point: int) -> None:
        # Each sum is followed by up to two cycles in which nothing moves.
        waits = rng.integers(0, 3, len(sums)) * (rng.random(len(sums)) < 0.3)
        acc = np.concatenate([np.repeat(sums, waits + 1), np.zeros(latency, np.int64)])
        enable = np.ones(len(acc), dtype=np.int64)
        at = 0
        for wait in waits:
            enable[at : at + wait] = 0
            at += int(wait) + 1
        block = np.empty((len(acc), 5), dtype=np.int64)
        block[:, 0], block[:, 1] = enable, acc
        block[:, 2:] = multiplier, shift, zero_point
        blocks.append(block)

    for multiplier, shift in ((0, 1), (1, 1), (65535, 1), (65535, 47), (32768, 31), (1, 16)):
        for zero_point in (-128, 0, 127):
            drain(np.array(_ACC_CORNERS), multiplier, shift, zero_point)
    for _ in range(RANDOM_DRAINS):
        shift = int(rng.integers(1, 48))
        multiplier = int(rng.integers(0, 65536))
        reach = min(2**31 - 1, max(2, 300 * 2**shift // max(multiplier, 1)))
        sums = rng.integers(-reach, reach, int(rng.integers(1, 17)))
        drain(sums, multiplier, shift, int(rng.integers(-128, 128)))
    table = np.concatenate(blocks)
    names = ("enable", "acc", "multiplier", "shift", "zero_point")
    return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(names)}


def expected(inputs: Trace, latency: int) -> Expected:
    """The integer reference, delayed by `latency` enabled cycles.

    Args:
        inputs: As `stimulus` gives them.
        latency: Enabled cycles from a sum to its result.

    Returns:
        `y`, compared in every cycle whose sum went in with the parameters that still stand.
    """
    results = requantize(
        inputs["acc"], inputs["multiplier"], inputs["shift"], inputs["zero_point"]
    ).astype(np.int64)
    parameters = np.stack([inputs[name] for name in ("multiplier", "shift", "zero_point")])
    cycles = len(results)
    y = np.zeros(cycles, dtype=np.int64)
    checked = np.zeros(cycles, dtype=np.bool_)
    taken: list[int] = []
    for t in range(cycles):
        if len(taken) >= latency:
            source = taken[-latency]
            y[t] = results[source]
            checked[t] = bool((parameters[:, source] == parameters[:, t]).all())
        if inputs["enable"][t]:
            taken.append(t)
    return Expected(values={"y": y}, checked={"y": checked})


CONTRACT = UnitContract(
    unit="requantizer",
    class_name="Requantizer",
    ports=(
        Port("enable", "input", 1),
        Port("acc", "input", 32, signed=True),
        Port("multiplier", "input", 16),
        Port("shift", "input", 6),
        Port("zero_point", "input", 8, signed=True),
        Port("y", "output", 8, signed=True),
    ),
    latency_bounds=(1, 8),
    stimulus=stimulus,
    expected=expected,
)
