"""The accelerator's commands and their 64-bit encoding.

A program is a sequence of commands that the core executes in order. `FIELDS` is the one table of
the encoding; the sequencer decodes with it too.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hwlib.config import AcceleratorConfig
from hwlib.frozen import Frozen

COMMAND_BITS = 64
"""Width of the command stream."""

CHANNEL_BYTES = 8
"""One entry of the channel table on the load stream: bias int32, multiplier uint16, shift uint8
and a byte that is ignored, little-endian."""

FIELDS: dict[str, tuple[int, int]] = {
    "opcode": (0, 2),
    "address": (2, 14),
    "count": (16, 15),
    "weight_address": (31, 14),
    "rows": (45, 5),
    "drain": (50, 1),
    "int32": (51, 1),
    "zero_point": (52, 8),
    "packing": (60, 2),
}
"""Field -> (lowest bit, width). Bits 62 and 63 and the fields a command does not use are 0."""

OPCODES: dict[str, int] = {"activations": 0, "weights": 1, "channels": 2, "matmul": 3}
"""Opcode of each kind of command."""

PACKINGS: dict[int, int] = {8: 0, 4: 1, 2: 2}
"""Bits of a packed weight -> value of the field `packing`."""

Address = Annotated[int, Field(ge=0, lt=1 << 14)]
Count = Annotated[int, Field(ge=1, lt=1 << 15)]


class LoadActivations(Frozen):
    """Fills the activation bank from the load stream."""

    kind: Literal["activations"] = "activations"
    """Tag of the command."""

    address: Address
    """First word that is written."""

    words: Count
    """Words to write; a word holds one int8 for each array row."""


class LoadWeights(Frozen):
    """Fills the weight bank from the load stream, unpacking low-bit weights to int8."""

    kind: Literal["weights"] = "weights"
    """Tag of the command."""

    address: Address
    """First word that is written."""

    words: Count
    """Words to write; a word holds one int8 for each array column."""

    packed_bits: Literal[8, 4, 2] = 8
    """Bits of one weight on the load stream: two's complement, the first column lowest."""


class LoadChannels(Frozen):
    """Fills the channel table from the load stream."""

    kind: Literal["channels"] = "channels"
    """Tag of the command."""

    address: Annotated[int, Field(ge=0, lt=16)] = 0
    """First column whose entry is written."""

    words: Annotated[int, Field(ge=1, le=16)]
    """Entries to write, `CHANNEL_BYTES` each on the load stream."""


class Matmul(Frozen):
    """Adds a product of two tiles to the array's sums and, with `drain`, sends the sums out."""

    kind: Literal["matmul"] = "matmul"
    """Tag of the command."""

    activation_address: Address
    """First word of the activation tile."""

    weight_address: Address
    """First word of the weight tile."""

    depth: Count
    """Words of each tile: length of the inner products."""

    rows: Annotated[int, Field(ge=1, le=16)]
    """Rows of the tile that are sent out; ignored unless `drain`."""

    drain: bool = True
    """Whether the sums leave the array (which clears it) or stay for the next `Matmul`."""

    output: Literal["int8", "int32"] = "int8"
    """int8: requantized; int32: sum and bias as they are. Ignored unless `drain`."""

    zero_point: Annotated[int, Field(ge=-128, le=127)] = 0
    """Added to a requantized result before it saturates."""


Command = LoadActivations | LoadWeights | LoadChannels | Matmul
Load = LoadActivations | LoadWeights | LoadChannels


def encode(command: Command) -> int:
    """The command as a 64-bit word; fields that do not count are 0."""
    fields = {"opcode": OPCODES[command.kind]}
    match command:
        case LoadWeights():
            fields |= {"address": command.address, "count": command.words}
            fields["packing"] = PACKINGS[command.packed_bits]
        case LoadActivations() | LoadChannels():
            fields |= {"address": command.address, "count": command.words}
        case Matmul():
            fields |= {
                "address": command.activation_address,
                "weight_address": command.weight_address,
                "count": command.depth,
                "rows": command.rows,
                "drain": int(command.drain),
                "int32": int(command.output == "int32"),
                "zero_point": command.zero_point & 0xFF,
            }
    return sum(value << FIELDS[name][0] for name, value in fields.items())


