"""Cycles that are lost in the banks of the memories, where engines meet.

Exact for the array beside its drain (`last_fed`), but that the word of shifts is left out. What
engines of lower priority lose is an expectation, derived here and fitted to nothing.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from hwlib.command_shapes import LOAD, MATMUL, STORE, VECTOR, Passes, Planned, Tile, Transfer
from hwlib.config import CoreConfig
from hwlib.cycles import READ_CYCLES, VECTOR_TAKE_CYCLES, CoreLatencies, Pass, pass_cycles

SAMPLE = 64
"""Elements of a pass over which its losses are averaged."""

SHORT_TILE, LONG_TILE = 4, 128
"""Words between which tiles are told apart, by powers of two, where they slow vector commands."""

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ran:
    """Cycles of a run.

    Attributes:
        begins: When each command was taken; of a load its first beat, of a matmul its operands.
        ends: When each was complete.
        fed: Of each matmul in turn, its last operands.
    """

    begins: list[int]
    ends: list[int]
    fed: list[int]


@cache
def last_fed(
    drained: tuple[tuple[int, int], ...],
    taken: int,
    apart: int,
    second: int,
    depth: int,
    period: int,
    words_ahead: int,
    banks: int,
) -> int:
    """Last operands of a tile that is fetched while the one before is drained.

    Cycles count from the last operands of the one before. A word is read when there is room for it,
    in a cycle in which neither the drain nor, for the second operand, the first has its bank.

    Args:
        drained: Accesses of the drain.
        taken: When the tile is taken.
        apart: From the first operand's first bank to the drain's.
        second: From the first operand's bank to the second's; -1 in the weight memory.
        depth: Words.
        period: Cycles for which a word is fed.
        words_ahead: Words of an operand that are read ahead.
        banks: Of the activation memory.
    """
    busy = {cycle: (word + apart) % banks for cycle, word in drained}
    quiet = max(busy) + 4 * period
    ends = [-period * (words_ahead - 1 - i) for i in range(words_ahead)]
    firsts: dict[int, int] = {}  # cycle of a read of the first operand -> bank
    arrived: list[int] = []
    first_at = second_at = taken
    for word in range(depth):
        while len(arrived) < min(depth, word + words_ahead) and len(arrived) < len(ends):
            index = len(arrived)
            first_at = max(first_at, ends[index]) + 1
            while busy.get(first_at) == index % banks:
                first_at += 1
            arrived.append(first_at)
            firsts[first_at] = index % banks
        ready = arrived[word]
        if second >= 0:
            bank = (word + second) % banks
            second_at = max(second_at, ends[word]) + 1
            while bank in (busy.get(second_at), firsts.get(second_at)):
                second_at += 1
            ready = max(ready, second_at)
        elif ready > quiet:
            return ends[-1] + period * (depth - word)
        ends.append(max(ready + READ_CYCLES, ends[-1] + 1) + period - 1)
    return ends[-1]


def losses(
    plan: list[Planned], ran: Ran, config: CoreConfig, latencies: CoreLatencies
) -> list[int]:
    """Cycles that loads, stores and vector commands lose to the array and its drain."""
    lost = [0] * len(plan)
    array = _Array(plan, ran)
    if not array.tiles:
        return lost
    vectors = [at for at, (queue, _, _) in enumerate(plan) if queue == VECTOR]
    transfers = [at for at, (queue, _, _) in enumerate(plan) if queue in (LOAD, STORE)]
    for at, loss in zip(
        vectors, _vector_losses(vectors, plan, ran, array, config, latencies), strict=True
    ):
        lost[at] = loss
    for at, loss in zip(
        transfers, _transfer_losses(transfers, plan, ran, array, config), strict=True
    ):
        lost[at] = loss
    return lost


class _Array:
    """When the array and its drain have the memory, as sums over time."""

    def __init__(self, plan: list[Planned], ran: Ran) -> None:
        at = [index for index, (queue, _, _) in enumerate(plan) if queue == MATMUL]
        self.tiles = [shape for _, _, shape in plan if isinstance(shape, Tile)]
        begins = np.array([ran.begins[index] for index in at], float)
        ends = np.array([ran.ends[index] for index in at], float)
        fed = np.array(ran.fed, float) + 1
        self.begins = begins
        active = np.array([tile.depth * tile.period for tile in self.tiles], float)
        drained = np.array([len(tile.accesses) for tile in self.tiles], float)
        words = np.array([tile.spaced_words for tile in self.tiles], float)
        weights = np.array([tile.spaced_weights for tile in self.tiles], float)
        self.active = _Sum(begins, np.minimum(fed, begins + active), active)
        self.words = _Sum(begins, fed, words)
        self.weights = _Sum(begins, fed, weights)
        self.drained = _Sum(fed, ends, drained)
        self.met = _Sum(begins, fed, np.full(len(fed), 0.5))
        self.met_close_words = _Sum(begins, fed, np.where(words == 0, 0.5, 0))
        self.met_close_weights = _Sum(begins, fed, np.where(weights == 0, 0.5, 0))


class _Sum:
    """A quantity that grows over spans which follow each other in time."""

    def __init__(self, begins: Reals, ends: Reals, amounts: Reals) -> None:
        total = np.cumsum(amounts)
        self.x = np.maximum.accumulate(np.column_stack([begins, ends]).ravel())
        self.y = np.column_stack([total - amounts, total]).ravel()

    def between(self, begins: Reals, ends: Reals) -> Reals:
        """How much it grows in each span."""
        grown: Reals = np.interp(ends, self.x, self.y) - np.interp(begins, self.x, self.y)
        return grown


def _vector_losses(
    vectors: list[int],
    plan: list[Planned],
    ran: Ran,
    array: _Array,
    config: CoreConfig,
    latencies: CoreLatencies,
) -> list[int]:
    """Cycles in which the banks of reads and writes are taken by the array or its drain."""
    if not vectors:
        return []
    shapes = [shape for at in vectors if isinstance(shape := plan[at][2], Passes)]
    begins = np.array([ran.begins[at] for at in vectors], float)
    firsts = begins + VECTOR_TAKE_CYCLES
    first_ends = firsts + np.array([shape.first for shape in shapes], float)
    lasts = begins + np.array([shape.last_begins for shape in shapes], float)
    last_ends = lasts + np.array([shape.last for shape in shapes], float)
    first_active = array.active.between(firsts, first_ends).tolist()
    last_active = array.active.between(lasts, last_ends).tolist()
    drained = array.drained.between(firsts, first_ends) + array.drained.between(lasts, last_ends)
    tile_at = np.searchsorted(array.begins, (lasts + last_ends) / 2).tolist()
    banks, ahead = config.activation_banks, latencies.writes_ahead
    losses = []
    for shape, tile_index, first, last, others in zip(
        shapes, tile_at, first_active, last_active, (drained / banks).tolist(), strict=True
    ):
        loss = others if shape.taken else others / 4
        tile = array.tiles[max(0, tile_index - 1)]
        met = (
            min(128, max(4, 1 << (tile.depth - 1).bit_length())),
            tile.period,
            min(tile.second, 1),
        )
        if first:
            loss += first * _slowed(_READS, ahead, banks, *met)
        if last and shape.taken:
            loss += last * _slowed(shape.taken, ahead, banks, *met)
        losses.append(round(loss))
    return losses


_READS = Pass(1, 1 << 20, 0)
"""A pass that gives no results."""


@cache
def _slowed(
    taken: Pass, writes_ahead: int, banks: int, depth: int, period: int, second: int
) -> float:
    """Share by which a pass is longer while the array fetches tile after tile of one depth.

    The mean over the banks and cycles in which both may begin. Streams that go from bank to bank do
    not meet by chance: one that follows another at twice its pace waits for it again and again.
    """
    free = pass_cycles(taken, SAMPLE, writes_ahead) - taken.delay
    lengths = [
        _length(taken, writes_ahead, banks, depth, period, second, offset, phase)
        for offset in range(banks)
        for phase in range(period)
    ]
    return sum(lengths) / len(lengths) / free - 1


def _length(
    taken: Pass,
    writes_ahead: int,
    banks: int,
    depth: int,
    period: int,
    second: int,
    offset: int,
    phase: int,
) -> int:
    """Cycles to the last read of a pass of `SAMPLE` elements beside the array."""

    def free(cycle: int, bank: int) -> bool:
        word, part = divmod((cycle + phase) % (depth * period), period)
        if part:
            return True
        there = (word + offset) % banks
        return bank != there and (second < 0 or bank != (there + second) % banks)

    written = [-1] * writes_ahead
    due: list[int] = []  # cycles from which a word waits to be written
    at, saved = 0, 0

    def write(cycle: int) -> int:
        """The next cycle in which the port is free for a read, once due writes are through."""
        nonlocal saved
        while saved < len(due) and due[saved] <= cycle:
            while not free(cycle, (saved + 3 * offset + 1) % banks):
                cycle += 1
            written.append(cycle)
            saved += 1
            cycle += 1
        return cycle

    for element in range(SAMPLE):
        if element % taken.elements == 0:
            while len(written) - writes_ahead < element // taken.elements - writes_ahead + 1:
                at = write(max(at, due[saved]))
            at = max(at, written[min(len(written) - 1, element // taken.elements)] + 1)
        for read in range(taken.reads):
            at = write(at)
            while not free(at, (element + read * (offset + 1)) % banks):
                at = write(at + 1)
            at += 1
        if element % taken.elements == taken.elements - 1:
            due.append(at - 1 + taken.delay)
    return at


def _transfer_losses(
    transfers: list[int], plan: list[Planned], ran: Ran, array: _Array, config: CoreConfig
) -> list[int]:
    """Cycles in which words of loads and stores wait for the array and its drain.

    Where the array's words leave a cycle between them, a transfer of a word a cycle follows them
    from bank to bank and loses a cycle to each. Otherwise it meets every second tile, moves by a
    cycle, and passes between the words until the next tile.
    """
    if not transfers:
        return []
    shapes = [shape for at in transfers if isinstance(shape := plan[at][2], Transfer)]
    begins = np.array([ran.begins[at] for at in transfers], float)
    ends = np.array([ran.ends[at] for at in transfers], float)
    every_word = np.array([shape.period == 1 for shape in shapes])
    met = array.met.between(begins, ends)
    followed = array.weights.between(begins, ends) + array.met_close_weights.between(begins, ends)
    weights = np.where(every_word, followed, met)
    followed = array.words.between(begins, ends) + array.met_close_words.between(begins, ends)
    words = np.where(every_word, followed, met)
    words += array.drained.between(begins, ends) / config.activation_banks
    most = np.array([shape.words for shape in shapes], float)
    memory = np.array([shape.memory for shape in shapes])
    losses = np.where(memory == "weights", weights, np.where(memory == "activations", words, 0))
    return [round(loss) for loss in np.minimum(losses, most).tolist()]
