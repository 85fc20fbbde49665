"""About how many cycles a network takes on many cores at once, each with the passes best for it.

The formulas are those of `swopt.compiler.costs`, the candidates those of `swopt.compiler.mapping`;
here they are costed in numpy over designs. What a pass asks of the engines and how many words it
takes depend on rows, columns, the elements and the attention's blocks alone, so they are worked
out once for each of those (a shape); memories and the link then only weigh them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hwlib.config import CoreConfig
from swopt.compiler import costs, mapping
from swopt.compiler.costs import Cost
from swopt.compiler.host import Inputs
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import place
from swopt.compiler.network import Network
from swopt.compiler.passes import Pass

Cycles = NDArray[np.float64]


def block_cycles(
    network: Network,
    inputs: Inputs,
    configs: Sequence[CoreConfig],
    attention_blocks: Sequence[int] | None = None,
) -> Cycles:
    """Cycles of a network on each core, see `Analytic.cycles`."""
    return Analytic(network, inputs).cycles(configs, attention_blocks)


class Analytic:
    """The cost of one network on any core; what it works out for a shape it keeps.

    Args:
        network: The model.
        inputs: A question's tensors, of which only the numbers of tokens count.
    """

    def __init__(self, network: Network, inputs: Inputs) -> None:
        self.network = network
        self.inputs = inputs
        self._shapes: dict[_Shape, _Table | None] = {}

    def cycles(
        self, configs: Sequence[CoreConfig], attention_blocks: Sequence[int] | None = None
    ) -> Cycles:
        """Cycles on each core, float64 `[designs]`, infinite where no passes fit it.

        Args:
            configs: The cores.
            attention_blocks: For each, keys of a block of the online softmax; by default the
                network's. It is part of the numbers that the network computes.
        """
        blocks = attention_blocks or [self.network.attention_block] * len(configs)
        members: dict[_Shape, list[int]] = {}
        for index, (config, block) in enumerate(zip(configs, blocks, strict=True)):
            elements = (config.composable, config.mac_stages, config.grouped_weights)
            shape: _Shape = (config.rows, config.columns, elements, block)
            members.setdefault(shape, []).append(index)
        cycles = np.full(len(configs), np.inf)
        for shape, indices in members.items():
            mine = [configs[index] for index in indices]
            if shape not in self._shapes:
                self._shapes[shape] = self._table(mine[0], shape[-1])
            table = self._shapes[shape]
            if table is not None:
                cycles[indices] = table.cycles(mine)
        return cycles

    def mapping(self, config: CoreConfig, attention_block: int | None = None) -> mapping.Mapping:
        """The passes that the cycles are of.

        Raises:
            LoweringError: None fit, and the cycles are infinite; the message says why.
        """
        network = self._with(attention_block or self.network.attention_block)
        return mapping.choose(network, place(network, self.inputs, config.rows), config)

    def _with(self, attention_block: int) -> Network:
        return replace(self.network, attention_block=attention_block)

    def _table(self, config: CoreConfig, attention_block: int) -> "_Table | None":
        """Of a shape; None where the shape alone is refused."""
        network = self._with(attention_block)
        try:
            placed = place(network, self.inputs, config.rows)
            candidates = mapping.Candidates(network, placed, config)
            cuts, spans = candidates.cuts, []
            for at in range(len(cuts) - 1):
                for to in range(at + 1, min(at + 1 + mapping.LONGEST, len(cuts))):
                    found = list(candidates.between(cuts[at], cuts[to]))
                    if found:
                        cost = costs.of(network, found[0][0], placed, config)
                        spans.append(_Span.of(at, to, cost, found))
        except LoweringError:
            # Every operator is in some pass, so what no pass can hold no design can run.
            return None
        return _Table(len(cuts) - 1, tuple(spans))


_Shape = tuple[int, int, tuple[bool, int, bool], int]
"""Rows, columns, whether elements are composable, their stages, whether weights may stand in
groups, keys of an attention's block."""


@dataclass(frozen=True)
class _Span:
    """The passes from one cut to another.

    Attributes:
        at, to: The cuts.
        cost: Of each pass.
        groups, ways, words: int64 `[passes]`.
    """

    at: int
    to: int
    cost: Cost
    groups: NDArray[np.int64]
    ways: NDArray[np.int64]
    words: NDArray[np.int64]

    @classmethod
    def of(cls, at: int, to: int, cost: Cost, found: Sequence[tuple[Pass, int]]) -> "_Span":
        """Of passes with their words."""
        columns = np.array([(taken.groups, taken.ways, words) for taken, words in found]).T
        return cls(at, to, cost, *columns)

    def cycles(
        self,
        activation_words: NDArray[np.int64],
        weight_words: NDArray[np.int64],
        dma_bytes: NDArray[np.int64],
    ) -> Cycles:
        """The least of those that fit, `[designs]`; the arguments are columns `[designs, 1]`."""
        cycles = self.cost.cycles_of(dma_bytes, weight_words, self.groups, self.ways)
        least: Cycles = np.where(self.words <= activation_words, cycles, np.inf).min(axis=1)
        return least


@dataclass(frozen=True)
class _Table:
    """What the passes of a network ask of a shape.

    Attributes:
        pieces: Of the network, between its cuts.
        spans: By their first cuts.
    """

    pieces: int
    spans: tuple[_Span, ...]

    def cycles(self, configs: Sequence[CoreConfig]) -> Cycles:
        """On cores of this shape, `[designs]`: dynamic programming over the cuts, as `choose`."""
        activation_words = np.array([[config.activation_words] for config in configs])
        weight_words = np.array([[config.weight_words] for config in configs])
        dma_bytes = np.array([[config.dma_bytes] for config in configs])
        best = np.full((self.pieces + 1, len(configs)), np.inf)
        best[-1] = 0
        for span in reversed(self.spans):
            cycles = span.cycles(activation_words, weight_words, dma_bytes) + best[span.to]
            np.minimum(best[span.at], cycles, out=best[span.at])
        least: Cycles = best[0]
        return least
