"""The knobs of the accelerator."""

from typing import Literal, Self

from pydantic import model_validator

from hwlib.frozen import Frozen

Bytes = Literal[8192, 16384, 32768, 65536]


class ArrayConfig(Frozen):
    """The output-stationary systolic array of int8 elements with 32-bit accumulators."""

    rows: Literal[4, 8, 16] = 8
    """Elements along the activation side: output rows computed at once."""

    columns: Literal[4, 8, 16] = 8
    """Elements along the weight side: output channels computed at once."""


class DmaConfig(Frozen):
    """The link to DRAM, one beat a cycle in each direction."""

    bytes_per_cycle: Literal[4, 8, 16] = 8
    """Width of the load and of the store stream, in bytes."""


class ScratchpadConfig(Frozen):
    """On-chip SRAM, one bank for each operand."""

    activation_bytes: Bytes = 16384
    """Capacity of the activation bank; a word holds one int8 for each array row."""

    weight_bytes: Bytes = 16384
    """Capacity of the weight bank; a word holds one int8 for each array column."""


class AcceleratorConfig(Frozen):
    """One accelerator, as the hardware architect would order it."""

    array: ArrayConfig = ArrayConfig()
    """The systolic array."""

    dma: DmaConfig = DmaConfig()
    """The link to DRAM."""

    scratchpad: ScratchpadConfig = ScratchpadConfig()
    """The operand banks."""

    @property
    def activation_words(self) -> int:
        """Words of the activation bank."""
        return self.scratchpad.activation_bytes // self.array.rows

    @property
    def weight_words(self) -> int:
        """Words of the weight bank."""
        return self.scratchpad.weight_bytes // self.array.columns

    @model_validator(mode="after")
    def _array_is_not_too_oblong(self) -> Self:
        if max(self.array.rows, self.array.columns) > 4 * min(self.array.rows, self.array.columns):
            raise ValueError(
                f"array of {self.array.rows} x {self.array.columns}: "
                "one side may be at most 4 times the other"
            )
        return self
