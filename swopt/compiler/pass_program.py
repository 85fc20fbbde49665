"""One pass as commands: room for its tensors, and its blocks in threads that take turns."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from hwlib.commands import Span
from hwlib.config import CoreConfig
from hwlib.reference.tables import PROBABILITY_MAX
from swopt.compiler import attention_program, linear_program, values_program, vector_program
from swopt.compiler import network as net
from swopt.compiler.emitter import Atom, Emitter
from swopt.compiler.kv_cache import KeyValueCache, Piece
from swopt.compiler.linear_program import Logits
from swopt.compiler.lowering import LoweringError, check_range, check_sums, slack_of
from swopt.compiler.memory_map import Layout, Placed, Tensor
from swopt.compiler.network import read_by
from swopt.compiler.passes import Pass, Step, groups_of, is_streamed, local, steps
from swopt.compiler.site import Site


@dataclass
class Trace:
    """What a traced program stores: the pieces of each tensor, by operator and name."""

    pieces: dict[tuple[int, str], list[Piece]] = field(default_factory=dict)


@dataclass(frozen=True)
class Room:
    """Words of the activation memory that each block of a pass under way has for itself.

    Attributes:
        words: All of them.
        tensors: First word of each tensor, counted from the first.
        scratch: First word of what each step has beside its tensors.
    """

    words: int
    tensors: Mapping[str, int]
    scratch: tuple[int, ...]


def room(
    network: net.Network, taken: Pass, placed: Mapping[str, Placed], config: CoreConfig
) -> Room:
    """Plans a block's words: what is not needed at the same step may lie in the same words."""
    pass_steps = steps(network, taken)
    own = local(network, taken, placed)
    layouts = {name: placed[name].layout for name in own}
    touched: dict[str, list[int]] = {}
    for at, step in enumerate(pass_steps):
        names = {*read_by(step.operator), step.operator.y}
        names.update(layer.x for _, layer in step.linears)
        if isinstance(step.operator, net.Rotate):
            name = rotary_name(step.operator)
            layouts[name] = table_layout(step.operator, placed, config)
            names.add(name)
        for name in names & layouts.keys():
            touched.setdefault(name, []).append(at)
    spans = {name: (min(at), max(at)) for name, at in touched.items()}
    sizes = {
        name: min(taken.groups, layouts[name].groups) * layouts[name].group_words for name in spans
    }
    # Those that live longest first, so that what comes and goes fills the rest.
    order = sorted(spans, key=lambda name: (spans[name][0] - spans[name][1], name))
    taken_spans: list[tuple[int, int, int, int]] = []  # first step, last step, word, words
    tensors = {name: _fit(taken_spans, spans[name], sizes[name]) for name in order}
    scratch = tuple(
        _fit(taken_spans, (at, at), _scratch_words(step, taken, network, placed, config))
        for at, step in enumerate(pass_steps)
    )
    return Room(max((at + size for _, _, at, size in taken_spans), default=0), tensors, scratch)


def _fit(taken: list[tuple[int, int, int, int]], span: tuple[int, int], words: int) -> int:
    """The first words that are free from step to step; they are taken then."""
    meanwhile = sorted(
        (at, size) for first, last, at, size in taken if first <= span[1] and span[0] <= last
    )
    place = 0
    for at, size in meanwhile:
        if place + words <= at:
            break
        place = max(place, at + size)
    taken.append((*span, place, words))
    return place


def _scratch_words(
    step: Step,
    taken: Pass,
    network: net.Network,
    placed: Mapping[str, Placed],
    config: CoreConfig,
) -> int:
    operator = step.operator
    if step.linears:
        groups = min(taken.groups, groups_of(operator, placed))
        return linear_program.fused_words(step, config.columns, groups)
    match operator:
        case net.Attention():
            keys = operator.past + placed[operator.k].layout.tokens
            block = network.attention_block
            if step.choices.fusion.attention:
                return attention_program.attention_words(operator, keys, block, config)
            groups = min(taken.groups, groups_of(operator, placed))
            return attention_program.apart_words(operator, keys, block, groups)
        case net.Linear() if step.adds_apart:
            groups = min(taken.groups, groups_of(operator, placed))
            return linear_program.added_words(operator, groups)
        case net.Linear() if operator.across:
            groups = min(taken.groups, groups_of(operator, placed))
            return values_program.values_words(operator, groups, config)
        case net.Linear() if operator.output == "logits":
            return linear_program.head_words(config.columns)
        case _:
            return 0


