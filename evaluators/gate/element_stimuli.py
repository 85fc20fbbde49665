"""Tiles for the array's elements: every pair of operands, and operands and sums that stay."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from hwlib.contracts.contract import Trace, UnitContract
from hwlib.contracts.mac import drained_tiles

TILE_CYCLES = (3, 10)
"""Shortest and longest tile of a sweep: the sum of a tile of 3 cycles is seen once."""

DWELLING_TILE_CYCLES = (1, 100)
"""Shortest and longest tile whose operands stay."""

DWELL_CYCLES = 1 << 15
"""Least length of the sequence of such tiles."""

PACES = (1.0, 0.5, 0.05)
"""Chances that an operand changes in a cycle, each for one tile."""

PAUSE_CYCLES = 128
"""The drain chain stands still and moves by turns of so many cycles."""

NARROW_CYCLES = 1 << 12
"""Cycles of a sweep for each mode that adds several products in a cycle."""

_Wide = npt.NDArray[np.int64]


def sweep_and_dwell(contract: UnitContract, latency: int, rng: np.random.Generator) -> list[Trace]:
    """Two sequences: every pair of operands, and operands and sums that stay.

    In the first all sums are seen. The second has tiles of the first, in which an operand may come
    many times, and a drain chain that stands still for hundreds of cycles.

    Args:
        contract: Of an element.
        latency: Cycles of the unit under test.
        rng: Draws order and tiles.
    """
    tiles = [tile for rows in OPERANDS[contract.unit](rng) for tile in _cut(rows, rng)]
    tiles = [tiles[at] for at in rng.permutation(len(tiles))]
    swept = _drained(contract, latency, tiles, len(tiles) + 1, rng)

    dwelling: list[_Wide] = []
    while sum(len(tile) for tile in dwelling) < DWELL_CYCLES:
        tile = tiles[len(dwelling)]
        cycles = int(rng.integers(*DWELLING_TILE_CYCLES))
        columns = [column[_places(len(tile), cycles, rng)] for column in tile.T]
        dwelling.append(np.stack(columns, axis=1))
    paused = _drained(contract, latency, dwelling, 0, rng)
    cycle = np.arange(len(paused["shift"]))
    return [swept, {**paused, "shift": paused["shift"] * (cycle // PAUSE_CYCLES % 2)}]


def _places(rows: int, cycles: int, rng: np.random.Generator) -> _Wide:
    moves: _Wide = np.cumsum(rng.random(cycles) < rng.choice(PACES))
    return moves % rows


def _cut(rows: _Wide, rng: np.random.Generator) -> list[_Wide]:
    """Rows of operands as tiles."""
    shortest, longest = TILE_CYCLES
    ends = np.cumsum(rng.integers(shortest, longest + 1, len(rows) // shortest))
    return np.split(rows, ends[ends <= len(rows) - shortest])


def _drained(
    contract: UnitContract,
    latency: int,
    tiles: Sequence[_Wide],
    always_seen: int,
    rng: np.random.Generator,
) -> Trace:
    """A sequence of tiles; the first `always_seen` have a chain that moves in every cycle."""
    bits = contract.class_arguments[0]
    rest = np.repeat(tiles[0][:1], latency + 4, axis=0)
    operands = np.concatenate([*tiles, rest])
    lengths = [len(tile) for tile in tiles]
    names = [port.name for port in contract.inputs][: operands.shape[1]]
    return {
        **{name: np.ascontiguousarray(operands[:, i]) for i, name in enumerate(names)},
        **drained_tiles(lengths, always_seen, len(operands), bits, latency, rng),
    }


def _mac_operands(rng: np.random.Generator) -> list[_Wide]:
    """`a` and `w`: every int9 with every int8."""
    pairs = rng.permutation(1 << 17)
    return [np.stack([(pairs >> 8) - 256, (pairs & 255) - 128], axis=1)]


def _composable_operands(rng: np.random.Generator) -> list[_Wide]:
    """`a`, `w` and `mode`: every pair of each product, in the narrow modes beside random ones."""

    def rows(mode: int, a: _Wide, w: _Wide) -> _Wide:
        return np.stack([a, w, np.full(len(a), mode)], axis=1)

    def twice(low: _Wide, high: _Wide) -> _Wide:
        """A word of the nibbles low, low, high, high."""
        return (low & 15) * 0x11 | (high & 15) * 0x1100

    sweep = []
    for mode in (0, 1):
        pairs = rng.permutation(1 << 16)
        sweep.append(rows(mode, (pairs >> 8) * 0x101, twice(pairs, pairs >> 4)))
    # A byte and an int4 for each product.
    low, high = (rng.permutation(NARROW_CYCLES) for _ in range(2))
    sweep.append(rows(2, low >> 4 | high >> 4 << 8, twice(low, high)))
    a = w = np.zeros(NARROW_CYCLES, np.int64)
    for at in (0, 4, 8, 12):
        pairs = rng.permutation(NARROW_CYCLES) & 255
        a, w = a | pairs >> 4 << at, w | (pairs & 15) << at
    return [*sweep, rows(3, a, w)]


OPERANDS: dict[str, Callable[[np.random.Generator], list[_Wide]]] = {
    "mac": _mac_operands,
    "composable_mac": _composable_operands,
}
"""For each element operands of all cycles of a sweep, one array a mode: int64 `[cycles, ports]`."""
