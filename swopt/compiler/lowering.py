"""Lowers one integer matrix product of any shape to a command program.

The product is cut into tiles of the array; tiles stay in the scratchpad while they are needed.
Several orders of the tiles are planned and the one of fewest cycles is taken.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from hwlib.config import AcceleratorConfig
from hwlib.cycles import SHIPPED_TIMINGS, Timings, program_cycles
from hwlib.edit import UnitName, UnitTiming
from hwlib.frozen import Frozen
from hwlib.isa import (
    Command,
    LoadActivations,
    LoadChannels,
    LoadWeights,
    Matmul,
    row_beats,
)
from hwlib.reference.execute import CHANNEL
from hwlib.reference.requantize import SHIFT_MAX

Output = Literal["int8", "int32"]
PackedBits = Literal[8, 4, 2]


class LoweringError(ValueError):
    """The product breaks a law of the core's arithmetic; the message has law, value and remedy."""


class Tile(Frozen):
    """Where one tile of the result lies."""

    first_row: int
    """Its first row in the result."""

    rows: int
    """Its valid rows."""

    first_column: int
    """Its first column in the result."""

    columns: int
    """Its valid columns; the array sends zeros or padding beyond them."""


class Program(Frozen):
    """One product as commands, with everything that goes over the streams."""

    commands: tuple[Command, ...]
    """The commands, in order."""

    load_beats: bytes
    """The load stream, in whole beats."""

    store_bytes: int
    """Length of the store stream, in whole beats."""

    shape: tuple[int, int]
    """Rows and columns of the result."""

    output: Output
    """Type of the result."""

    row_bytes: int
    """Bytes of one row of a tile on the store stream, padding included."""

    tiles: tuple[Tile, ...]
    """Tiles of the result in the order in which they are stored."""


