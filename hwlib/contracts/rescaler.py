"""The contract of the rescaler.

Protocol: `acc`, `multiplier` and `shift` of an enabled cycle give their result at `y` after
`latency` enabled cycles, where it stands until the next enabled cycle; each sum brings its own
factor. Cycles without `enable` leave everything as it is, whatever stands at the inputs. What
stands at `y` before the first result is not looked at.
"""

from itertools import product

import numpy as np
import numpy.typing as npt

from hwlib.contracts.contract import Expected, Port, Trace, UnitContract
from hwlib.reference.vector import round_shift, saturate

SHIFTS = range(1, 48)
"""Shifts that a factor may have."""

ACC_CORNERS = (
    -(2**31), -(2**31) + 1, -65537, -65536, -65535, -1, 0, 1, 65535, 65536, 65537, 2**31 - 1,
)  # fmt: skip
"""Sums that are tried with each shift and each of `MULTIPLIER_CORNERS`."""

MULTIPLIER_CORNERS = (0, 1, 2, 32767, 32768, 65535)
"""Multipliers that are tried with each shift and each of `ACC_CORNERS`."""

RANDOM = 4096
"""Random sums after the corners, of each of three kinds."""


def stimulus(latency: int, seed: int) -> Trace:
    """Corners, ties, edges of saturation and random sums, mixed, with gaps of `enable`.

    Args:
        latency: Cycles of the unit under test.
        seed: Seed of the random values and of the order.

    Returns:
        `enable`, `acc`, `multiplier`, `shift`: int64 [cycles].
    """
    rng = np.random.default_rng(seed)
    corners = np.array(list(product(ACC_CORNERS, MULTIPLIER_CORNERS, SHIFTS)), dtype=np.int64)

    # acc * multiplier is 1 below, at or 1 above half a unit of the result, modulo 2^shift.
    shift = rng.integers(1, 32, RANDOM)
    multiplier = rng.integers(0, 1 << 15, RANDOM) * 2 + 1
    half = (np.int64(1) << (shift - 1)) + rng.integers(-1, 2, RANDOM)
    inverse = np.array([pow(int(m), -1, 1 << 32) for m in multiplier], dtype=np.uint64)
    low = (half.astype(np.uint64) * inverse) & ((np.uint64(1) << shift.astype(np.uint64)) - 1)
    high = rng.integers(0, 1 << 32, RANDOM) >> shift << shift
    ties = np.stack([_signed32(high + low.astype(np.int64)), multiplier, shift], axis=1)

    # Results within a few units of 2^31 and -2^31, to either side.
    shift = rng.integers(1, 16, RANDOM)
    multiplier = rng.integers(np.int64(1) << shift, 1 << 16)
    acc = ((np.int64(1) << (31 + shift)) // multiplier + rng.integers(-2, 3, RANDOM)) * (
        rng.integers(0, 2, RANDOM) * 2 - 1
    )
    edges = np.stack([acc.clip(-(2**31), 2**31 - 1), multiplier, shift], axis=1)

    # Sums of every size.
    acc = _signed32(rng.integers(0, 1 << 32, RANDOM)) >> rng.integers(0, 31, RANDOM)
    plain = np.stack([acc, rng.integers(0, 1 << 16, RANDOM), rng.integers(1, 48, RANDOM)], axis=1)
    sums = rng.permutation(np.concatenate([corners, ties, edges, plain]))

    # About one cycle in four is a gap; the inputs are anything then.
    enable = (rng.random(len(sums) * 4 // 3) < 0.75).astype(np.int64)
    cycles = len(enable)
    table = np.stack(
        [
            _signed32(rng.integers(0, 1 << 32, cycles)),
            rng.integers(0, 1 << 16, cycles),
            rng.integers(1, 48, cycles),
        ],
        axis=1,
    )
    chosen = np.flatnonzero(enable)[: len(sums)]
    table[chosen] = sums[: len(chosen)]
    names = ("acc", "multiplier", "shift")
    inputs = {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(names)}
    return {"enable": enable, **inputs}


def expected(inputs: Trace, latency: int) -> Expected:
    """The integer reference, delayed by `latency` enabled cycles.

    Args:
        inputs: As `stimulus` gives them.
        latency: Enabled cycles from a sum to its result.

    Returns:
        `y`, compared in every cycle with a result, gaps included.
    """
    results = saturate(round_shift(inputs["acc"] * inputs["multiplier"], inputs["shift"]), 32)
    taken = np.flatnonzero(inputs["enable"])
    # Sums taken before a cycle, of which the one `latency` back stands at the output.
    before = np.cumsum(inputs["enable"]) - inputs["enable"]
    checked = before >= latency
    y = np.where(checked, results[taken[np.maximum(before - latency, 0)]], 0)
    return Expected(values={"y": y}, checked={"y": checked})


def _signed32(value: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Numbers of 32 bits as two's complement."""
    signed: npt.NDArray[np.int64] = (value + (1 << 31)) % (1 << 32) - (1 << 31)
    return signed


CONTRACT = UnitContract(
    unit="rescaler",
    class_name="Rescaler",
    ports=(
        Port("enable", "input", 1),
        Port("acc", "input", 32, signed=True),
        Port("multiplier", "input", 16),
        Port("shift", "input", 6),
        Port("y", "output", 32, signed=True),
    ),
    latency_bounds=(1, 8),
    stimulus=stimulus,
    expected=expected,
)
