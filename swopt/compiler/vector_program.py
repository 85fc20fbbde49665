"""Inputs, sums, norms, activations, gates and rotations as commands."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from hwlib import commands
from swopt.compiler import network as net
from swopt.compiler.emitter import Atom, Entries
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import Layout, Tensor
from swopt.compiler.site import Site


def load_input(site: Site, operator: net.Input, dram_addresses: Sequence[int]) -> Iterator[Atom]:
    """What the host brings, from one DRAM address a token group."""
    y = site.tensors[operator.y]
    words = y.layout.group_words
    for group in site.groups:
        at = y.group(group)
        emit = partial(site.e.load_words, at, words, dram_addresses[group])
        yield Atom("load", [], [("activations", at, words)], emit)


def add(site: Site, operator: net.Add) -> Iterator[Atom]:
    """A sum of two int16 tensors.

    Raises:
        LoweringError: They have not one shape.
    """
    a, b = (site.take(name, "int16") for name in (operator.a, operator.b))
    if (a.layout.tokens, a.layout.channels) != (b.layout.tokens, b.layout.channels):
        raise LoweringError(f"{operator.a} and {operator.b} must have one shape to be added")
    y = site.tensors[operator.y]

    def emit(group: int) -> None:
        site.e.emit(
            commands.Add(
                source=a.group(group),
                second=b.group(group),
                out=y.group(group),
                count=y.layout.group_words,
            )
        )

    return site.each_group({"a": a, "b": b}, y, emit)


def norm(site: Site, operator: net.Norm) -> Iterator[Atom]:
    """LayerNorm or RMSNorm."""
    x, y = site.take(operator.x, "int16"), site.tensors[operator.y]
    entries = Entries(operator.beta, operator.gamma, operator.shift)

    def emit(group: int) -> None:
        channel = site.e.entries("vector_channels", id(operator), entries)
        site.e.emit(norm_command(operator, x.group(group), y.group(group), channel))

    return site.each_group({"x": x}, y, emit)


def norm_command(operator: net.Norm, source: int, out: int, channel: int) -> commands.Norm:
    """A norm of one token group."""
    return commands.Norm(
        source=source,
        out=out,
        count=len(operator.gamma),
        channel=channel,
        multiplier=operator.multiplier,
        shift=operator.mean_shift,
        epsilon=operator.epsilon,
        base=operator.base,
        centred=operator.centred,
        zero_point=operator.zero,
        out_bits=operator.bits,
    )


def pointwise(site: Site, operator: net.Activate | net.Gate) -> Iterator[Atom]:
    """An activation or a gate of tensors that lie in the memory as a whole."""
    names = [operator.x] if isinstance(operator, net.Activate) else [operator.x, operator.up]
    sources = {name: site.take(name, "int16") for name in names}
    y = site.tensors[operator.y]
    channels = y.layout.channels

    def emit(group: int) -> None:
        places = [source.group(group) for source in sources.values()]
        site.e.emit(pointwise_command(operator, places, y.group(group), channels))

    return site.each_group(sources, y, emit)


def pointwise_command(
    operator: net.Activate | net.Gate, sources: list[int], out: int, count: int
) -> commands.Activate | commands.Gate:
    """An activation, or a gate, of so many channels of one token group."""
    scale = operator.scale
    if isinstance(operator, net.Activate):
        return commands.Activate(
            source=sources[0],
            out=out,
            count=count,
            function=operator.function,
            multiplier=scale.multiplier,
            shift=scale.shift,
            zero_point=scale.zero,
            out_bits=operator.bits,
        )
    return commands.Gate(
        source=sources[0],
        second=sources[-1],
        out=out,
        count=count,
        gate_shift=operator.gate_shift,
        multiplier=scale.multiplier,
        shift=scale.shift,
        zero_point=scale.zero,
        out_bits=operator.bits,
    )


def rotate(site: Site, operator: net.Rotate, table: Tensor) -> Iterator[Atom]:
    """A rotation of a tensor that lies in the memory as a whole."""
    x, y = site.take(operator.x, "int16"), site.tensors[operator.y]

    def emit(group: int) -> None:
        for command in rotate_commands(
            operator, x.group(group), table.group(group), y.group(group), operator.heads
        ):
            site.e.emit(command)

    return site.each_group({"x": x, "table": table}, y, emit)


def rotate_commands(
    operator: net.Rotate, source: int, table: int, out: int, heads: int
) -> Iterator[commands.Rotate]:
    """The rotation of some heads of one token group."""
    for head in range(heads):
        yield commands.Rotate(
            source=source + head * operator.head_dim,
            table=table,
            out=out + head * operator.head_dim // 2,
            count=operator.head_dim // 2,
            multiplier=operator.scale.multiplier,
            shift=operator.scale.shift,
        )


def load_table(site: Site, operator: net.Rotate, table: Tensor) -> Iterator[Atom]:
    """Cosines and sines by turns of the block's tokens."""
    words = table.layout.group_words
    for group in site.groups:
        at = table.group(group)

        def emit(group: int = group, at: int = at) -> None:
            key = ("rotation", operator.y, table.layout.rows, group)
            data = site.e.constant(key, lambda: _table_words(operator, table.layout, group))
            site.e.load_words(at, words, data)

        yield Atom("load", [], [("activations", at, words)], emit)


def _table_words(operator: net.Rotate, layout: Layout, group: int) -> bytes:
    tokens = slice(group * layout.rows, min((group + 1) * layout.rows, layout.tokens))
    pairs = np.stack([operator.cosine[tokens], operator.sine[tokens]], axis=2)
    one = Layout("int16", len(pairs), operator.head_dim, layout.rows)
    return one.pack(pairs.reshape(len(pairs), operator.head_dim)).astype("<i2").tobytes()
