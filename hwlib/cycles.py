"""Cycles of every command of the core when it runs alone, in closed form.

Derived here from the blocks' state machines and held to the RTL, exactly, in
tests/evaluators/test_core_cycles.py. Counted from the cycle in which the head of a queue may be
taken (its waits are reached, its engine is free) to the cycle in which it is complete, with nothing
else under way. Integers alone: nothing here needs a netlist.
"""

from dataclasses import dataclass
from functools import cache
from typing import Protocol

from hwlib.commands import (
    Activate,
    Add,
    AnyCommand,
    Divide,
    Gate,
    Load,
    Matmul,
    Norm,
    Rotate,
    Softmax,
    Store,
    Vector,
    beats,
    word_bytes,
)
from hwlib.config import CoreConfig
from hwlib.unit_latencies import UnitLatencies, shipped_latencies

WAIT_CYCLES = 2
"""From the completion of a command until one that waits for it may be taken: `done` is registered,
then counted."""

QUEUE_CYCLES = 1
"""From a command at the dispatcher until it may be taken at the head of its queue."""

READ_CYCLES = 2
"""From an access of a memory until its word stands in the reader's queue."""

TAKE_CYCLES = 1
"""From a command that is taken by operand fetch or store until its first read."""

DRAIN_ENTRY_CYCLES = 1
"""The drain's state that asks for the first channel entry."""

DRAIN_ALPHA_CYCLES = 2
"""Read of the word of shifts: asked for, and there."""

VECTOR_TAKE_CYCLES = 2
"""From a vector command that is taken until its first read."""

SETTLE_CYCLES = 1
"""From the last write of a pass, or the last read's end, until the engine sees none under way."""

STATE_READS = 3
"""Words of a softmax's state that are read."""

SAVE_CYCLES = 6
"""From a softmax's last result to its completion: four words of state, and two to begin and end."""

ROTATION_TURNS = 4
"""Reads of a pair of channels, and times that a lane fires for it."""


@dataclass(frozen=True)
class CoreLatencies:
    """Latencies of units and depths of buffers, in cycles and entries; the core's by default.

    Attributes:
        array: From a tile's last operands to its first column of sums.
        rescaler: From a sum to its result.
        activation: From operands that are complete until an activation fires.
        inverse_sqrt, reciprocal: Of these units.
        result: From operands of a lane to its int8 result.
        sum: From operands of a lane to their sum.
        probability: From a score to its probability.
        statistics: From a channel to its part in the sums of a norm.
        maximum: From a score to its part in the maximum.
        norm_lane, divide_lane, softmax_lane: Set-up of a lane, beside a table's latency.
        writes_ahead: Words of results that a vector command has under way.
        words_ahead: Words of an operand that are read ahead, where elements are not composable.
        words_ahead_composable: The same where they are.
        requests_ahead: Loads whose beats are on their way.
        tiles_ahead: Matmuls whose operands are read before their tile ends.
    """

    array: int = 4
    rescaler: int = 4
    activation: int = 1
    inverse_sqrt: int = 2
    reciprocal: int = 2
    result: int = 7
    sum: int = 1
    probability: int = 2
    statistics: int = 3
    maximum: int = 1
    norm_lane: int = 12
    divide_lane: int = 5
    softmax_lane: int = 6
    writes_ahead: int = 4
    words_ahead: int = 2
    words_ahead_composable: int = 3
    requests_ahead: int = 2
    tiles_ahead: int = 2

    @classmethod
    def of(cls, units: UnitLatencies) -> "CoreLatencies":
        """Those of a core with units of some latencies.

        All operands of a lane wait for the activation function.
        """
        extra = units.activation - 1
        return cls(
            array=units.array,
            rescaler=units.rescaler,
            inverse_sqrt=units.inverse_sqrt,
            reciprocal=units.reciprocal,
            result=7 + extra,
            statistics=3 + extra,
            probability=1 + units.exponential,
        )

    @classmethod
    def shipped(cls, config: CoreConfig) -> "CoreLatencies":
        """Those of a core whose units are all shipped ones."""
        return cls.of(shipped_latencies(config))


