"""Greedy generation on the core: a program for the prompt, and one for each token after it.

The host looks up the embedding of the token that a program found and asks for the next program; the
DRAM goes from one to the other with the keys and values in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hwlib.config import CoreConfig
from swopt.compiler import kv_cache
from swopt.compiler import network as net
from swopt.compiler.choices import MAPPER, Choices
from swopt.compiler.dram import Bytes, DramImage
from swopt.compiler.host import Inputs
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import place
from swopt.compiler.network import Int16s
from swopt.compiler.program import Program, lower


@dataclass
class Generation:
    """One answer under way.

    Args:
        network: The model, with a causal decoder.
        config: The core.
        inputs: The question's tensors.
        tokens: Most tokens that question and answer have together, image tokens included and
            those that the network keeps in front of every text not.
        choices: Which operators run as one, and what the mapper is held to.

    Raises:
        LoweringError: The model does not fit the core.
    """

    network: net.Network
    config: CoreConfig
    inputs: Inputs
    tokens: int
    choices: Choices = MAPPER

    def __post_init__(self) -> None:
        self._image = DramImage(self.config.dma_bytes)
        placed = place(self.network, self.inputs, self.config.rows)
        _check(self.network, placed[_stream(self.network)].layout.tokens, self.tokens)
        self._prefix = max(
            (op.past for op in self.network.operators if isinstance(op, net.Attention)), default=0
        )
        self._cache = kv_cache.reserve(
            self.network, placed, self.config, self._prefix + self.tokens, self._image
        )
        self._length = placed[_stream(self.network)].layout.tokens
        self._images = self._length - len(self.inputs.words)
        self._kept_bytes = len(self._image.bytes())

    def prompt(self, *, trace: bool = False) -> Program:
        """The program that reads the question and finds the first token."""
        return self._lowered(self.network, self.inputs, trace)

    def step(self, words: Int16s, before: Bytes, *, trace: bool = False) -> Program:
        """The program that reads the tokens so far and finds the next one.

        Args:
            words: Embeddings of all words so far, those of the question among them.
            before: The DRAM as the program before this one left it.
            trace: Store every tensor of the last token group.

        Raises:
            LoweringError: There are more tokens than room was made for, no words, or `before` is
                no DRAM of a program of this answer.
        """
        if not len(words):
            raise LoweringError("a step needs the words so far, and there are none")
        length = self._images + len(words)
        if length > (room := self._cache.tokens - self._prefix):
            raise LoweringError(f"{length} tokens are more than the {room} that room was made for")
        if len(before) < self._kept_bytes:
            raise LoweringError(
                f"a DRAM of {len(before)} bytes cannot hold the {self._kept_bytes} of keys and "
                "values; bring the whole DRAM that the program before this one left"
            )
        first = (length - 1) // self.config.rows * self.config.rows
        tokens = Inputs(words=words[first - self._images :])
        program = self._lowered(continuation(self.network, first), tokens, trace)
        return replace(program, dram=self._image.bytes(before))

    def _lowered(self, network: net.Network, inputs: Inputs, trace: bool) -> Program:
        return lower(
            network,
            inputs,
            self.config,
            choices=self.choices,
            trace=trace,
            dram=self._image,
            kept=self._cache,
        )


def _check(network: net.Network, question: int, tokens: int) -> None:
    """Holds a network, and the room that is asked for, to what generation needs.

    Raises:
        LoweringError: They are not enough, or more than the model has positions for.
    """
    attentions = [op for op in network.operators if isinstance(op, net.Attention)]
    if not any(op.causal for op in attentions):
        raise LoweringError("generation needs a causal attention, and the network has none")
    if tokens < question:
        raise LoweringError(
            f"room for {tokens} tokens is too little for a question of {question}; ask for more"
        )
    positions = [len(op.cosine) for op in network.operators if isinstance(op, net.Rotate)]
    if positions and tokens > min(positions):
        raise LoweringError(
            f"{tokens} tokens are more than the {min(positions)} positions that the model has"
        )


def continuation(network: net.Network, first: int) -> net.Network:
    """The decoder alone, for tokens from `first` on, which are words.

    Args:
        network: The whole model.
        first: Tokens before them, in whole token groups.
    """
    stream = _stream(network)
    start = next(i for i, operator in enumerate(network.operators) if operator.y == stream)
    words = next(
        op for op in network.operators if isinstance(op, net.Input) and op.source == "words"
    )
    operators: Sequence[net.Operator] = [
        net.Input(stream, "words", words.channels),
        *(_continued(operator, first) for operator in network.operators[start + 1 :]),
    ]
    return replace(network, operators=tuple(operators))


def _continued(operator: net.Operator, first: int) -> net.Operator:
    match operator:
        case net.Rotate():
            return replace(operator, cosine=operator.cosine[first:], sine=operator.sine[first:])
        case net.Attention():
            return replace(operator, past=operator.past + first, kept=None)
        case _:
            return operator


def _stream(network: net.Network) -> str:
    """The decoder's stream: where image tokens and words are joined, or the words alone."""
    for operator in network.operators:
        if isinstance(operator, net.Concatenate):
            return operator.y
    return next(
        op.y for op in network.operators if isinstance(op, net.Input) and op.source == "words"
    )
