"""A design of a language model gets its figures from its own integers and its own netlist."""

from pathlib import Path

import pytest

from evaluators.design import DesignPoint
from evaluators.language_cost import Silicon, language_cost
from evaluators.language_model import LanguageBench
from evaluators.language_pipeline import SET, LanguagePipeline
from evaluators.metrics import Evaluation
from evaluators.silicon import verilator
from evaluators.target import Target
from hwlib.config import CoreConfig
from swopt.plan import CompressionPlan
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs
from swopt.techniques.resolution import ResolutionKnobs
from swopt.workloads import language_models
from tests.swopt import tiny_llama

CORE = CoreConfig(rows=4, columns=4, activation_bytes=32768, channel_entries=512)
FOUR = CompressionPlan(
    quantization=QuantizationKnobs(bits=4, head_bits=8, rounding="compensated"),
    pruning=PruningKnobs(decoder_mlp_keep=0.5),
)


compiled = pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "there is a compiler"
)


@pytest.fixture(scope="module")
def pipeline(cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguagePipeline:
    saved = tiny_llama.save(tmp_path_factory.mktemp("language") / "tiny")
    return LanguagePipeline(model=str(saved), cache_dir=cache_dir, windows=2)


@pytest.fixture(scope="module")
def baseline(pipeline: LanguagePipeline) -> Evaluation:
    return pipeline.evaluate(DesignPoint(hardware=CORE), Target(), lambda stage: None)


@pytest.fixture(scope="module")
def compressed(pipeline: LanguagePipeline) -> Evaluation:
    design = DesignPoint(hardware=CORE, compression=FOUR)
    return pipeline.evaluate(design, Target(), lambda stage: None)


def test_figures_are_those_of_score_and_cost(
    pipeline: LanguagePipeline, compressed: Evaluation
) -> None:
    assert compressed.status == "ok", compressed.reason
    bench = LanguageBench(language_models.load(pipeline.model), windows=2)
    made = bench.compress(FOUR)
    score = bench.score(made)
    assert compressed.details["bits_per_byte"] == pytest.approx(score.bits_per_byte, rel=1e-12)
    assert compressed.metrics["accuracy"] == pytest.approx(score.accuracy, rel=1e-12)
    assert compressed.metrics["model_bytes"] == made.model_bytes
    theirs = bench.score(bench.uncompressed()).bits_per_byte
    assert compressed.details["bits_per_byte_of_float"] == pytest.approx(theirs, rel=1e-12)
    of_core = Silicon(clock_hz=compressed.metrics["clock_hz"], cell_leakage_w=0.0)
    cost = language_cost(made.network, CORE, Target(), of_core)
    assert compressed.metrics["cycles"] == cost.cycles
    # Counts times figures are the same; only the leakage of the cells is not in ours.
    shares = {name: v for name, v in compressed.details.items() if name.startswith("energy_sh")}
    energy_j = compressed.metrics["energy_j"]
    for part in ("sram", "dram"):
        ours_j = getattr(cost.energy, f"{part}_j")
        assert float(shares[f"energy_share_{part}"]) * energy_j == pytest.approx(ours_j, rel=1e-9)


@compiled
def test_energy_is_that_of_gates_which_computed_the_integers_that_were_scored(
    baseline: Evaluation, compressed: Evaluation
) -> None:
    for each in (baseline, compressed):
        found = each.details
        assert not each.energy_is_modelled
        assert float(found["rtl_values_compared"]) > 1000
        assert found["rtl_kinds_of_blocks"] == found["kinds_of_blocks"] == 1
        predicted = float(found["rtl_cycles_predicted"])
        assert found["rtl_cycles"] == pytest.approx(predicted, rel=0.02)
        modelled_j = float(found["energy_j_modelled"])
        assert modelled_j < each.metrics["energy_j"] < 5 * modelled_j
        assert 0 < float(found["energy_share_clock"]) < 1


def test_without_a_compiler_energy_is_modelled_and_called_so(
    pipeline: LanguagePipeline, baseline: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verilator, "available", lambda: "no C++ compiler")
    found = pipeline.evaluate(DesignPoint(hardware=CORE), Target(), lambda stage: None)
    assert found.energy_is_modelled
    assert "rtl_values_compared" not in found.details
    assert found.metrics["cycles"] == baseline.metrics["cycles"]
    assert found.metrics["energy_j"] < baseline.metrics["energy_j"]


def test_fewer_bits_and_channels_cost_less_than_the_baseline(
    baseline: Evaluation, compressed: Evaluation
) -> None:
    for name in ("memory_bytes", "model_bytes", "cycles", "latency_s", "energy_j"):
        assert compressed.metrics[name] < baseline.metrics[name], name
    assert baseline.metrics["area_um2"] == compressed.metrics["area_um2"]
    stages = [each.evaluator for each in baseline.provenance]
    assert stages[:4] == ["code_score", "code_score", "synthesis", "language_cost"]


def test_a_design_is_measured_once(
    pipeline: LanguagePipeline, baseline: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was measured already")

    # Not even a weight is read again.
    monkeypatch.setattr(LanguageBench, "__post_init__", refuse)
    again = pipeline.evaluate(DesignPoint(hardware=CORE), Target(), lambda stage: None)
    assert again.metrics == baseline.metrics
    assert again.details == baseline.details


def test_test_windows_are_paired_with_the_baseline(pipeline: LanguagePipeline) -> None:
    found = pipeline.test(DesignPoint(hardware=CORE, compression=FOUR))[SET]
    same = pipeline.test(DesignPoint(hardware=CORE))[SET]
    assert found["windows"] == 2
    assert found["baseline_bits_per_byte"] == same["design_bits_per_byte"]
    assert found["nll_difference_nats"] != 0
    assert same["nll_difference_nats"] == same["accuracy_difference"] == 0
    assert found["design_accuracy_shuffled"] <= 1


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (CompressionPlan(resolution=ResolutionKnobs(wording="shortest")), "leave resolution out"),
        (CompressionPlan(pruning=PruningKnobs(decoder_blocks=(0, 1))), "removes every decoder"),
        (CompressionPlan(pruning=PruningKnobs(decoder_blocks=(7,))), "has blocks 0 to 1"),
    ],
)
def test_a_plan_that_does_not_fit_the_model_is_a_status(
    pipeline: LanguagePipeline, plan: CompressionPlan, reason: str
) -> None:
    design = DesignPoint(hardware=CORE, compression=plan)
    found = pipeline.evaluate(design, Target(), lambda stage: None)
    assert found.status == "invalid"
    assert reason in found.reason
    assert not found.metrics


def test_a_core_that_is_too_small_is_a_status(pipeline: LanguagePipeline, tmp_path: Path) -> None:
    small = DesignPoint(hardware=CORE.model_copy(update={"activation_bytes": 2048}))
    found = pipeline.evaluate(small, Target(), lambda stage: None)
    assert found.status == "invalid"
    assert "use a larger activation memory" in found.reason
