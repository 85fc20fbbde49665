"""What a command must wait for, and the order in which commands are sent.

Commands are given in an order in which each may follow all before it. From the words that they read
and write follows which of them really depend on which; the rest may overlap. Waits count within a
queue, so they hold in every interleaving of the queues: commands are then sent in the order in
which they will about begin, so that no full queue holds up another.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hwlib.commands import (
    QUEUES,
    AnyCommand,
    Load,
    Matmul,
    Norm,
    Queue,
    Rotate,
    Softmax,
    Span,
    Store,
    Waits,
    beats,
    capacity,
    queue_of,
    reads,
    writes,
)
from hwlib.core_config import CoreConfig

DRAM_LATENCY = 40
"""Cycles of one load or store beside its beats; a rough figure that only the order depends on."""

PASS_OVERHEAD = 20
"""Cycles of one vector command beside its words; a rough figure that only the order depends on."""

Counts = npt.NDArray[np.int64]
"""Completed commands of each queue, in the order of `QUEUES`, `[4]`."""

MATMUL = QUEUES.index("matmul")


class Schedule:
    """Commands with their waits.

    Commands of one queue begin in order and complete in order. Each is complete before the next
    begins, but for matmuls: the array fetches operands for the next tile while it still drains
    this one, so a matmul waits for its own queue where it fetches what an earlier one drained.
    What is stored to DRAM must not be loaded again.

    Args:
        config: The core.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        self._marks = {
            name: _Marks(capacity(name, config))
            for name in ("activations", "weights", "matmul_channels", "vector_channels")
        }
        self._queues = {queue: _QueueState() for queue in QUEUES}
        self._placed: list[tuple[int, AnyCommand]] = []

    def add(self, command: AnyCommand) -> None:
        """Takes the next command; waits that it has are replaced."""
        queue = queue_of(command)
        at = QUEUES.index(queue)
        state = self._queues[queue]
        read, written = _spans(command, self._config)
        needed = np.zeros(len(QUEUES), np.int64)
        for memory, first, words in read + written:
            np.maximum(needed, self._marks[memory].before_read(first, words), out=needed)
        for memory, first, words in written:
            np.maximum(needed, self._marks[memory].before_write(first, words), out=needed)
        needed[at] = self._fetched(command)

        known = state.known[-1].copy() if state.known else np.zeros(len(QUEUES), np.int64)
        waits: dict[Queue, int] = {}
        begin = state.free
        for other, count in zip(QUEUES, needed.tolist(), strict=True):
            if count > known[QUEUES.index(other)]:
                waits[other] = count
                begin = max(begin, self._queues[other].ends[count - 1])
        for other, count in waits.items():
            np.maximum(known, self._queues[other].known[count - 1], out=known)
            known[QUEUES.index(other)] = max(known[QUEUES.index(other)], count)
        state.known.append(known)
        state.free = begin + _cycles(command, self._config)
        state.ends.append(state.free)
        for memory, first, words in read:
            self._marks[memory].read[at, first : first + words] = len(state.known)
        for memory, first, words in written:
            self._marks[memory].written[at, first : first + words] = len(state.known)
        self._placed.append((begin, command.model_copy(update={"waits": Waits(**waits)})))

    def commands(self) -> tuple[AnyCommand, ...]:
        """All commands in the order in which they are sent."""
        # A stable sort: commands of one queue stay in order, and what a command waits for has
        # begun before it.
        return tuple(command for _, command in sorted(self._placed, key=lambda item: item[0]))

    def _fetched(self, command: AnyCommand) -> int:
        """Matmuls that must be complete before this one fetches its operands."""
        if not isinstance(command, Matmul):
            return 0
        marks = self._marks["activations"].written[MATMUL]
        last = marks[command.activation_address :][: command.depth].max()
        if command.weight_source == "activations":
            last = max(last, marks[command.weight_address :][: command.depth].max())
        return int(last)


class _Marks:
    """The last command of each queue that read and that wrote each word, counted from 1."""

    def __init__(self, words: int) -> None:
        self.read = np.zeros((len(QUEUES), words), np.int64)
        self.written = np.zeros((len(QUEUES), words), np.int64)

    def before_read(self, first: int, words: int) -> Counts:
        last: Counts = self.written[:, first : first + words].max(1)
        return last

    def before_write(self, first: int, words: int) -> Counts:
        last: Counts = self.read[:, first : first + words].max(1)
        return last


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


def _spans(command: AnyCommand, config: CoreConfig) -> tuple[list[Span], list[Span]]:
    """What a command reads and what it writes; entries that differ by lane are as many as rows."""
    read = [(memory, first, words or config.rows) for memory, first, words in reads(command)]
    return read, writes(command)


def _cycles(command: AnyCommand, config: CoreConfig) -> int:
    """About how long a command takes."""
    match command:
        case Load() | Store():
            return DRAM_LATENCY + beats(command, config)
        case Matmul():
            return 2 * command.depth + command.columns
        case _:
            passes = 2 if isinstance(command, Norm | Softmax | Rotate) else 1
            return passes * (PASS_OVERHEAD + command.count)
