"""Which passes a network takes through a core, and how many token groups a block of each has.

A pass loads its weights once a block, so large blocks save traffic; small ones leave room for more
blocks under way, so that norms of one hide behind products of another. The choice is exhaustive:
every run of pieces up to `LONGEST`, every size of block and up to three blocks under way are
costed, and the passes of least cycles that fit the activation memory are taken (dynamic programming
over the cuts). What a plan chooses (`swopt.compiler.choices`) is left out of the search.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Table
from dataclasses import dataclass, replace
from itertools import pairwise

from hwlib.config import CoreConfig
from swopt.compiler import costs
from swopt.compiler import network as net
from swopt.compiler.choices import MAPPER, Choices
from swopt.compiler.linear_program import form_of
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import Placed
from swopt.compiler.network import read_by
from swopt.compiler.pass_program import room
from swopt.compiler.passes import Pass, check_pass, groups_of, local, steps
from swopt.techniques import dataflow
from swopt.techniques.fusion import FusionKnobs

LONGEST = FusionKnobs().pieces
"""Most pieces between cut points that one pass takes, unless a plan chooses fewer."""

NEAR = 1.03
"""Estimates whose ratio is less say nothing of which is the less."""


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


def _walls(network: net.Network, fusion: FusionKnobs) -> list[int]:
    """Indices of operators before which a pass has to end."""
    if fusion.norms:
        return []
    operators = network.operators
    return [at for at in range(1, len(operators)) if isinstance(operators[at - 1], net.Norm)]


def alternatives(
    network: net.Network,
    placed: Table[str, Placed],
    config: CoreConfig,
    choices: Choices = MAPPER,
) -> list[Mapping]:
    """What `choose` takes, and what it would take of weights that DRAM held in more bits.

    The latter alone where it costs about as much: fewer bits then take no more cycles than more,
    although the cost is an estimate.

    Raises:
        LoweringError: As for `choose`.
    """
    chosen = [choose(network, placed, config, choices)]
    least = estimate(network, placed, config, chosen[0])
    for bits in _wider_packings(network, config):
        other = choose(_packed(network, bits), placed, config, choices)
        if other not in chosen and estimate(network, placed, config, other) < NEAR * least:
            chosen.append(other)
    return chosen


def _wider_packings(network: net.Network, config: CoreConfig) -> list[int]:
    """Bits in which DRAM could hold the weights of the fewest bits, and the memory holds them."""
    layers = [each for each in network.operators if isinstance(each, net.Linear)]
    forms = [form_of(layer, config) for layer in layers]
    fewest = min((form.packed_bits for form in forms), default=8)
    most = max((form.memory_bits for form in forms if form.packed_bits == fewest), default=8)
    return [bits for bits in (4, 8) if fewest < bits <= most]


def _packed(network: net.Network, bits: int) -> net.Network:
    """The same with weights of at least so many bits."""
    return replace(
        network,
        operators=tuple(
            replace(each, weight_bits=bits, groups=None)
            if isinstance(each, net.Linear) and each.weight_bits < bits
            else each
            for each in network.operators
        ),
    )


def estimate(
    network: net.Network, placed: Table[str, Placed], config: CoreConfig, mapping: Mapping
) -> float:
    """About how many cycles the passes take, by `costs`."""
    return sum(
        costs.of(network, taken, placed, config).cycles(config, taken.groups, taken.ways)
        for taken in mapping.passes
    )


def choose(
    network: net.Network,
    placed: Table[str, Placed],
    config: CoreConfig,
    choices: Choices = MAPPER,
) -> Mapping:
    """The passes of least cycles that fit the activation memory.

    Args:
        network: The model.
        placed: Layout and place of every tensor.
        config: The core.
        choices: What is not left to choose.

    Raises:
        LoweringError: None fits; the message says what the smallest takes.
    """
    search = _Search(network, placed, config, choices)
    cuts = search.cuts
    # best[i]: cycles of the passes from cut i on, and the first of them.
    best: list[tuple[float, Pass | None]] = [(float("inf"), None)] * (len(cuts) - 1)
    best.append((0.0, None))
    for at in reversed(range(len(cuts) - 1)):
        for end in search.candidates.ends(at):
            if best[end][0] == float("inf"):
                continue
            for taken, cycles in search.fitting(cuts[at], cuts[end]):
                total = cycles + best[end][0]
                if total < best[at][0]:
                    best[at] = (total, taken)
    if best[0][1] is None:
        raise LoweringError(search.refusal())
    passes, at = [], 0
    while at < len(cuts) - 1:
        chosen = best[at][1]
        assert chosen is not None
        passes.append(chosen)
        at = cuts.index(chosen.end)
    return Mapping(tuple(passes))


class Candidates:
    """Every pass that the operators and the plan's choices allow, and its words; of the core, only
    rows, columns, whether it is composable and whether it has grouped weights count."""

    def __init__(
        self,
        network: net.Network,
        placed: Table[str, Placed],
        config: CoreConfig,
        choices: Choices = MAPPER,
    ) -> None:
        self.network = network
        self.placed = placed
        self.config = config
        self.choices = choices
        self._walls = set(_walls(network, choices.fusion))
        self.cuts = [*sorted({*cut_points(network), *self._walls}), len(network.operators)]
        self.regions = _region_spans(network, placed)

    def ends(self, at: int) -> Iterator[int]:
        """Numbers of the cuts at which a pass from cut `at` on may end."""
        for end in range(at + 1, min(at + 1 + self.choices.fusion.pieces, len(self.cuts))):
            yield end
            if self.cuts[end] in self._walls:
                return

    def between(self, first: int, end: int) -> Iterator[tuple[Pass, int]]:
        """Passes over these operators, with the words that each takes at its height."""
        operators = self.network.operators[first:end]
        total = max(groups_of(operator, self.placed) for operator in operators)
        whole = Pass(first, end, total, choices=self.choices)
        beside = self._beside(whole)
        left = dataflow.apply(self.choices.dataflow, _sizes(total))
        allowed = [each for each in left if self._may(replace(whole, groups=each[0]))]
        if not allowed and not any(first < cut < end for cut in self.cuts):
            # One piece that cannot be cut into blocks is one block, whatever size was chosen.
            allowed = [(total, range(1, 2))]
        for groups, ways_left in allowed:
            taken = replace(whole, groups=groups)
            words = room(self.network, taken, self.placed, self.config).words
            for ways in ways_left:
                yield replace(taken, ways=ways), beside + ways * words

    def _may(self, taken: Pass) -> bool:
        """Whether the operators can go through a pass in blocks of that size."""
        try:
            check_pass(self.network, taken, self.placed)
        except LoweringError:
            return False
        return True

    def _beside(self, taken: Pass) -> int:
        """Words of the tensors that lie in the memory beside the blocks of a pass."""
        own = local(self.network, taken, self.placed)
        fused = {layer.y for step in steps(self.network, taken) for _, layer in step.linears}
        return sum(
            self.placed[region].layout.words
            for region, (first, last) in self.regions.items()
            if first < taken.end and last >= taken.first and region not in own.keys() | fused
        )


class _Search:
    """The passes between two cuts that fit, with their cycles."""

    def __init__(
        self,
        network: net.Network,
        placed: Table[str, Placed],
        config: CoreConfig,
        choices: Choices,
    ) -> None:
        self.candidates = Candidates(network, placed, config, choices)
        self.config = config
        self.cuts = self.candidates.cuts
        self.smallest: tuple[int, Pass] | None = None

    def fitting(self, first: int, end: int) -> Iterator[tuple[Pass, float]]:
        """Passes over these operators that fit, with their cycles."""
        cost = None
        for taken, words in self.candidates.between(first, end):
            if self.smallest is None or words < self.smallest[0] or self.smallest[1].first != first:
                self.smallest = (words, taken)
            if words > self.config.activation_words:
                continue
            if cost is None:
                candidates = self.candidates
                cost = costs.of(candidates.network, taken, candidates.placed, self.config)
            yield taken, cost.cycles(self.config, taken.groups, taken.ways)

    def refusal(self) -> str:
        assert self.smallest is not None
        words, taken = self.smallest
        chosen = self.candidates.choices != MAPPER
        more = ", or leave more of compression.fusion and compression.dataflow at their defaults"
        return (
            f"operators {taken.first} to {taken.end - 1} take {words} words of an activation "
            f"memory of {self.config.activation_words}, in blocks of {taken.groups} token groups; "
            f"use a larger activation memory{more if chosen else ''}"
        )


def _sizes(total: int) -> Sequence[int]:
    """Sizes of blocks worth trying: one for each number of blocks."""
    return sorted({-(-total // blocks) for blocks in range(1, total + 1)})


def _region_spans(network: net.Network, placed: Table[str, Placed]) -> dict[str, tuple[int, int]]:
    """The first and the last operator that touch each region."""
    spans: dict[str, tuple[int, int]] = {}
    for index, operator in enumerate(network.operators):
        for name in {*read_by(operator), operator.y} & placed.keys():
            region = placed[name].region
            first, _ = spans.get(region, (index, index))
            spans[region] = (first, index)
    return spans
