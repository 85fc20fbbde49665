"""About how many cycles a pass takes, for the choice among passes and for many designs at once.

What is shown of it stands beside the RTL (`benchmarks/peers`).

A pass takes about as long as the busiest of array, vector engine and DMA link, more where another
is nearly as busy, and what nothing hides: the norms that its first products wait for and the last
softmax of an attention, of every block where none is under way beside it; and the weights of a
layer of whose tiles the weight memory holds one alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hwlib.config import CoreConfig
from swopt.compiler import network as net
from swopt.compiler.linear_program import form_of
from swopt.compiler.memory_map import Placed
from swopt.compiler.passes import Pass, Step, chunk_channels, groups_of, steps

ENTRY_BYTES = 8
"""Of a channel entry in DRAM."""

TILE_BUBBLE = 1
"""Cycles that a tile takes beside its words: the drain meets the fetch in a bank."""

LOAD_OVERHEAD = 2
"""Beats' worth of a load command."""

SHARPNESS = 6
"""Exponent of the norm that stands for the greatest of three engines' cycles."""

VECTOR_OVERHEAD = 18
"""Cycles of a vector command beside its words."""


Whole = TypeVar("Whole", int, NDArray[np.int64])
"""One value, or one a design and a size of blocks."""


@dataclass
class Cost:
    """What a pass asks of each engine, whatever the memories' sizes and the link's width.

    Attributes:
        groups: Token groups that go through it.
        array: Cycles of the array, for all groups.
        vector: Of the vector engine, for all groups.
        norm: Of the norms among them, for one group.
        tail: Of the last softmax and division of an attention.
        block_bytes: Over the DMA link, for one block.
        block_beats: Of the link, for one block, beside those of the bytes.
        once_bytes: Over the link, for all blocks.
        weight_words: Of all layers.
        layers: Words of a tile, and bytes over the link for one block, of each layer.
    """

    groups: int
    array: float = 0
    vector: float = 0
    norm: float = 0
    tail: float = 0
    block_bytes: float = 0
    block_beats: int = 0
    once_bytes: int = 0
    weight_words: int = 0
    layers: list[tuple[int, float]] = field(default_factory=list)

    def cycles(self, config: CoreConfig, groups: int, ways: int) -> float:
        """On a core, in blocks of so many groups, so many of them under way."""
        return float(self.cycles_of(config.dma_bytes, config.weight_words, groups, ways))

    def cycles_of(
        self, dma_bytes: Whole, weight_capacity: Whole, groups: Whole, ways: Whole
    ) -> "float | NDArray[np.float64]":
        """The same for arrays that broadcast.

        Args:
            dma_bytes: Of a beat.
            weight_capacity: Words of the weight memory.
            groups: Of a block.
            ways: Blocks under way.
        """
        blocks = -(-self.groups // groups)
        alone = ways == 1
        # Sums of a choice between two values, so that one formula serves a value and an array.
        loads = 1 + (blocks - 1) * (self.weight_words > weight_capacity)
        link = self.once_bytes / dma_bytes
        link = link + (self.block_bytes / dma_bytes + self.block_beats) * loads
        first = groups - (groups - self.groups) * (groups > self.groups)
        exposed = self.norm * (first + (self.groups - first) * alone)
        exposed = exposed + self.tail * (1 + (blocks - 1) * alone)
        for tile_words, layer_bytes in self.layers:
            exposed = exposed + (2 * tile_words > weight_capacity) * loads * layer_bytes / dma_bytes
        engines = float(self.array) ** SHARPNESS + float(self.vector) ** SHARPNESS
        busiest = (engines + link**SHARPNESS) ** (1 / SHARPNESS)
        cycles: float | NDArray[np.float64] = busiest + exposed
        return cycles


def of(network: net.Network, taken: Pass, placed: Mapping[str, Placed], config: CoreConfig) -> Cost:
    """The cost of a pass, for any size of its blocks.

    Of the core, rows, columns and whether it is composable count.
    """
    operators = network.operators[taken.first : taken.end]
    groups = max(groups_of(operator, placed) for operator in operators)
    cost = Cost(groups)
    for step in steps(network, taken):
        _step(cost, step, network, placed, config)
    return cost


def _step(
    cost: Cost, step: Step, network: net.Network, placed: Mapping[str, Placed], config: CoreConfig
) -> None:
    operator = step.operator
    groups = groups_of(operator, placed)
    for layer in [layer for _, layer in step.linears]:
        _linear(cost, layer, groups, config)
    match operator:
        case net.Linear():
            _linear(cost, operator, groups, config)
        case net.Norm():
            channels = len(operator.gamma)
            cycles = 2.5 * channels + 14 * config.rows + 20
            cost.norm += cycles
            cost.vector += groups * cycles
            cost.block_bytes += ENTRY_BYTES * channels
        case net.Attention():
            _attention(cost, operator, network, placed, config)
        case net.Input():
            words = placed[operator.y].layout.words
            cost.once_bytes += words * 2 * config.rows
        case net.Add():
            cost.vector += 3 * placed[operator.y].layout.words
        case net.Activate() | net.Gate() | net.Rotate():
            channels = placed[operator.y].layout.channels
            each = {net.Activate: 1.7, net.Gate: 2.5, net.Rotate: 8.25}[type(operator)]
            chunk = chunk_channels(step, config.columns) if step.linears else channels
            commands = -(-channels // chunk)
            cost.vector += groups * (each * channels + VECTOR_OVERHEAD * commands)
        case _:
            pass


def _linear(cost: Cost, layer: net.Linear, groups: int, config: CoreConfig) -> None:
    form = form_of(layer, config)
    outputs, columns = layer.weight.shape[0], config.columns
    tiles = -(-outputs // columns)
    words = form.depth * (2 if form.precision == "8x8" else 1)
    drained = {"residual": 3, "logits": 3}.get(layer.output, 1) * columns + 12
    if layer.output == "logits":
        groups, words = 1, 2 * words
    if layer.across and form.precision == "8x8":
        side = min(config.rows, columns)
        lanes = -(-outputs // config.rows) * (config.rows // side)
        cost.array += groups * lanes * max(words, side + 12 + config.rows)
        cost.block_bytes += outputs * layer.weight.shape[1]
    else:
        cost.array += groups * tiles * (max(words, drained) + TILE_BUBBLE)
        cost.weight_words += tiles * form.weight_depth
        word_bytes = 2 * columns * form.packed_bits / form.memory_bits
        layer_bytes = tiles * form.weight_depth * word_bytes
        cost.block_bytes += layer_bytes
        cost.layers.append((form.weight_depth, layer_bytes))
        cost.block_beats += tiles * LOAD_OVERHEAD
        if layer.across:
            cost.array += groups * tiles * (2 * columns + 12)
    cost.block_bytes += ENTRY_BYTES * outputs


def _attention(
    cost: Cost,
    operator: net.Attention,
    network: net.Network,
    placed: Mapping[str, Placed],
    config: CoreConfig,
) -> None:
    side = min(config.rows, config.columns)
    queries, keys = placed[operator.q].layout, operator.past + placed[operator.k].layout.tokens
    for group in range(queries.groups):
        reach = operator.past + (group + 1) * config.rows
        seen = min(keys, reach) if operator.causal else keys
        array = vector = softmax = 0.0
        for start in range(0, seen, network.attention_block):
            count = min(network.attention_block, seen - start)
            array += -(-count // side) * (max(operator.head_dim, side + 10) + TILE_BUBBLE)
            drained = (2 if start == 0 else 6) * side + 14
            array += -(-operator.head_dim // side) * (max(count, drained) + TILE_BUBBLE)
            softmax = 2.5 * count + 6 * config.rows + 20
            vector += softmax
        divide = 2.5 * operator.head_dim + 7 * config.rows + 17
        vector += divide
        cost.array += operator.heads * array
        cost.vector += operator.heads * vector
    cost.tail += softmax + divide
