"""What the commands of a program move and compute, counted for the energy model."""

from collections.abc import Sequence
from typing import Self

from hwlib.commands import (
    AnyCommand,
    Load,
    Matmul,
    Norm,
    Rotate,
    Softmax,
    Span,
    Store,
    beats,
    reads,
    writes,
)
from hwlib.config import CoreConfig
from hwlib.frozen import Frozen


class Traffic(Frozen):
    """Counts of one program or of several together."""

    element_cycles: int = 0
    """Cycles in which the array multiplies, times its elements, padding included. An element does
    one product in a cycle at 8x8, two at 8x4, four at 4x4, by the same hardware."""

    rescaled: int = 0
    """Sums that the drain scales, in all lanes."""

    vector_results: int = 0
    """Results of the vector engine, in all lanes."""

    activation_reads: int = 0
    """Words read from the activation memory."""

    activation_writes: int = 0
    """Words written to it."""

    weight_reads: int = 0
    """Words read from the weight memory."""

    weight_writes: int = 0
    """Words written to it."""

    channel_reads: int = 0
    """Entries read from the two channel tables."""

    channel_writes: int = 0
    """Entries written to them."""

    dram_bytes: int = 0
    """Bytes read from and written to DRAM, in whole beats."""

    def __add__(self, other: Self) -> Self:
        ours, theirs = self.model_dump(), other.model_dump()
        return type(self)(**{name: ours[name] + theirs[name] for name in ours})


def traffic(commands: Sequence[AnyCommand], config: CoreConfig) -> Traffic:
    """Counts a program's work.

    Args:
        commands: The program.
        config: The core.
    """
    counts: dict[str, int] = dict.fromkeys(Traffic.model_fields, 0)
    for command in commands:
        _add_spans(counts, "reads", reads(command))
        _add_spans(counts, "writes", writes(command))
        match command:
            case Matmul():
                elements = config.rows * config.columns
                counts["element_cycles"] += array_cycles(command) * elements
                if command.output != "accumulate":
                    counts["rescaled"] += command.columns * config.rows
            case Load() | Store():
                counts["dram_bytes"] += beats(command, config) * config.dma_bytes
            case Rotate():
                counts["vector_results"] += 2 * command.count * config.rows
            case _:
                counts["vector_results"] += command.count * config.rows
                if isinstance(command, Norm | Softmax):
                    # A first pass takes the statistics, or the maximum, of the same words.
                    counts["activation_reads"] += command.count
    return Traffic(**counts)


def array_cycles(command: Matmul) -> int:
    """Cycles in which the array multiplies for a matmul."""
    # A word of activations holds two channels, which 8x8 takes one after the other.
    return command.depth * (2 if command.precision == "8x8" else 1)


_MEMORIES = {
    "activations": "activation",
    "weights": "weight",
    "matmul_channels": "channel",
    "vector_channels": "channel",
}


def _add_spans(counts: dict[str, int], way: str, spans: Sequence[Span]) -> None:
    for memory, _, words in spans:
        counts[f"{_MEMORIES[memory]}_{way}"] += words
