"""Lowers a whole model to the command program of one inference.

The network goes pass after pass through the core (`swopt.compiler.passes`); tensors that passes
share lie in the activation memory from their first to their last use. Nothing is computed here: the
numbers are those of `hwlib.reference.core`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from hwlib.assembler import check
from hwlib.commands import QUEUES, AnyCommand, queue_of
from hwlib.config import LANE_BYTES, CoreConfig
from hwlib.timeline import timeline
from swopt.compiler import kv_cache
from swopt.compiler import network as net
from swopt.compiler.choices import MAPPER, Choices
from swopt.compiler.dram import DramImage
from swopt.compiler.emitter import Emitter
from swopt.compiler.kv_cache import KeyValueCache, Piece
from swopt.compiler.linear_program import Logits
from swopt.compiler.lowering import LoweringError
from swopt.compiler.mapping import Mapping, alternatives
from swopt.compiler.memory_map import Layout, Placed, last_readers, place
from swopt.compiler.pass_program import PassProgram, Trace
from swopt.compiler.passes import check_pass, local
from swopt.compiler.schedule import DRAM

if TYPE_CHECKING:
    from swopt.compiler.host import Inputs

Integers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Result:
    """Where one tensor lies in DRAM after the program.

    Attributes:
        name: Of the tensor.
        operator: Index of the operator that made it or added to it.
        layout: Of its words.
        pieces: Where they are.
    """

    name: str
    operator: int
    layout: Layout
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Brought:
    """Where the host puts one input into DRAM.

    Attributes:
        name: Of the tensor.
        source: What it is (`network.Input.source`).
        layout: Of its words, a token group after the other.
        dram_addresses: First byte of each token group.
    """

    name: str
    source: Literal["patches", "positions", "words"]
    layout: Layout
    dram_addresses: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """One inference as commands.

    Attributes:
        commands: In the order in which they are sent.
        operators: Index of the operator that each command is for; a load of what was kept of keys
            and values is for their attention.
        inputs: Where the question's tensors lie.
        dram: The DRAM image before the program, uint8 `[bytes]`; results go into it.
        config: The core.
        mapping: The passes.
        logits: The results of the head, if the model has one.
        results: With `trace`, every tensor, after each operator that made it or added to it.
        activation_words: The most words of the activation memory that are in use at once.
    """

    commands: tuple[AnyCommand, ...]
    operators: tuple[int, ...]
    inputs: tuple[Brought, ...]
    dram: npt.NDArray[np.uint8]
    config: CoreConfig
    mapping: Mapping
    logits: Logits | None
    results: tuple[Result, ...]
    activation_words: int


def lower(
    network: net.Network,
    inputs: "Inputs",
    config: CoreConfig,
    mapping: Mapping | None = None,
    *,
    choices: Choices = MAPPER,
    trace: bool = False,
    dram: DramImage | None = None,
    kept: KeyValueCache | None = None,
) -> Program:
    """The program of one question.

    Args:
        network: The model.
        inputs: The question's tensors.
        config: The core.
        mapping: The passes; by default the best of those that `mapping.alternatives` takes.
        choices: Which operators run as one, and what the mapper is held to. The passes of a mapping
            that is given have their own.
        trace: Store every tensor to DRAM, so that each can be looked at.
        dram: The image that the program's constants and results are added to; by default its own.
        kept: Where keys and values are kept for programs to come; by default they are not.

    Raises:
        LoweringError: The model does not fit the core; the message has law, value and remedy.
    """
    if config.exponential_entries != network.exponential_entries:
        raise LoweringError(
            f"the model's softmax uses a table of {network.exponential_entries} entries, the "
            f"core's has {config.exponential_entries}; they must be equal"
        )
    placed = place(network, inputs, config.rows)
    if kept is None and kv_cache.has_prefix(network):
        dram = dram or DramImage(config.dma_bytes)
        kept = kv_cache.reserve(network, placed, config, _longest(network, placed), dram)
    if mapping is None:
        mapping, *others = alternatives(network, placed, config, choices)
        # A program that continues others cannot be tried without what they kept.
        if others and kept is None:
            programs = [lower(network, inputs, config, each) for each in (mapping, *others)]
            fastest = min(programs, key=_cycles)
            if not trace and dram is None:
                return fastest
            mapping = fastest.mapping
    e = Emitter(config, dram or DramImage(config.dma_bytes))
    traced = Trace() if trace else None
    brought = _bring(network, inputs, placed, e)
    addresses = {each.name: each.dram_addresses for each in brought}
    logits = _logits(network, placed, e)
    program = PassProgram(e, network, placed, addresses, logits, traced, kept)
    last = last_readers(network, placed)
    for number, taken in enumerate(mapping.passes):
        check_pass(network, taken, placed)
        own = local(network, taken, placed)
        for operator in network.operators[taken.first : taken.end]:
            if operator.y in placed and operator.y not in own:
                region = placed[operator.y].region
                if region not in e.memory and not program.fuses(taken, operator.y):
                    e.memory.keep(region, placed[region].layout.words, last[region])
                    program.load_past(operator.y)
        program.emit(taken, f"pass {number} and its blocks")
        for region, reader in last.items():
            if taken.first <= reader < taken.end and region in e.memory:
                e.memory.free(region)
    sent = e.schedule.commands()
    _check(sent, config)
    return Program(
        commands=sent,
        operators=e.operators(),
        inputs=brought,
        dram=e.dram.bytes(),
        config=config,
        mapping=mapping,
        logits=logits,
        results=_results(traced, placed),
        activation_words=e.memory.most,
    )


def _longest(network: net.Network, placed: dict[str, Placed]) -> int:
    """Tokens of the longest keys, the past among them."""
    attentions = [op for op in network.operators if isinstance(op, net.Attention)]
    return max(op.past + placed[op.k].layout.tokens for op in attentions)


def _cycles(program: Program) -> int:
    """Predicted cycles; of equal ones `min` takes the first."""
    return timeline(program.commands, program.config, DRAM).total_cycles


def with_inputs(program: Program, inputs: "Inputs") -> npt.NDArray[np.uint8]:
    """The DRAM image before the same program for another question of the same lengths.

    Raises:
        LoweringError: A tensor has another shape or type than the program's.
    """
    dram = program.dram.copy()
    for brought in program.inputs:
        groups = _packed(inputs.of(brought.source), brought.source, brought.layout)
        for address, content in zip(brought.dram_addresses, groups, strict=True):
            dram[address : address + len(content)] = np.frombuffer(content, np.uint8)
    return dram


def _bring(
    network: net.Network, inputs: "Inputs", placed: dict[str, Placed], e: Emitter
) -> tuple[Brought, ...]:
    """Puts the inputs into DRAM."""
    brought = []
    for operator in network.operators:
        if isinstance(operator, net.Input):
            tensor = inputs.of(operator.source)
            tokens = placed[operator.y].layout.tokens
            layout = Layout("int16", tokens, operator.channels, e.config.rows)
            groups = _packed(tensor, operator.source, layout)
            addresses = tuple(e.dram.put(group) for group in groups)
            brought.append(Brought(operator.y, operator.source, layout, addresses))
    return tuple(brought)


def _packed(tensor: Integers, source: str, layout: Layout) -> list[bytes]:
    """The bytes of each token group of one input.

    Raises:
        LoweringError: It has another shape or type than its layout.
    """
    if tensor.shape != (layout.tokens, layout.channels) or not len(tensor):
        raise LoweringError(
            f"the input {source} must be [{layout.tokens}, {layout.channels}] with a token, not "
            f"{list(tensor.shape)}"
        )
    if tensor.dtype != np.int16:
        raise LoweringError(f"the input {source} must be int16, not {tensor.dtype}")
    groups = layout.pack(tensor).reshape(layout.groups, -1)
    return [group.astype("<i2").tobytes() for group in groups]


def _logits(network: net.Network, placed: dict[str, Placed], e: Emitter) -> Logits | None:
    """Room in DRAM for what the head gives."""
    for operator in network.operators:
        if isinstance(operator, net.Linear) and operator.output == "logits":
            channels, word_bytes = operator.weight.shape[0], e.word_bytes
            return Logits(
                operator.y,
                e.dram.reserve(2 * channels * word_bytes),
                e.dram.reserve(word_bytes),
                channels,
                (placed[operator.x].layout.tokens - 1) % e.config.rows,
            )
    return None


def _results(traced: Trace | None, placed: dict[str, Placed]) -> tuple[Result, ...]:
    """The stored tensors in the order of their operators."""
    pieces = {} if traced is None else traced.pieces
    return tuple(
        Result(name, index, placed[name].layout, tuple(pieces[index, name]))
        for index, name in sorted(pieces)
    )


def unpack(program: Program, dram: npt.NDArray[np.uint8]) -> dict[str, Integers]:
    """Tensors `[tokens, channels]` out of the DRAM image after the program.

    Returns:
        The logits (int32 `[1, channels]`); with `trace` also every tensor (int8 or int16), a
        stream as its last addition left it.
    """
    tensors = {result.name: unpack_result(program, result, dram) for result in program.results}
    if program.logits is not None:
        logits = program.logits
        words = _words(program, logits.dram_address, 2 * logits.channels, dram)
        lane = np.ascontiguousarray(words[:, logits.lane])
        tensors[logits.name] = lane.view("<i4")[None]
    return tensors


def unpack_result(program: Program, result: Result, dram: npt.NDArray[np.uint8]) -> Integers:
    """One tensor `[tokens, channels]` as it was after one operator."""
    layout = result.layout
    words = np.zeros((layout.words, layout.rows), np.int16)
    for piece in result.pieces:
        stored = _words(program, piece.dram_address, piece.words, dram)
        words[piece.word : piece.word + piece.words] = stored
    return layout.unpack(words)


def token(program: Program, dram: npt.NDArray[np.uint8]) -> int:
    """Index of the greatest logit, the lowest of equals, as the core found it.

    Raises:
        ValueError: The program has no head.
    """
    if program.logits is None:
        raise ValueError("the program has no logits, so it has no token")
    word = _words(program, program.logits.token_address, 1, dram)
    return int(word.view(np.uint16)[0, program.logits.lane])


def _words(
    program: Program, address: int, count: int, dram: npt.NDArray[np.uint8]
) -> npt.NDArray[np.int16]:
    """Words of the activation memory out of DRAM, `[count, rows]`."""
    size = count * LANE_BYTES * program.config.rows
    words: npt.NDArray[np.int16] = dram[address : address + size].view("<i2")
    return words.reshape(count, program.config.rows)


def _check(sent: tuple[AnyCommand, ...], config: CoreConfig) -> None:
    issued = dict.fromkeys(QUEUES, 0)
    for index, command in enumerate(sent):
        try:
            check(index, command, issued, config)
        except ValueError as error:
            raise LoweringError(str(error)) from None
        issued[queue_of(command)] += 1
