"""Which commands must be complete before a command may begin, from the words that they touch.

Commands of one queue begin in order and complete in order, each before the next begins; but the
array fetches operands for the next tile while it still drains this one, so a matmul waits for its
own queue where it fetches what an earlier one drained. Loads and stores meet in DRAM too.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hwlib.commands import (
    QUEUES,
    AnyCommand,
    Load,
    Matmul,
    Queue,
    Span,
    Store,
    beats,
    capacity,
    queue_of,
    reads,
    writes,
)
from hwlib.config import CoreConfig

Counts = npt.NDArray[np.int64]
"""Completed commands of each queue, in the order of `QUEUES`, `[4]`."""

MATMUL = QUEUES.index("matmul")


class Marks:
    """Who read and who wrote each word last, as commands come one after the other.

    Args:
        config: The core.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        self._issued = np.zeros(len(QUEUES), np.int64)
        names = ("activations", "weights", "matmul_channels", "vector_channels")
        sizes = {name: (len(QUEUES), capacity(name, config)) for name in names}
        self._read = {name: np.zeros(shape, np.int64) for name, shape in sizes.items()}
        self._written = {name: np.zeros(shape, np.int64) for name, shape in sizes.items()}
        self._dram: dict[Queue, _DramMarks] = {"load": _DramMarks(), "store": _DramMarks()}

    def before(self, read: Sequence[Span], written: Sequence[Span]) -> Counts:
        """Commands of each queue that must be complete before words are read and written."""
        needed = np.zeros(len(QUEUES), np.int64)
        for memory, first, words in (*read, *written):
            last = self._written[memory][:, first : first + words].max(1)
            np.maximum(needed, last, out=needed)
        for memory, first, words in written:
            last = self._read[memory][:, first : first + words].max(1)
            np.maximum(needed, last, out=needed)
        return needed

    def add(self, command: AnyCommand) -> Counts:
        """Takes the next command; what must be complete before it begins.

        For other queues than matmul a command's own is left out, as it needs no wait.
        """
        at = QUEUES.index(queue_of(command))
        # Entries that differ by lane are as many as rows.
        read = [
            (memory, first, words or self._config.rows) for memory, first, words in reads(command)
        ]
        written = writes(command)
        needed = self.before(read, written)
        needed[at] = self._fetched(command)
        self._issued[at] += 1
        if isinstance(command, Load | Store):
            # A load reads DRAM and a store writes it.
            other: Queue = "store" if isinstance(command, Load) else "load"
            first = command.dram_address
            end = first + beats(command, self._config) * self._config.dma_bytes
            met = self._dram[other].last(first, end)
            needed[QUEUES.index(other)] = max(needed[QUEUES.index(other)], met)
            self._dram[queue_of(command)].add(first, end)
        for memory, first, words in read:
            self._read[memory][at, first : first + words] = self._issued[at]
        for memory, first, words in written:
            self._written[memory][at, first : first + words] = self._issued[at]
        return needed

    def _fetched(self, command: AnyCommand) -> int:
        """Matmuls that must be complete before this one fetches its operands."""
        if not isinstance(command, Matmul):
            return 0
        marks = self._written["activations"][MATMUL]
        last = marks[command.activation_address :][: command.depth].max()
        if command.weight_source == "activations":
            last = max(last, marks[command.weight_address :][: command.depth].max())
        return int(last)


class _DramMarks:
    """The bytes of DRAM that each command of a queue moves, counted from 1."""

    def __init__(self) -> None:
        self._spans = np.zeros((64, 2), np.int64)
        self._count = 0

    def add(self, first: int, end: int) -> None:
        """The next command moves bytes `first` to `end` - 1."""
        if self._count == len(self._spans):
            self._spans = np.concatenate([self._spans, np.zeros_like(self._spans)])
        self._spans[self._count] = first, end
        self._count += 1

    def last(self, first: int, end: int) -> int:
        """The last command that moved one of these bytes, or 0."""
        spans = self._spans[: self._count]
        met = np.flatnonzero((spans[:, 0] < end) & (first < spans[:, 1]))
        return int(met[-1]) + 1 if len(met) else 0


def check_hazards(commands: Sequence[AnyCommand], config: CoreConfig) -> None:
    """Holds a program to its waits: whatever the queues' speeds, it gives what its order says.

    Args:
        commands: Lawful commands (`hwlib.assembler.check`), in program order.
        config: The core.

    Raises:
        ValueError: A command does not wait for one that it depends on; the message names both.
    """
    marks = Marks(config)
    known: list[list[Counts]] = [[] for _ in QUEUES]  # complete when each command begins
    places: list[list[int]] = [[] for _ in QUEUES]  # in the program
    for index, command in enumerate(commands):
        needed = marks.add(command)
        at = QUEUES.index(queue_of(command))
        mine = known[at][-1].copy() if known[at] else np.zeros(len(QUEUES), np.int64)
        for other, queue in enumerate(QUEUES):
            count = getattr(command.waits, queue)
            if count:
                np.maximum(mine, known[other][count - 1], out=mine)
                mine[other] = max(mine[other], count)
        for other, queue in enumerate(QUEUES):
            if needed[other] > mine[other]:
                cause = places[other][needed[other] - 1]
                raise ValueError(
                    f"command {index}, {command.kind}: touches what command {cause}, "
                    f"{commands[cause].kind}, reads or writes, and does not wait for it; set "
                    f"waits.{queue} to {needed[other]}"
                )
        known[at].append(mine)
        places[at].append(index)
