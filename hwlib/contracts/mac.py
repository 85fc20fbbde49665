"""The contract of the outer-product array's element.

Protocol: `a` and `w` come in every cycle, 0 where there is nothing to add. `capture` in cycle u
takes the sum of all operands of cycles up to u - `latency` since the capture before, and the next
sum begins with the operands after them. `shift` moves the drain chain by one; it comes two cycles
after a `capture` at the earliest, never with one, and not before the first. `drain_out` is read
while `shift` is high, by the neighbour's `drain_in` or at the end of the chain; it holds while
neither is high. After reset the sum is 0, and operands that stood at the ports are forgotten.

A product may be off by up to `TOLERANCE`, but it must hang on its two operands alone, and be 0
where one of them is 0; the sum of such products must be exact. The gate tabulates what an element
gives for every pair, and the model is scored with that.

The sum wraps at `bits`, and a chain moves sums of that width alone: `drain_in` and `drain_out` are
sign-extended. The class is constructed with `bits` and `stages`, as the shipped one; what it makes
of `stages` is its own affair, as the core takes the latency of the unit that stands in it.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from hwlib.behaviour import exact_products, product_row
from hwlib.contracts.contract import Expected, Port, Products, Trace, UnitContract

A_CORNERS = (-256, -255, -128, -1, 0, 1, 127, 254, 255)
"""Values of `a` that are tried with each of `W_CORNERS`."""

W_CORNERS = (-128, -127, -1, 0, 1, 126, 127)
"""Values of `w` that are tried with each of `A_CORNERS`."""

TOLERANCE = 512
"""Largest distance of a product from the exact one: 1/64 of the largest."""

ACTIVATIONS, WEIGHTS = 512, 256
"""Values of `a` and of `w`, each two's complement."""

RANDOM_TILES = 400
"""Random tiles after the corners."""

PROBE_CYCLES = 3
"""Cycles from one pair of operands to the next where each is a tile: as short as one can be whose
sum is seen."""

DEEPEST = 24
"""Cycles of the longest random tile."""


def contract(bits: int, stages: int) -> UnitContract:
    """The contract of the element of a core.

    Args:
        bits: Of the sum, 20 to 32.
        stages: Handed to the class and nothing else.
    """
    return UnitContract(
        unit="mac",
        class_name="Mac",
        class_arguments=(bits, stages),
        ports=(
            Port("a", "input", 9, signed=True),
            Port("w", "input", 8, signed=True),
            Port("capture", "input", 1),
            Port("shift", "input", 1),
            Port("drain_in", "input", 32, signed=True),
            Port("drain_out", "output", 32, signed=True),
        ),
        latency_bounds=(1, 4),
        stimulus=partial(stimulus, bits),
        expected=partial(expected, bits),
        products=Products(
            tolerance=TOLERANCE,
            rows=ACTIVATIONS * WEIGHTS,
            zeros=np.flatnonzero(exact_products() == 0),
            probe=partial(_probe, bits),
            expected=partial(_expected_of, bits),
        ),
    )


def _row(inputs: Trace) -> npt.NDArray[np.int64]:
    return product_row(inputs["a"], inputs["w"])


def _probe(bits: int, latency: int) -> tuple[Trace, npt.NDArray[np.int64]]:
    """Every pair of operands as a tile of its own, zeros after it, its sum shifted once."""
    rows = np.random.default_rng(0).permutation(ACTIVATIONS * WEIGHTS)
    cycles = PROBE_CYCLES * len(rows) + latency + PROBE_CYCLES
    a, w = np.zeros(cycles, np.int64), np.zeros(cycles, np.int64)
    at = PROBE_CYCLES * np.arange(len(rows))
    a[at], w[at] = rows // WEIGHTS - ACTIVATIONS // 2, rows % WEIGHTS - WEIGHTS // 2
    capture, shift = np.zeros(cycles, np.int64), np.zeros(cycles, np.int64)
    capture[at + latency + PROBE_CYCLES - 1] = 1
    shift[at + latency + PROBE_CYCLES + 1] = 1
    rest = {"capture": capture, "shift": shift, "drain_in": np.zeros(cycles, np.int64)}
    return {"a": a, "w": w, **rest}, rows


def _expected_of(
    bits: int, products: npt.NDArray[np.int64], inputs: Trace, latency: int
) -> Expected:
    """As `expected`, of an element with such products."""
    return drained(products[_row(inputs)], inputs, bits, latency)


