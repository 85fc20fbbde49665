"""What every part of lowering writes to: the commands, the DRAM image, and the memories' space."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hwlib.commands import AnyCommand, Load, LoadTarget, Store, word_bytes
from hwlib.core_config import LANE_BYTES, CoreConfig
from hwlib.reference.execute import CHANNEL
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import ActivationMemory, Layout, Placed, Words
from swopt.compiler.schedule import Schedule

PackedBits = Literal[8, 4, 2]

Table = Literal["matmul_channels", "vector_channels"]


@dataclass(frozen=True)
class Tensor:
    """A tensor in the activation memory.

    Attributes:
        layout: How it lies.
        address: Its first word.
    """

    layout: Layout
    address: int

    def group(self, group: int) -> int:
        """First word of a token group."""
        return self.address + self.layout.group(group)

    def head(self, head: int, group: int) -> int:
        """First word of a group of channels of a head, for values."""
        return self.address + self.layout.head(head, group)


class Emitter:
    """A program under construction.

    Args:
        config: The core.
        placed: Layout and place of every tensor.
    """

    def __init__(self, config: CoreConfig, placed: dict[str, Placed]) -> None:
        self.config = config
        self.placed = placed
        self.memory = ActivationMemory(config.activation_words)
        self.schedule = Schedule(config)
        self._image = bytearray()
        self._constants: dict[bytes, int] = {}
        self._next_entry: dict[Table, int] = {"matmul_channels": 0, "vector_channels": 0}
        self._upper_half = False

    def emit(self, command: AnyCommand) -> None:
        """Takes the next command."""
        self.schedule.add(command)

    def tensor(self, name: str) -> Tensor:
        """Where a tensor that has been made lies."""
        place = self.placed[name]
        return Tensor(place.layout, self.memory.address(place.region) + place.offset)

    def make(self, name: str) -> Tensor:
        """Takes words for a tensor, unless those that it shares are taken already."""
        region = self.placed[name].region
        if region not in self.memory:
            self.memory.allocate(region, self.placed[region].layout.words)
        return self.tensor(name)

    def load(
        self,
        target: LoadTarget,
        address: int,
        words: int,
        data: bytes,
        packed_bits: PackedBits = 8,
    ) -> None:
        """Loads words whose bytes are known now."""
        at = self._constants.get(data)
        if at is None:
            at = self._constants[data] = self.reserve(len(data))
            self._image[at : at + len(data)] = data
        command = Load(
            target=target, address=address, words=words, dram_address=at, packed_bits=packed_bits
        )
        assert len(data) == words * word_bytes(command, self.config)
        self.emit(command)

    def load_words(self, address: int, words: Words) -> None:
        """Loads words of the activation memory."""
        self.load("activations", address, len(words), words.astype("<i2").tobytes())

    def store(self, address: int, words: int) -> int:
        """Stores words of the activation memory; returns their first byte in DRAM."""
        at = self.reserve(words * LANE_BYTES * self.config.rows)
        self.emit(Store(address=address, words=words, dram_address=at))
        return at

    def reserve(self, size: int) -> int:
        """First byte of so many in whole beats of DRAM."""
        at = len(self._image)
        beat = self.config.dma_bytes
        self._image += bytes(-(-size // beat) * beat)
        return at

    def image(self) -> npt.NDArray[np.uint8]:
        """The DRAM image before the program."""
        return np.frombuffer(bytes(self._image), np.uint8)

    def weights(self, words: int) -> int:
        """A place in the weight memory: in its halves by turns, so that one fills under the other.

        Raises:
            LoweringError: There are not so many words.
        """
        capacity = self.config.weight_words
        if words > capacity:
            raise LoweringError(
                f"a tile of {self.config.columns} columns takes {words} words, more than the "
                f"{capacity} of the weight memory, and sums cannot be split; use a larger weight "
                "memory or fewer columns"
            )
        self._upper_half = not self._upper_half
        return capacity // 2 if self._upper_half and words <= capacity // 2 else 0

    def entries(
        self,
        table: Table,
        bias: npt.NDArray[np.integer[Any]],
        multiplier: npt.NDArray[np.integer[Any]],
        shift: npt.NDArray[np.integer[Any]],
    ) -> int:
        """Loads channel entries `[count]`; returns the first one's place.

        Args:
            table: Which.
            bias: In the range of int32.
            multiplier: int16 or uint16, by its low 16 bits.
            shift: 1..47.

        Raises:
            LoweringError: The table has not so many entries.
        """
        count, capacity = len(bias), self.config.channel_entries
        if count > capacity:
            raise LoweringError(
                f"{count} channels need as many of the {capacity} entries of {table}; use a core "
                "with more channel entries"
            )
        at = self._next_entry[table]
        at = at if at + count <= capacity else 0
        self._next_entry[table] = at + count
        entries = np.zeros(count, CHANNEL)
        entries["bias"] = bias
        entries["multiplier"] = multiplier.astype(np.int64) & 0xFFFF
        entries["shift"] = shift
        self.load(table, at, count, entries.tobytes())
        return at
