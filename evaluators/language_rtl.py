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

from evaluators.energy import Energy, measured_energy, modelled_energy
from evaluators.language_cost import behind_blocks, block, blocks_of
from evaluators.latency import Engine, NotBitExact, Rtl, hold_answer, hold_to_model
from evaluators.target import Target
from evaluators.traffic import traffic
from hwlib.cycles import CoreLatencies
from hwlib.frozen import Frozen
from hwlib.timeline import timeline
from swopt.compiler import twin
from swopt.compiler.generation import Generation
from swopt.compiler.host import Inputs
from swopt.compiler.network import Int16s, Network
from swopt.compiler.program import Program, lower, unpack

Tensors = Mapping[str, NDArray[Any]]


class OnRtl(Frozen):
    """What a program did on the RTL, and what was expected of it."""

    what: str
    """The part of the model, and its tokens."""

    cycles: int
    """On the RTL."""

    predicted_cycles: int
    """As `hwlib.timeline` has them."""

    compared_values: int
    """Values of tensors that were compared with the integer model, all equal."""

    energy: Energy
    """Measured on the gates as they switched; SRAM and DRAM by accesses."""

    modelled: Energy
    """As `language_cost` models it."""


@dataclass(frozen=True)
class LanguageRtl:
    """A model on a core whose netlist is run.

    Attributes:
        network: As `evaluators.language_cost.fitting` gives it for the core.
        rtl: The netlist with its meter.
        latencies: Of the core's units.
        target: Gives the DRAM.
        cell_leakage_w: Leakage of the core's cells, for what is modelled.
    """

    network: Network
    rtl: Rtl
    latencies: CoreLatencies
    target: Target
    cell_leakage_w: float

    def block(self, name: str, words: Int16s, piece: int) -> tuple[OnRtl, OnRtl]:
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
        generation = Generation(part, self.rtl.config, prompt, piece + rows)
        compared = sum(hold_to_model(part, prompt, generation.prompt(trace=True), self.rtl))
        first, after = self._run(f"{name}, {piece} tokens", generation.prompt(), compared)
        traced = generation.step(stream, after, trace=True)
        expected = twin.tensors(part, Inputs(words=stream))
        compared = _hold_last(expected, traced, self.rtl, len(stream))
        second, _ = self._run(
            f"{name}, a token after {piece}", generation.step(stream, after), compared
        )
        return first, second

    def head(self, words: Int16s) -> OnRtl:
        """The last norm and the head, on the last token group of a text.

        Args:
            words: Embeddings of the text, as for `block`.

        Raises:
            NotBitExact: The token or a logit differs.
        """
        part = behind_blocks(self.network)
        group = Inputs(words=self._stream("", words)[-self.rtl.config.rows :])
        program = lower(part, group, self.rtl.config)
        done, after = self._run("norm and head, a token", program, 0)
        expected = twin.tensors(part, group)
        hold_answer(expected, program, after)
        return done.model_copy(update={"compared_values": expected[part.logits or ""][-1:].size})

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

    def _run(self, what: str, program: Program, compared: int) -> tuple[OnRtl, NDArray[np.uint8]]:
        config, meter = self.rtl.config, self.rtl.meter
        assert meter is not None
        predicted = timeline(program.commands, config, self.rtl.dram, self.latencies).total_cycles
        ran, moved = self.rtl.run(program, predicted), traffic(program.commands, config)
        assert ran.power is not None
        dram_s = moved.dram_bytes / self.target.dram_figures.bytes_per_s
        latency_s = max(ran.cycles / meter.clock_hz, dram_s)
        done = OnRtl(
            what=what,
            cycles=ran.cycles,
            predicted_cycles=predicted,
            compared_values=compared,
            energy=measured_energy(
                ran.power, ran.cycles, meter.clock_hz, latency_s, moved.dram_bytes, self.target
            ),
            modelled=modelled_energy(moved, config, self.target, latency_s, self.cell_leakage_w),
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