def rotary_name(operator: net.Rotate) -> str:
    """One name for equal tables."""
    table = np.stack([operator.cosine, operator.sine])
    return f"rotary table {hashlib.sha256(table.tobytes()).hexdigest()} of {table.shape}"


def table_layout(operator: net.Rotate, placed: Mapping[str, Placed], config: CoreConfig) -> Layout:
    """Layout of cosines and sines by turns.

    Raises:
        LoweringError: There are more tokens than positions.
    """
    tokens = placed[operator.y].layout.tokens
    if len(operator.cosine) < tokens:
        raise LoweringError(
            f"{operator.x} has {tokens} tokens, but only {len(operator.cosine)} positions have "
            "a rotation"
        )
    return Layout("int16", tokens, operator.head_dim, config.rows)


class PassProgram:
    """Emits one pass.

    Args:
        e: Takes the commands; tensors of other passes are in its memory.
        network: The model.
        placed: Layout and place of every tensor.
        inputs: DRAM address of each token group of each input, by the input's name.
        logits: Where the head's results go.
        trace: Takes note of what is stored, if everything is to be.
        kept: Where keys and values are kept for programs to come, if they are.
    """

    def __init__(
        self,
        e: Emitter,
        network: net.Network,
        placed: Mapping[str, Placed],
        inputs: Mapping[str, Sequence[int]],
        logits: Logits | None,
        trace: Trace | None,
        kept: KeyValueCache | None,
    ) -> None:
        self.e = e
        self.network = network
        self.placed = placed
        self.inputs = inputs
        self.logits = logits
        self.trace = trace
        self.kept = kept

    def load_past(self, name: str) -> None:
        """Loads what was kept of keys or values before the tokens of this program."""
        layout = self.placed[name].layout
        if not layout.past:
            return
        if self.kept is None:
            raise LoweringError(f"{name} continues {layout.past} tokens, but none were kept")
        self.e.operator = next(
            index
            for index, operator in enumerate(self.network.operators)
            if isinstance(operator, net.Attention) and name in (operator.k, operator.v)
        )
        first = self.e.memory.address(self.placed[name].region) + self.placed[name].offset
        for piece in self.kept.pieces(name, layout, range(-layout.past_groups, 0)):
            self.e.load_words(first + piece.word, piece.words, piece.dram_address)

    def emit(self, taken: Pass, name: str) -> None:
        """Emits the commands of a pass; its blocks' words are taken meanwhile under `name`.

        Raises:
            LoweringError: The pass does not fit the core.
        """
        for operator in self.network.operators[taken.first : taken.end]:
            if isinstance(operator, net.Linear):
                _check_layer(operator, self.placed, self.network, self.e.config)
            if isinstance(operator, net.Attention):
                _check_attention(operator, self.placed, self.network, self.e.config)
        self.steps = steps(self.network, taken)
        self.own = local(self.network, taken, self.placed)
        self.room = room(self.network, taken, self.placed, self.e.config)
        total = max(
            groups_of(operator, self.placed)
            for operator in self.network.operators[taken.first : taken.end]
        )
        blocks = [
            range(first, min(first + taken.groups, total))
            for first in range(0, total, taken.groups)
        ]
        ways = min(taken.ways, len(blocks))
        starts = self._take(name, ways) if self.room.words else [0] * ways
        self.e.run([self._thread(blocks[way::ways], start) for way, start in enumerate(starts)])
        if self.room.words:
            self.e.memory.free(name)

    def _take(self, name: str, ways: int) -> list[int]:
        """The first word of each block under way, those first that may be written first.

        The pass before may still be at work on some of them.
        """
        size, memory = self.room.words, self.e.memory

        def begin(start: int) -> int:
            return self.e.schedule.begin("load", [], [("activations", start, size)])

        first = {top: memory.find(name, ways * size, top=top) for top in (True, False)}
        starts = {
            top: sorted(range(at, at + ways * size, size), key=begin) for top, at in first.items()
        }
        top = min(starts, key=lambda end: [begin(start) for start in starts[end]])
        memory.allocate(name, ways * size, top=top)
        return starts[top]

    def fuses(self, taken: Pass, name: str) -> bool:
        """Whether a tensor goes through a step of a pass chunk by chunk and never exists whole."""
        fused = (layer.y for step in steps(self.network, taken) for _, layer in step.linears)
        return name in fused

    def _thread(self, blocks: list[range], start: int) -> Iterator[Atom]:
        for groups in blocks:
            tables: set[str] = set()
            for at, step in enumerate(self.steps):
                site = self._site(step, groups, start, self.room.scratch[at])
                try:
                    for atom in self._step(step, site, tables):
                        own = atom.operator is None
                        yield replace(atom, operator=step.index) if own else atom
                except LoweringError:
                    raise
                except ValueError as error:
                    raise LoweringError(
                        f"operator {step.index}, which makes {step.operator.y}: {error}"
                    ) from None

    def _step(self, step: Step, site: Site, tables: set[str]) -> Iterator[Atom]:
        """The atoms of one step, and those that store what it has made."""
        yield from self._atoms(step, site, tables)
        yield from self._traced(step, site)
        yield from self._kept(step, site)

    def _site(self, step: Step, groups: range, start: int, scratch: int) -> Site:
        """A step's place; of operators on fewer tokens a block has the groups that there are."""
        own = groups_of(step.operator, self.placed)
        mine = range(groups.start, min(groups.stop, own))
        tensors = {}
        names = {*read_by(step.operator), step.operator.y}
        names.update(layer.x for _, layer in step.linears)
        for name in names & self.placed.keys():
            place = self.placed[name]
            if name in self.room.tensors:
                at = start + self.room.tensors[name]
                tensors[name] = Tensor(place.layout, at, groups.start)
            elif place.region in self.e.memory:
                at = self.e.memory.address(place.region) + place.offset
                tensors[name] = Tensor(place.layout, at, -place.layout.past_groups)
        if isinstance(step.operator, net.Rotate):
            name = rotary_name(step.operator)
            layout = table_layout(step.operator, self.placed, self.e.config)
            tensors[name] = Tensor(layout, start + self.room.tensors[name], groups.start)
        makers = {layer.y: index for index, layer in step.linears}

        def spill(name: str, word: int, address: int, words: int) -> None:
            if self.trace is not None:
                self._store(makers[name], name, word, address, words)

        return Site(self.e, mine, tensors, start + scratch, spill)

    def _atoms(self, step: Step, site: Site, tables: set[str]) -> Iterator[Atom]:
        """The atoms of one step; `tables` are the rotary tables that the block has loaded."""
        operator, table = step.operator, None
        if isinstance(operator, net.Rotate):
            name = rotary_name(operator)
            table = site.tensors[name]
            if name not in tables:
                tables.add(name)
                yield from vector_program.load_table(site, operator, table)
        for part in _turns(step, site):
            yield from self._commands(step, part, table)

    def _commands(self, step: Step, site: Site, table: Tensor | None) -> Iterator[Atom]:
        """The atoms of one step, once its tables are there."""
        operator = step.operator
        if step.linears:
            yield from linear_program.fused(site, step, table)
            return
        match operator:
            case net.Input():
                yield from vector_program.load_input(site, operator, self.inputs[operator.y])
            case net.Add():
                yield from vector_program.add(site, operator)
            case net.Concatenate() | net.Shuffle():
                pass  # a matter of addresses alone
            case net.Norm():
                yield from vector_program.norm(site, operator)
            case net.Activate() | net.Gate():
                yield from vector_program.pointwise(site, operator)
            case net.Rotate():
                assert table is not None
                yield from vector_program.rotate(site, operator, table)
            case net.Attention():
                block, together = self.network.attention_block, step.choices.fusion.attention
                attention = attention_program.attention if together else attention_program.apart
                yield from attention(site, operator, block)
            case net.Linear() if operator.across:
                yield from values_program.values(site, operator)
            case net.Linear() if operator.output == "logits":
                assert self.logits is not None
                yield from linear_program.head(site, operator, self.logits)
            case net.Linear() if step.adds_apart:
                yield from linear_program.added(site, operator)
            case net.Linear():
                yield from linear_program.linear(site, operator)

    def _kept(self, step: Step, site: Site) -> Iterator[Atom]:
        """Stores the block's keys or values for programs to come."""
        name = step.operator.y
        if self.kept is None or name not in self.kept.addresses:
            return
        tensor = site.tensors[name]
        for piece in self.kept.pieces(name, tensor.layout, site.groups):
            address = tensor.address + piece.word
            emit = partial(self.e.store_words, address, piece.words, piece.dram_address)
            yield Atom("store", [("activations", address, piece.words)], [], emit)

    def _traced(self, step: Step, site: Site) -> Iterator[Atom]:
        """Stores what a step has made of its tensor."""
        name = step.operator.y
        if self.trace is None or name not in self.placed:
            return
        tensor = site.tensors[name]
        for word, address, words in _pieces(tensor, site.groups):

            def emit(word: int = word, address: int = address, words: int = words) -> None:
                self._store(step.index, name, word, address, words)

            read: list[Span] = [("activations", address, words)]
            yield Atom("store", read, [], emit)

    def _store(self, index: int, name: str, word: int, address: int, words: int) -> None:
        assert self.trace is not None
        piece = Piece(word, words, self.e.dram.reserve(words * self.e.word_bytes))
        self.e.store_words(address, words, piece.dram_address)
        self.trace.pieces.setdefault((index, name), []).append(piece)


