"""The bit-exact model of the whole core: commands and load stream in, store stream out."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hwlib.config import AcceleratorConfig
from hwlib.isa import (
    Command,
    Load,
    LoadActivations,
    LoadWeights,
    Matmul,
    check,
    load_beats,
    row_beats,
)
from hwlib.reference.matmul import add_wrapping, matmul
from hwlib.reference.requantize import requantize

CHANNEL = np.dtype([("bias", "<i4"), ("multiplier", "<u2"), ("shift", "u1"), ("unused", "u1")])
"""One entry of the channel table, as it lies on the load stream."""


def execute(commands: Sequence[Command], load: bytes, config: AcceleratorConfig) -> bytes:
    """Runs a program from reset.

    Args:
        commands: The program.
        load: The load stream, whole beats.
        config: The core's knobs.

    Returns:
        The store stream, whole beats.

    Raises:
        ValueError: A command breaks a law of the core, reads a word that no load wrote, or the
            load stream is too short or too long; the message names the command's index.
    """
    core = _Core(config, load)
    for index, command in enumerate(commands):
        check(index, command, config)
        if isinstance(command, Matmul):
            core.matmul(index, command)
        else:
            core.load(index, command)
    if core.stream:
        raise ValueError(f"{len(core.stream)} bytes of the load stream are left over")
    return b"".join(core.sent)


def unpack_weights(packed: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.int8]:
    """Weights of 8, 4 or 2 bits in two's complement, lowest first, sign-extended to int8.

    Args:
        packed: uint8, any length.
        bits: Bits of one weight.

    Returns:
        int8 [8 / bits * length].
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    raw = packed[:, None] >> shifts & np.uint8((1 << bits) - 1)
    sign = 1 << (bits - 1)
    wide: npt.NDArray[np.int8] = ((raw.astype(np.int16) ^ sign) - sign).astype(np.int8)
    return wide.ravel()


class _Core:
    """State of the core between commands."""

    def __init__(self, config: AcceleratorConfig, load: bytes) -> None:
        self.config = config
        self.stream = memoryview(load)
        rows, columns = config.array.rows, config.array.columns
        self.activations = np.zeros((config.activation_words, rows), np.int8)
        self.weights = np.zeros((config.weight_words, columns), np.int8)
        self.written = {
            "activations": np.zeros(config.activation_words, np.bool_),
            "weights": np.zeros(config.weight_words, np.bool_),
            "channels": np.zeros(columns, np.bool_),
        }
        self.channels = np.zeros(columns, CHANNEL)
        self.sums = np.zeros((rows, columns), np.int32)
        self.sent: list[bytes] = []

    def load(self, index: int, command: Load) -> None:
        size = load_beats(command, self.config) * self.config.dma.bytes_per_cycle
        if size > len(self.stream):
            raise ValueError(
                f"command {index}: takes {size} bytes of the load stream, "
                f"which has {len(self.stream)} left"
            )
        raw = np.frombuffer(self.stream[:size], np.uint8)
        self.stream = self.stream[size:]
        span = slice(command.address, command.address + command.words)
        if isinstance(command, LoadActivations):
            rows = self.config.array.rows
            self.activations[span] = raw[: command.words * rows].view(np.int8).reshape(-1, rows)
        elif isinstance(command, LoadWeights):
            columns = self.config.array.columns
            values = unpack_weights(raw, command.packed_bits)[: command.words * columns]
            self.weights[span] = values.reshape(-1, columns)
        else:
            self.channels[span] = raw[: command.words * CHANNEL.itemsize].view(CHANNEL)
        self.written[command.kind][span] = True

    def matmul(self, index: int, command: Matmul) -> None:
        a_span = slice(command.activation_address, command.activation_address + command.depth)
        w_span = slice(command.weight_address, command.weight_address + command.depth)
        for bank, span in (("activations", a_span), ("weights", w_span)):
            if not self.written[bank][span].all():
                raise ValueError(f"command {index}: reads {bank} that no load wrote")
        product = matmul(self.activations[a_span].T, self.weights[w_span].T)
        self.sums = add_wrapping(self.sums, product)
        if not command.drain:
            return
        if not self.written["channels"].all():
            raise ValueError(f"command {index}: drains before every channel was loaded")
        biased = add_wrapping(self.sums, np.broadcast_to(self.channels["bias"], self.sums.shape))
        self.sums = np.zeros_like(self.sums)
        rows: npt.NDArray[np.int8] | npt.NDArray[np.int32] = biased
        if command.output == "int8":
            rows = requantize(
                biased,
                self.channels["multiplier"],
                self.channels["shift"],
                command.zero_point,
            )
        row_bytes = row_beats(command.output, self.config) * self.config.dma.bytes_per_cycle
        for row in range(command.rows - 1, -1, -1):
            self.sent.append(rows[row].tobytes().ljust(row_bytes, b"\0"))
