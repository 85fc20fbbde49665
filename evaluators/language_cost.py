"""What a language model costs on a core: a prompt of 256 tokens, and 64 tokens found one by one.

Programs are those that the compiler writes, and their cycles those that `hwlib.timeline` predicts,
which docs/accelerator-measured.md holds to the RTL. One block's program is written for every kind
of block (its shapes and bits) and counted as often as there are such blocks; the last norm and the
head are a program of their own. So blocks do not overlap, and each loads its stream anew.

The prompt goes through in pieces of as many tokens as fit the core's activation memory, the keys
and values of those before it kept in DRAM. A step of generation is costed as a whole token group,
which its last one is. What a program takes grows with the tokens before it by so much a token
(tests/evaluators/test_language_cost.py holds it to that): programs are written for every
`STRIDE` tokens, and those between lie on a straight line. Energy is modelled here
(`evaluators.energy`): it has neither clock nor the registers between operators.
`evaluators.language_rtl` measures it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from evaluators.energy import Energy, modelled_energy
from evaluators.language_parts import HEAD, Kind, behind_blocks, form_of, kinds_of, mean_weight_bits
from evaluators.latency import dram_of
from evaluators.target import Target
from evaluators.traffic import Traffic, traffic
from hwlib.commands import CHANNEL_BYTES
from hwlib.config import CoreConfig
from hwlib.cycles import CoreLatencies
from hwlib.frozen import Frozen
from hwlib.timeline import timeline
from swopt.compiler import kv_cache
from swopt.compiler import network as net
from swopt.compiler.choices import MAPPER, Choices
from swopt.compiler.dram import DramImage
from swopt.compiler.generation import continuation
from swopt.compiler.head_groups import split_heads
from swopt.compiler.host import Inputs, embedding_bytes
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import place
from swopt.compiler.network import Network
from swopt.compiler.prefix import length_of
from swopt.compiler.program import lower
from swopt.techniques.quantization import EmbeddingBits

PROMPT_TOKENS = 256
"""Of the prompt that is costed."""

GENERATED_TOKENS = 64
"""That follow it."""

CHUNKS = (256, 128, 64, 32, 16, 8, 4)
"""Tokens of the prompt that may go through the core at once, the most first."""


STRIDE = 64
"""Tokens from one length that programs are written for to the next."""


class ModelBytes(Frozen):
    """Memory that a model takes, in DRAM."""

    weights: int
    """Of the linear layers, packed to 2, 4 or 8 bits, the head among them."""

    embeddings: int
    """Of the look-up of words, with their scales where they are kept in fewer than 16 bits."""

    scales: int
    """Biases and requantizers of all outputs, and constants of norms: 8 bytes each."""

    rotary: int
    """Cosines and sines of the positions that are costed."""

    kv_cache: int
    """Keys and values of prompt and answer, and those in front of every text, int8."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.model_dump().values())


class ProgramCost(Frozen):
    """What one program takes, or some together."""

    cycles: int
    """Predicted ones."""

    traffic: Traffic
    """What it moves and computes."""

    commands: int = 0
    """Of the programs that were written for it."""


Remember = Callable[[dict[str, str], Callable[[], ProgramCost]], ProgramCost]
"""Gives a program's cost by all that it depends on, which it may have kept, or has it found."""


def found_anew(inputs: dict[str, str], measure: Callable[[], ProgramCost]) -> ProgramCost:
    """Keeps nothing."""
    return measure()


Phase = Literal["prompt", "step"]
"""A piece of the prompt, or a token after it."""


class PartCost(Frozen):
    """What all blocks of a kind, or the head, take in all programs of a phase."""

    part: str
    """Name of the kind's first block, or `language_parts.HEAD`."""

    phase: Phase
    """Which programs."""

    weight_bits: float
    """Mean bits of a weight."""

    cycles: int
    """Predicted."""

    traffic: Traffic
    """What the programs move and compute."""