def _turns(step: Step, site: Site) -> list[Site]:
    """The block as a whole, or group by group where a group of activations stays for all tiles.

    Each group then has the words beside the tensors to itself, in its turn.
    """
    layers: list[net.Operator] = [layer for _, layer in step.linears]
    layers = layers or [step.operator]
    if step.choices.dataflow.stationary == "weights" or not all(map(is_streamed, layers)):
        return [site]
    return [replace(site, groups=range(group, group + 1)) for group in site.groups]


def _check_attention(
    operator: net.Attention, placed: Mapping[str, Placed], network: net.Network, config: CoreConfig
) -> None:
    """Interval analysis: any int8 queries and keys, any probabilities and int8 values.

    Raises:
        LoweringError: Sums could wrap.
    """
    scores, bits = operator.head_dim << 14, config.accumulator_bits
    slack = slack_of(network.built)
    keys = min(network.attention_block, operator.past + placed[operator.k].layout.tokens)
    weighted = keys * PROBABILITY_MAX
    try:
        remedy = "use wider accumulators"
        off = slack * operator.head_dim
        check_range(-scores + (operator.head_dim << 7) - off, scores + off, bits, remedy)
        remedy = f"use an attention block under {keys} keys or wider accumulators"
        off = slack * keys
        check_range(-128 * weighted - off, 127 * weighted + off, bits, remedy)
    except LoweringError as error:
        raise LoweringError(f"{operator.y}: {error}") from None


def _check_layer(
    layer: net.Linear, placed: Mapping[str, Placed], network: net.Network, config: CoreConfig
) -> None:
    """Interval analysis, and the shape of the weights.

    Raises:
        LoweringError: Sums could wrap, or the layer takes another number of channels.
    """
    try:
        slack = slack_of(network.built)
        bits = layer.activation_bits, config.accumulator_bits
        check_sums(layer.weight, layer.bias, *bits, slack)
    except LoweringError as error:
        raise LoweringError(f"{layer.name}: {error}") from None
    channels = placed[layer.x].layout.channels
    if layer.weight.shape[1] != channels:
        raise LoweringError(
            f"{layer.name} takes {layer.weight.shape[1]} channels, but {layer.x} has {channels}"
        )


def _pieces(tensor: Tensor, groups: range) -> Iterator[tuple[int, int, int]]:
    """Word in the tensor, address and words of each piece of some token groups."""
    start = tensor.address - tensor.layout.group(tensor.first)
    for word, words in tensor.layout.pieces(groups):
        yield word, start + word, words
