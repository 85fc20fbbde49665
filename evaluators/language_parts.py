"""A decoder in parts: blocks by kind, and what is behind them.

Blocks of equal shapes and bits are one kind: their programs are the same commands.
"""

import re
from collections.abc import Hashable
from dataclasses import dataclass, replace

from swopt.compiler import network as net
from swopt.compiler.network import Network

HEAD = "head"
"""Name of what is behind the blocks: the last norm and the head."""


@dataclass(frozen=True)
class Kind:
    """Blocks of equal shapes and bits.

    Attributes:
        name: Of the first of them, such as `decoder.0`.
        network: That block alone.
        count: How many there are.
    """

    name: str
    network: Network
    count: int


def kinds_of(network: Network) -> tuple[Kind, ...]:
    """The kinds of blocks of a decoder, in the order of the first of each."""
    kinds: dict[Hashable, Kind] = {}
    for name, operators in blocks_of(network).items():
        key = tuple(_shape(each) for each in operators)
        found = kinds.get(key) or Kind(name, block(network, name), 0)
        kinds[key] = replace(found, count=found.count + 1)
    return tuple(kinds.values())


def blocks_of(network: Network) -> dict[str, list[net.Operator]]:
    """The operators of each block of a decoder, by its name, such as `decoder.0`, in order."""
    blocks: dict[str, list[net.Operator]] = {}
    for operator in network.operators:
        name = operator.name if isinstance(operator, net.Linear) else operator.y
        tower, _, rest = name.partition(".")
        index, _, part = rest.partition(".")
        if part and index.isdigit():
            blocks.setdefault(f"{tower}.{index}", []).append(operator)
    return blocks


def block(network: Network, name: str) -> Network:
    """One block of a decoder alone, which reads the stream before it in the place of words.

    Raises:
        ValueError: There is no such block.
    """
    blocks = blocks_of(network)
    if name not in blocks:
        raise ValueError(f"there is no block {name!r}; there are {', '.join(blocks)}")
    return replace(network, operators=(_words(network), *blocks[name]), logits=None)


def behind_blocks(network: Network) -> Network:
    """What is behind the blocks of a decoder: the last norm and the head."""
    inside = {id(each) for operators in blocks_of(network).values() for each in operators}
    words = _words(network)
    behind = [op for op in network.operators if op is not words and id(op) not in inside]
    return replace(network, operators=(words, *behind))


def mean_weight_bits(network: Network) -> float:
    """Mean bits of a weight of the linear layers."""
    layers = [op for op in network.operators if isinstance(op, net.Linear)]
    bits = sum(op.weight.size * op.weight_bits for op in layers)
    return bits / sum(op.weight.size for op in layers)


def with_words(behind: Network, count: int) -> Network:
    """The last norm and the head, for the first words of the vocabulary alone.

    Args:
        behind: As `behind_blocks` gives it.
        count: How many words, 1 or more; all of them where there are no more.
    """
    *others, head = behind.operators
    assert isinstance(head, net.Linear)
    parts = {
        name: getattr(head, name)[:count] for name in ("weight", "bias", "multiplier", "shift")
    }
    groups = head.groups and head.groups.of_rows(slice(count))
    return replace(behind, operators=(*others, replace(head, **parts, groups=groups)))


def _words(network: Network) -> net.Input:
    return next(op for op in network.operators if isinstance(op, net.Input))


def form_of(network: Network) -> str:
    """All of a network that its commands and their cycles hang on, as a text: not its numbers."""
    found = [(net.read_by(op), op.y, *_shape(op)) for op in network.operators]
    return _BLOCK.sub("", repr((network.attention_block, network.logits, found)))


_BLOCK = re.compile(r"(?<=')decoder\.\d+\.")
"""How names inside a block begin."""


def _shape(operator: net.Operator) -> tuple[Hashable, ...]:
    """All of an operator that commands and their cycles hang on, but for the tensors' names."""
    kind = type(operator).__name__
    match operator:
        case net.Linear():
            group = operator.groups and operator.groups.inputs
            bits = operator.weight_bits, operator.activation_bits, group
            return kind, operator.weight.shape, bits, operator.output, operator.across
        case net.Attention():
            heads = operator.heads, operator.kv_heads, operator.head_dim
            kept = operator.past, operator.kept is not None
            return kind, heads, kept, operator.causal, operator.bits
        case net.Norm():
            return kind, len(operator.gamma), operator.centred, operator.bits
        case net.Rotate():
            return kind, operator.heads, operator.head_dim, len(operator.cosine)
        case net.Input():
            return kind, operator.source, operator.channels
        case net.Gate() | net.Activate():
            return kind, operator.bits
        case net.Shuffle():
            return kind, operator.joined
        case _:
            return (kind,)