class LanguageCost(Frozen):
    """The cost of a prompt and of what follows it."""

    chunk_tokens: int
    """Tokens of the prompt that go through the core at once."""

    prefill_cycles: int
    """Predicted cycles of the prompt, up to its first new token."""

    step_cycles: tuple[int, ...]
    """Predicted cycles of each token after it."""

    latency_s: float
    """Prompt and tokens: for each program the greater of its cycles and of its DRAM traffic over
    the target's bandwidth."""

    prefill_s: float
    """The share of the prompt."""

    dram_bound_programs: float
    """Share of the time that is spent in programs that wait for DRAM's bandwidth."""

    dram_bytes: int
    """Read and written."""

    parts: tuple[PartCost, ...]
    """Cycles and traffic, shared out among kinds of blocks, head and phases."""

    energy: Energy
    """Modelled, of prompt and tokens."""

    bytes: ModelBytes
    """Memory that the model takes."""

    commands: int
    """Of the programs that were written for this: one block of each kind, and the head."""

    @property
    def cycles(self) -> int:
        """Prompt and tokens."""
        return self.prefill_cycles + sum(self.step_cycles)

    @property
    def tokens_per_s(self) -> float:
        """Of the tokens behind the prompt."""
        return len(self.step_cycles) / (self.latency_s - self.prefill_s)


class Silicon(Frozen):
    """What the cost hangs on of a core's netlist: as `evaluators.silicon.cost` finds it."""

    clock_hz: float
    """The clock that it runs at."""

    cell_leakage_w: float
    """Leakage of its cells."""


def language_cost(
    network: Network,
    config: CoreConfig,
    target: Target,
    silicon: Silicon,
    prompt_tokens: int = PROMPT_TOKENS,
    generated_tokens: int = GENERATED_TOKENS,
    latencies: CoreLatencies | None = None,
    choices: Choices = MAPPER,
    embedding_bits: EmbeddingBits = 16,
    remember: Remember = found_anew,
) -> LanguageCost:
    """Costs a language model on a core.

    Args:
        network: A whole decoder with its head, as `integer_language_model` writes it.
        config: The core.
        target: Gives the DRAM and the devices of the SRAM.
        silicon: Of the core's netlist.
        prompt_tokens: Of the prompt; 1 or more.
        generated_tokens: Found by programs of their own, behind the one that the prompt finds.
        latencies: Of the core's units; None for the shipped ones.
        choices: Which operators run as one, and what the mapper is held to.
        embedding_bits: That a channel of a word is kept in.
        remember: Gives what was found of equal programs before.

    Raises:
        LoweringError: A block does not fit the core in pieces of one token group.
        ValueError: The network has no head.
    """
    latencies = latencies or CoreLatencies.shipped(config)
    costing = _Costing(
        network,
        config,
        target,
        silicon,
        latencies,
        choices,
        prompt_tokens,
        generated_tokens,
        remember,
    )
    return costing.cost(model_bytes(network, prompt_tokens + generated_tokens, embedding_bits))


def fitting(
    network: Network,
    config: CoreConfig,
    prompt_tokens: int = PROMPT_TOKENS,
    generated_tokens: int = GENERATED_TOKENS,
    choices: Choices = MAPPER,
    remember: Remember = found_anew,
) -> Network:
    """The network as a core takes it: all heads of an attention at once, or else one by one.

    Args:
        network, config, prompt_tokens, generated_tokens, choices, remember: As for
            `language_cost`.

    Raises:
        LoweringError: It fits neither way.
    """
    for form in (network, split_heads(network)):
        costing = _Costing(
            form,
            config,
            Target(),
            Silicon(clock_hz=1e9, cell_leakage_w=0.0),
            CoreLatencies.shipped(config),
            choices,
            prompt_tokens,
            generated_tokens,
            remember,
        )
        try:
            costing.chunk()
        except LoweringError as error:
            refused = error
        else:
            return form
    raise refused


