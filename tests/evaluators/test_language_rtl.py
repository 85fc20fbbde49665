"""A language model's block does on the RTL what the integer model does, and its power is read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators.energy import sram_energy_j
from evaluators.language_cost import PartCost
from evaluators.language_energy import PartOnRtl, _power
from evaluators.language_model import LanguageBench
from evaluators.language_parts import behind_blocks, block, blocks_of, with_words
from evaluators.language_rtl import HEAD_WORDS, LanguageRtl
from evaluators.latency import NotBitExact, Rtl, dram_of
from evaluators.meter import PowerMeter, seed_of
from evaluators.silicon import verilator
from evaluators.silicon.cost import map_core
from evaluators.silicon.liberty_power import load_power
from evaluators.target import Target
from hwlib.cycles import CoreLatencies
from hwlib.elaborate import elaborate_core
from swopt.compiler import network as net
from swopt.compiler.language_model import IntegerLanguageModel
from swopt.plan import CompressionPlan
from swopt.techniques.quantization import QuantizationKnobs
from swopt.workloads import language_models
from tests.evaluators.test_language_pipeline import CORE
from tests.swopt import tiny_llama

PIECE = 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> IntegerLanguageModel:
    folder = tmp_path_factory.mktemp("model")
    loaded = language_models.load(str(tiny_llama.save(folder / "tiny")))
    return LanguageBench(loaded, folder / "store", windows=1).compress(CompressionPlan())


def test_a_decoder_is_its_blocks_and_what_is_behind_them(made: IntegerLanguageModel) -> None:
    blocks, network = blocks_of(made.network), made.network
    assert list(blocks) == ["decoder.0", "decoder.1"]
    alone = [block(network, name).operators[1:] for name in blocks]
    words, *others = network.operators
    assert (*alone[0], *alone[1], *behind_blocks(network).operators[1:]) == tuple(others)
    assert block(network, "decoder.1").operators[0] is words
    with pytest.raises(ValueError, match=r"no block 'decoder\.2'; there are decoder\.0, "):
        block(network, "decoder.2")


def test_the_first_words_of_a_head_keep_their_factors(tmp_path: Path) -> None:
    bench = LanguageBench(language_models.load(str(tiny_llama.save(tmp_path / "tiny"))), tmp_path)
    knobs = QuantizationKnobs(bits=4, group=16)
    network = bench.compress(CompressionPlan(quantization=knobs)).network
    *_, whole = behind_blocks(network).operators
    *_, first = with_words(behind_blocks(network), 10).operators
    assert isinstance(whole, net.Linear) and isinstance(first, net.Linear)
    assert np.array_equal(first.stored, whole.stored[:10])
    assert first.groups is not None and len(first.groups.factors) == 10


@pytest.mark.slow
@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "it is there")
def test_blocks_and_head_on_the_rtl(made: IntegerLanguageModel, cache_dir: Path) -> None:
    rtlil, target = elaborate_core(CORE), Target()
    core = map_core(rtlil, cache_dir / "silicon")
    power = load_power(core.liberty, cache_dir / "silicon")
    meter = PowerMeter(core, power, CORE, 5e8, seed_of(rtlil))
    rtl = Rtl(rtlil, CORE, dram_of(target, CORE, 5e8), cache_dir / "simulators", meter)
    bench = LanguageRtl(made.network, rtl, CoreLatencies.shipped(CORE))
    words = made.words[np.arange(30, 30 + PIECE + 1)]
    rows = [*bench.block("decoder.1", words, PIECE), bench.head(words, HEAD_WORDS)]
    for row in rows:
        assert row.cycles == pytest.approx(row.predicted_cycles, rel=0.03)
        assert row.compared_values > 0
        assert row.power.clock_w > 0
        # Of what was run itself, accesses that are counted are those that draw power.
        counted_j = sram_energy_j(row.traffic, CORE, target.sram)
        assert row.power.sram_w * row.cycles / 5e8 == pytest.approx(counted_j, rel=1e-9)
    # Of eight tokens the block stores more to compare than of the last group of four.
    assert rows[0].compared_values > rows[1].compared_values
    fewer = bench.head(words, 100)
    assert fewer.cycles < rows[2].cycles
    assert fewer.power.logic_w == pytest.approx(rows[2].power.logic_w, rel=0.2)
    with pytest.raises(ValueError, match="is not longer than a piece of 8"):
        bench.block("decoder.1", words[:PIECE], PIECE)

    class Wrong(Rtl):
        """Loses a bit of what the core stored."""

        def run(self, program: Any, metered_cycles: int | None = None) -> Any:
            ran = super().run(program, metered_cycles)
            dram = ran.dram.copy()
            dram[-1] ^= 1
            return replace(ran, dram=dram)

    broken = replace(bench, rtl=Wrong(**vars(rtl)))
    with pytest.raises(NotBitExact):
        broken.block("decoder.0", words, PIECE)


def test_the_operators_of_a_block_are_of_that_block_alone(made: IntegerLanguageModel) -> None:
    for operator in block(made.network, "decoder.1").operators:
        name = operator.name if isinstance(operator, net.Linear) else operator.y
        assert name == "decoder" or name.startswith("decoder.1.")


def test_what_was_not_run_draws_what_is_nearest_in_bits_draws() -> None:
    def ran(part: str, phase: str, weight_bits: float, power: str) -> Any:
        return PartOnRtl.model_construct(
            part=part, phase=phase, weight_bits=weight_bits, power=power
        )

    def power_of(part: str, phase: str, weight_bits: float) -> Any:
        return _power(
            PartCost.model_construct(part=part, phase=phase, weight_bits=weight_bits), all_
        )

    all_ = [
        ran("decoder.0", "prompt", 4.0, "few, prompt"),
        ran("decoder.0", "step", 4.0, "few, step"),
        ran("decoder.7", "prompt", 8.0, "many, prompt"),
        ran("decoder.7", "step", 8.0, "many, step"),
        ran("head", "step", 8.0, "head"),
    ]
    assert power_of("decoder.3", "step", 5.5) == "few, step"
    assert power_of("decoder.4", "prompt", 6.5) == "many, prompt"
    assert power_of("head", "prompt", 4.0) == power_of("head", "step", 8.0) == "head"
