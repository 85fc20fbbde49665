"""What a program moves and multiplies, counted from its commands."""

from collections.abc import Sequence

from hwlib.config import AcceleratorConfig
from hwlib.frozen import Frozen
from hwlib.isa import (
    Command,
    LoadActivations,
    LoadChannels,
    LoadWeights,
    Matmul,
    load_beats,
    store_beats,
)


class Traffic(Frozen):
    """Counts of one program or of several together."""

    products: int = 0
    """Products that the elements form, those with padding included."""

    activation_reads: int = 0
    """Words read from the activation bank."""

    activation_writes: int = 0
    """Words written to the activation bank."""

    weight_reads: int = 0
    """Words read from the weight bank."""

    weight_writes: int = 0
    """Words written to the weight bank."""

    requantized: int = 0
    """Sums that leave the array through a requantizer."""

    loaded_bytes: int = 0
    """Bytes over the load stream, padding of beats included."""

    stored_bytes: int = 0
    """Bytes over the store stream, padding of beats included."""

    def __add__(self, other: "Traffic") -> "Traffic":
        """The counts of both together."""
        ours, theirs = self.model_dump(), other.model_dump()
        return Traffic(**{name: ours[name] + theirs[name] for name in ours})


def program_traffic(commands: Sequence[Command], config: AcceleratorConfig) -> Traffic:
    """The counts of a program on a core of `config`."""
    count = dict.fromkeys(Traffic.model_fields, 0)
    beat_bytes = config.dma.bytes_per_cycle
    for command in commands:
        count["stored_bytes"] += store_beats(command, config) * beat_bytes
        if not isinstance(command, Matmul):
            count["loaded_bytes"] += load_beats(command, config) * beat_bytes
        match command:
            case LoadActivations():
                count["activation_writes"] += command.words
            case LoadWeights():
                count["weight_writes"] += command.words
            case LoadChannels():
                pass
            case Matmul():
                count["products"] += command.depth * config.array.rows * config.array.columns
                count["activation_reads"] += command.depth
                count["weight_reads"] += command.depth
                if command.drain:
                    count["requantized"] += command.rows * config.array.columns
    return Traffic(**count)
