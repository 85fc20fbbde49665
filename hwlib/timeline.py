"""Predicted cycles of a whole program on the core, whose queues overlap.

Command after command in program order, not cycle by cycle: the dispatcher takes one a cycle while
the queue of the next has room, each engine takes the head of its queue when its waits are reached,
and a command takes the cycles of `hwlib.cycles`. Exact in structure are the dispatcher, the
waits, the DRAM link, the vector engine, and the array beside its drain: one tile is fetched while
the one before is drained, and where they meet in a bank the fetch waits.

What the other engines lose in the banks is an expectation (`hwlib.bank_losses`): a first run
without it says which tiles each command meets, a second one has its commands that much longer.
Nothing is fitted to a measurement.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hwlib.bank_losses import Ran, last_fed, losses
from hwlib.command_shapes import LOAD, Passes, Planned, Tile, Transfer, planned
from hwlib.commands import AnyCommand
from hwlib.config import CoreConfig
from hwlib.cycles import (
    QUEUE_CYCLES,
    READ_CYCLES,
    TAKE_CYCLES,
    WAIT_CYCLES,
    CoreLatencies,
    DramTiming,
    operand_words_ahead,
)


@dataclass(frozen=True)
class Timeline:
    """When the commands of a program are complete.

    Attributes:
        completed: Cycle of each command, in program order, counted from the first one taken.
        total_cycles: Cycles from the first command taken until all are complete.
    """

    completed: tuple[int, ...]
    total_cycles: int


def timeline(
    commands: Sequence[AnyCommand],
    config: CoreConfig,
    dram: DramTiming,
    latencies: CoreLatencies | None = None,
) -> Timeline:
    """Predicts when each command of a lawful program is complete.

    Args:
        commands: The program.
        config: The core.
        dram: How the DRAM answers; its writes never stall.
        latencies: Of the core's units; by default the shipped ones'.
    """
    latencies = latencies or CoreLatencies.shipped(config)
    if not commands:
        return Timeline((), 0)
    plan = planned(commands, config, dram, latencies)
    free = _run(plan, [0] * len(commands), config, dram, latencies)
    lost = losses(plan, free, config, latencies)
    completed = _run(plan, lost, config, dram, latencies).ends
    return Timeline(tuple(completed), max(completed) + 1)


def _run(
    plan: list[Planned],
    lost: list[int],
    config: CoreConfig,
    dram: DramTiming,
    latencies: CoreLatencies,
) -> Ran:
    """Every command in program order; `lost` is added to those of loads, vector and stores."""
    depth, banks = config.queue_depth, config.activation_banks
    ahead, tiles_ahead = latencies.requests_ahead, latencies.tiles_ahead
    words_ahead = operand_words_ahead(config, latencies)
    until_beat = 1 + dram.latency_cycles
    until_fed = TAKE_CYCLES + READ_CYCLES
    done: tuple[list[int], ...] = ([], [], [], [])
    taken: tuple[list[int], ...] = ([], [], [], [])
    begins: list[int] = []
    ends: list[int] = []
    fed: list[int] = []
    accepted, link, last_read = -1, 0, 0
    tile_before: Tile | None = None
    for (queue, waits, shape), loss in zip(plan, lost, strict=True):
        mine = taken[queue]
        n = len(mine)
        accepted += 1
        if n >= depth and mine[n - depth] >= accepted:
            accepted = mine[n - depth] + 1
        at = accepted + QUEUE_CYCLES
        for finished, count in zip(done, waits, strict=True):
            if count and finished[count - 1] + WAIT_CYCLES > at:
                at = finished[count - 1] + WAIT_CYCLES
        finished = done[queue]
        if n and mine[-1] >= at:
            at = mine[-1] + 1
        if type(shape) is Tile:
            if n and last_read > at:
                at = last_read
            if n >= tiles_ahead and fed[n - tiles_ahead] >= at:
                at = fed[n - tiles_ahead] + 1
            begin = at + until_fed
            if tile_before is None or at >= finished[-1]:
                last = begin + shape.operands - 1
            else:
                before = fed[-1]
                last = before + last_fed(
                    tile_before.accesses, at - before, (tile_before.out - shape.first) % banks,
                    shape.second, shape.depth, shape.period, words_ahead, banks,
                )  # fmt: skip
                if before >= begin:
                    begin = before + 1
            last_read = max(last - words_ahead * shape.period + 1, at + shape.depth)
            if n and finished[-1] >= last:
                last = finished[-1] + 1
            fed.append(last)
            tile_before = shape
            end = last + shape.drain
        elif type(shape) is Passes:
            if n and finished[-1] >= at:
                at = finished[-1] + 1
            begin, end = at, at + shape.cycles + loss
        elif queue == LOAD:
            assert isinstance(shape, Transfer)
            if n >= ahead and finished[n - ahead] >= at:
                at = finished[n - ahead] + 1
            first = max(at + until_beat, link)
            link = first + shape.link
            begin = first
            if n and finished[-1] >= begin:
                begin = finished[-1] + 1
            # Where beats come late, what is lost in the banks is made up for.
            end = max(first + shape.cycles, begin + shape.queued + loss)
        else:
            assert isinstance(shape, Transfer)
            if n and finished[-1] >= at:
                at = finished[-1] + 1
            begin, end = at, at + shape.cycles + loss
        mine.append(at)
        finished.append(end)
        begins.append(begin)
        ends.append(end)
    return Ran(begins, ends, fed)
