"""Linear layers as commands: tiles of weights stream past the token groups of a block."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, cast, get_args

import numpy as np

from hwlib.commands import Add, GroupWords, Matmul, MatmulOutput, Precision, Span, Store
from hwlib.config import LANE_BYTES, CoreConfig
from hwlib.reference.packing import pack_weights
from swopt.compiler import network as net
from swopt.compiler import vector_program
from swopt.compiler.emitter import Atom, Entries, PackedBits, Packing
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import Tensor
from swopt.compiler.passes import Step, chunk_channels
from swopt.compiler.site import Site
from swopt.techniques.rounding import grouped_bits

_SIZES = ", ".join(str(size) for size in get_args(GroupWords) if size)

ENTRY_TILES = 8
"""Tiles whose channel entries are loaded at once, where half of the table holds them."""


@dataclass(frozen=True)
class Logits:
    """Where the head's results lie in DRAM after the program.

    Attributes:
        name: Of the tensor.
        dram_address: First byte of the words of int32 `[1, channels]`, in one of their lanes.
        token_address: First byte of the word whose lane holds the index of the greatest.
        channels: How many.
        lane: That of the last token.
    """

    name: str
    dram_address: int
    token_address: int
    channels: int
    lane: int


def linear(site: Site, operator: net.Linear) -> Iterator[Atom]:
    """A layer whose result lies in the memory: every tile of weights meets every group.

    Raises:
        LoweringError: A tile does not fit, or weights do not fit their bits.
    """
    x, y = site.operand(operator), site.tensors[operator.y]
    output: MatmulOutput = "int8"
    zero_point, pairs = operator.zero, 2
    if operator.output != "int8":
        output = "residual" if operator.output == "residual" else "int16"
        zero_point, pairs = 0, 1
    for tile in tiles(site, operator, 0, operator.weight.shape[0]):
        place = tile.column // pairs
        words = tile.columns // pairs + tile.columns % pairs

        def emit(tile: Tile = tile, place: int = place) -> None:
            for group in site.groups:
                out = y.group(group) + place
                site.e.emit(tile.product(site, x.group(group), output, out, zero_point=zero_point))

        first = y.group(site.groups[0]) + place
        yield Atom("matmul", site.spans(x), [("activations", first, words)], emit)


def added(site: Site, operator: net.Linear) -> Iterator[Atom]:
    """A layer whose int16 result is written whole before it is added to its stream.

    Raises:
        LoweringError: As for `linear`.
    """
    x, y = site.operand(operator), site.tensors[operator.y]
    channels = operator.weight.shape[0]
    places = {group: site.scratch + at * channels for at, group in enumerate(site.groups)}
    # What is written there is not yet the stream.
    apart = replace(site, spill=lambda name, word, address, words: None)
    yield from _fill(apart, x, operator, (0, channels), places)
    for group, place in places.items():
        out = y.group(group)
        spans: list[Span] = [("activations", place, channels), ("activations", out, channels)]
        add = Add(source=out, second=place, out=out, count=channels)
        yield Atom("vector", spans, [spans[1]], partial(site.e.emit, add))


def added_words(operator: net.Linear, groups: int) -> int:
    """Words that `added` needs beside its tensors."""
    return groups * len(operator.weight)


def fused(site: Site, step: Step, table: Tensor | None) -> Iterator[Atom]:
    """Layers whose int16 results an activation, gate or rotation takes, chunk by chunk.

    Raises:
        LoweringError: As for `linear`.
    """
    operator = step.operator
    y = site.tensors[operator.y]
    x = site.operand(step.linears[0][1])
    channels = y.layout.channels
    chunk = chunk_channels(step, site.e.config.columns)
    buffers = fused_buffers(step, site.e.config.columns)
    layers = [layer for _, layer in step.linears]
    for number, start in enumerate(range(0, channels, chunk)):
        count = min(chunk, channels - start)
        turn = site.scratch + number % buffers * len(site.groups) * len(layers) * chunk
        places = {
            group: [turn + (at * len(layers) + part) * chunk for part in range(len(layers))]
            for at, group in enumerate(site.groups)
        }
        for part, (index, layer) in enumerate(step.linears):
            mine = {group: place[part] for group, place in places.items()}
            for atom in _fill(site, x, layer, (start, count), mine):
                yield replace(atom, operator=index)
        for group in site.groups:
            spans: list[Span] = [("activations", place, count) for place in places[group]]

            def emit(group: int = group, start: int = start, count: int = count) -> None:
                sources = places[group]  # noqa: B023 - atoms are emitted before the next chunk's
                out = y.group(group) + start // y.layout.word_channels
                if isinstance(operator, net.Rotate):
                    assert table is not None
                    heads = count // operator.head_dim
                    made = vector_program.rotate_commands(
                        operator, sources[0], table.group(group), out, heads
                    )
                    for command in made:
                        site.e.emit(command)
                else:
                    assert isinstance(operator, net.Activate | net.Gate)
                    site.e.emit(vector_program.pointwise_command(operator, sources, out, count))

            place = y.group(group) + start // y.layout.word_channels
            yield Atom("vector", spans, [("activations", place, 1)], emit)


def _fill(
    site: Site, x: Tensor, layer: net.Linear, span: tuple[int, int], places: dict[int, int]
) -> Iterator[Atom]:
    """A chunk of one layer's results into words of their own."""
    start, count = span
    for tile in tiles(site, layer, start, start + count):
        shift = tile.column - start

        def emit(tile: Tile = tile, shift: int = shift) -> None:
            for group, place in places.items():
                out = place + shift
                site.e.emit(tile.product(site, x.group(group), "int16", out))
                word = group * layer.weight.shape[0] + tile.column
                site.spill(layer.y, word, out, tile.columns)

        first = places[site.groups[0]] + shift
        yield Atom("matmul", site.spans(x), [("activations", first, tile.columns)], emit)


