"""The values of attention as commands: linear layers whose channels lie across the lanes."""

from collections.abc import Iterator

import numpy as np

from hwlib.commands import Matmul, Span
from hwlib.config import CoreConfig
from swopt.compiler import network as net
from swopt.compiler.emitter import Atom, Entries
from swopt.compiler.linear_program import Tile, form_of, is_exchanged, tiles
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import Layout, Tensor
from swopt.compiler.site import Site, lanes

BUFFERS = 2
"""Pieces of values that are under way at once: one is computed while the other is turned."""

LOADED = 3
"""Pieces of weights that lie in the activation memory: the array is at one, another still has its
sums drained, and a third is loaded."""


def values(site: Site, operator: net.Linear) -> Iterator[Atom]:
    """A linear layer whose channels lie in the lanes.

    Raises:
        LoweringError: Its output is not int8.
    """
    if operator.output != "int8":
        raise LoweringError(f"{operator.y} lies across the lanes, so it must be int8")
    exchanged = is_exchanged(operator, form_of(operator, site.e.config))
    return _exchanged(site, operator) if exchanged else _transposed(site, operator)


def values_words(operator: net.Linear, groups: int, config: CoreConfig) -> int:
    """Words that values need beside their tensors, for a block of so many token groups."""
    form = form_of(operator, config)
    if is_exchanged(operator, form):
        return LOADED * form.depth + 1
    return (1 + BUFFERS * groups) * config.rows // 2


def _transposed(site: Site, operator: net.Linear) -> Iterator[Atom]:
    """Values as other layers compute them, and then their product with a matrix of ones and zeros.

    That takes half a row's cycles for a column, and the layer has its fewer bits.
    """
    config = site.e.config
    rows = config.rows
    x, y = site.operand(operator), site.tensors[operator.y]
    ones = Layout("int8", rows, rows, rows)
    identity, buffers = site.scratch, site.scratch + ones.words
    data = site.e.constant(
        ("identity", rows), lambda: ones.pack(np.eye(rows, dtype=np.int8)).astype("<i2").tobytes()
    )
    written: list[Span] = [("activations", identity, ones.words)]
    yield Atom("load", [], written, lambda: site.e.load_words(identity, ones.words, data))
    pieces = list(_pieces(y.layout))
    places = [
        {
            group: buffers + ((index % BUFFERS) * len(site.groups) + at) * ones.words
            for at, group in enumerate(site.groups)
        }
        for index in range(len(pieces))
    ]
    for index, (_, _, span) in enumerate(pieces):
        yield from _piece(site, operator, x, span, places[index])
        if index:
            yield _turned(site, y, pieces[index - 1], identity, places[index - 1])
    yield _turned(site, y, pieces[-1], identity, places[-1])


def _piece(
    site: Site, operator: net.Linear, x: Tensor, span: slice, places: dict[int, int]
) -> Iterator[Atom]:
    """Some channels of values, tokens in the lanes."""
    for tile in tiles(site, operator, span.start, span.stop):
        shift = (tile.column - span.start) // 2

        def emit(tile: Tile = tile, shift: int = shift) -> None:
            for group, place in places.items():
                site.e.emit(
                    tile.product(
                        site, x.group(group), "int8", place + shift, zero_point=operator.zero
                    )
                )

        first = places[site.groups[0]] + shift
        yield Atom("matmul", site.spans(x), [("activations", first, 1)], emit)


def _turned(
    site: Site, y: Tensor, piece: tuple[int, int, slice], identity: int, places: dict[int, int]
) -> Atom:
    """The same channels in the lanes."""
    head, group, span = piece
    rows, out = site.e.config.rows, y.head(head, group)
    depth = (span.stop - span.start + 1) // 2
    first_token, tokens = _tokens(site, y.layout)
    entry = Entries(np.array([0]), np.array([2]), np.array([1]))  # (2 sum + 1) >> 1 is the sum

    def emit() -> None:
        channel = site.e.entries("matmul_channels", "identity", entry)
        for token, columns in lanes(first_token, tokens, site.e.config):
            site.e.emit(
                Matmul(
                    activation_address=identity,
                    weight_source="activations",
                    weight_address=places[token // rows],
                    weight_lane=token % rows,
                    depth=depth,
                    columns=columns,
                    scale_by="uniform",
                    channel=channel,
                    output="int8",
                    out=out + (y.layout.past + token) // 2,
                )
            )

    read: list[Span] = [("activations", place, depth) for place in places.values()]
    return Atom(
        "matmul", read, [("activations", out + (y.layout.past + first_token) // 2, 1)], emit
    )


def _tokens(site: Site, layout: Layout) -> tuple[int, int]:
    """The block's first token, and how many it has."""
    first = site.groups[0] * layout.rows
    return first, min(layout.tokens, (site.groups[-1] + 1) * layout.rows) - first


def _pieces(layout: Layout) -> Iterator[tuple[int, int, slice]]:
    """Head, group of its channels, and these channels, of values."""
    head_dim = layout.channels // layout.heads
    for head in range(layout.heads):
        for group in range(layout.head_groups):
            start = head * head_dim + group * layout.rows
            yield head, group, slice(start, min(start + layout.rows, (head + 1) * head_dim))


def _exchanged(site: Site, operator: net.Linear) -> Iterator[Atom]:
    """Values with the operands exchanged: weights in the lanes, tokens in the columns."""
    rows = site.e.config.rows
    x, y = site.operand(operator), site.tensors[operator.y]
    layout = Layout("int8", rows, x.layout.channels, rows)
    first_token, tokens = _tokens(site, y.layout)
    # A word further on where the two operands would come out of the same bank.
    apart = (site.scratch - x.group(site.groups[0])) % site.e.config.activation_banks
    buffers = site.scratch + (apart == 0)
    for index, (head, group, span) in enumerate(_pieces(y.layout)):
        spare = (0, rows - (span.stop - span.start))
        buffer = buffers + index % LOADED * layout.words
        entries = Entries(
            np.pad(operator.bias[span], spare),
            np.pad(operator.multiplier[span], spare),
            np.pad(operator.shift[span], spare, constant_values=1),
        )
        out = y.head(head, group)

        def emit(
            span: slice = span,
            spare: tuple[int, int] = spare,
            buffer: int = buffer,
            entries: Entries = entries,
            out: int = out,
        ) -> None:
            key = (id(operator), span.start, span.stop)
            weights = np.pad(operator.weight[span], (spare, (0, 0)))
            at = site.e.constant(key, lambda: layout.pack(weights).astype("<i2").tobytes())
            site.e.load_words(buffer, layout.words, at)
            channel = site.e.entries("matmul_channels", key, entries)
            for token, columns in lanes(first_token, tokens, site.e.config):
                site.e.emit(
                    Matmul(
                        activation_address=buffer,
                        weight_source="activations",
                        weight_address=x.group(token // rows),
                        weight_lane=token % rows,
                        depth=layout.words,
                        columns=columns,
                        scale_by="lane",
                        channel=channel,
                        output="int8",
                        out=out + (y.layout.past + token) // 2,
                        zero_point=operator.zero,
                    )
                )

        yield Atom(
            "matmul",
            site.spans(x),
            [("activations", out + (y.layout.past + first_token) // 2, 1)],
            emit,
        )