@dataclass
class _Costing:
    """Costs pieces of text, each kind of program once."""

    network: Network
    config: CoreConfig
    target: Target
    silicon: Silicon
    latencies: CoreLatencies
    choices: Choices
    prompt_tokens: int
    generated_tokens: int
    remember: Remember

    def __post_init__(self) -> None:
        if self.network.logits is None:
            raise ValueError("a language model's cost needs a network with a head")
        self.kinds = kinds_of(self.network)
        self.dram = dram_of(self.target, self.config, self.silicon.clock_hz)
        # Whole groups, so that the last step has room as the others do.
        rows = self.config.rows
        self.room = sum(-(-n // rows) * rows for n in (self.prompt_tokens, self.generated_tokens))
        self.commands = 0
        self._head: ProgramCost | None = None
        self._blocks: dict[tuple[int, int], dict[str, ProgramCost]] = {}

    def chunk(self) -> int:
        """The most tokens of the prompt that go through the core at once, steps behind them.

        Raises:
            LoweringError: Not even one token group does.
        """
        rows = self.config.rows
        refused = LoweringError(f"the core has more than {CHUNKS[0]} rows")
        for chunk in (size for size in CHUNKS if size % rows == 0):
            # The last piece and the last step have the most keys to hold.
            last = (self.prompt_tokens - 1) // chunk * chunk
            try:
                self.program(last, min(chunk, self.prompt_tokens - last), head=True)
                if self.generated_tokens:
                    self.program(self.room - rows, rows, head=True)
            except LoweringError as error:
                refused = error
            else:
                return chunk
        raise refused

    def cost(self, model: ModelBytes) -> LanguageCost:
        """Of the prompt, as many tokens at once as fit, and of what follows it.

        Raises:
            LoweringError: Not even one token group fits.
        """
        rows, prompt, chunk = self.config.rows, self.prompt_tokens, self.chunk()
        prefill = [
            self.program(first, min(chunk, prompt - first), first + chunk >= prompt)
            for first in range(0, prompt, chunk)
        ]
        steps = [
            self.program((length - 1) // rows * rows, rows, head=True)
            for length in range(prompt + 1, prompt + self.generated_tokens + 1)
        ]
        wholes = [_together(program.values()) for program in (*prefill, *steps)]
        moved = sum((ran.traffic for ran in wholes), Traffic())
        seconds = [_seconds(ran, self.target, self.silicon) for ran in wholes]
        latency_s = sum(max(pair) for pair in seconds)
        bound_s = sum(dram_s for core_s, dram_s in seconds if dram_s > core_s)
        leakage_w = self.silicon.cell_leakage_w
        return LanguageCost(
            chunk_tokens=min(chunk, prompt),
            prefill_cycles=sum(ran.cycles for ran in wholes[: len(prefill)]),
            step_cycles=tuple(ran.cycles for ran in wholes[len(prefill) :]),
            latency_s=latency_s,
            prefill_s=sum(max(pair) for pair in seconds[: len(prefill)]),
            dram_bound_programs=bound_s / latency_s,
            dram_bytes=moved.dram_bytes,
            parts=(*self._shares("prompt", prefill), *self._shares("step", steps)),
            energy=modelled_energy(moved, self.config, self.target, latency_s, leakage_w),
            bytes=model,
            commands=self.commands,
        )

    def _shares(
        self, phase: Phase, programs: Sequence[Mapping[str, ProgramCost]]
    ) -> Iterator[PartCost]:
        """Of each kind of blocks, and of the head, in all programs of a phase."""
        parts = {kind.name: kind.network for kind in self.kinds}
        parts[HEAD] = behind_blocks(self.network)
        for part, network in parts.items():
            among = [program[part] for program in programs if part in program]
            if among:
                whole = _together(among)
                yield PartCost(
                    part=part,
                    phase=phase,
                    weight_bits=mean_weight_bits(network),
                    cycles=whole.cycles,
                    traffic=whole.traffic,
                )

    def program(self, first: int, tokens: int, head: bool) -> dict[str, ProgramCost]:
        """Of some tokens that continue `first` others, through all blocks, by part.

        Args:
            first: Tokens before them, in whole token groups, without a prefix.
            tokens: How many.
            head: Whether the next token is to be found.
        """
        low = first // STRIDE * STRIDE
        ran = self._all_blocks(low, tokens)
        if low < first:
            high = min(low + STRIDE, (self.room - tokens) // self.config.rows * self.config.rows)
            share, end = (first - low) / (high - low), self._all_blocks(high, tokens)
            ran = {part: _between(ran[part], end[part], share) for part in ran}
        if not head:
            return ran
        # Of the last token group alone, all of whose words are loaded: the same every time.
        self._head = self._head or self._run(behind_blocks(self.network), self.config.rows)
        return ran | {HEAD: self._head}

    def _all_blocks(self, first: int, tokens: int) -> dict[str, ProgramCost]:
        """All blocks of each kind, by a program for one of them."""
        if (first, tokens) not in self._blocks:
            self._blocks[first, tokens] = {
                kind.name: _times(self._one(kind, first, tokens), kind.count) for kind in self.kinds
            }
        return self._blocks[first, tokens]

    def _one(self, kind: Kind, first: int, tokens: int) -> ProgramCost:
        return self._run(continuation(kind.network, first) if first else kind.network, tokens)

    def _run(self, part: Network, tokens: int) -> ProgramCost:
        inputs = {
            "form": form_of(part),
            "tokens": str(tokens),
            "room": str(self.room),
            "hardware": self.config.model_dump_json(),
            "choices": self.choices.model_dump_json(),
            "dram": self.dram.model_dump_json(),
            "latencies": repr(self.latencies),
        }
        found = self.remember(inputs, partial(self._written, part, tokens))
        self.commands += found.commands
        return found

    def _written(self, part: Network, tokens: int) -> ProgramCost:
        """What a program takes, by writing it."""
        channels = next(op.channels for op in part.operators if isinstance(op, net.Input))
        inputs = Inputs(words=np.zeros((tokens, channels), np.int16))
        dram = DramImage(self.config.dma_bytes)
        placed = place(part, inputs, self.config.rows)
        room = length_of(part) + self.room
        kept = kv_cache.reserve(part, placed, self.config, room, dram)
        program = lower(part, inputs, self.config, choices=self.choices, dram=dram, kept=kept)
        line = timeline(program.commands, self.config, self.dram, self.latencies)
        return ProgramCost(
            cycles=line.total_cycles,
            traffic=traffic(program.commands, self.config),
            commands=len(program.commands),
        )


def _seconds(ran: ProgramCost, target: Target, silicon: Silicon) -> tuple[float, float]:
    """Of the core, and of the DRAM at its whole bandwidth."""
    dram_s = ran.traffic.dram_bytes / target.dram_figures.bytes_per_s
    return ran.cycles / silicon.clock_hz, dram_s


def _between(low: ProgramCost, high: ProgramCost, share: float) -> ProgramCost:
    """On the straight line from one program to another."""
    ends = zip(low.traffic.model_dump().items(), high.traffic.model_dump().values(), strict=True)
    moved = {name: round(a + share * (b - a)) for (name, a), b in ends}
    cycles = round(low.cycles + share * (high.cycles - low.cycles))
    return ProgramCost(cycles=cycles, traffic=Traffic(**moved))


def _times(ran: ProgramCost, count: int) -> ProgramCost:
    moved = {name: count * value for name, value in ran.traffic.model_dump().items()}
    return ProgramCost(cycles=count * ran.cycles, traffic=Traffic(**moved))


def _together(programs: Iterable[ProgramCost]) -> ProgramCost:
    """Programs one after the other."""
    cycles, moved = 0, Traffic()
    for ran in programs:
        cycles, moved = cycles + ran.cycles, moved + ran.traffic
    return ProgramCost(cycles=cycles, traffic=moved)


def model_bytes(network: Network, tokens: int, embedding_bits: EmbeddingBits = 16) -> ModelBytes:
    """Memory that a decoder takes in DRAM.

    Args:
        network: A whole decoder with its head.
        tokens: Most tokens of prompt and answer.
        embedding_bits: That a channel of a word is kept in.
    """
    layers = [op for op in network.operators if isinstance(op, net.Linear)]
    norms = [op for op in network.operators if isinstance(op, net.Norm)]
    attentions = [op for op in network.operators if isinstance(op, net.Attention)]
    widths = [op.cosine.shape[1] for op in network.operators if isinstance(op, net.Rotate)]
    words = next(op for op in network.operators if isinstance(op, net.Input))
    return ModelBytes(
        weights=network.weight_bytes,
        embeddings=embedding_bytes(len(layers[-1].weight), words.channels, embedding_bits),
        scales=CHANNEL_BYTES
        * (sum(len(op.weight) for op in layers) + sum(len(op.gamma) for op in norms)),
        rotary=2 * 2 * tokens * max(widths, default=0),
        kv_cache=sum(2 * op.kv_heads * op.head_dim * (op.past + tokens) for op in attentions),
    )
