"""The bit-exact model of the whole core: its memories, and what every command does to them.

Commands run one after the other, each reading all of its operands before it writes, exactly as
`hwlib.commands` says. What no command wrote is zero.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hwlib.assembler import check, check_image
from hwlib.behaviour import EXACT, Built, Table, product_row
from hwlib.commands import (
    FACTOR_BITS,
    QUEUES,
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
    beats,
    queue_of,
    weight_depth,
    word_bytes,
)
from hwlib.config import CoreConfig
from hwlib.reference import softmax, vector
from hwlib.reference.packing import CHANNEL, unpack_weights
from hwlib.reference.vector import SHIFT_MAX

Integers = npt.NDArray[np.integer[Any]]
Wide = npt.NDArray[np.int64]


def execute(
    commands: Sequence[AnyCommand],
    dram: npt.NDArray[np.uint8],
    config: CoreConfig,
    built: Built = EXACT,
) -> npt.NDArray[np.uint8]:
    """Runs a program from reset, in program order.

    Args:
        commands: The program.
        dram: The DRAM image before it, uint8 `[bytes]`; it is not changed.
        config: The core.
        built: What units give that do not give what `hwlib.reference` does.

    Returns:
        The DRAM image after it.

    Raises:
        ValueError: A command breaks a law of the core, reaches beyond the DRAM image, or uses a
            channel entry whose shift is not 1..47; the message names the command's index.
    """
    check_image((), dram, config)
    core = Core(dram, config, built)
    issued = dict.fromkeys(QUEUES, 0)
    for index, command in enumerate(commands):
        check(index, command, issued, config)
        issued[queue_of(command)] += 1
        try:
            core.run(command)
        except ValueError as error:
            raise ValueError(f"command {index}, {command.kind}: {error}") from None
    return core.dram


class Core:
    """The state of one core and of its DRAM.

    Attributes:
        dram: uint8 `[bytes]`, a copy of the image that was given.
        activations: The activation memory, int16 `[words, rows]`.
        weights: The weight memory, int8 `[words, columns, 2]`, even channel first; a byte of int4
            weights holds two, the even channel's in the low nibble.
        matmul_channels, vector_channels: The channel tables, `CHANNEL` `[entries]`.
        best, best_index: The greatest value that argmax has seen and its index, `[rows]`.
    """

    def __init__(
        self, dram: npt.NDArray[np.uint8], config: CoreConfig, built: Built = EXACT
    ) -> None:
        self.config, self.built = config, built
        self.dram = np.array(dram, np.uint8)
        self.activations = np.zeros((config.activation_words, config.rows), np.int16)
        self.weights = np.zeros((config.weight_words, config.columns, 2), np.int8)
        self.matmul_channels = np.zeros(config.channel_entries, CHANNEL)
        self.vector_channels = np.zeros(config.channel_entries, CHANNEL)
        self.best = np.zeros(config.rows, np.int64)
        self.best_index = np.zeros(config.rows, np.int64)

    def run(self, command: AnyCommand) -> None:
        """Runs one lawful command (`hwlib.assembler.check`).

        Raises:
            ValueError: It reaches beyond the DRAM image, or uses a channel entry whose shift is
                not 1..47.
        """
        match command:
            case Load():
                self._load(command)
            case Store():
                self._store(command)
            case Matmul():
                self.drain(command, self.sums(command))
            case Norm():
                self._norm(command)
            case Activate():
                x = self._words(command.source, command.count)
                self._scaled(command, vector.activate(x, command.function, self.built))
            case Gate():
                g, up = (self._words(at, command.count) for at in (command.source, command.second))
                product = vector.gate(g, up, command.gate_shift, self.built)
                self._scaled(command, product)
            case Rotate():
                self._rotate(command)
            case Add():
                a, b = (self._words(at, command.count) for at in (command.source, command.second))
                self._write_words(command.out, vector.add(a, b))
            case Softmax():
                self._softmax(command)
            case Divide():
                weighted = self._wide_words(command.source, command.count)
                total = self._wide_words(command.state + 1, 1)[0] & 0xFFFFFFFF
                self._scaled(command, softmax.divide(weighted, total, self.built))

    def sums(self, command: Matmul) -> Wide:
        """The first half of a matmul: what the array has summed before it is drained.

        Returns:
            `config.accumulator_bits` bits in int64, `[rows, command.columns]`.
        """
        depth, columns = command.depth, command.columns
        a = self._bytes(command.activation_address, depth)  # [depth, rows, 2]
        if command.unsigned:
            a = a.view(np.uint8)
        if command.weight_source == "weights":
            w = self.weights[command.weight_address :][: weight_depth(command), :columns]
            if command.precision == "4x4":
                a, w = _nibbles(a), _nibbles(w)
            elif command.precision == "8x4":
                # A word's two bytes, of two weights each, one activation word after the other.
                w = _nibbles(w).reshape(-1, columns, 2, 2).swapaxes(1, 2)
                w = w.reshape(-1, columns, 2)[:depth]
        else:
            lane = command.weight_lane
            lanes = self._bytes(command.weight_address, depth)[:, lane : lane + columns]
            w = np.pad(lanes, ((0, 0), (0, columns - lanes.shape[1]), (0, 0)))
        if "mac" in self.built:
            return _wrap(_looked_up(a, w, self.built["mac"]), self.config.accumulator_bits)
        # Exact in float64: at most 4 * 65535 products of at most 15 bits.
        rows_by_depth = a.transpose(1, 0, 2).reshape(self.config.rows, -1).astype(np.float64)
        depth_by_columns = w.transpose(0, 2, 1).reshape(-1, columns).astype(np.float64)
        return _wrap(
            (rows_by_depth @ depth_by_columns).astype(np.int64), self.config.accumulator_bits
        )

    def drain(self, command: Matmul, sums: Wide) -> None:
        """The second half of a matmul: sums `[rows, command.columns]` into the memory."""
        out, columns = command.out, command.columns
        rows = slice(None) if command.lane is None else slice(command.lane, command.lane + 1)
        if command.output == "accumulate":
            total = sums.T
            if not command.first:
                alpha = self.activations[command.alpha_address] & 31
                total = softmax.accumulate(self._wide_words(out, columns), total, alpha)
            self._write_wide_words(out, total, rows)
            return
        scaled = self._rescale(command, sums).T  # [columns, rows]
        match command.output:
            case "int8":
                y = vector.saturate(scaled + command.zero_point, 8)
                at = command.first_half + np.arange(columns)
                target = self._bytes(out, int(at[-1]) // 2 + 1)
                target[at // 2, rows, at % 2] = y[:, rows]
            case "int16":
                y = vector.saturate(scaled + command.zero_point, 16)
                self._write_words(out, y, rows)
            case "residual":
                added = vector.add(self._words(out, columns), vector.saturate(scaled, 16))
                self._write_words(out, added, rows)
            case "int32":
                self._write_wide_words(out, vector.saturate(scaled, 32), rows)
            case "argmax":
                self._argmax(command, vector.saturate(scaled, 32))

    def _rescale(self, command: Matmul, sums: Wide) -> Wide:
        """Sums `[rows, columns]` through bias, multiplier and shift."""
        counts = {"column": command.columns, "uniform": 1, "lane": self.config.rows}
        entries = self._entries(self.matmul_channels, command.channel, counts[command.scale_by])
        entries = entries[:, None] if command.scale_by == "lane" else entries[None, :]
        biased = _wrap(sums + entries["bias"])
        product = biased * entries["multiplier"].astype(np.int64)
        return vector.round_shift(product, entries["shift"].astype(np.int64))

    def _argmax(self, command: Matmul, values: Wide) -> None:
        for column, value in enumerate(values):
            better = value > self.best
            if command.first and column == 0:
                better = np.ones_like(better)
            self.best = np.where(better, value, self.best)
            self.best_index = np.where(better, command.index_base + column, self.best_index)
        self._write_words(command.out, self.best_index[None])

    def _norm(self, command: Norm) -> None:
        x = self._words(command.source, command.count)
        entries = self._entries(self.vector_channels, command.channel, command.count)[:, None]
        mean, r, shift = vector.norm_statistics(
            x,
            command.multiplier,
            command.shift,
            command.epsilon,
            command.base,
            command.centred,
            self.built,
        )
        y = vector.affine(
            vector.normalize(x, mean, r, shift),
            entries["multiplier"].astype(np.uint16).view(np.int16),
            entries["bias"],
            entries["shift"].astype(np.int64),
            command.zero_point,
            command.out_bits,
        )
        self._write_results(command, y)

    def _rotate(self, command: Rotate) -> None:
        x = self._words(command.source, 2 * command.count)
        table = self._words(command.table, 2 * command.count)
        halves = vector.rotate(x[: command.count], x[command.count :], table[0::2], table[1::2])
        y = vector.scale(np.concatenate(halves), command.multiplier, command.shift, 0)
        rows = slice(None) if command.lane is None else slice(command.lane, command.lane + 1)
        self._write_pairs(command.out, y, rows)

    def _softmax(self, command: Softmax) -> None:
        scores = self._words(command.source, command.count)
        key, row = np.indices(scores.shape)
        if command.first:
            state = softmax.empty((self.config.rows,))
        else:
            maximum = self._words(command.state, 1)[0].astype(np.int64)
            total = self._wide_words(command.state + 1, 1)[0] & 0xFFFFFFFF
            state = softmax.State(maximum, total, np.zeros_like(total))
        seen: npt.NDArray[np.bool_] = np.less_equal(key - row, command.offset)
        entries = self.config.exponential_entries
        values, state = softmax.block(scores, seen, state, entries, self.built)
        self._write_pairs(command.out, np.pad(values, ((0, command.count % 2), (0, 0))))
        self._write_words(command.state, state.maximum[None])
        self._write_wide_words(command.state + 1, state.total[None])
        self._write_words(command.state + 3, state.alpha[None])

    def _load(self, command: Load) -> None:
        data = self._dram(command)[: word_bytes(command, self.config) * command.words]
        span = slice(command.address, command.address + command.words)
        match command.target:
            case "activations":
                self.activations[span] = data.view("<i2").reshape(-1, self.config.rows)
            case "weights":
                self._load_weights(command, data)
            case "matmul_channels":
                self.matmul_channels[span] = data.view(CHANNEL)
            case "vector_channels":
                self.vector_channels[span] = data.view(CHANNEL)

    def _load_weights(self, command: Load, data: npt.NDArray[np.uint8]) -> None:
        columns, memory_bits = self.config.columns, command.memory_bits
        words = data.reshape(command.words, -1)
        at = np.arange(command.words)
        headers = np.zeros(command.words, np.bool_)
        if command.group_words:
            headers = at % (command.group_words + 1) == 0
        weights = unpack_weights(words[~headers].ravel(), command.packed_bits)
        weights = weights.reshape(-1, columns, 16 // memory_bits)
        if command.group_words:
            part = 16 * command.packed_bits // memory_bits  # bits of a column in a word
            codes = unpack_weights(words[headers].ravel(), part).reshape(-1, columns)
            factors = 1 + (codes & (1 << FACTOR_BITS) - 1)
            weights = weights * factors.repeat(command.group_words, 0)[: len(weights), :, None]
        if memory_bits == 4:
            weights = _joined_nibbles(weights.reshape(-1, 2))
        weights = weights.reshape(-1, columns, 2)
        self.weights[command.address : command.address + len(weights)] = weights

    def _store(self, command: Store) -> None:
        target = self._dram(command)
        words = self._words(command.address, command.words)
        data = words.astype("<i2").view(np.uint8).ravel()
        target[: len(data)] = data
        target[len(data) :] = 0

    def _dram(self, command: Load | Store) -> npt.NDArray[np.uint8]:
        """The bytes of the beats that a load or store moves."""
        end = command.dram_address + beats(command, self.config) * self.config.dma_bytes
        if end > len(self.dram):
            raise ValueError(
                f"bytes {command.dram_address} to {end - 1} reach beyond the DRAM image of "
                f"{len(self.dram)} bytes"
            )
        return self.dram[command.dram_address : end]

    def _entries(self, table: npt.NDArray[np.void], first: int, count: int) -> npt.NDArray[np.void]:
        entries = table[first : first + count]
        wrong = (entries["shift"] < 1) | (entries["shift"] > SHIFT_MAX)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"channel entry {first + at} has a shift of {entries['shift'][at]}; load one with "
                f"a shift of 1..{SHIFT_MAX}"
            )
        return entries

    def _words(self, address: int, count: int) -> npt.NDArray[np.int16]:
        """int16 channels `[count, rows]`; a copy, so that outputs may overlap it."""
        return self.activations[address : address + count].copy()

    def _wide_words(self, address: int, count: int) -> Wide:
        """int32 channels in int64, `[count, rows]`."""
        words = self._words(address, 2 * count).astype(np.int64)
        return (words[1::2] << 16) | (words[0::2] & 0xFFFF)

    def _bytes(self, address: int, words: int) -> npt.NDArray[np.int8]:
        """A view of words as int8, `[words, rows, 2]`, low byte first."""
        raw = self.activations[address : address + words].view(np.int8)
        return raw.reshape(words, self.config.rows, 2)

    def _scaled(self, command: Activate | Gate | Divide, value: Wide) -> None:
        """int16 channels through the lanes' own requantizer to int8 or int4."""
        y = vector.scale(
            value, command.multiplier, command.shift, command.zero_point, command.out_bits
        )
        self._write_results(command, y)

    def _write_results(self, command: Norm | Activate | Gate | Divide, value: Wide) -> None:
        """Channels `[count, rows]` of a command's own width."""
        if command.out_bits == 4:
            pairs = value.reshape(-1, 2, self.config.rows).swapaxes(1, 2)
            value = _joined_nibbles(pairs).astype(np.int64)
        self._write_pairs(command.out, value)

    def _write_words(self, address: int, value: Wide, rows: slice = slice(None)) -> None:
        """The low 16 bits of channels `[count, rows]`."""
        target = self.activations[address : address + len(value)]
        target[:, rows] = value.astype(np.int16)[:, rows]

    def _write_wide_words(self, address: int, value: Wide, rows: slice = slice(None)) -> None:
        """The low 32 bits of channels `[count, rows]`."""
        halves = np.stack([value, value >> 16], axis=1)
        self._write_words(address, halves.reshape(-1, self.config.rows), rows)

    def _write_pairs(self, address: int, value: Wide, rows: slice = slice(None)) -> None:
        """int8 channels `[count, rows]`, count even."""
        target = self._bytes(address, len(value) // 2)
        pairs = value.astype(np.int8).reshape(-1, 2, self.config.rows)
        target[:, rows] = pairs.transpose(0, 2, 1)[:, rows]


def _looked_up(a: Integers, w: Integers, products: Table) -> Wide:
    """Sums over products that are not exact, `[rows, columns]`.

    Args:
        a: `[depth, rows, 2]`.
        w: `[depth, columns, 2]`.
        products: By row of the table (`hwlib.behaviour.product_row`).
    """
    sums = np.zeros((a.shape[1], w.shape[1]), np.int64)
    for left, right in zip(a.astype(np.int64), w.astype(np.int64), strict=True):
        sums += products[product_row(left[:, None], right[None])].sum(-1)
    return sums


def _nibbles(raw: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Bytes `[..., n]` as int4 in int8 `[..., 2 n]`, low nibbles first."""
    halves = np.stack([raw << 4 >> 4, raw >> 4], axis=-1)
    return halves.reshape(*raw.shape[:-1], -1)


def _joined_nibbles(pairs: Integers) -> npt.NDArray[np.int8]:
    """int4 `[..., 2]` as bytes `[...]`, the first in the low nibble."""
    joined: npt.NDArray[np.int8] = ((pairs[..., 0] & 15) | (pairs[..., 1] << 4)).astype(np.int8)
    return joined


def _wrap(value: Integers, bits: int = 32) -> Wide:
    """Two's complement of so many bits, in int64."""
    half = np.int64(1) << (bits - 1)
    wrapped: Wide = ((value.astype(np.int64) + half) & (2 * half - 1)) - half
    return wrapped
