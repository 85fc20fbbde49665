"""The promise: the integers that give the accuracy are the integers that the RTL computes."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from evaluators.latency import (
    Engine,
    ModelOnCore,
    NotBitExact,
    Predicted,
    Programs,
    Rtl,
    dram_of,
    hold_to_model,
    one_question_a_set,
    run_on_core,
)
from evaluators.silicon import verilator
from evaluators.silicon.simulation import Dram
from evaluators.target import Target
from evaluators.traffic import traffic
from hwlib.config import CoreConfig
from hwlib.cycles import CoreLatencies
from hwlib.elaborate import elaborate_core
from hwlib.unit_latencies import shipped_latencies
from swopt.compiler.choices import MAPPER, Choices
from swopt.compiler.integer_model import IntegerModel, integer_model
from swopt.compiler.program import lower
from swopt.plan import CompressionPlan
from swopt.techniques.dataflow import DataflowKnobs
from swopt.techniques.fusion import FusionKnobs
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs
from swopt.workloads.workload import load_workload

CONFIG = CoreConfig(rows=4, columns=4)

PLAN = CompressionPlan(
    pruning=PruningKnobs(vision_blocks=(1, 2, 3), decoder_blocks=(1, 2), vision_mlp_keep=0.5),
    quantization=QuantizationKnobs(bits=4, head_bits=8),
)
"""A model of one block a tower, which is lowered in a moment."""

DRAM = Dram(latency_cycles=50)

compiled = pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "there is a compiler"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> IntegerModel:
    return integer_model(load_workload(tmp_path_factory.mktemp("no images")), PLAN)


def run(model: IntegerModel, engine: Engine, choices: Choices = MAPPER) -> ModelOnCore:
    inputs = model.host.inputs(one_question_a_set(model.workload))
    programs = Programs(model.network, CONFIG, choices)
    return run_on_core(inputs, programs, engine, DRAM, shipped_latencies(CONFIG))


@compiled
@pytest.mark.eda
def test_every_tensor_of_a_question_on_the_rtl_is_the_integer_models(
    model: IntegerModel, cache_dir: Path
) -> None:
    seen = run(model, Rtl(elaborate_core(CONFIG), CONFIG, DRAM, cache_dir))
    assert (seen.questions, seen.engine) == (1, "RTL in Verilator")
    assert seen.compared_tensors == len(model.network.operators) - 1  # all but the logits
    assert sum(seen.operator_cycles.values()) == seen.cycles[0]
    (inputs,) = model.host.inputs(one_question_a_set(model.workload))
    assert seen.traffic == traffic(lower(model.network, inputs, CONFIG).commands, CONFIG)
    # The model of the core says the same numbers, and cycles close by.
    predicted = run(model, Predicted(CONFIG, DRAM, CoreLatencies.shipped(CONFIG)))
    assert predicted.compared_values == seen.compared_values
    assert predicted.cycles == predicted.predicted_cycles == seen.predicted_cycles
    assert predicted.cycles[0] == pytest.approx(seen.cycles[0], rel=0.02)
    assert "no C++ compiler" in predicted.engine


@compiled
@pytest.mark.eda
@pytest.mark.slow
def test_the_rtl_gives_the_same_numbers_where_nothing_is_fused(
    model: IntegerModel, cache_dir: Path
) -> None:
    """Every tensor is held to the same integers; the words in use are the program's."""
    nothing = Choices(
        fusion=FusionKnobs(
            activations=False,
            rotations=False,
            residuals=False,
            attention=False,
            norms=False,
            pieces=1,
        ),
        dataflow=DataflowKnobs(groups=4, ways=2, stationary="activations"),
    )
    seen = run(model, Rtl(elaborate_core(CONFIG), CONFIG, DRAM, cache_dir), nothing)
    assert seen.compared_tensors == len(model.network.operators) - 1  # all but the logits
    (inputs,) = model.host.inputs(one_question_a_set(model.workload))
    program = lower(model.network, inputs, CONFIG, choices=nothing)
    assert seen.traffic == traffic(program.commands, CONFIG)
    assert seen.traffic != traffic(lower(model.network, inputs, CONFIG).commands, CONFIG)
    assert seen.activation_words == program.activation_words
    assert seen.predicted_cycles[0] == pytest.approx(seen.cycles[0], rel=0.02)


@compiled
@pytest.mark.eda
def test_one_flipped_bit_of_the_rtl_is_seen(model: IntegerModel, cache_dir: Path) -> None:
    """The broken twin: every element's product reads an activation with its lowest bit inverted."""
    rtlil = elaborate_core(CONFIG)
    broken = re.sub(
        r"(module \\mac\n.*?cell \$mul .*?connect \\A )(\\a\S*) \[8:0\]\n",
        r"\1{ \2 [8:1] 1'1 }\n",
        rtlil,
        count=1,
        flags=re.DOTALL,
    )
    assert broken != rtlil
    with pytest.raises(NotBitExact, match=r"tensor .*: the core gives .* the integer model"):
        run(model, Rtl(broken, CONFIG, DRAM, cache_dir))


def test_a_tensor_that_is_not_stored_is_missed(model: IntegerModel) -> None:
    (inputs,) = model.host.inputs(one_question_a_set(model.workload))
    engine = Predicted(CONFIG, DRAM, CoreLatencies.shipped(CONFIG))
    traced = lower(model.network, inputs, CONFIG, trace=True)
    untraced = replace(traced, results=traced.results[:-1])
    with pytest.raises(NotBitExact, match="stores no tensor"):
        hold_to_model(model.network, inputs, untraced, engine)


def test_a_faster_clock_brings_no_bandwidth() -> None:
    target = Target(dram_bytes_per_s=12.8e9, dram_latency_s=100e-9)
    assert dram_of(target, CONFIG, 400e6) == Dram(latency_cycles=40)
    # 8 bytes a cycle are 12.8 GB/s at 1.6 GHz; at 2 GHz 16 beats take 20 cycles.
    assert dram_of(target, CONFIG, 1.6e9) == Dram(latency_cycles=160)
    assert dram_of(target, CONFIG, 2e9) == Dram(latency_cycles=200, burst_beats=16, gap_cycles=4)
    wide = CONFIG.model_copy(update={"dma_bytes": 32})
    # 512 bytes take 40 ns: 24 cycles at 600 MHz, where the core could take them in 16.
    assert dram_of(target, wide, 600e6) == Dram(latency_cycles=60, burst_beats=16, gap_cycles=8)
