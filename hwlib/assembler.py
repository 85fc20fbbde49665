"""Holds a program to the laws of its core and makes it the words that the core takes."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from hwlib.commands import (
    COMMAND_BITS,
    DRAM_BYTES,
    NORM_CHANNELS,
    QUEUES,
    WAIT_BITS,
    Activate,
    Add,
    AnyCommand,
    Command,
    Divide,
    Gate,
    Load,
    Matmul,
    MatmulOutput,
    Norm,
    Queue,
    Rotate,
    Softmax,
    Span,
    Store,
    Vector,
    beats,
    capacity,
    encode,
    queue_of,
    reads,
    writes,
)
from hwlib.config import CoreConfig
from hwlib.hazards import check_hazards


def assemble(commands: Sequence[AnyCommand], config: CoreConfig) -> npt.NDArray[np.uint64]:
    """The words of a program, uint64 `[commands, 4]`, after every check that there is.

    Raises:
        ValueError: A command breaks a law of this core, or does not wait for one that it depends
            on; the message names its index.
    """
    words = encode_program(commands, config)
    check_hazards(commands, config)
    return words


def encode_program(commands: Sequence[AnyCommand], config: CoreConfig) -> npt.NDArray[np.uint64]:
    """The words of a program, uint64 `[commands, 4]`, lowest first, after checking every command.

    Raises:
        ValueError: A command breaks a law of this core; the message names its index.
    """
    issued = dict.fromkeys(QUEUES, 0)
    words = np.empty((len(commands), COMMAND_BITS // 64), np.uint64)
    for index, command in enumerate(commands):
        check(index, command, issued, config)
        issued[queue_of(command)] += 1
        encoded = encode(command)
        words[index] = [encoded >> (64 * part) & (1 << 64) - 1 for part in range(words.shape[1])]
    return words


def check(index: int, command: AnyCommand, issued: dict[Queue, int], config: CoreConfig) -> None:
    """Holds one command to the laws of a core.

    Args:
        index: Its place in the program, for the message.
        command: The command.
        issued: Commands of each queue before it.
        config: The core.

    Raises:
        ValueError: It waits for what comes after it, reaches beyond a memory, or breaks a law of
            its kind.
    """
    if not isinstance(command, Command):
        raise ValueError(f"command {index} is none: {str(command)[:80]!r}")
    try:
        _check_waits(command, issued)
        _check_kind(command, config)
        _check_dram(command, config)
        _check_overlap(command)
        for memory, first, words in [*reads(command), *writes(command)]:
            size = capacity(memory, config)
            if first + words > size:
                raise ValueError(
                    f"words {first} to {first + words - 1} reach beyond the {memory} of {size}"
                )
    except ValueError as error:
        raise ValueError(f"command {index}, {command.kind}: {error}") from None


def _check_dram(command: AnyCommand, config: CoreConfig) -> None:
    if isinstance(command, Load | Store):
        end = command.dram_address + beats(command, config) * config.dma_bytes
        if end > DRAM_BYTES:
            raise ValueError(f"bytes up to {end - 1} reach beyond the {DRAM_BYTES} of an address")


def check_image(
    commands: Sequence[AnyCommand], dram: npt.NDArray[np.uint8], config: CoreConfig
) -> None:
    """Holds a DRAM image to what it is, and to what lawful commands load and store.

    Raises:
        ValueError: It is not uint8 `[bytes]`, or a command reaches beyond it.
    """
    if not isinstance(dram, np.ndarray) or dram.dtype != np.uint8 or dram.ndim != 1:
        raise ValueError("the DRAM image must be a numpy array of uint8, [bytes]")
    for index, command in enumerate(commands):
        if isinstance(command, Load | Store):
            end = command.dram_address + beats(command, config) * config.dma_bytes
            if end > len(dram):
                raise ValueError(
                    f"command {index}, {command.kind}: bytes {command.dram_address} to {end - 1} "
                    f"reach beyond the DRAM image of {len(dram)} bytes; make it longer"
                )


def _check_waits(command: AnyCommand, issued: dict[Queue, int]) -> None:
    for queue in QUEUES:
        wait = getattr(command.waits, queue)
        if wait is None:
            continue
        if wait > issued[queue]:
            raise ValueError(
                f"waits for {wait} {queue} commands, but only {issued[queue]} come before it"
            )
        if issued[queue] - wait >= 1 << (WAIT_BITS - 1):
            raise ValueError(f"waits for a {queue} command too far back; leave that wait out")


def _check_kind(command: AnyCommand, config: CoreConfig) -> None:
    match command:
        case Load() | Store():
            if command.dram_address % config.dma_bytes:
                raise ValueError(
                    f"DRAM address {command.dram_address} must be a multiple of the beat of "
                    f"{config.dma_bytes} bytes"
                )
            if isinstance(command, Load):
                _check_bits_of_load(command, config)
        case Matmul():
            _check_precision(command, config)
            _check_output(command)
            if command.columns > config.columns:
                raise ValueError(
                    f"{command.columns} columns do not fit an array of {config.columns}"
                )
            if command.lane is not None and command.lane >= config.rows:
                raise ValueError(f"lane {command.lane} is none of {config.rows}")
            lane = command.weight_lane
            if lane and (lane % config.columns or lane + config.columns > config.rows):
                raise ValueError(
                    f"weight_lane {lane} must be a multiple of the {config.columns} columns with "
                    f"room for all of them in {config.rows} lanes"
                )
            if command.scale_by == "lane" and command.output != "accumulate":
                last = command.channel + config.rows
                if last > config.channel_entries:
                    raise ValueError(
                        f"entries {command.channel} to {last - 1} reach beyond the channel table "
                        f"of {config.channel_entries}"
                    )
            if command.lane is not None and command.output in ("accumulate", "argmax"):
                raise ValueError(f"output {command.output} writes every lane; leave lane out")
        case Norm() | Activate() | Gate() | Rotate() | Divide():
            if command.count % 2:
                raise ValueError(f"count must be even, not {command.count}")
            if not isinstance(command, Rotate) and command.out_bits == 4:
                _check_narrow_results(command, config)
            if isinstance(command, Norm):
                if command.count > NORM_CHANNELS:
                    raise ValueError(f"a norm takes at most {NORM_CHANNELS} channels")
                if command.multiplier * command.count >= 1 << (command.shift + 5):
                    raise ValueError("multiplier / 2^(shift + 4) must be under 2 / count")
            if isinstance(command, Rotate) and (command.lane or 0) >= config.rows:
                raise ValueError(f"lane {command.lane} is none of {config.rows}")
        case _:
            pass


def _check_overlap(command: AnyCommand) -> None:
    """A vector command reads while it writes: its results may lie in none of its operands.

    The sum alone may take the place of an operand, word by word.
    """
    if not isinstance(command, Vector):
        return
    results = [span for span in writes(command) if span[0] == "activations"]
    operands = [span for span in reads(command) if span[0] == "activations"]
    if isinstance(command, Add):
        operands = [span for span in operands if span[1] != command.out]
    if isinstance(command, Softmax):
        operands = operands[:1]
        results_apart = not _meet(*results)
    else:
        results_apart = True
    if not results_apart or any(_meet(a, b) for a in results for b in operands):
        raise ValueError(
            "its results lie in words that it reads; give it words of their own"
            + (", or an operand's first word" if isinstance(command, Add) else "")
        )


def _meet(a: Span, b: Span) -> bool:
    """Whether two spans of one memory have a word in common."""
    return a[1] < b[1] + b[2] and b[1] < a[1] + a[2]


def _check_bits_of_load(command: Load, config: CoreConfig) -> None:
    if command.group_words:
        _check_group(command, config)
    if command.target != "weights":
        if command.packed_bits != 8:
            raise ValueError("only weights can be packed below 8 bits")
        if command.memory_bits != 8:
            raise ValueError("only weights can have memory_bits below 8")
    elif command.memory_bits == 4:
        _check_composable("memory_bits 4", config)
        if command.packed_bits > 4:
            raise ValueError(
                f"weights of {command.packed_bits} bits in DRAM do not fit memory_bits 4; pack "
                "them to 4 or 2 bits"
            )


def _check_group(command: Load, config: CoreConfig) -> None:
    if not config.grouped_weights:
        raise ValueError(
            f"group_words {command.group_words} takes a core with grouped weights; this one has "
            "none"
        )
    if command.target != "weights" or command.packed_bits >= command.memory_bits:
        raise ValueError(
            "only weights that are widened stand in groups; use packed_bits below memory_bits"
        )
    if command.words % (command.group_words + 1) == 1:
        raise ValueError("the last header has no words behind it; leave it out")


def _check_precision(command: Matmul, config: CoreConfig) -> None:
    if command.precision == "8x8":
        return
    _check_composable(f"precision {command.precision}", config)
    if command.weight_source != "weights":
        raise ValueError(
            f"precision {command.precision} takes its second operand from the weight memory; "
            "with weight_source activations it must be 8x8"
        )
    if command.unsigned:
        raise ValueError(f"precision {command.precision} has no unsigned activations; use 8x8")


_OF_OUTPUTS: Mapping[str, tuple[MatmulOutput, ...]] = {
    "first_half": ("int8",),
    "zero_point": ("int8", "int16"),
    "first": ("accumulate", "argmax"),
    "alpha_address": ("accumulate",),
    "index_base": ("argmax",),
}
"""Fields of a matmul that mean something for some outputs alone."""


def _check_output(command: Matmul) -> None:
    for name, outputs in _OF_OUTPUTS.items():
        if command.output not in outputs and getattr(command, name):
            raise ValueError(
                f"{name} is of output {' and '.join(outputs)}; with {command.output} leave it out"
            )
    last = command.index_base + command.columns - 1
    if command.output == "argmax" and last >= 1 << 16:
        raise ValueError(f"index {last} of the last column does not fit a word; at most 65535")


def _check_narrow_results(command: Norm | Activate | Gate | Divide, config: CoreConfig) -> None:
    _check_composable("out_bits 4", config)
    if command.count % 4:
        raise ValueError(f"count must be a multiple of 4 at out_bits 4, not {command.count}")
    if not -8 <= command.zero_point <= 7:
        raise ValueError(f"zero_point must be -8..7 at out_bits 4, not {command.zero_point}")


def _check_composable(what: str, config: CoreConfig) -> None:
    if not config.composable:
        raise ValueError(f"{what} takes a core whose elements are composable; this one's are not")
