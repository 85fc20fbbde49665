"""Lowers a whole model to the command program of one inference.

Tensors lie in the activation memory from their first to their last use; weights pass through the
halves of the weight memory by turns, and channel tables through theirs. Nothing is computed here:
the numbers are those of `hwlib.reference.core`.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hwlib import commands
from hwlib.commands import QUEUES, AnyCommand, check, queue_of
from hwlib.core_config import LANE_BYTES, CoreConfig
from swopt.compiler import network as net
from swopt.compiler.attention_program import lower_attention, lower_values
from swopt.compiler.emitter import Emitter, Tensor
from swopt.compiler.linear_program import Logits, lower_head, lower_linear
from swopt.compiler.lowering import LoweringError, check_sums
from swopt.compiler.memory_map import Layout, last_readers, place, written_by

if TYPE_CHECKING:
    from swopt.compiler.host import Inputs

Integers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Result:
    """Where one tensor lies in DRAM after the program.

    Attributes:
        name: Of the tensor.
        operator: Index of the operator that made it or added to it.
        dram_address: First byte.
        layout: Of its words.
    """

    name: str
    operator: int
    dram_address: int
    layout: Layout


@dataclass(frozen=True)
class Program:
    """One inference as commands.

    Attributes:
        commands: In the order in which they are sent.
        dram: The DRAM image before the program, uint8 `[bytes]`; results go into it.
        config: The core.
        logits: The results of the head, if the model has one.
        results: With `trace`, every tensor, after each operator that made it or added to it.
        activation_words: The most words of the activation memory that are in use at once.
    """

    commands: tuple[AnyCommand, ...]
    dram: npt.NDArray[np.uint8]
    config: CoreConfig
    logits: Logits | None
    results: tuple[Result, ...]
    activation_words: int


def lower(
    network: net.Network, inputs: "Inputs", config: CoreConfig, trace: bool = False
) -> Program:
    """The program of one question.

    Args:
        network: The model.
        inputs: The question's tensors.
        config: The core.
        trace: Store every tensor to DRAM, so that each can be looked at.

    Raises:
        LoweringError: The model does not fit the core; the message has law, value and remedy.
    """
    if config.exponential_entries != network.exponential_entries:
        raise LoweringError(
            f"the model's softmax uses a table of {network.exponential_entries} entries, the "
            f"core's has {config.exponential_entries}; they must be equal"
        )
    placed = place(network, inputs, config.rows)
    lowering = _Lowering(network, inputs, Emitter(config, placed))
    last = last_readers(network, placed)
    results = []
    for index, operator in enumerate(network.operators):
        try:
            lowering.operator(index, operator)
        except LoweringError:
            raise
        except ValueError as error:
            raise LoweringError(f"operator {index}, which makes {operator.y}: {error}") from None
        e = lowering.e
        name = written_by(operator)
        if trace and name in placed:
            tensor = e.tensor(name)
            at = e.store(tensor.address, tensor.layout.words)
            results.append(Result(name, index, at, tensor.layout))
        for region, reader in last.items():
            if reader == index:
                e.memory.free(region)
    sent = lowering.e.schedule.commands()
    _check(sent, config)
    return Program(
        commands=sent,
        dram=lowering.e.image(),
        config=config,
        logits=lowering.logits,
        results=tuple(results),
        activation_words=lowering.e.memory.most,
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
    return layout.unpack(_words(program, result.dram_address, layout.words, dram))


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


class _Lowering:
    """One operator after the other."""

    def __init__(self, network: net.Network, inputs: "Inputs", emitter: Emitter) -> None:
        self.network = network
        self.inputs = inputs
        self.e = emitter
        self.logits: Logits | None = None
        self.last_rotation = {
            _rotary_name(operator): index
            for index, operator in enumerate(network.operators)
            if isinstance(operator, net.Rotate)
        }

    def operator(self, index: int, operator: net.Operator) -> None:
        """Emits its commands."""
        match operator:
            case net.Input():
                self._input(operator)
            case net.Add():
                self._add(operator)
            case net.Concatenate() | net.Shuffle():
                pass  # a matter of addresses alone
            case net.Norm():
                self._norm(operator)
            case net.Linear():
                check_sums(operator.weight, operator.bias)
                self._linear(operator)
            case net.Activate():
                self._activate(operator)
            case net.Gate():
                self._gate(operator)
            case net.Rotate():
                self._rotate(operator)
                name = _rotary_name(operator)
                if self.last_rotation[name] == index:
                    self.e.memory.free(name)
            case net.Attention():
                for name in (operator.q, operator.k):
                    self._take(name, "int8")
                self._take(operator.v, "values")
                lower_attention(self.e, operator, self.network.attention_block)

    def _take(self, name: str, kind: str) -> Tensor:
        """A tensor that has to be of a kind.

        Raises:
            LoweringError: It is not.
        """
        tensor = self.e.tensor(name)
        if tensor.layout.kind != kind:
            raise LoweringError(f"{name} must lie as {kind} here, not as {tensor.layout.kind}")
        return tensor

    def _input(self, operator: net.Input) -> None:
        y = self.e.make(operator.y)
        brought = self.inputs.of(operator.source)
        if brought.ndim != 2 or brought.shape[1] != operator.channels or not len(brought):
            raise LoweringError(
                f"the input {operator.source} must be [tokens, {operator.channels}] with a token, "
                f"not {list(brought.shape)}"
            )
        if brought.dtype != np.int16:
            raise LoweringError(f"the input {operator.source} must be int16, not {brought.dtype}")
        self.e.load_words(y.address, y.layout.pack(brought))

    def _add(self, operator: net.Add) -> None:
        a, b = (self._take(name, "int16") for name in (operator.a, operator.b))
        if (a.layout.tokens, a.layout.channels) != (b.layout.tokens, b.layout.channels):
            raise LoweringError(f"{operator.a} and {operator.b} must have one shape to be added")
        y = self.e.make(operator.y)
        for group in range(y.layout.groups):
            self.e.emit(
                commands.Add(
                    source=a.group(group),
                    second=b.group(group),
                    out=y.group(group),
                    count=y.layout.group_words,
                )
            )

    def _norm(self, operator: net.Norm) -> None:
        x, y = self._take(operator.x, "int16"), self.e.make(operator.y)
        channel = self.e.entries("vector_channels", operator.beta, operator.gamma, operator.shift)
        for group in range(x.layout.groups):
            self.e.emit(
                commands.Norm(
                    source=x.group(group),
                    out=y.group(group),
                    count=x.layout.channels,
                    channel=channel,
                    multiplier=operator.multiplier,
                    shift=operator.mean_shift,
                    epsilon=operator.epsilon,
                    base=operator.base,
                    centred=operator.centred,
                    zero_point=operator.zero,
                )
            )

    def _activate(self, operator: net.Activate) -> None:
        x, y = self._take(operator.x, "int16"), self.e.make(operator.y)
        for group in range(x.layout.groups):
            self.e.emit(
                commands.Activate(
                    source=x.group(group),
                    out=y.group(group),
                    count=x.layout.channels,
                    function=operator.function,
                    multiplier=operator.scale.multiplier,
                    shift=operator.scale.shift,
                    zero_point=operator.scale.zero,
                )
            )

    def _gate(self, operator: net.Gate) -> None:
        x, up = (self._take(name, "int16") for name in (operator.x, operator.up))
        y = self.e.make(operator.y)
        for group in range(x.layout.groups):
            self.e.emit(
                commands.Gate(
                    source=x.group(group),
                    second=up.group(group),
                    out=y.group(group),
                    count=x.layout.channels,
                    gate_shift=operator.gate_shift,
                    multiplier=operator.scale.multiplier,
                    shift=operator.scale.shift,
                    zero_point=operator.scale.zero,
                )
            )

    def _rotate(self, operator: net.Rotate) -> None:
        x = self._take(operator.x, "int16")
        table = self._rotary_table(operator, x.layout)
        y = self.e.make(operator.y)
        for group in range(x.layout.groups):
            for head in range(operator.heads):
                self.e.emit(
                    commands.Rotate(
                        source=x.group(group) + head * operator.head_dim,
                        table=table.group(group),
                        out=y.group(group) + head * operator.head_dim // 2,
                        count=operator.head_dim // 2,
                        multiplier=operator.scale.multiplier,
                        shift=operator.scale.shift,
                    )
                )

    def _rotary_table(self, operator: net.Rotate, x: Layout) -> Tensor:
        """Cosines and sines by turns, kept from the first rotation that uses them to the last."""
        name, tokens = _rotary_name(operator), x.tokens
        if len(operator.cosine) < tokens:
            raise LoweringError(
                f"{operator.x} has {tokens} tokens, but only {len(operator.cosine)} positions have "
                "a rotation"
            )
        layout = Layout("int16", tokens, operator.head_dim, self.e.config.rows)
        if name not in self.e.memory:
            at = self.e.memory.allocate(name, layout.words)
            pairs = np.stack([operator.cosine[:tokens], operator.sine[:tokens]], axis=2)
            self.e.load_words(at, layout.pack(pairs.reshape(tokens, operator.head_dim)))
        return Tensor(layout, self.e.memory.address(name))

    def _linear(self, operator: net.Linear) -> None:
        channels = self._take(operator.x, "int8").layout.channels
        if operator.weight.shape[1] != channels:
            raise LoweringError(
                f"{operator.name} takes {operator.weight.shape[1]} channels, but {operator.x} has "
                f"{channels}"
            )
        if operator.across:
            lower_values(self.e, operator)
        elif operator.output == "logits":
            self.logits = lower_head(self.e, operator)
        else:
            lower_linear(self.e, operator)


def _rotary_name(operator: net.Rotate) -> str:
    """One name for equal tables."""
    table = np.stack([operator.cosine, operator.sine])
    return f"rotary table {hashlib.sha256(table.tobytes()).hexdigest()} of {table.shape}"
