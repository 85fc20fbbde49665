"""What each command of a program asks of the core, apart from when it runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter

from hwlib.commands import (
    QUEUES,
    Activate,
    Add,
    AnyCommand,
    Command,
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
    weight_depth,
    word_bytes,
)
from hwlib.config import CoreConfig
from hwlib.cycles import (
    SAVE_CYCLES,
    VECTOR_TAKE_CYCLES,
    CoreLatencies,
    DramTiming,
    Pass,
    drain_overhead,
    drain_writes,
    last_pass,
    load_cycles,
    operand_cycles,
    pass_cycles,
    store_cycles,
    vector_cycles,
)

LOAD, MATMUL, VECTOR, STORE = range(len(QUEUES))


@dataclass(frozen=True, slots=True)
class Tile:
    """A matmul.

    Attributes:
        depth, period: Words of the activations, and cycles in which the array has each.
        first: Its first word's address.
        second: How far behind lies the second operand in the banks; -1 in the weight memory.
        operands: Cycles of the operands without a drain.
        drain: From the last operands to completion.
        out: First word that is written.
        accesses: When the drain has its port, see `_drain_accesses`.
        spaced_words: Words of the activation memory whose reads leave a cycle between them.
        spaced_weights: The same of the weight memory.
    """

    depth: int
    period: int
    first: int
    second: int
    operands: int
    drain: int
    out: int
    accesses: tuple[tuple[int, int], ...]
    spaced_words: int
    spaced_weights: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """A load or a store.

    Attributes:
        cycles: From the first beat, or from when a store is taken, to completion.
        queued: The same where all beats are there already; loads alone.
        link: Cycles for which a load has the link.
        words: Words.
        period: Cycles of a word.
        memory: `activations`, `weights` or a table.
    """

    cycles: int
    queued: int
    link: int
    words: int
    period: int
    memory: str


@dataclass(frozen=True, slots=True)
class Passes:
    """A vector command.

    Attributes:
        cycles: From when it is taken to completion.
        first: Cycles of a first pass of reads alone; 0 for none.
        last: Cycles of the last pass.
        last_begins: From when it is taken to the first read of the last pass.
        taken: The last pass; None for a rotation.
    """

    cycles: int
    first: int
    last: int
    last_begins: int
    taken: Pass | None


Shape = Tile | Transfer | Passes
Planned = tuple[int, tuple[int | None, ...], Shape]

_KEYS: dict[type[Command], tuple[int, Callable[[AnyCommand], object]]] = {
    Load: (LOAD, attrgetter("target", "words", "packed_bits", "memory_bits")),
    Store: (STORE, attrgetter("words")),
    Matmul: (
        MATMUL,
        attrgetter(
            "activation_address", "weight_address", "weight_source", "depth", "columns",
            "precision", "output", "out", "first", "first_half", "scale_by",
        ),
    ),
    Softmax: (VECTOR, attrgetter("count", "first")),
    **dict.fromkeys((Rotate, Add), (VECTOR, attrgetter("count"))),
    **dict.fromkeys((Norm, Activate, Gate, Divide), (VECTOR, attrgetter("count", "out_bits"))),
}  # fmt: skip
"""Queue of each kind, and what the cycles of a command depend on beside the core."""

_WAITS = attrgetter("load", "matmul", "vector", "store")


def planned(
    commands: Sequence[AnyCommand],
    config: CoreConfig,
    dram: DramTiming,
    latencies: CoreLatencies,
) -> list[Planned]:
    """Queue, waits and cycles of each command; equal commands share their cycles."""
    known: dict[object, Shape] = {}
    plan: list[Planned] = []
    for command in commands:
        kind = type(command)
        queue, fields = _KEYS[kind]
        key = (kind, fields(command))
        found = known.get(key)
        if found is None:
            found = known[key] = _shape(command, config, dram, latencies)
        plan.append((queue, _WAITS(command.waits), found))
    return plan


def _shape(
    command: AnyCommand, config: CoreConfig, dram: DramTiming, latencies: CoreLatencies
) -> Shape:
    match command:
        case Load():
            return _load(command, config, dram)
        case Store():
            period = max(1, word_bytes(command, config) // config.dma_bytes)
            cycles = store_cycles(command, config)
            return Transfer(cycles, 0, 0, command.words, period, "activations")
        case Matmul():
            return _tile(command, config, latencies)
        case _:
            return _passes(command, config, latencies)


def _load(command: Load, config: CoreConfig, dram: DramTiming) -> Transfer:
    count, size = beats(command, config), word_bytes(command, config)
    words_a_beat = max(1, config.dma_bytes // size)
    burst = dram.burst_beats
    return Transfer(
        cycles=load_cycles(command, config, dram),
        queued=command.words if words_a_beat > 1 else count,
        link=count + ((count - 1) // burst * dram.gap_cycles if burst else 0),
        words=command.words,
        period=max(1, size // config.dma_bytes),
        memory=command.target,
    )


def _tile(command: Matmul, config: CoreConfig, latencies: CoreLatencies) -> Tile:
    overhead = drain_overhead(command, config, latencies)
    apart = command.weight_address - command.activation_address
    from_weights = command.weight_source == "weights"
    wide = command.precision == "8x8"
    return Tile(
        depth=command.depth,
        period=2 if wide else 1,
        first=command.activation_address % config.activation_banks,
        second=-1 if from_weights else apart % config.activation_banks,
        operands=operand_cycles(command, config, latencies),
        drain=overhead + drain_writes(command),
        out=command.out % config.activation_banks,
        accesses=_drain_accesses(
            command.output, command.columns, command.first_half, command.first, overhead + 1
        ),
        spaced_words=command.depth * (wide + (not from_weights)),
        spaced_weights=weight_depth(command) * (from_weights and command.precision != "4x4"),
    )


@cache
def _drain_accesses(
    output: str, columns: int, first_half: int, first: bool, begin: int
) -> tuple[tuple[int, int], ...]:
    """(Cycle from the last operands, word from `out`) of each access of a tile's drain."""
    each: tuple[tuple[int, int], ...]  # of a column
    match output:
        case "int8":
            return tuple(
                (begin + column, (first_half + column) // 2)
                for column in range(columns)
                if (first_half + column) % 2 or column == columns - 1
            )
        case "argmax":
            return ((begin + columns, 0),)
        case "int16":
            each, period, words = ((0, 0),), 1, 1
        case "residual":
            each, period, words = ((0, 0), (2, 0)), 3, 1
        case "accumulate" if not first:
            each, period, words = ((0, 0), (2, 1), (4, 0), (5, 1)), 6, 2
        case _:
            each, period, words = ((0, 0), (1, 1)), 2, 2
    return tuple(
        (begin + period * column + cycle, words * column + word)
        for column in range(columns)
        for cycle, word in each
    )


def _passes(command: Vector, config: CoreConfig, latencies: CoreLatencies) -> Passes:
    cycles = vector_cycles(command, config, latencies)
    if isinstance(command, Rotate):
        return Passes(cycles, 0, cycles - VECTOR_TAKE_CYCLES, VECTOR_TAKE_CYCLES, None)
    taken = last_pass(command, latencies)
    last = pass_cycles(taken, command.count, latencies.writes_ahead)
    save = SAVE_CYCLES if isinstance(command, Softmax) else 0
    first = command.count if isinstance(command, Norm | Softmax) else 0
    return Passes(cycles, first, last, cycles - save - last, taken)
