"""About how many cycles a pass takes, for the choice among passes and for many designs at once.

What is shown of it stands beside the RTL (`benchmarks/peers`).

Commands take what they take alone (`hwlib.cycles`). A pass whose blocks are at different steps
takes about as long as the busiest of array, vector engine, DMA link and of the threads that its
blocks take turns in, more where another is nearly as busy. Blocks that begin together are at the
same step: then the steps follow each other, each as long as the busiest is with it alone. What
blocks do lies between the two, and the mean is taken. Weights of a layer of whose tiles the weight
memory holds one alone are waited for beside all that.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hwlib import commands
from hwlib.commands import Matmul, MatmulOutput, ScaleBy, Vector
from hwlib.config import LANE_BYTES, CoreConfig
from hwlib.cycles import CoreLatencies, drain_cycles, operand_cycles, vector_cycles
from swopt.compiler import network as net
from swopt.compiler import vector_program
from swopt.compiler.linear_program import form_of, is_exchanged
from swopt.compiler.memory_map import Placed
from swopt.compiler.passes import Pass, Step, chunk_channels, groups_of, is_streamed, steps

ENTRY_BYTES = 8
"""Of a channel entry in DRAM."""

TILE_BUBBLE = 1
"""Cycles that a tile takes beside its words: the drain meets the fetch in a bank."""

LOAD_OVERHEAD = 2
"""Beats' worth of a load command."""

SHARPNESS = 6
"""Exponent of the norm that stands for the greatest of some cycles."""


Whole = TypeVar("Whole", int, NDArray[np.int64])
"""One value, or one a design and a size of blocks."""

Cycles = float | NDArray[np.floating[Any]]
"""The same of cycles."""


@dataclass(frozen=True)
class Phase:
    """What a step of a pass asks of the engines, for all groups.

    Attributes:
        array, vector: Cycles of each.
        thread: Cycles where one thread is alone: of both, unless they work beside each other.
        begun: Cycles beside `thread` for each block: one engine's, before the other can begin.
    """

    array: float = 0
    vector: float = 0
    thread: float = 0
    begun: float = 0