def stimulus(bits: int, latency: int, seed: int) -> Trace:
    """Tiles one right after the other, while the chain of the tile before moves with gaps.

    Every pair of corners is a tile of its own; then come two tiles so deep that their sums pass
    2^31 - 1 and -2^31, and random ones, from one cycle on: among short ones some sums are taken in
    cycle after cycle and never leave. It ends amid a tile, so that a reset finds a sum to forget.

    Args:
        bits: Of the sum.
        latency: Cycles of the unit under test.
        seed: Seed of the random values.

    Returns:
        `a`, `w`, `capture`, `shift`, `drain_in`: int64 [cycles].
    """
    rng = np.random.default_rng(seed)
    tiles = [np.full((3, 2), (a, w)) for a in A_CORNERS for w in W_CORNERS]
    tiles += [np.full((65536 + 40, 2), (-256, -128)), np.full((66100, 2), (-256, 127))]
    tiles += [np.full((3, 2), (1, 1))]
    always_seen = len(tiles)
    for _ in range(RANDOM_TILES):
        depth = int(rng.integers(1, 1 + (DEEPEST if rng.random() < 0.7 else 2)))
        tile = np.stack([rng.integers(-256, 256, depth), rng.integers(-128, 128, depth)], axis=1)
        tile[rng.random(depth) < 0.1] = 0
        tiles.append(tile)
    operands = np.concatenate([*tiles, np.full((latency + 4, 2), (101, 103))])
    return {
        "a": np.ascontiguousarray(operands[:, 0]),
        "w": np.ascontiguousarray(operands[:, 1]),
        **drained_tiles(
            [len(tile) for tile in tiles], always_seen, len(operands), bits, latency, rng
        ),
    }


def drained_tiles(
    lengths: Sequence[int],
    always_seen: int,
    cycles: int,
    bits: int,
    latency: int,
    rng: np.random.Generator,
) -> Trace:
    """What takes the sums of tiles one right after the other away.

    Args:
        lengths: Cycles of each tile.
        always_seen: First tiles whose chain moves in every cycle; each tile after them has its own
            share of shifts, from none to all cycles.
        cycles: Cycles of the whole trace.
        bits: Of the sum.
        latency: Cycles of the unit under test.
        rng: Draws the shares and what the neighbour sends.

    Returns:
        `capture`, `shift`, `drain_in`: int64 [cycles].
    """
    capture = np.zeros(cycles, dtype=np.int64)
    capture[np.cumsum(lengths) - 1 + latency] = 1
    share = rng.choice((0.0, 0.5, 1.0), len(lengths) + 1)
    share[:always_seen] = 1.0
    shift = (rng.random(cycles) < share[np.cumsum(capture)]).astype(np.int64)
    after = np.concatenate([[0], capture[:-1]])
    shift[(capture == 1) | (after == 1)] = 0
    shift[: int(capture.argmax())] = 0
    return {
        "capture": capture,
        "shift": shift,
        "drain_in": rng.integers(-(1 << bits - 1), 1 << bits - 1, cycles),
    }


def expected(bits: int, inputs: Trace, latency: int) -> Expected:
    """The integer reference: exact sums of products modulo 2^bits, between captures.

    Args:
        bits: Of the sum.
        inputs: As `stimulus` gives them.
        latency: Cycles from operands to the `capture` that can take them.

    Returns:
        `drain_out`, compared while `shift` is high.
    """
    return drained(inputs["a"] * inputs["w"], inputs, bits, latency)


def drained(products: npt.NDArray[np.int64], inputs: Trace, bits: int, latency: int) -> Expected:
    """What an element's drain chain gives.

    Args:
        products: What each cycle's operands add to the sum, int64 [cycles].
        inputs: `capture`, `shift` and `drain_in`.
        bits: Of the sum.
        latency: Cycles from operands to the `capture` that can take them.

    Returns:
        `drain_out`, compared while `shift` is high.
    """
    cycles = len(products)
    running = np.zeros(cycles, dtype=np.int64)  # sum of all products up to u - latency
    running[latency:] = np.cumsum(products)[: cycles - latency]
    captures = inputs["capture"] == 1
    sums = np.zeros(cycles, dtype=np.int64)
    sums[captures] = np.diff(running[captures], prepend=0)
    half = np.int64(1) << (bits - 1)
    wrapped = (sums + half) % (2 * half) - half

    # The register holds what the last capture or shift before this cycle put there.
    shifts = inputs["shift"] == 1
    loaded = np.where(captures, wrapped, inputs["drain_in"])
    last: npt.NDArray[np.int64] = np.maximum.accumulate(
        np.where(captures | shifts, np.arange(cycles), -1)
    )
    last = np.concatenate([[-1], last[:-1]])
    drain_out = np.where(last >= 0, loaded[np.maximum(last, 0)], 0)
    return Expected(values={"drain_out": drain_out}, checked={"drain_out": shifts})
