"""A language model's cost is that of the programs that the compiler writes for it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluators import language_cost as costs
from evaluators.language_cost import (
    LanguageCost,
    ProgramCost,
    Silicon,
    fitting,
    language_cost,
    model_bytes,
)
from evaluators.latency import dram_of
from evaluators.target import Target
from evaluators.traffic import traffic
from hwlib.config import CoreConfig
from hwlib.timeline import timeline
from swopt.compiler import kv_cache
from swopt.compiler.compressed_language_model import compress, prepare
from swopt.compiler.dram import DramImage
from swopt.compiler.generation import continuation
from swopt.compiler.host import Inputs
from swopt.compiler.language_model import IntegerLanguageModel
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import place
from swopt.compiler.network import Linear, Network
from swopt.compiler.program import lower
from swopt.plan import CompressionPlan
from swopt.techniques.quantization import GroupInputs, QuantizationKnobs
from tests.swopt import tiny_llama

CORE = CoreConfig(channel_entries=512)
SILICON = Silicon(clock_hz=500e6, cell_leakage_w=0.005)
TARGET = Target()


def integers(
    bits: int = 8,
    overrides: dict[str, int] | None = None,
    seed: int = 0,
    group: GroupInputs | None = None,
) -> IntegerLanguageModel:
    model: Any = tiny_llama.model(seed)
    calibration = [torch.arange(start, start + 60) % 260 for start in (2, 70)]
    knobs = QuantizationKnobs.model_validate(
        {"bits": bits, "overrides": overrides or {}, "group": group}
    )
    ready = prepare(model, calibration, prefix=range(3, 19))
    return compress(ready, CompressionPlan(quantization=knobs))


@pytest.fixture(scope="module")
def made() -> IntegerLanguageModel:
    return integers()


@pytest.fixture(scope="module")
def cost(made: IntegerLanguageModel) -> LanguageCost:
    return language_cost(made.network, CORE, TARGET, SILICON, 32, 4)


def test_blocks_and_head_add_up_to_about_the_whole_program(made: IntegerLanguageModel) -> None:
    alone = language_cost(made.network, CORE, TARGET, SILICON, 32, 0)
    assert alone.chunk_tokens == 32
    words = np.zeros((32, tiny_llama.HIDDEN), np.int16)
    program = lower(made.network, Inputs(words=words), CORE)
    dram = dram_of(TARGET, CORE, SILICON.clock_hz)
    whole = timeline(program.commands, CORE, dram).total_cycles
    assert 0.95 * whole < alone.cycles < 1.25 * whole
    moved = traffic(program.commands, CORE).dram_bytes
    assert 0.95 * moved < alone.dram_bytes < 1.25 * moved


def test_every_token_has_its_cycles_and_longer_texts_more(cost: LanguageCost) -> None:
    assert len(cost.step_cycles) == 4
    assert cost.cycles == cost.prefill_cycles + sum(cost.step_cycles)
    assert cost.step_cycles[0] <= cost.step_cycles[-1] < cost.prefill_cycles
    assert cost.latency_s >= cost.cycles / SILICON.clock_hz * (1 - 1e-9)
    assert 0 < cost.prefill_s < cost.latency_s and cost.tokens_per_s > 0


def test_lengths_between_lie_on_a_straight_line(
    made: IntegerLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = language_cost(made.network, CORE, TARGET, SILICON, 72, 40)
    monkeypatch.setattr(costs, "STRIDE", 8)
    each = language_cost(made.network, CORE, TARGET, SILICON, 72, 40)
    assert each.commands > line.commands
    for ours, theirs in zip(line.step_cycles, each.step_cycles, strict=True):
        assert ours == pytest.approx(theirs, rel=5e-3)
    assert line.prefill_cycles == pytest.approx(each.prefill_cycles, rel=5e-3)
    assert line.dram_bytes == pytest.approx(each.dram_bytes, rel=5e-3)


def test_a_whole_group_takes_hardly_more_than_its_first_token(made: IntegerLanguageModel) -> None:
    """A step is costed as a group: what one token of it takes is a little less."""
    past = continuation(made.network, 64)
    dram = dram_of(TARGET, CORE, SILICON.clock_hz)

    def cycles(tokens: int) -> int:
        inputs = Inputs(words=np.zeros((tokens, tiny_llama.HIDDEN), np.int16))
        image = DramImage(CORE.dma_bytes)
        kept = kv_cache.reserve(past, place(past, inputs, CORE.rows), CORE, 96, image)
        program = lower(past, inputs, CORE, dram=image, kept=kept)
        return timeline(program.commands, CORE, dram).total_cycles

    assert 0.95 * cycles(8) < cycles(1) <= cycles(8)


def test_programs_of_other_numbers_cost_the_same_and_are_not_written_again(
    made: IntegerLanguageModel, cost: LanguageCost
) -> None:
    kept: dict[str, ProgramCost] = {}
    written: list[str] = []

    def remember(inputs: dict[str, str], measure: Callable[[], ProgramCost]) -> ProgramCost:
        if (key := str(sorted(inputs.items()))) not in kept:
            written.append(key)
            kept[key] = measure()
        return kept[key]

    def found(network: Network, config: CoreConfig = CORE) -> LanguageCost:
        return language_cost(network, config, TARGET, SILICON, 32, 4, remember=remember)

    assert found(made.network) == cost
    several = len(written)
    other = integers(seed=1).network
    assert not np.array_equal(_weight(other), _weight(made.network))
    assert found(other) == cost == language_cost(other, CORE, TARGET, SILICON, 32, 4)
    assert len(written) == several > 2
    found(other, CORE.model_copy(update={"dma_bytes": 16}))
    assert len(written) == 2 * several
    found(integers(8, {"decoder.1.mlp.down": 4}).network)
    assert 2 * several < len(written) < 3 * several  # of the other block and the head none


def _weight(network: Network) -> NDArray[np.int8]:
    return next(op.weight for op in network.operators if isinstance(op, Linear))


def test_what_fits_the_prompt_need_not_fit_what_comes_after_it(made: IntegerLanguageModel) -> None:
    small = CORE.model_copy(update={"activation_bytes": 16384})
    form = fitting(made.network, small, 16, 104)
    assert language_cost(form, small, TARGET, SILICON, 16, 104).chunk_tokens == 16
    with pytest.raises(LoweringError, match="use a larger activation memory"):
        fitting(made.network, small, 16, 200)


@pytest.mark.slow
def test_a_narrow_dram_decides_the_latency(made: IntegerLanguageModel, cost: LanguageCost) -> None:
    narrow = Target(dram_bytes_per_s=1e8)
    slow = language_cost(made.network, CORE, narrow, SILICON, 32, 4)
    assert slow.latency_s > 3 * cost.latency_s
    assert slow.latency_s >= slow.dram_bytes / 1e8 * (1 - 1e-9)
    assert slow.dram_bytes == cost.dram_bytes


@pytest.mark.slow
def test_fewer_bits_move_fewer_bytes_and_blocks_of_their_own_bits_lie_between(
    cost: LanguageCost,
) -> None:
    four = language_cost(integers(4).network, CORE, TARGET, SILICON, 32, 4)
    mixed = integers(8, {"decoder.0": 4})
    between = language_cost(mixed.network, CORE, TARGET, SILICON, 32, 4)
    assert four.dram_bytes < between.dram_bytes < cost.dram_bytes
    assert four.energy.dram_j < between.energy.dram_j < cost.energy.dram_j
    assert between.commands > cost.commands
    assert between.bytes.weights == mixed.model_bytes


def test_groups_move_their_bytes_head_by_head_and_take_a_core_that_has_them(
    cost: LanguageCost,
) -> None:
    made, core = integers(4, group=16), CORE.model_copy(update={"grouped_weights": True})
    found = language_cost(made.network, core, TARGET, SILICON, 32, 4)
    layers = [op for op in made.network.operators if isinstance(op, Linear)]
    weights = sum(op.weight.size for op in layers)
    factors = sum(op.groups.factors.size for op in layers if op.groups is not None)
    assert found.bytes.weights == made.model_bytes == weights // 2 + factors
    assert found.dram_bytes < 0.8 * cost.dram_bytes
    with pytest.raises(LoweringError, match="takes a core with grouped weights"):
        language_cost(made.network, CORE, TARGET, SILICON, 32, 4)


def test_bytes_are_those_of_each_part(made: IntegerLanguageModel) -> None:
    found = model_bytes(made.network, 36)
    words, channels = made.words.shape
    assert found.embeddings == made.words.nbytes
    assert found.weights == made.model_bytes
    width = tiny_llama.HIDDEN // tiny_llama.HEADS
    assert found.kv_cache == 2 * tiny_llama.LAYERS * (16 + 36) * tiny_llama.KV_HEADS * width
    outputs = 2 * (64 + 32 + 32 + 64 + 96 + 96 + 64) + words
    assert found.scales == 8 * (outputs + 5 * channels)
    assert found.rotary == 4 * 36 * width // 2
    assert found.total == sum(found.model_dump().values())


@pytest.mark.slow
def test_a_core_that_is_too_small_takes_smaller_pieces_or_says_so(
    made: IntegerLanguageModel,
) -> None:
    small = CORE.model_copy(update={"activation_bytes": 16384})
    large, pieces = (
        language_cost(made.network, core, TARGET, SILICON, 96, 1) for core in (CORE, small)
    )
    assert pieces.chunk_tokens < large.chunk_tokens
    assert pieces.prefill_cycles > large.prefill_cycles
    smallest = CORE.model_copy(update={"activation_bytes": 8192})
    with pytest.raises(LoweringError, match="use a larger activation memory"):
        language_cost(made.network, smallest, TARGET, SILICON, 200, 0)
    with pytest.raises(ValueError, match="needs a network with a head"):
        language_cost(replace(made.network, logits=None), CORE, TARGET, SILICON)
