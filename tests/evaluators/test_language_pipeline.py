"""A design of a language model gets its figures from its own integers and its own netlist."""

from pathlib import Path
from typing import Any

import pytest

from evaluators.design import DesignPoint
from evaluators.language_cost import language_cost
from evaluators.language_model import LanguageBench
from evaluators.language_pipeline import SET, LanguagePipeline
from evaluators.metrics import Evaluation
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
    cost = language_cost(
        made.network,
        CORE,
        Target(),
        _silicon(compressed),
    )
    assert compressed.metrics["cycles"] == cost.cycles
    assert compressed.metrics["energy_j"] == pytest.approx(cost.energy_j, rel=0.5)


def _silicon(evaluation: Evaluation) -> Any:
    from evaluators.language_cost import Silicon

    return Silicon(clock_hz=evaluation.metrics["clock_hz"], cell_leakage_w=0.001)


def test_fewer_bits_and_channels_cost_less_than_the_baseline(
    baseline: Evaluation, compressed: Evaluation
) -> None:
    for name in ("memory_bytes", "model_bytes", "cycles", "latency_s", "energy_j"):
        assert compressed.metrics[name] < baseline.metrics[name], name
    assert baseline.metrics["area_um2"] == compressed.metrics["area_um2"]
    assert baseline.energy_is_modelled
    stages = [each.evaluator for each in baseline.provenance]
    assert stages == ["code_score", "code_score", "synthesis", "language_cost"]


def test_a_design_is_measured_once(
    pipeline: LanguagePipeline, baseline: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was measured already")

    monkeypatch.setattr(LanguageBench, "compress", refuse)
    monkeypatch.setattr(LanguageBench, "score", refuse)
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