def decode(word: int) -> Command:
    """The command that `encode` turns into `word`.

    Raises:
        ValueError: No command has this encoding.
    """
    raw = {name: word >> low & (1 << width) - 1 for name, (low, width) in FIELDS.items()}
    command: Command
    try:
        match raw["opcode"]:
            case 0:
                command = LoadActivations(address=raw["address"], words=raw["count"])
            case 1:
                bits = {code: bits for bits, code in PACKINGS.items()}.get(raw["packing"])
                command = LoadWeights.model_validate(
                    {"address": raw["address"], "words": raw["count"], "packed_bits": bits}
                )
            case 2:
                command = LoadChannels(address=raw["address"], words=raw["count"])
            case _:
                command = Matmul(
                    activation_address=raw["address"],
                    weight_address=raw["weight_address"],
                    depth=raw["count"],
                    rows=raw["rows"],
                    drain=bool(raw["drain"]),
                    output="int32" if raw["int32"] else "int8",
                    zero_point=(raw["zero_point"] ^ 0x80) - 0x80,
                )
    except ValueError as error:
        raise ValueError(f"no command has the encoding {word:#018x}: {error}") from error
    if encode(command) != word:
        raise ValueError(f"no command has the encoding {word:#018x}: unused bits must be 0")
    return command


def encode_program(
    commands: Sequence[Command], config: AcceleratorConfig
) -> npt.NDArray[np.uint64]:
    """The words of a whole program, after checking every command against the core.

    Raises:
        ValueError: A command breaks a law of this core; the message names its index.
    """
    for index, command in enumerate(commands):
        check(index, command, config)
    return np.array([encode(command) for command in commands], dtype=np.uint64)


def check(index: int, command: Command, config: AcceleratorConfig) -> None:
    """Holds one command to the sizes of a core.

    Raises:
        ValueError: It reaches beyond a bank, the channel table or the array.
    """
    match command:
        case LoadActivations():
            spans = [("activation bank", command.address, command.words, config.activation_words)]
        case LoadWeights():
            spans = [("weight bank", command.address, command.words, config.weight_words)]
        case LoadChannels():
            spans = [("channel table", command.address, command.words, config.array.columns)]
        case Matmul():
            depth = command.depth
            spans = [
                ("activation bank", command.activation_address, depth, config.activation_words),
                ("weight bank", command.weight_address, depth, config.weight_words),
            ]
            if command.rows > config.array.rows:
                raise ValueError(
                    f"command {index}: a tile of {command.rows} rows does not fit "
                    f"an array of {config.array.rows}"
                )
    for place, address, words, size in spans:
        if address + words > size:
            raise ValueError(
                f"command {index}: words {address} to {address + words - 1} reach beyond "
                f"the {place} of {size}"
            )


def load_word_bytes(command: Load, config: AcceleratorConfig) -> float:
    """Bytes that one word of a load takes on the load stream (less than 1 for none here)."""
    match command:
        case LoadActivations():
            return config.array.rows
        case LoadWeights():
            return config.array.columns * command.packed_bits / 8
        case LoadChannels():
            return CHANNEL_BYTES


def load_beats(command: Load, config: AcceleratorConfig) -> int:
    """Beats of the load stream that a load takes; the rest of its last beat is dropped."""
    bits = int(load_word_bytes(command, config) * 8) * command.words
    return -(-bits // (8 * config.dma.bytes_per_cycle))


def row_beats(output: Literal["int8", "int32"], config: AcceleratorConfig) -> int:
    """Beats of the store stream that one row of a drained tile takes; the last is padded."""
    row_bytes = config.array.columns * (4 if output == "int32" else 1)
    return -(-row_bytes // config.dma.bytes_per_cycle)


def store_beats(command: Command, config: AcceleratorConfig) -> int:
    """Beats of the store stream that a command gives."""
    if not isinstance(command, Matmul) or not command.drain:
        return 0
    return command.rows * row_beats(command.output, config)
