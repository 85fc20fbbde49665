"""Attention one key-value head after the other, so that a core holds the keys of one head alone.

An attention of the core has all keys and values of its tokens in the activation memory. Queries,
keys, values and results of a key-value head's group do not touch those of another, so a network may
as well do them in turn, with a part of the output layer behind each. The numbers are those of a
whole attention but for the output's rounding: each part is rounded to steps of the stream.
"""

from dataclasses import replace

import numpy as np

from swopt.compiler import network as net
from swopt.compiler.network import Kept, Network


def split_heads(network: Network) -> Network:
    """The network with one attention, and its linear layers, for each key-value head.

    Args:
        network: A decoder whose attentions read what rotations and one layer of values make, and
            whose results one residual layer reads each.

    Raises:
        ValueError: An attention is another one.
    """
    made = {op.y: op for op in network.operators if not isinstance(op, net.Linear | net.Input)}
    layers = {op.name: op for op in network.operators if isinstance(op, net.Linear)}
    moved: set[str] = set()
    parts: dict[str, list[net.Operator]] = {}
    for operator in network.operators:
        if not isinstance(operator, net.Attention):
            continue
        output = next(
            (
                each
                for each in layers.values()
                if each.x == operator.y and each.output == "residual"
            ),
            None,
        )
        turned = [made.get(name) for name in (operator.q, operator.k)]
        if output is None or not all(isinstance(each, net.Rotate) for each in turned):
            raise ValueError(f"{operator.y} is no attention of a decoder, whose heads can be split")
        query, key = (each for each in turned if isinstance(each, net.Rotate))
        parts[operator.y] = _parts(operator, query, key, layers, output)
        moved |= {query.x, key.x, query.y, key.y, operator.v, output.name}
    operators: list[net.Operator] = []
    for operator in network.operators:
        if operator.y in parts:
            operators += parts[operator.y]
        elif (operator.name if isinstance(operator, net.Linear) else operator.y) not in moved:
            operators.append(operator)
    return replace(network, operators=tuple(operators))


def _parts(
    whole: net.Attention,
    query: net.Rotate,
    key: net.Rotate,
    layers: dict[str, net.Linear],
    output: net.Linear,
) -> list[net.Operator]:
    """The operators of all key-value heads, one head after the other."""
    found: list[net.Operator] = []
    group = whole.heads // whole.kv_heads
    for head in range(whole.kv_heads):
        of_one = slice(head * whole.head_dim, (head + 1) * whole.head_dim)
        of_all = slice(head * group * whole.head_dim, (head + 1) * group * whole.head_dim)
        kept = whole.kept and Kept(whole.kept.keys[:, of_one], whole.kept.values[:, of_one])
        for turn, rows, heads in ((query, of_all, group), (key, of_one, 1)):
            found.append(_rows(layers[turn.x], rows, head))
            x, y = f"{turn.x}.{head}", f"{turn.y}.{head}"
            found.append(replace(turn, x=x, y=y, heads=heads))
        found.append(_rows(layers[whole.v], of_one, head))
        q, k, v, y = (f"{name}.{head}" for name in (whole.q, whole.k, whole.v, whole.y))
        found.append(replace(whole, q=q, k=k, v=v, y=y, heads=group, kv_heads=1, kept=kept))
        found.append(_columns(output, of_all, head, whole.scale.zero))
    return found


def _rows(layer: net.Linear, rows: slice, head: int) -> net.Linear:
    """Some outputs of a layer."""
    return replace(
        layer,
        name=f"{layer.name}.{head}",
        y=f"{layer.y}.{head}",
        weight=np.ascontiguousarray(layer.weight[rows]),
        bias=layer.bias[rows],
        multiplier=layer.multiplier[rows],
        shift=layer.shift[rows],
        groups=layer.groups and layer.groups.of_rows(rows),
    )


def _columns(layer: net.Linear, columns: slice, head: int, zero: int) -> net.Linear:
    """A layer on some of its inputs, whose integer `zero` stands for 0; the first has the bias."""
    weight = np.ascontiguousarray(layer.weight[:, columns])
    bias = -zero * weight.astype(np.int64).sum(1)
    if head == 0:
        bias += layer.bias + zero * layer.weight.astype(np.int64).sum(1)
    return replace(
        layer,
        name=f"{layer.name}.{head}",
        x=f"{layer.x}.{head}",
        weight=weight,
        bias=bias.astype(np.int32),
        groups=layer.groups and layer.groups.of_columns(columns),
    )
