"""What every part of lowering writes to: the commands, the DRAM image, and the memories' space."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hwlib.commands import AnyCommand, GroupWords, Load, Queue, Span, Store
from hwlib.config import LANE_BYTES, CoreConfig
from hwlib.reference.packing import CHANNEL
from swopt.compiler.dram import DramImage
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import ActivationMemory, Ring
from swopt.compiler.schedule import Schedule

PackedBits = Literal[8, 4, 2]

Table = Literal["matmul_channels", "vector_channels"]


@dataclass(frozen=True)
class Atom:
    """Commands that are sent one after the other, whatever else is under way.

    Attributes:
        queue: Where most of the work is.
        read, written: Words of the activation memory that the first command there waits for.
        emit: Emits the commands; among them loads of the weights and entries that they need, unless
            these are there.
        operator: Index of the operator that they are for; None for that of the step.
    """

    queue: Queue
    read: Sequence[Span]
    written: Sequence[Span]
    emit: Callable[[], None]
    operator: int | None = None


@dataclass(frozen=True)
class Packing:
    """How some weights lie in DRAM.

    Attributes:
        packed_bits: Of a weight in DRAM.
        memory_bits: Of a weight in the weight memory.
        group_words: Words behind each header; 0 for no headers.
        words: All of them, headers too.
    """

    packed_bits: PackedBits
    memory_bits: Literal[8, 4]
    group_words: GroupWords
    words: int


@dataclass(frozen=True)
class Entries:
    """What some entries of a channel table hold, `[count]` each.

    Attributes:
        bias: In the range of int32.
        multiplier: int16 or uint16, by its low 16 bits.
        shift: 1..47.
    """

    bias: npt.NDArray[np.integer[Any]]
    multiplier: npt.NDArray[np.integer[Any]]
    shift: npt.NDArray[np.integer[Any]]

    def data(self) -> bytes:
        """As they lie in DRAM."""
        entries = np.zeros(len(self.bias), CHANNEL)
        entries["bias"] = self.bias
        entries["multiplier"] = self.multiplier.astype(np.int64) & 0xFFFF
        entries["shift"] = self.shift
        return entries.tobytes()


class Emitter:
    """A program under construction.

    Weights and channel entries go round and round through their memories, and are loaded only when
    they are no longer there.

    Args:
        config: The core.
        dram: Takes constants and results.
    """

    def __init__(self, config: CoreConfig, dram: DramImage) -> None:
        self.config = config
        self.dram = dram
        self.word_bytes = LANE_BYTES * config.rows
        """Of a word of the activation memory in DRAM."""
        self.memory = ActivationMemory(config.activation_words)
        self.schedule = Schedule(config)
        self.operator = 0
        """Index of the operator that commands are emitted for."""
        self._operators: list[int] = []
        self._constants: dict[Hashable, int] = {}
        self._weights = Ring(config.weight_words)
        self._tables: dict[Table, Ring] = {
            "matmul_channels": Ring(config.channel_entries),
            "vector_channels": Ring(config.channel_entries),
        }

    def emit(self, command: AnyCommand) -> None:
        """Takes the next command."""
        self.schedule.add(command)
        self._operators.append(self.operator)

    def operators(self) -> tuple[int, ...]:
        """The operator of each command, in the order in which they are sent."""
        return tuple(self._operators[index] for index in self.schedule.order())

    def run(self, threads: Sequence[Iterator[Atom]]) -> None:
        """Emits the atoms of several threads, of each in its order: the one that can begin first.

        Threads may share weights and channel entries, but no word of the activation memory that one
        of them writes.
        """
        heads = [next(thread, None) for thread in threads]
        while True:
            able = [(at, atom) for at, atom in enumerate(heads) if atom is not None]
            if not able:
                return
            at, atom = able[0]
            if len(able) > 1:
                at, atom = min(able, key=lambda head: self._begin(head[1]))
            assert atom.operator is not None
            self.operator = atom.operator
            atom.emit()
            heads[at] = next(threads[at], None)

    def _begin(self, atom: Atom) -> int:
        return self.schedule.begin(atom.queue, atom.read, atom.written)

    def constant(self, key: Hashable, data: Callable[[], bytes]) -> int:
        """First byte in DRAM of what is known now; a key always stands for the same bytes."""
        if key not in self._constants:
            self._constants[key] = self.dram.constant(data())
        return self._constants[key]

    def load_words(self, address: int, words: int, dram_address: int) -> None:
        """Loads words of the activation memory."""
        self.emit(
            Load(target="activations", address=address, words=words, dram_address=dram_address)
        )

    def store_words(self, address: int, words: int, dram_address: int) -> None:
        """Stores words of the activation memory."""
        self.emit(Store(address=address, words=words, dram_address=dram_address))

    def weights(
        self,
        key: Hashable,
        words: int,
        packing: Packing,
        data: Callable[[], bytes],
    ) -> int:
        """First word of some weights in the weight memory.

        Args:
            key: What stands for these weights.
            words: Of the weight memory.
            packing: How they lie in DRAM.
            data: As they lie in DRAM.

        Raises:
            LoweringError: There are not so many words.
        """
        at = self._weights.find(key)
        if at is None:
            if words > self._weights.capacity:
                raise LoweringError(
                    f"a tile of {self.config.columns} columns takes {words} words, more than the "
                    f"{self._weights.capacity} of the weight memory, and sums cannot be split; use "
                    "a larger weight memory or fewer columns"
                )
            at = self._weights.take(key, words)
            dram_address = self.constant(("weights", key), data)
            self.emit(
                Load(
                    target="weights",
                    address=at,
                    words=packing.words,
                    dram_address=dram_address,
                    packed_bits=packing.packed_bits,
                    memory_bits=packing.memory_bits,
                    group_words=packing.group_words,
                )
            )
        return at

    def entries(self, table: Table, key: Hashable, entries: Entries) -> int:
        """Place of the first of some entries in a channel table.

        Raises:
            LoweringError: The table has not so many entries.
        """
        ring, count = self._tables[table], len(entries.bias)
        at = ring.find(key)
        if at is None:
            if count > ring.capacity:
                raise LoweringError(
                    f"{count} channels need as many of the {ring.capacity} entries of {table}; use "
                    "a core with more channel entries"
                )
            at = ring.take(key, count)
            dram_address = self.constant((table, key), entries.data)
            self.emit(Load(target=table, address=at, words=count, dram_address=dram_address))
        return at
