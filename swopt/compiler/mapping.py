"""Which passes a network takes through a core, and how many token groups a block of each has."""

from dataclasses import dataclass
from itertools import pairwise

from swopt.compiler import network as net
from swopt.compiler.passes import Pass


@dataclass(frozen=True)
class Mapping:
    """The passes of a network, in order.

    Attributes:
        passes: Every operator is in one of them.
    """

    passes: tuple[Pass, ...]


def one_block(network: net.Network) -> Mapping:
    """Every piece of the network on all tokens at once."""
    cuts = [*cut_points(network), len(network.operators)]
    return Mapping(tuple(Pass(first, end, groups=1 << 16) for first, end in pairwise(cuts)))


def cut_points(network: net.Network) -> list[int]:
    """Indices of operators before which a pass may end at no cost in memory."""
    operators = network.operators
    return [
        index
        for index, operator in enumerate(operators)
        if index == 0
        or isinstance(operator, net.Norm | net.Attention | net.Shuffle | net.Concatenate)
        or (isinstance(operator, net.Input) and not isinstance(operators[index - 1], net.Input))
    ]
