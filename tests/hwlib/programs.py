"""Seeded random programs for cores of any size."""

import numpy as np

from hwlib.config import AcceleratorConfig
from hwlib.isa import (
    Command,
    LoadActivations,
    LoadChannels,
    LoadWeights,
    Matmul,
    load_beats,
)
from hwlib.reference.execute import CHANNEL


def random_program(
    config: AcceleratorConfig, length: int, seed: int
) -> tuple[list[Command], bytes]:
    """A program that first fills every bank, then does anything; its load stream with it.

    Operands lean towards the corners and biases towards the ends of int32, so that sums wrap.
    """
    rng = np.random.default_rng(seed)
    columns = config.array.columns
    commands: list[Command] = [
        LoadActivations(address=0, words=config.activation_words),
        LoadWeights(address=0, words=config.weight_words),
        LoadChannels(words=columns),
    ]
    for _ in range(length):
        kind = rng.integers(0, 7)
        words = int(rng.integers(1, 40))
        a = int(rng.integers(0, config.activation_words - words + 1))
        w = int(rng.integers(0, config.weight_words - words + 1))
        match kind:
            case 0:
                commands.append(LoadActivations(address=a, words=words))
            case 1:
                packed = (8, 4, 2)[rng.integers(0, 3)]
                commands.append(LoadWeights(address=w, words=words, packed_bits=packed))
            case 2:
                first = int(rng.integers(0, columns))
                entries = int(rng.integers(1, columns - first + 1))
                commands.append(LoadChannels(address=first, words=entries))
            case _:
                commands.append(
                    Matmul(
                        activation_address=a,
                        weight_address=w,
                        depth=words,
                        rows=int(rng.integers(1, config.array.rows + 1)),
                        drain=bool(rng.random() < 0.7),
                        output=("int8", "int32")[rng.integers(0, 2)],
                        zero_point=int(rng.integers(-128, 128)),
                    )
                )
    return commands, b"".join(
        _beats(command, config, rng) for command in commands if not isinstance(command, Matmul)
    )


def _beats(command: Command, config: AcceleratorConfig, rng: np.random.Generator) -> bytes:
    assert not isinstance(command, Matmul)
    data = rng.integers(0, 256, load_beats(command, config) * config.dma.bytes_per_cycle)
    corners = rng.random(len(data)) < 0.3
    raw = np.where(corners, rng.choice([0, 1, 127, 128, 255], len(data)), data).astype(np.uint8)
    if isinstance(command, LoadChannels):
        entries = raw[: command.words * CHANNEL.itemsize].view(CHANNEL)
        entries["shift"] = rng.integers(1, 48, command.words)
        near_zero = rng.random(command.words) < 0.6
        entries["bias"] = np.where(near_zero, entries["bias"] >> 14, entries["bias"])
    return raw.tobytes()
