"""The contract of the array's element.

Protocol: while `shift` is high, and in the `latency - 1` cycles before, the operands are 0. The
accumulators are read through `acc_out` only while `shift` is high, so a sum may stay redundant
inside until then. All state resets to 0, and operands of 0 leave the sum as it is.
"""

import numpy as np
import numpy.typing as npt

from hwlib.contracts.contract import Expected, Port, Trace, UnitContract

CORNERS = (-128, -127, -1, 0, 1, 127)
"""Operand values whose every pair is tried."""

RANDOM_TILES = 24
"""Random tiles after the corners."""

_WRAP = 1 << 32


def wrap32(value: int) -> int:
    """`value` modulo 2^32 as a signed number: what a 32-bit accumulator holds."""
    return (value + _WRAP // 2) % _WRAP - _WRAP // 2


def stimulus(latency: int, seed: int) -> Trace:
    """Tiles of random depth, each followed by a drain through the accumulator chain.

    The first tile holds every pair of corners; later ones begin from a sum that the chain has
    shifted in, up to the edges of 32 bits, so that the wrap is seen. A drain begins in the first
    cycle in which the sum of a unit of `latency` must be there; some operands come in the cycle
    right after a drain.

    Args:
        latency: Cycles of the unit under test.
        seed: Seed of the random values.

    Returns:
        `a_in`, `w_in`, `acc_in`, `shift`: int64 [cycles].
    """
    rng = np.random.default_rng(seed)
    corners = np.array([(a, w) for a in CORNERS for w in CORNERS], dtype=np.int64)
    blocks: list[npt.NDArray[np.int64]] = []

    def accumulate(operands: npt.NDArray[np.int64], chain: npt.NDArray[np.int64]) -> None:
        depth = len(operands)
        block = np.zeros((depth + latency - 1 + len(chain), 4), dtype=np.int64)
        block[:depth, :2] = operands
        block[: -len(chain), 2] = rng.integers(-(2**31), 2**31, len(block) - len(chain))
        block[-len(chain) :, 2] = chain
        block[-len(chain) :, 3] = 1
        blocks.append(block)

    edges = (0, 2**31 - 1, -(2**31), -1, 1)
    accumulate(corners, np.array([0, 2**31 - 1]))
    accumulate(np.array([[1, 1]]), np.array([-(2**31)]))
    accumulate(np.array([[-1, 1]]), np.array([2**31 - 16000]))
    accumulate(np.array([[-128, -128]] * 3), np.array([0]))
    for tile in range(RANDOM_TILES):
        operands = rng.integers(-128, 128, (int(rng.integers(1, 24)), 2))
        operands[rng.random(len(operands)) < 0.2] = 0  # holes: the sum must hold
        chain = rng.integers(-(2**31), 2**31, int(rng.integers(1, 5)))
        chain[-1] = edges[tile % len(edges)] if tile % 2 else chain[-1]
        accumulate(operands, chain)
    table = np.concatenate(blocks)
    names = ("a_in", "w_in", "acc_in", "shift")
    return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(names)}


def expected(inputs: Trace, latency: int) -> Expected:
    """The integer reference: operands delayed by one cycle, sums exact modulo 2^32.

    Args:
        inputs: As `stimulus` gives them.
        latency: Cycles from operands to their effect on the sum.

    Returns:
        `a_out` and `w_out`, compared in every cycle; `acc_out`, compared while `shift` is high.
    """
    cycles = len(inputs["shift"])
    products = inputs["a_in"] * inputs["w_in"]
    acc_out = np.zeros(cycles, dtype=np.int64)
    sum_now = 0
    for t in range(cycles):
        acc_out[t] = sum_now
        landing = int(products[t - latency + 1]) if t >= latency - 1 else 0
        sum_now = int(inputs["acc_in"][t]) if inputs["shift"][t] else wrap32(sum_now + landing)
    every = np.ones(cycles, dtype=np.bool_)
    return Expected(
        values={
            "a_out": np.concatenate([[0], inputs["a_in"][:-1]]),
            "w_out": np.concatenate([[0], inputs["w_in"][:-1]]),
            "acc_out": acc_out,
        },
        checked={"a_out": every, "w_out": every, "acc_out": inputs["shift"] == 1},
    )


CONTRACT = UnitContract(
    unit="element",
    class_name="Element",
    ports=(
        Port("a_in", "input", 8, signed=True),
        Port("w_in", "input", 8, signed=True),
        Port("acc_in", "input", 32, signed=True),
        Port("shift", "input", 1),
        Port("a_out", "output", 8, signed=True),
        Port("w_out", "output", 8, signed=True),
        Port("acc_out", "output", 32, signed=True),
    ),
    latency_bounds=(1, 4),
    stimulus=stimulus,
    expected=expected,
)
