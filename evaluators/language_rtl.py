"""Blocks of a language model on the RTL: every tensor held to the integer model, power measured.

A block runs alone, on the stream that the blocks before it leave of a real text: a piece of the
prompt, and then one token after it, with the keys and values that the piece left in DRAM. The last
norm and the head run on the last token group. Programs are those whose cycles `language_cost`
predicts, at the same places in memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.language_cost import Phase
from evaluators.language_energy import OnRtl, PartOnRtl
from evaluators.language_parts import (
    HEAD,
    behind_blocks,
    block,
    blocks_of,
    kinds_of,
    mean_weight_bits,
    with_words,
)
from evaluators.latency import Bytes, Engine, NotBitExact, Rtl, hold_answer, hold_to_model
from evaluators.traffic import traffic
from hwlib.cycles import CoreLatencies
from hwlib.timeline import timeline
from swopt.compiler import twin
from swopt.compiler.choices import MAPPER, Choices
from swopt.compiler.generation import Generation
from swopt.compiler.host import Inputs
from swopt.compiler.network import Int16s, Network
from swopt.compiler.program import Program, lower, unpack

Tensors = Mapping[str, NDArray[Any]]

MOST_TOKENS = 64
"""Most tokens of a prompt's piece that are run, a core of more rows excepted."""

HEAD_WORDS = 4096
"""Words of the vocabulary that the head is run for: its power is that of any others."""


@dataclass(frozen=True)
class LanguageRtl:
    """A model on a core whose netlist is run.

    Attributes:
        network: As `evaluators.language_cost.fitting` gives it for the core.
        rtl: The netlist with its meter.
        latencies: Of the core's units.
        choices: Which operators run as one, and what the mapper is held to.
    """

    network: Network
    rtl: Rtl
    latencies: CoreLatencies
    choices: Choices = MAPPER

    def measure(self, words: Int16s, piece: int) -> OnRtl:
        """The kinds of blocks with the fewest and the most bits, and the head.

        Args:
            words: Embeddings of a text, as for `block`.
            piece: Tokens that go through the core at once; at most `MOST_TOKENS` are run.

        Raises:
            NotBitExact: A value differs from the integer model's.
            swopt.compiler.lowering.LoweringError: A block does not fit the core.
        """
        kinds = kinds_of(self.network)
        by_bits = sorted(kinds, key=lambda kind: mean_weight_bits(kind.network))
        piece = min(piece, max(MOST_TOKENS, self.rtl.config.rows))
        parts: list[PartOnRtl] = []
        for name in dict.fromkeys((by_bits[0].name, by_bits[-1].name)):
            parts += self.block(name, words[: piece + 1], piece)
        parts.append(self.head(words[:piece], HEAD_WORDS))
        return OnRtl(parts=tuple(parts), kinds=len(kinds))

    def block(self, name: str, words: Int16s, piece: int) -> tuple[PartOnRtl, PartOnRtl]:
        """A block on the first piece of a text, and on the token after it.

        Args:
            name: Of the block, such as `decoder.7`.
            words: Embeddings of the text, int16 `[tokens, channels]`: one more than `piece` at
                least.
            piece: Tokens that go through the core at once, whole token groups.

        Raises:
            NotBitExact: A value differs from the integer model's.
            ValueError: There is no such block, or the text is too short.
            swopt.compiler.lowering.LoweringError: The block does not fit the core.
        """
        rows = self.rtl.config.rows
        if len(words) <= piece or piece % rows:
            raise ValueError(
                f"a text of {len(words)} tokens is not longer than a piece of {piece}, or that is "
                f"no whole number of groups of {rows}"
            )
        part = block(self.network, name)
        stream = self._stream(name, words[: piece + 1])
        prompt = Inputs(words=stream[:piece])
        generation = Generation(part, self.rtl.config, prompt, piece + rows, self.choices)
        compared = sum(hold_to_model(part, prompt, generation.prompt(trace=True), self.rtl))
        first, after = self._run(name, "prompt", part, generation.prompt(), compared)
        traced = generation.step(stream, after, trace=True)
        expected = twin.tensors(part, Inputs(words=stream))
        compared = _hold_last(expected, traced, self.rtl, len(stream))
        second, _ = self._run(name, "step", part, generation.step(stream, after), compared)
        return first, second

    def head(self, words: Int16s, count: int) -> PartOnRtl:
        """The last norm and the head, on the last token group of a text.

        Args:
            words: Embeddings of the text, as for `block`.
            count: Words of the vocabulary that the head is run for, the first ones.

        Raises:
            NotBitExact: The token or a logit differs.
        """
        part = with_words(behind_blocks(self.network), count)
        group = Inputs(words=self._stream("", words)[-self.rtl.config.rows :])
        program = lower(part, group, self.rtl.config, choices=self.choices)
        expected = twin.tensors(part, group)
        compared = expected[part.logits or ""][-1:].size
        ran, after = self._run(HEAD, "step", part, program, compared)
        hold_answer(expected, program, after)
        return ran

    def _stream(self, name: str, words: Int16s) -> Int16s:
        """What comes into a block, or behind the last one; int16 `[tokens, channels]`."""
        stream = words
        for each in blocks_of(self.network):
            if each == name:
                break
            part = block(self.network, each)
            left = twin.results(part, Inputs(words=stream))[-1]
            stream = np.asarray(left, np.int16)
        return stream

    def _run(
        self, name: str, phase: Phase, part: Network, program: Program, compared: int
    ) -> tuple[PartOnRtl, Bytes]:
        """What a program does, and the DRAM after it."""
        rtl = self.rtl
        line = timeline(program.commands, rtl.config, rtl.dram, self.latencies)
        ran = rtl.run(program, line.total_cycles)
        assert ran.power is not None
        done = PartOnRtl(
            part=name,
            phase=phase,
            weight_bits=mean_weight_bits(part),
            cycles=ran.cycles,
            predicted_cycles=line.total_cycles,
            compared_values=compared,
            power=ran.power,
            traffic=traffic(program.commands, rtl.config),
        )
        return done, ran.dram


def _hold_last(expected: Tensors, traced: Program, engine: Engine, length: int) -> int:
    """Compares what a step stored with the last tokens of the whole text's tensors.

    Returns:
        How many values were compared.

    Raises:
        NotBitExact: One differs.
    """
    compared = 0
    for name, found in unpack(traced, engine.run(traced).dram).items():
        wanted = expected[name][length - len(found) : length]
        if not np.array_equal(found, wanted):
            raise NotBitExact(f"tensor {name} of a step is not the integer model's")
        compared += found.size
    return compared