def lower_matmul(
    x_q: npt.NDArray[np.int8],
    weight: npt.NDArray[np.int8],
    bias: npt.NDArray[np.int32],
    multiplier: npt.NDArray[np.integer] | None,
    shift: npt.NDArray[np.integer] | None,
    zero_point: int,
    output: Output,
    packed_bits: PackedBits,
    config: AcceleratorConfig,
    timings: Timings = SHIPPED_TIMINGS,
) -> Program:
    """Lowers y = requantize(x_q @ weight.T + bias), or without requantization for int32.

    Args:
        x_q: Activations, int8 [M, K].
        weight: Weights, int8 [N, K], in the range of `packed_bits`.
        bias: int32 [N].
        multiplier: 0..65535, [N]; None for int32.
        shift: 1..47, [N]; None for int32.
        zero_point: -128..127, added after scaling; 0 for int32.
        output: int8 or int32.
        packed_bits: Bits of a weight on the load stream.
        config: The core.
        timings: Schedules of the units, to choose between orders of the tiles.

    Returns:
        The program; `unpack` turns its store stream into y.

    Raises:
        LoweringError: Shapes do not fit, a value is out of range, or the accumulators could wrap
            for some input (interval analysis over all int8 activations).
    """
    _check(x_q, weight, bias, multiplier, shift, zero_point, output, packed_bits)
    M, K = x_q.shape
    N = weight.shape[0]
    rows, columns = config.array.rows, config.array.columns
    plan = _best_plan(M, N, K, output, packed_bits, config, tuple(sorted(timings.items())))
    activations = _tiles(x_q, rows)
    weights = _tiles(weight, columns)
    channels = _channels(bias, multiplier, shift, columns)
    beat_bytes = config.dma.bytes_per_cycle
    load = bytearray()
    for source in plan.sources:
        match source.bank:
            case "activations":
                data = activations[source.tile][source.words].tobytes()
            case "weights":
                data = pack_weights(weights[source.tile][source.words], packed_bits).tobytes()
            case _:
                data = channels[source.tile].tobytes()
        load += data.ljust(-(-len(data) // beat_bytes) * beat_bytes, b"\0")
    row_bytes = row_beats(output, config) * beat_bytes
    return Program(
        commands=tuple(_with_zero_point(command, zero_point) for command in plan.commands),
        load_beats=bytes(load),
        store_bytes=row_bytes * sum(tile.rows for tile in plan.tiles),
        shape=(M, N),
        output=output,
        row_bytes=row_bytes,
        tiles=tuple(plan.tiles),
    )


def unpack(program: Program, store: bytes) -> npt.NDArray[np.int8] | npt.NDArray[np.int32]:
    """The result [M, N] out of the store stream that the program gave.

    Raises:
        ValueError: The stream has another length than the program's.
    """
    if len(store) != program.store_bytes:
        raise ValueError(f"store stream has {len(store)} bytes, not {program.store_bytes}")
    kind = np.dtype("<i4") if program.output == "int32" else np.dtype("i1")
    sent = np.frombuffer(store, np.uint8).reshape(-1, program.row_bytes)
    y = np.empty(program.shape, kind)
    at = 0
    for tile in program.tiles:
        # The bottom row leaves the array first.
        block = sent[at : at + tile.rows][::-1, : tile.columns * kind.itemsize]
        y[
            tile.first_row : tile.first_row + tile.rows,
            tile.first_column : tile.first_column + tile.columns,
        ] = np.ascontiguousarray(block).view(kind)
        at += tile.rows
    return y


def pack_weights(weights: npt.NDArray[np.int8], bits: PackedBits) -> npt.NDArray[np.uint8]:
    """Weights as they lie on the load stream: two's complement of `bits`, the first lowest.

    Args:
        weights: int8, any shape whose size is a multiple of 8 / bits, in range.
        bits: Bits of one weight.

    Returns:
        uint8 [size * bits / 8].
    """
    per_byte = 8 // bits
    raw = weights.reshape(-1, per_byte).view(np.uint8) & np.uint8((1 << bits) - 1)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    packed: npt.NDArray[np.uint8] = np.bitwise_or.reduce(raw << shifts, axis=1).astype(np.uint8)
    return packed


@dataclass(frozen=True)
class _Source:
    """What one load carries."""

    bank: Literal["activations", "weights", "channels"]
    tile: int
    words: slice


@dataclass
class _Plan:
    """A program under construction."""

    commands: list[Command] = field(default_factory=list)
    sources: list[_Source] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)


class _Bank:
    """Which pieces of tiles one bank holds: equal slots, the least recently used goes first."""

    def __init__(self, words: int, slot_words: int) -> None:
        self.slot_words = slot_words
        self.free = list(range(words // slot_words - 1, -1, -1))
        self.slots: OrderedDict[tuple[int, int], int] = OrderedDict()

    def place(self, piece: tuple[int, int]) -> tuple[int, bool]:
        """(address of the piece, whether it has to be loaded)."""
        missing = piece not in self.slots
        if missing:
            self.slots[piece] = self.free.pop() if self.free else self.slots.popitem(last=False)[1]
        self.slots.move_to_end(piece)
        return self.slots[piece] * self.slot_words, missing


def _orders(
    M: int, N: int, K: int, config: AcceleratorConfig
) -> Iterator[Sequence[tuple[int, int]]]:
    """Orders of the result's tiles (m, n) that are worth planning.

    Blocks of as many tiles of one operand as its bank holds stay while the other operand passes
    by; the other operand's direction alternates, so that what is left of it in its bank is used
    first. Within a block one weight tile meets all activation tiles, so the channel table changes
    rarely; or one activation tile meets all weight tiles.
    """
    m_tiles, n_tiles = -(-M // config.array.rows), -(-N // config.array.columns)
    depth = min(K, config.activation_words, config.weight_words)
    pieces = -(-K // depth)
    m_block = max(1, config.activation_words // (depth * pieces))
    n_block = max(1, config.weight_words // (depth * pieces))
    m_blocks = [range(i, min(i + m_block, m_tiles)) for i in range(0, m_tiles, m_block)]
    n_blocks = [range(i, min(i + n_block, n_tiles)) for i in range(0, n_tiles, n_block)]

    def there_and_back(items: Sequence[int], turn: int) -> Sequence[int]:
        return items if turn % 2 == 0 else items[::-1]

    yield [
        (m, n)
        for turn, block in enumerate(m_blocks)
        for n in there_and_back(range(n_tiles), turn)
        for m in block
    ]
    yield [
        (m, n)
        for turn, block in enumerate(n_blocks)
        for m in there_and_back(range(m_tiles), turn)
        for n in block
    ]


@lru_cache(maxsize=512)
def _best_plan(
    M: int,
    N: int,
    K: int,
    output: Output,
    packed_bits: PackedBits,
    config: AcceleratorConfig,
    timings: tuple[tuple[UnitName, UnitTiming], ...],
) -> _Plan:
    """The schedule of fewest cycles; layers of one shape share it. Callers must not change it."""
    return min(
        (
            _schedule(order, M, N, K, output, packed_bits, config)
            for order in _orders(M, N, K, config)
        ),
        key=lambda candidate: program_cycles(candidate.commands, config, dict(timings)),
    )


def _with_zero_point(command: Command, zero_point: int) -> Command:
    """The command of a schedule, with what the layer adds after scaling."""
    if zero_point and isinstance(command, Matmul) and command.drain:
        return command.model_copy(update={"zero_point": zero_point})
    return command


def _schedule(
    order: Sequence[tuple[int, int]],
    M: int,
    N: int,
    K: int,
    output: Output,
    packed_bits: PackedBits,
    config: AcceleratorConfig,
) -> _Plan:
    """Commands for one order: a piece is loaded when it is needed and not in its bank."""
    rows, columns = config.array.rows, config.array.columns
    depth = min(K, config.activation_words, config.weight_words)
    starts = range(0, K, depth)
    activation_bank = _Bank(config.activation_words, depth)
    weight_bank = _Bank(config.weight_words, depth)
    plan = _Plan()
    channels_of = -1
    for m, n in order:
        for start in starts:
            words = min(depth, K - start)
            span = slice(start, start + words)
            activation_address, missing = activation_bank.place((m, start))
            if missing:
                plan.commands.append(LoadActivations(address=activation_address, words=words))
                plan.sources.append(_Source("activations", m, span))
            weight_address, missing = weight_bank.place((n, start))
            if missing:
                plan.commands.append(
                    LoadWeights(address=weight_address, words=words, packed_bits=packed_bits)
                )
                plan.sources.append(_Source("weights", n, span))
            if channels_of != n:
                plan.commands.append(LoadChannels(words=columns))
                plan.sources.append(_Source("channels", n, slice(0)))
                channels_of = n
            last = start == starts[-1]
            plan.commands.append(
                Matmul(
                    activation_address=activation_address,
                    weight_address=weight_address,
                    depth=words,
                    rows=min(rows, M - m * rows) if last else 1,
                    drain=last,
                    output=output if last else "int8",
                )
            )
        plan.tiles.append(
            Tile(
                first_row=m * rows,
                rows=min(rows, M - m * rows),
                first_column=n * columns,
                columns=min(columns, N - n * columns),
            )
        )
    return plan


def _tiles(matrix: npt.NDArray[np.int8], lanes: int) -> npt.NDArray[np.int8]:
    """[rows, K] as bank words: int8 [tiles, K, lanes], rows beyond the matrix are zeros."""
    count, K = matrix.shape
    tiles = -(-count // lanes)
    padded = np.zeros((tiles * lanes, K), np.int8)
    padded[:count] = matrix
    return np.ascontiguousarray(padded.reshape(tiles, lanes, K).transpose(0, 2, 1))


def _channels(
    bias: npt.NDArray[np.int32],
    multiplier: npt.NDArray[np.integer] | None,
    shift: npt.NDArray[np.integer] | None,
    columns: int,
) -> npt.NDArray[np.void]:
    """The channel table of each column tile, [tiles, columns]; columns beyond N scale by 0."""
    tiles = -(-len(bias) // columns)
    table = np.zeros(tiles * columns, CHANNEL)
    table["shift"] = 1
    table["bias"][: len(bias)] = bias
    if multiplier is not None and shift is not None:
        table["multiplier"][: len(bias)] = multiplier
        table["shift"][: len(bias)] = shift
    return table.reshape(tiles, columns)


def _check(
    x_q: npt.NDArray[np.int8],
    weight: npt.NDArray[np.int8],
    bias: npt.NDArray[np.int32],
    multiplier: npt.NDArray[np.integer] | None,
    shift: npt.NDArray[np.integer] | None,
    zero_point: int,
    output: Output,
    packed_bits: PackedBits,
) -> None:
    """Every law of `lower_matmul`, before anything is planned."""
    if x_q.dtype != np.int8 or weight.dtype != np.int8 or bias.dtype != np.int32:
        raise LoweringError(
            "activations and weights must be int8 and the bias int32, "
            f"not {x_q.dtype}, {weight.dtype} and {bias.dtype}"
        )
    if x_q.ndim != 2 or weight.ndim != 2 or x_q.shape[1] != weight.shape[1] or 0 in x_q.shape:
        raise LoweringError(
            "activations [M, K] and weights [N, K] must share K and not be empty, "
            f"not {list(x_q.shape)} and {list(weight.shape)}"
        )
    N = weight.shape[0]
    if bias.shape != (N,) or N == 0:
        raise LoweringError(f"the bias must have one value a weight row: {N}, not {bias.shape}")
    limit = 1 << (packed_bits - 1)
    if weight.min() < -limit or weight.max() >= limit:
        raise LoweringError(
            f"weights {weight.min()}..{weight.max()} do not fit {packed_bits} packed bits; "
            "pack them wider"
        )
    if output == "int8":
        if multiplier is None or shift is None:
            raise LoweringError("an int8 output needs a multiplier and a shift for each column")
        if multiplier.shape != (N,) or shift.shape != (N,):
            raise LoweringError(f"multiplier and shift must have one value a weight row: {N}")
        if multiplier.min() < 0 or multiplier.max() > 65535:
            raise LoweringError(
                f"multipliers must be 0..65535, not {multiplier.min()}..{multiplier.max()}"
            )
        if shift.min() < 1 or shift.max() > SHIFT_MAX:
            raise LoweringError(f"shifts must be 1..{SHIFT_MAX}, not {shift.min()}..{shift.max()}")
    if not -128 <= zero_point <= 127:
        raise LoweringError(f"the zero point must be -128..127, not {zero_point}")
    check_sums(weight, bias)


def check_sums(
    weight: npt.NDArray[np.int8],
    bias: npt.NDArray[np.int32],
    activation_bits: int = 8,
    accumulator_bits: int = 32,
) -> None:
    """Interval analysis: holds the sums that any activations can give to the accumulators.

    Args:
        weight: int8 [N, K].
        bias: int32 [N], added in 32 bits.
        activation_bits: Of an activation, two's complement.
        accumulator_bits: Of a sum before the bias.

    Raises:
        LoweringError: A sum could wrap, before or after the bias.
    """
    wide = weight.astype(np.int64)
    positive, negative = np.maximum(wide, 0).sum(axis=1), np.maximum(-wide, 0).sum(axis=1)
    most = 1 << (activation_bits - 1)
    high = (most - 1) * positive + most * negative
    low = -most * positive - (most - 1) * negative
    remedy = "split the inner dimension, or use smaller weights or wider accumulators"
    check_range(int(low.min()), int(high.max()), accumulator_bits, remedy)
    check_range(int((low + bias).min()), int((high + bias).max()), 32, remedy)


def check_range(lowest: int, highest: int, bits: int, remedy: str) -> None:
    """Holds what sums can reach to two's complement of so many bits.

    Raises:
        LoweringError: They reach beyond.
    """
    if highest >= 1 << (bits - 1) or lowest < -(1 << (bits - 1)):
        raise LoweringError(
            f"sums can reach {lowest}..{highest}, beyond the {bits}-bit accumulators; {remedy}"
        )
