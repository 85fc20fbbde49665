"""What a command must wait for, and the order in which commands are sent.

Commands are given in an order in which each may follow all before it. From the words that they read
and write follows which of them really depend on which; the rest may overlap. Waits count within a
queue, so they hold in every interleaving of the queues: commands are then sent in the order in
which they will about begin, so that no full queue holds up another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hwlib.commands import QUEUES, AnyCommand, Load, Matmul, Queue, Span, Waits, queue_of
from hwlib.config import CoreConfig
from hwlib.cycles import (
    READ_CYCLES,
    TAKE_CYCLES,
    WAIT_CYCLES,
    CoreLatencies,
    command_cycles,
    drain_cycles,
    load_cycles,
    operand_cycles,
)
from hwlib.hazards import Counts, Marks


@dataclass(frozen=True)
class _Dram:
    """A DRAM as any other: only the order in which commands are sent depends on it."""

    latency_cycles: int = 20
    burst_beats: int = 0
    gap_cycles: int = 0


DRAM = _Dram()


class Schedule:
    """Commands with their waits.

    What a command depends on is what `hwlib.hazards` says; waits are left out where another wait
    implies them.

    Args:
        config: The core.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        self._latencies = CoreLatencies.shipped(config)
        self._marks = Marks(config)
        self._queues = {queue: _QueueState() for queue in QUEUES}
        self._placed: list[tuple[int, AnyCommand]] = []

    def add(self, command: AnyCommand) -> None:
        """Takes the next command; waits that it has are replaced."""
        queue = queue_of(command)
        state = self._queues[queue]
        needed = self._marks.add(command)
        known = state.known[-1].copy() if state.known else np.zeros(len(QUEUES), np.int64)
        waits: dict[Queue, int] = {}
        ready = 0
        for other, count in zip(QUEUES, needed.tolist(), strict=True):
            if count > known[QUEUES.index(other)]:
                waits[other] = count
                ready = max(ready, self._queues[other].ends[count - 1] + WAIT_CYCLES)
        implied = {other: self._queues[other].known[count - 1] for other, count in waits.items()}
        for other, count in waits.items():
            np.maximum(known, implied[other], out=known)
            known[QUEUES.index(other)] = max(known[QUEUES.index(other)], count)
        waits = {
            other: count
            for other, count in waits.items()
            if all(counts[QUEUES.index(other)] < count for counts in implied.values())
        }
        state.known.append(known)
        begin = state.take(command, ready, self._config, self._latencies)
        self._placed.append((begin, command.model_copy(update={"waits": Waits(**waits)})))

    def begin(self, queue: Queue, read: Sequence[Span], written: Sequence[Span]) -> int:
        """About the cycle in which a command of `queue` could begin that touches these words."""
        needed = self._marks.before(read, written)
        ready = self._queues[queue].free
        for other, count in zip(QUEUES, needed.tolist(), strict=True):
            if count and other != queue:
                ready = max(ready, self._queues[other].ends[count - 1] + WAIT_CYCLES)
        return ready

    def commands(self) -> tuple[AnyCommand, ...]:
        """All commands in the order in which they are sent."""
        return tuple(self._placed[index][1] for index in self.order())

    def order(self) -> list[int]:
        """Which of the commands, counted as they were given, is sent first, second and so on."""
        # A stable sort: commands of one queue stay in order, and what a command waits for has
        # begun before it.
        return sorted(range(len(self._placed)), key=lambda index: self._placed[index][0])


@dataclass
class _QueueState:
    """What is known of the commands of a queue.

    Attributes:
        known: For each command, commands of every queue that are complete when it begins.
        ends: For each command, about when it is complete, in cycles.
        free: About when the next may begin.
    """

    known: list[Counts] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    free: int = 0

    def take(
        self, command: AnyCommand, ready: int, config: CoreConfig, latencies: CoreLatencies
    ) -> int:
        """Adds a command that could begin at `ready`; about when it does begin."""
        begin = max(self.free, ready)
        last = self.ends[-1] if self.ends else 0
        match command:
            case Load():
                # The link is taken beat after beat; latencies hide behind the load before.
                first = max(last, begin + 1 + DRAM.latency_cycles)
                self.ends.append(first + load_cycles(command, config, DRAM))
                ahead = latencies.requests_ahead
                under_way = self.ends[-ahead] if len(self.ends) >= ahead else 0
                self.free = max(begin, under_way) + 1
            case Matmul():
                # A tile is fetched and computed while the one before leaves.
                fetched = TAKE_CYCLES + READ_CYCLES
                fed = begin + fetched + operand_cycles(command, config, latencies) - 1
                fed = max(fed, last + 1)
                self.ends.append(fed + drain_cycles(command, config, latencies))
                self.free = fed + 1 - fetched
            case _:
                self.ends.append(begin + command_cycles(command, config, DRAM, latencies))
                self.free = self.ends[-1] + 1
        return begin
