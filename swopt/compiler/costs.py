"""About how many cycles a pass takes, for the choice among passes; no figure shown comes from here.

A pass takes about as long as the busiest of array, vector engine and DMA link, more where another
is nearly as busy, and what nothing hides: the norms that its first products wait for and the last
softmax of an attention, of every block where none is under way beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hwlib.core_config import CoreConfig
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


@dataclass
class Cost:
    """Cycles of a pass, engine by engine.

    Attributes:
        groups: Token groups that go through it.
        array: Of the array, for all groups.
        vector: Of the vector engine, for all groups.
        norm: Of the norms among them, for one group.
        tail: Of the last softmax and division of an attention.
        link: Of the DMA link, for one block.
        once: Of the DMA link, for all blocks.
        weight_words: Of all layers.
        weight_capacity: Of the weight memory.
    """

    groups: int
    array: float = 0
    vector: float = 0
    norm: float = 0
    tail: float = 0
    link: float = 0
    once: float = 0
    weight_words: int = 0
    weight_capacity: int = 0

    def cycles(self, groups: int, ways: int) -> float:
        """In blocks of so many groups, so many of them under way."""
        blocks = -(-self.groups // groups)
        resident = self.weight_words <= self.weight_capacity
        link = self.once + self.link * (1 if resident else blocks)
        exposed = self.norm * min(groups, self.groups) + self.tail
        if ways == 1:
            exposed = self.norm * self.groups + self.tail * blocks
        engines = (self.array, self.vector, link)
        return float(sum(cycles**SHARPNESS for cycles in engines) ** (1 / SHARPNESS) + exposed)


def of(network: net.Network, taken: Pass, placed: Mapping[str, Placed], config: CoreConfig) -> Cost:
    """The cost of a pass, for any size of its blocks."""
    operators = network.operators[taken.first : taken.end]
    groups = max(groups_of(operator, placed) for operator in operators)
    cost = Cost(groups, weight_capacity=config.weight_words)
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
            cost.link += ENTRY_BYTES * channels / config.dma_bytes
        case net.Attention():
            _attention(cost, operator, network, placed, config)
        case net.Input():
            words = placed[operator.y].layout.words
            cost.once += words * 2 * config.rows / config.dma_bytes
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
        cost.link += outputs * layer.weight.shape[1] / config.dma_bytes
    else:
        cost.array += groups * tiles * (max(words, drained) + TILE_BUBBLE)
        cost.weight_words += tiles * form.weight_depth
        packed = tiles * form.weight_depth * 2 * columns * form.packed_bits / form.memory_bits
        cost.link += packed / config.dma_bytes + tiles * LOAD_OVERHEAD
        if layer.across:
            cost.array += groups * tiles * (2 * columns + 12)
    cost.link += ENTRY_BYTES * outputs / config.dma_bytes


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