@dataclass
class Cost:
    """What a pass asks of each engine, whatever the memories' sizes and the link's width.

    Attributes:
        groups: Token groups that go through it.
        phases: Its steps.
        exchanged: Of each layer whose weights go through the activation memory: pieces, cycles of
            the array for one of them and one group, and bytes of one.
        block_bytes: Over the DMA link, for one block, once where they all stay.
        block_beats: Of the link, for one block, beside those of the bytes.
        once_bytes: Over the link, for all blocks.
        weight_words: Of all layers.
        layers: Words of a tile, and bytes over the link for one block, of each layer.
        turned: Of each layer that one group of activations after the other meets whole, once a
            group where its weights do not stay: words of a tile and of all, bytes over the link and
            its beats beside those.
    """

    groups: int
    phases: list[Phase] = field(default_factory=list)
    exchanged: list[tuple[int, int, int]] = field(default_factory=list)
    block_bytes: float = 0
    block_beats: int = 0
    once_bytes: int = 0
    weight_words: int = 0
    layers: list[tuple[int, float]] = field(default_factory=list)
    turned: list[tuple[int, int, float, int]] = field(default_factory=list)

    def cycles(self, config: CoreConfig, groups: int, ways: int) -> float:
        """On a core, in blocks of so many groups, so many of them under way."""
        return float(self.cycles_of(config.dma_bytes, config.weight_words, groups, ways))

    def cycles_of(
        self, dma_bytes: Whole, weight_capacity: Whole, groups: Whole, ways: Whole
    ) -> Cycles:
        """The same for arrays that broadcast.

        Args:
            dma_bytes: Of a beat.
            weight_capacity: Words of the weight memory.
            groups: Of a block.
            ways: Blocks under way.
        """
        blocks = -(-self.groups // groups)
        last = self.groups - (blocks - 1) * groups
        # Sums of a choice between two values, so that one formula serves a value and an array.
        loads = 1 + (blocks - 1) * (self.weight_words > weight_capacity)
        link: Cycles = self.once_bytes / dma_bytes
        link = link + (self.block_bytes / dma_bytes + self.block_beats) * loads
        waited: Cycles = 0.0
        for tile_words, words, layer_bytes, beats in self.turned:
            times = loads + (self.groups - loads) * (words > weight_capacity)
            link = link + (layer_bytes / dma_bytes + beats) * times
            waited = waited + (2 * tile_words > weight_capacity) * times * layer_bytes / dma_bytes
        for tile_words, layer_bytes in self.layers:
            waited = waited + (2 * tile_words > weight_capacity) * loads * layer_bytes / dma_bytes
        exchanged: Cycles = 0.0
        for pieces, cycles, size in self.exchanged:
            transfer = size / dma_bytes + LOAD_OVERHEAD
            link = link + pieces * blocks * transfer
            full, rest = _greater(groups * cycles, transfer), _greater(last * cycles, transfer)
            exchanged = exchanged + pieces * (full * (blocks - 1) + rest)
        # The first thread has the most groups: a block in each turn.
        turns = -(-blocks // ways)
        share = (turns * groups - ((blocks - 1) % ways == 0) * (groups - last)) / self.groups
        array, vector = exchanged, 0.0
        thread, together = exchanged * share, exchanged
        for phase in self.phases:
            alone = (phase.thread + phase.begun * blocks) * share
            array, vector, thread = array + phase.array, vector + phase.vector, thread + alone
            together = together + _greater(max(phase.array, phase.vector), alone)
        apart = _greatest(array, vector, link, thread)
        return (apart + _greatest(together, link)) / 2 + waited


def _greater(a: Cycles | NDArray[np.int64], b: Cycles) -> Cycles:
    greater: Cycles = np.maximum(a, b)
    return greater


def _greatest(*cycles: Cycles) -> Cycles:
    """About the greatest, and more where another is nearly as great."""
    total: Cycles = 0.0
    for each in cycles:
        total = total + each**SHARPNESS
    return total ** (1 / SHARPNESS)


def of(network: net.Network, taken: Pass, placed: Mapping[str, Placed], config: CoreConfig) -> Cost:
    """The cost of a pass, for any size of its blocks.

    Of the core, rows, columns, whether it is composable and its latencies count.
    """
    operators = network.operators[taken.first : taken.end]
    counting = _Counting(Cost(max(groups_of(each, placed) for each in operators)), placed, config)
    for step in steps(network, taken):
        counting.step(step, network.attention_block)
    return counting.cost


class _Counting:
    """Adds steps to the cost of a pass.

    Args:
        cost: What is added to.
        placed: Layout and place of every tensor.
        config: The core.
    """

    def __init__(self, cost: Cost, placed: Mapping[str, Placed], config: CoreConfig) -> None:
        self.cost = cost
        self.placed = placed
        self.config = config
        self.side = min(config.rows, config.columns)
        self.latencies = CoreLatencies.shipped(config)

    def step(self, step: Step, attention_block: int) -> None:
        """Adds one step."""
        operator = step.operator
        groups = groups_of(operator, self.placed)
        if step.linears:
            array = groups * sum(self._linear(layer, step) for _, layer in step.linears)
            vector, chunks = self._vector(step)
            vector *= groups
            # Chunk by chunk: one of them is in the array while another is in the vector engine.
            overlapped = max(array, vector) + min(array, vector) / chunks
            one = step.choices.dataflow.chunk_buffers == 1
            thread = array + vector if one else overlapped
            self.cost.phases.append(Phase(array, vector, thread))
            return
        match operator:
            case net.Input():
                words = self.placed[operator.y].layout.words
                self.cost.once_bytes += words * LANE_BYTES * self.config.rows
            case net.Linear():
                times = 1 if operator.output == "logits" else groups
                array = times * self._linear(operator, step)
                vector = groups * self._addition(operator) if step.adds_apart else 0
                self.cost.phases.append(Phase(array, vector, array + vector))
            case net.Attention():
                self._attention(operator, attention_block, step.choices.fusion.attention)
            case net.Concatenate() | net.Shuffle():
                pass
            case _:
                if isinstance(operator, net.Norm):
                    self.cost.block_bytes += ENTRY_BYTES * len(operator.gamma)
                vector = groups * self._vector(step)[0]
                self.cost.phases.append(Phase(0, vector, vector))

    def _vector(self, step: Step) -> tuple[int, int]:
        """Cycles of the vector engine for a group, and how many commands or chunks they are."""
        operator = step.operator
        made: Iterator[Vector]
        channels = self.placed[operator.y].layout.channels
        chunk = chunk_channels(step, self.config.columns) if step.linears else channels
        match operator:
            case net.Norm():
                made = iter([vector_program.norm_command(operator, 0, 0, 0)])
            case net.Rotate():
                made = vector_program.rotate_commands(operator, 0, 0, 0, operator.heads)
            case net.Add():
                words = self.placed[operator.y].layout.group_words
                made = iter([commands.Add(source=0, second=0, out=0, count=words)])
            case net.Activate() | net.Gate():
                made = (
                    vector_program.pointwise_command(operator, [0], 0, min(chunk, channels - start))
                    for start in range(0, channels, chunk)
                )
        return sum(self._alone(command) for command in made), -(-channels // chunk)

    def _alone(self, command: Vector) -> int:
        """Until the next may be taken."""
        return vector_cycles(command, self.config, self.latencies) + 1

    def _addition(self, layer: net.Linear) -> int:
        """Cycles of the vector engine for a group of a result that is added apart."""
        add = commands.Add(source=0, second=0, out=0, count=layer.weight.shape[0])
        return self._alone(add)

    def _linear(self, layer: net.Linear, step: Step) -> int:
        """Cycles of the array for a group; the other costs are added."""
        cost, config = self.cost, self.config
        form = form_of(layer, config)
        outputs, columns = layer.weight.shape[0], config.columns
        cost.block_bytes += ENTRY_BYTES * outputs
        pieces, turns = -(-outputs // config.rows), config.rows // self.side
        if is_exchanged(layer, form):
            tile = self._among_activations(form.depth, self.side, "int8", "lane", apart=1)
            size = form.depth * LANE_BYTES * config.rows
            cost.exchanged.append((pieces, turns * tile, size))
            return 0
        tiles = -(-outputs // columns)
        word_bytes = LANE_BYTES * columns * form.packed_bits / form.memory_bits
        layer_bytes = tiles * form.loaded_words * word_bytes
        if step.choices.dataflow.stationary == "activations" and is_streamed(layer):
            words, beats = tiles * form.weight_depth, tiles * LOAD_OVERHEAD
            cost.turned.append((form.weight_depth, words, layer_bytes, beats))
        else:
            cost.block_bytes += layer_bytes
            cost.block_beats += tiles * LOAD_OVERHEAD
            cost.layers.append((form.weight_depth, layer_bytes))
        cost.weight_words += tiles * form.weight_depth
        outputs_of: dict[str, tuple[MatmulOutput, ...]] = {"logits": ("int32", "argmax")}
        if step.adds_apart:
            outputs_of["residual"] = ("int16",)
        array = 0
        for output in outputs_of.get(layer.output, (layer.output,)):
            array += tiles * self._tile(
                Matmul(
                    activation_address=0,
                    weight_address=0,
                    depth=form.depth,
                    precision=form.precision,
                    columns=min(columns, outputs),
                    output=output,
                    out=0,
                )
            )
        if layer.across:
            tile = self._among_activations(config.rows // 2, self.side, "int8", "uniform")
            array += pieces * turns * tile
        return array

    def _attention(self, operator: net.Attention, block: int, together: bool) -> None:
        rows, width = self.config.rows, operator.head_dim
        queries, past = self.placed[operator.q].layout, operator.past
        keys = past + self.placed[operator.k].layout.tokens
        array = vector = works = 0
        for group in range(queries.groups):
            seen = min(keys, past + (group + 1) * rows) if operator.causal else keys
            for start in range(0, seen, block):
                count, first = min(block, seen - start), start == 0
                scores = self._among_activations(width // 2, self.side, "int16", "uniform")
                array += -(-count // self.side) * scores
                columns = min(width, self.side)
                weighed = self._among_activations(
                    (count + 1) // 2, columns, "accumulate", first=first
                )
                array += -(-width // self.side) * weighed
                softmax = commands.Softmax(source=0, out=0, state=0, count=count, first=first)
                vector += self._alone(softmax)
                works += 1
            scale = operator.scale
            vector += self._alone(
                commands.Divide(
                    source=0,
                    state=0,
                    out=0,
                    count=width,
                    multiplier=scale.multiplier,
                    shift=scale.shift,
                    out_bits=operator.bits,
                )
            )
        array, vector = operator.heads * array, operator.heads * vector
        if not together:
            self.cost.phases.append(Phase(array, vector, array + vector))
            return
        begun = (array + vector) / (operator.heads * works)
        self.cost.phases.append(Phase(array, vector, max(array, vector), begun))

    def _among_activations(
        self,
        depth: int,
        columns: int,
        output: MatmulOutput,
        scale_by: ScaleBy = "column",
        *,
        first: bool = False,
        apart: int = 0,
    ) -> int:
        """Cycles of a tile both of whose operands lie in the activation memory.

        They come out of one bank, or lie one or more banks `apart`.
        """
        return self._tile(
            Matmul(
                activation_address=0,
                weight_source="activations",
                weight_address=apart,
                depth=depth,
                columns=columns,
                scale_by=scale_by,
                output=output,
                out=0,
                first=first,
            )
        )

    def _tile(self, command: Matmul) -> int:
        """From its first operands to the next tile's."""
        operands = operand_cycles(command, self.config, self.latencies)
        return max(operands, drain_cycles(command, self.config, self.latencies)) + TILE_BUBBLE