class DramTiming(Protocol):
    """How a DRAM answers; `evaluators.silicon.simulation.Dram` is one."""

    @property
    def latency_cycles(self) -> int:
        """From a request to its first beat."""

    @property
    def burst_beats(self) -> int:
        """Beats of a burst; 0 for no bursts."""

    @property
    def gap_cycles(self) -> int:
        """Idle cycles after each burst of a request."""


def command_cycles(
    command: AnyCommand,
    config: CoreConfig,
    dram: DramTiming,
    latencies: CoreLatencies | None = None,
) -> int:
    """From the cycle in which the command may be taken to the one in which it is complete.

    Args:
        command: A lawful command.
        config: The core.
        dram: How the DRAM answers.
        latencies: Of its units; by default the shipped ones'.
    """
    latencies = latencies or CoreLatencies.shipped(config)
    match command:
        case Load():
            return 1 + dram.latency_cycles + load_cycles(command, config, dram)
        case Store():
            return store_cycles(command, config)
        case Matmul():
            return (
                TAKE_CYCLES
                + READ_CYCLES
                + operand_cycles(command, config, latencies)
                - 1
                + drain_cycles(command, config, latencies)
            )
        case _:
            return vector_cycles(command, config, latencies)


# The array.


def operand_cycles(command: Matmul, config: CoreConfig, latencies: CoreLatencies) -> int:
    """Cycles in which a tile has the array, from its first operands to its last.

    Where both operands come from one bank of the activation memory, the second is a cycle late.
    Words read ahead make up for it but for the first; two of them are one too few for every second
    word.
    """
    if command.precision != "8x8":
        return command.depth
    cycles = 2 * command.depth
    apart = (command.activation_address - command.weight_address) % config.activation_banks
    if command.weight_source == "weights" or apart:
        return cycles
    short = operand_words_ahead(config, latencies) == 2
    return cycles + ((command.depth + 1) // 2 if short else 1)


def operand_words_ahead(config: CoreConfig, latencies: CoreLatencies) -> int:
    """Words of an operand that are read before the array has them."""
    return latencies.words_ahead_composable if config.composable else latencies.words_ahead


def drain_cycles(command: Matmul, config: CoreConfig, latencies: CoreLatencies) -> int:
    """From the last operands of a tile to its completion."""
    return drain_overhead(command, config, latencies) + drain_writes(command)


def drain_overhead(command: Matmul, config: CoreConfig, latencies: CoreLatencies) -> int:
    """From the last operands of a tile to the cycle before its first column is written.

    The drain makes ready while the array finishes its sums.
    """
    ready = DRAIN_ENTRY_CYCLES + 1
    if command.output == "accumulate":
        ready += 0 if command.first else DRAIN_ALPHA_CYCLES
    elif command.scale_by == "lane":
        ready += config.rows
    return max(latencies.array, ready) + latencies.rescaler


def drain_writes(command: Matmul) -> int:
    """Cycles in which a tile's columns are written."""
    columns = command.columns
    match command.output:
        case "int8" | "int16":
            return columns
        case "argmax":
            return columns + 1
        case "int32":
            return 2 * columns
        case "residual":
            return 3 * columns
        case "accumulate":
            return (2 if command.first else 6) * columns


# DMA.


def load_cycles(command: Load, config: CoreConfig, dram: DramTiming) -> int:
    """From the cycle in which the first beat may come to completion.

    Words of several beats wait for their last beat. Of a beat with several words each takes a
    cycle, and the next beat comes with the last: then it is the last burst that is waited for,
    where bursts are slower than words, and otherwise the first beat.
    """
    count, burst = beats(command, config), dram.burst_beats
    size = word_bytes(command, config)
    words_a_beat = max(1, config.dma_bytes // size)
    later = (count - 1) // burst * (burst + dram.gap_cycles) if burst else 0
    begun = (count - 1) // burst * burst if burst else 0
    last = max(words_a_beat * (count - 1), later + words_a_beat * (count - 1 - begun))
    return last + command.words - words_a_beat * (count - 1) if words_a_beat > 1 else last + 1


def store_cycles(command: Store, config: CoreConfig) -> int:
    """From the cycle in which a store may be taken to its last beat."""
    size = word_bytes(command, config)
    if size >= config.dma_bytes:
        return TAKE_CYCLES + READ_CYCLES + beats(command, config) - 1
    return TAKE_CYCLES + READ_CYCLES + command.words


# The vector engine.


@dataclass(frozen=True)
class Pass:
    """A pass over operands that gives words of results.

    Attributes:
        reads: Words read for an element: a channel or a key.
        elements: Results in a word.
        delay: From the last read for a word to its write.
    """

    reads: int
    elements: int
    delay: int


def vector_cycles(command: Vector, config: CoreConfig, latencies: CoreLatencies) -> int:
    """From the cycle in which a vector command may be taken to its completion."""
    cycles = VECTOR_TAKE_CYCLES + _before_last_pass(command, config, latencies)
    if isinstance(command, Rotate):
        return cycles + _rotation_cycles(command.count, latencies)
    last = last_pass(command, latencies)
    cycles += pass_cycles(last, command.count, latencies.writes_ahead)
    return cycles + SAVE_CYCLES if isinstance(command, Softmax) else cycles


def _before_last_pass(command: Vector, config: CoreConfig, latencies: CoreLatencies) -> int:
    """From the first read to the first of the last pass: state, statistics, the lanes' set-up."""
    state = STATE_READS + READ_CYCLES
    match command:
        case Norm():
            first = command.count - 1 + READ_CYCLES + latencies.statistics + SETTLE_CYCLES
            lane = latencies.norm_lane + latencies.inverse_sqrt
        case Softmax():
            first = command.count - 1 + READ_CYCLES + latencies.maximum + SETTLE_CYCLES
            first += 0 if command.first else state
            lane = latencies.softmax_lane
        case Divide():
            first, lane = state - 1, latencies.divide_lane + latencies.reciprocal
        case _:
            return 0
    return first + 1 + config.rows * lane


def last_pass(command: Vector, latencies: CoreLatencies) -> Pass:
    """The pass of a command that gives its results, but for a rotation."""
    scaled = READ_CYCLES + latencies.result + 1
    match command:
        case Norm():
            return Pass(1, 16 // command.out_bits, scaled)
        case Activate():
            return Pass(1, 16 // command.out_bits, scaled + latencies.activation)
        case Gate() | Divide():
            return Pass(2, 16 // command.out_bits, scaled)
        case Add():
            return Pass(2, 1, READ_CYCLES + latencies.sum + 1)
        case Softmax():
            return Pass(1, 2, READ_CYCLES + latencies.probability + 1)
        case Rotate():
            raise ValueError("a rotation waits after every pair of channels; it has no such pass")


def pass_cycles(taken: Pass, count: int, writes_ahead: int) -> int:
    """From the first read of a pass of `count` elements until its last write is settled."""
    size = max(64, 1 << (count - 1).bit_length())
    return _last_reads(taken, size, writes_ahead)[count - 1] + taken.delay + SETTLE_CYCLES


@cache
def _last_reads(taken: Pass, count: int, writes_ahead: int) -> tuple[int, ...]:
    """Cycle of the last read of each element, counted from the first read.

    One access a cycle, writes before reads; a read that begins a word waits until fewer than
    `writes_ahead` words are under way. A write waits for no read, so what comes later does not
    change what came before.
    """
    reads, written = [], [-1] * writes_ahead
    at, pending = 0, writes_ahead  # the next cycle, the next write
    for element in range(count):
        if element % taken.elements == 0:
            at = max(at, written[-writes_ahead] + 1)
        for _ in range(taken.reads):
            while pending < len(written) and written[pending] <= at:
                at += written[pending] == at
                pending += 1
            at += 1
        reads.append(at - 1)
        if element % taken.elements == taken.elements - 1:
            written.append(at - 1 + taken.delay)
    return tuple(reads)


def _rotation_cycles(pairs: int, latencies: CoreLatencies) -> int:
    """From the first read of a rotation until its last write is settled.

    The four reads of a pair wait until the pair before is through, and the second of two pairs also
    until its second word is written.
    """
    pair = ROTATION_TURNS - 1 + READ_CYCLES + ROTATION_TURNS - 1 + latencies.result + 1
    return pairs // 2 * (2 * pair + 1)