def fused_buffers(step: Step, columns: int) -> int:
    """Chunks for which a fused step has words: one where it is all."""
    whole = chunk_channels(step, columns) >= step.linears[0][1].weight.shape[0]
    return 1 if whole else step.choices.dataflow.chunk_buffers


def fused_words(step: Step, columns: int, groups: int) -> int:
    """Words that a fused step needs beside its tensors."""
    chunk = chunk_channels(step, columns)
    return fused_buffers(step, columns) * groups * len(step.linears) * chunk


def head(site: Site, operator: net.Linear, logits: Logits) -> Iterator[Atom]:
    """The head, for the last token's group: each tile's logits, and the greatest so far.

    Raises:
        LoweringError: As for `linear`, or there are more logits than argmax counts.
    """
    x = site.operand(operator)
    rows, columns = site.e.config.rows, site.e.config.columns
    channels = operator.weight.shape[0]
    if channels > 1 << 16:
        raise LoweringError(f"argmax counts to 65536 logits, not {channels}")
    token_word = site.scratch + 4 * columns
    source = x.group((x.layout.tokens - 1) // rows)
    word_bytes = LANE_BYTES * rows
    for index, tile in enumerate(tiles(site, operator, 0, channels)):
        buffer = site.scratch + index % 2 * 2 * columns

        def emit(tile: Tile = tile, buffer: int = buffer, first: bool = index == 0) -> None:
            site.e.emit(tile.product(site, source, "int32", buffer))
            site.e.emit(tile.product(site, source, "argmax", token_word, first=first))
            place = logits.dram_address + 2 * tile.column * word_bytes
            site.e.emit(Store(address=buffer, words=2 * tile.columns, dram_address=place))
            if tile.column + tile.columns == channels:
                site.e.emit(Store(address=token_word, words=1, dram_address=logits.token_address))

        read: list[Span] = [("activations", source, x.layout.group_words)]
        yield Atom("matmul", read, [("activations", buffer, 2 * tile.columns)], emit)


def head_words(columns: int) -> int:
    """Words that the head needs beside its tensors: two tiles of int32, and the token."""
    return 4 * columns + 1


@dataclass(frozen=True)
class Form:
    """How a layer's operands lie in the core.

    Attributes:
        precision: What the array is told.
        memory_bits: Of a weight in the weight memory.
        packed_bits: Of a weight in DRAM.
        depth: Words of the activations.
        weight_depth: Words of the weights.
        group_words: Words of a group of weights, behind its header in DRAM; 0 for no groups.
    """

    precision: Precision
    memory_bits: Literal[8, 4]
    packed_bits: PackedBits
    depth: int
    weight_depth: int
    group_words: GroupWords = 0

    @property
    def loaded_words(self) -> int:
        """Words of the weights in DRAM, headers among them."""
        if not self.group_words:
            return self.weight_depth
        return self.weight_depth + -(-self.weight_depth // self.group_words)


@dataclass(frozen=True)
class Tile:
    """Columns of a layer that the array computes at once.

    Attributes:
        layer: Whose.
        column, columns: Which.
        width: Columns of the array.
        form: Bits of its operands in the core.
        entries: First channel, and the one behind the last, whose entries are loaded together.
    """

    layer: net.Linear
    column: int
    columns: int
    width: int
    form: Form
    entries: tuple[int, int]

    def product(
        self,
        site: Site,
        activation_address: int,
        output: MatmulOutput,
        out: int,
        *,
        zero_point: int = 0,
        first: bool = False,
    ) -> Matmul:
        """The product of one token group with them; what it needs is loaded before."""
        layer, (start, end) = self.layer, self.entries
        channel = site.e.entries(
            "matmul_channels",
            (id(layer), start, end),
            Entries(layer.bias[start:end], layer.multiplier[start:end], layer.shift[start:end]),
        )
        form = self.form
        packing = Packing(form.packed_bits, form.memory_bits, form.group_words, form.loaded_words)
        key = (id(layer), self.column, self.columns)
        address = site.e.weights(key, form.weight_depth, packing, self._packed)
        return Matmul(
            activation_address=activation_address,
            weight_address=address,
            depth=form.depth,
            precision=form.precision,
            columns=self.columns,
            channel=channel + self.column - start,
            output=output,
            out=out,
            zero_point=zero_point,
            first=first,
            index_base=self.column if output == "argmax" else 0,
        )

    def _packed(self) -> bytes:
        """As they lie in DRAM: words of the weight memory, with zeros where nothing is."""
        form, part = self.form, slice(self.column, self.column + self.columns)
        rows = self.layer.stored[part]
        a_word = 16 // form.memory_bits
        spare, missing = a_word * form.weight_depth - rows.shape[1], self.width - self.columns
        padded = np.pad(rows, ((0, missing), (0, spare)))
        words = padded.reshape(self.width, -1, a_word).transpose(1, 0, 2)
        packed = pack_weights(np.ascontiguousarray(words), form.packed_bits)
        if self.layer.groups is None:
            return packed.tobytes()
        codes = self.layer.groups.factors[part].astype(np.int8) - 1
        codes = np.pad(codes, ((0, missing), (0, 0)))
        headers = pack_weights(np.ascontiguousarray(codes.T), a_word * form.packed_bits)
        at = np.arange(0, form.weight_depth, form.group_words)
        behind = headers.reshape(len(at), -1)
        return np.insert(packed.reshape(form.weight_depth, -1), at, behind, axis=0).tobytes()


def form_of(layer: net.Linear, config: CoreConfig) -> Form:
    """The form of most products a cycle that the core has for a layer.

    Raises:
        LoweringError: Weights do not fit their bits, or there is no such form.
    """
    bits, inputs = packed_bits(layer), layer.weight.shape[1]
    if layer.groups is not None:
        return _grouped_form(layer, bits, config)
    if layer.activation_bits == 4:
        if not config.composable or bits == 8:
            raise LoweringError(
                f"{layer.name} reads 4-bit activations, which takes weights of at most 4 bits and "
                "a composable core"
            )
        return Form("4x4", 4, bits, -(-inputs // 4), -(-inputs // 4))
    if config.composable and bits <= 4:
        return Form("8x4", 4, bits, -(-inputs // 2), -(-inputs // 4))
    return Form("8x8", 8, bits, -(-inputs // 2), -(-inputs // 2))


def _grouped_form(layer: net.Linear, bits: PackedBits, config: CoreConfig) -> Form:
    """As `form_of`, of weights that are multiplied as they are widened."""
    assert layer.groups is not None
    if not config.grouped_weights:
        raise LoweringError(
            f"{layer.name} has weights in groups of {layer.groups.inputs} inputs, which takes a "
            "core with grouped weights"
        )
    wide = replace(layer, weight_bits=grouped_bits(bits), groups=None)
    form = form_of(wide, config)
    group_words = layer.groups.inputs * form.memory_bits // 16
    if group_words not in get_args(GroupWords):
        raise LoweringError(
            f"{layer.name} has weights in groups of {layer.groups.inputs} inputs, {group_words} "
            f"words of the weight memory; a core takes {_SIZES}"
        )
    return replace(form, packed_bits=bits, group_words=cast(GroupWords, group_words))


def is_exchanged(layer: net.Linear, form: Form) -> bool:
    """Whether values of attention are computed with their operands exchanged.

    Weights go into the activation memory for that, which holds them as they are multiplied.
    """
    return layer.across and form.precision == "8x8" and not form.group_words


def tiles(site: Site, layer: net.Linear, start: int, end: int) -> Iterator[Tile]:
    """The tiles of channels `start` to `end` - 1.

    Raises:
        LoweringError: Weights do not fit their bits.
    """
    config = site.e.config
    form = form_of(layer, config)
    together = max(1, min(ENTRY_TILES, config.channel_entries // 2 // config.columns))
    span = together * config.columns
    for column in range(start, end, config.columns):
        first = start + (column - start) // span * span
        yield Tile(
            layer,
            column,
            min(config.columns, end - column),
            config.columns,
            form,
            (first, min(first + span, end)),
        )


def packed_bits(layer: net.Linear) -> PackedBits:
    """The narrowest packing that holds the layer's weights.

    Raises:
        LoweringError: They are beyond their bits.
    """
    bits: PackedBits = 8
    if layer.weight_bits <= 4:
        bits = 2 if layer.weight_bits <= 2 else 4
    limit = 1 << (bits - 1)
    low, high = int(layer.stored.min()), int(layer.stored.max())
    if low < -limit or high >= limit:
        raise LoweringError(
            f"weights {low}..{high} of {layer.name} do not fit {layer.weight_bits} bits"
        )
    return bits
