"""A network cut into passes: operators that blocks of token groups go through one after the other.

Within a pass a block's own tensors need room for that block alone, and blocks take turns, so that
the array works for one while the vector engine works for another. Weights are loaded once a block.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from swopt.compiler import network as net
from swopt.compiler.choices import MAPPER, Choices
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import Placed
from swopt.compiler.network import read_by

Vector = net.Activate | net.Gate | net.Rotate
"""What can take the sums of linear layers chunk by chunk."""


@dataclass(frozen=True)
class Pass:
    """Operators `first` to `end` - 1, block after block.

    Attributes:
        first, end: Indices in the network.
        groups: Token groups of a block; with as many as there are, or more, there is one block.
        ways: Blocks that are under way at once.
        choices: Which operators run as one, and in which order a step works.
    """

    first: int
    end: int
    groups: int
    ways: int = 1
    choices: Choices = MAPPER


@dataclass(frozen=True)
class Step:
    """What is done to a block at once.

    Attributes:
        index: Of the operator in the network.
        operator: The operator.
        linears: Index and layer of each whose int16 result the operator takes chunk by chunk; these
            results never exist as a whole.
        choices: Those of its pass.
    """

    index: int
    operator: net.Operator
    linears: tuple[tuple[int, net.Linear], ...] = ()
    choices: Choices = MAPPER

    @property
    def adds_apart(self) -> bool:
        """Whether it adds to its stream after its layer is drained, and not meanwhile."""
        residual = isinstance(self.operator, net.Linear) and self.operator.output == "residual"
        return residual and not self.choices.fusion.residuals


def steps(network: net.Network, taken: Pass) -> list[Step]:
    """The steps of a pass, in their order."""
    inside = range(taken.first, taken.end)
    fused: dict[int, tuple[tuple[int, net.Linear], ...]] = {}
    for index in inside:
        operator = network.operators[index]
        if isinstance(operator, Vector) and _takes_chunks(operator, taken.choices):
            makers = [_only_for(network, name, index, inside) for name in read_by(operator)]
            found = tuple(maker for maker in makers if maker is not None)
            if len(found) == len(makers) and len({layer.x for _, layer in found}) == 1:
                fused[index] = found
    away = {maker for makers in fused.values() for maker, _ in makers}
    return [
        Step(index, network.operators[index], fused.get(index, ()), taken.choices)
        for index in inside
        if index not in away
    ]


def _takes_chunks(operator: Vector, choices: Choices) -> bool:
    """Whether it may take sums chunk by chunk, as far as it is a matter of choice."""
    fusion = choices.fusion
    return fusion.rotations if isinstance(operator, net.Rotate) else fusion.activations


def _only_for(
    network: net.Network, name: str, reader: int, inside: range
) -> tuple[int, net.Linear] | None:
    """The linear layer in the pass that makes a tensor which nobody but `reader` touches."""
    touching = network.touches[name]
    if len(touching) != 2 or touching[1] != reader or touching[0] not in inside:
        return None
    maker = network.operators[touching[0]]
    plain = isinstance(maker, net.Linear) and maker.output == "int16" and not maker.across
    return (touching[0], maker) if plain and isinstance(maker, net.Linear) else None


def is_streamed(operator: net.Operator) -> bool:
    """Whether tiles of weights stream past the token groups of a block."""
    if not isinstance(operator, net.Linear):
        return False
    return not operator.across and operator.output != "logits"


def chunk_channels(step: Step, columns: int) -> int:
    """Channels that a fused step takes at once: whole tiles, and whole heads of a rotation."""
    operator = step.operator
    (_, layer), *_ = step.linears
    channels = layer.weight.shape[0]
    if isinstance(operator, net.Rotate):
        heads = next(
            (n for n in range(1, operator.heads) if n * operator.head_dim % columns == 0),
            operator.heads,
        )
        return heads * operator.head_dim
    chunk = step.choices.dataflow.chunk_channels
    most: int = min(channels, max(columns, chunk // columns * columns))
    return most


def local(
    network: net.Network, taken: Pass, placed: Mapping[str, Placed]
) -> dict[str, tuple[int, int]]:
    """Tensors that a block has for itself, with the first and the last operator that touch them."""
    inside = network.operators[taken.first : taken.end]
    spans = {
        name: (network.touches[name][0], network.touches[name][-1])
        for name in {name for operator in inside for name in (*read_by(operator), operator.y)}
    }
    whole = {name for operator in inside for name in _read_whole(operator)}
    shared = {place.region for name, place in placed.items() if place.region != name}
    fused = {layer.y for step in steps(network, taken) for _, layer in step.linears}
    return {
        name: (first, last)
        for name, (first, last) in spans.items()
        if name in placed
        and taken.first <= first
        and last < taken.end
        and name not in whole
        and name not in fused
        and placed[name].region == name
        and name not in shared
    }


def _read_whole(operator: net.Operator) -> tuple[str, ...]:
    """Tensors of which an operator reads all tokens for each of its own."""
    match operator:
        case net.Attention():
            return (operator.k, operator.v)
        case net.Shuffle():
            return (operator.x, operator.y)
        case net.Concatenate():
            return (operator.first, operator.second, operator.y)
        case net.Linear() if operator.output == "logits":
            return (operator.x,)
        case _:
            return ()


def groups_of(operator: net.Operator, placed: Mapping[str, Placed]) -> int:
    """Token groups that an operator works on."""
    name = operator.y if operator.y in placed else read_by(operator)[0]
    return placed[name].layout.groups


def check_pass(network: net.Network, taken: Pass, placed: Mapping[str, Placed]) -> None:
    """Holds a pass of several blocks to what its operators allow.

    Raises:
        LoweringError: They work on different numbers of tokens, or one needs all tokens of what
            another one makes in the same pass.
    """
    operators = network.operators[taken.first : taken.end]
    counts = {groups_of(operator, placed) for operator in operators}
    if max(counts) <= taken.groups:
        return
    if len(counts) > 1:
        raise LoweringError(
            f"operators {taken.first} to {taken.end - 1} work on {sorted(counts)} token groups and "
            f"cannot share blocks of {taken.groups}"
        )
    made = {operator.y for operator in operators}
    for operator in operators:
        for name in _read_whole(operator):
            if name in made:
                raise LoweringError(
                    f"{operator.y} needs all tokens of {name}, which is made in the same pass in "
                    f"blocks of {taken.groups} groups"
                )
