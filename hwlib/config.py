"""The knobs of the core that runs a whole model."""

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from hwlib.edit import CoreUnitName
from hwlib.frozen import Frozen

LANE_BYTES = 2
"""Bytes of one lane in a word of a memory: one int16, or two int8 that follow one another."""

WEIGHT_BANKS = 2
"""Banks of the weight memory: one is filled while the other is read."""

ENTRY_BITS = 64
"""One entry of a channel table: bias 32, multiplier 16, shift 6, and 10 bits that are ignored."""

CHANNEL_TABLES = 2
"""That of the drain and that of the vector engine."""

Side = Literal[4, 8, 16, 32]

MemoryBytes = Literal[
    8192, 16384, 32768, 49152, 65536, 98304, 131072, 163840, 196608, 229376, 262144
]


class Banks(NamedTuple):
    """The equal SRAMs of one memory."""

    banks: int
    """How many there are."""
    words: int
    """Words of each."""
    bits: int
    """Bits of a word."""


class CoreConfig(Frozen, strict=True):
    """One core: an outer-product array between two memories, a vector engine, and DMA."""

    rows: Side = 8
    """Elements along the activation side, and vector lanes: tokens computed at once."""

    columns: Side = 8
    """Elements along the weight side: output channels computed at once."""

    activation_bytes: MemoryBytes = 65536
    """Capacity of the activation memory; a word holds two bytes for each row."""

    activation_banks: Literal[2, 4, 8] = 4
    """Single-port banks of the activation memory; words that follow one another lie in turn in
    each."""

    weight_bytes: MemoryBytes = 16384
    """Capacity of the weight memory; a word holds two bytes for each column."""

    channel_entries: Literal[256, 512, 1024, 2048] = 512
    """Entries of each of the two channel tables: of the drain and of the vector engine."""

    dma_bytes: Literal[4, 8, 16, 32] = 8
    """Width of the read and of the write stream to DRAM, in bytes a cycle."""

    exponential_entries: Literal[4, 8, 16, 32] = 16
    """Entries of the exponential's table over one octave."""

    mac_stages: Literal[2, 3] = 2
    """Cycles from operands at an element to their sum: 3 with a register behind the products."""

    accumulator_bits: Literal[20, 24, 28, 32] = 32
    """Bits of an element's sum, which wraps; lowering proves that no model's sum does."""

    queue_depth: Annotated[int, Field(ge=1, le=16)] = 4
    """Commands that each queue holds."""

    grouped_weights: bool = False
    """Whether the load unit can multiply weights of 2 and 4 bits by factors of groups of input
    channels as it widens them."""

    composable: bool = False
    """Whether the elements are composed of 4-bit products: two products a cycle at 4-bit weights,
    four where activations have 4 bits too."""

    @property
    def element(self) -> CoreUnitName:
        """The unit that the shipped array is made of."""
        return "composable_mac" if self.composable else "mac"

    @property
    def absent_element(self) -> CoreUnitName:
        """The array element that the core does not have, so that no edit may be of it."""
        return "mac" if self.composable else "composable_mac"

    @property
    def activation_words(self) -> int:
        """Words of the activation memory."""
        return self.activation_bytes // (LANE_BYTES * self.rows)

    @property
    def weight_words(self) -> int:
        """Words of the weight memory."""
        return self.weight_bytes // (LANE_BYTES * self.columns)

    @property
    def activation_memory(self) -> Banks:
        """The SRAMs of the activation memory."""
        banks = self.activation_banks
        return Banks(banks, self.activation_words // banks, 8 * LANE_BYTES * self.rows)

    @property
    def weight_memory(self) -> Banks:
        """The SRAMs of the weight memory."""
        words = self.weight_words // WEIGHT_BANKS
        return Banks(WEIGHT_BANKS, words, 8 * LANE_BYTES * self.columns)

    @property
    def channel_tables(self) -> Banks:
        """The SRAMs of the two channel tables."""
        return Banks(CHANNEL_TABLES, self.channel_entries, ENTRY_BITS)

    @model_validator(mode="after")
    def _lawful(self) -> Self:
        if max(self.rows, self.columns) > 4 * min(self.rows, self.columns):
            raise ValueError(
                f"array of {self.rows} x {self.columns}: one side may be at most 4 times the other"
            )
        return self
