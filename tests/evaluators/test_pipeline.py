"""The whole chain on one design: figures, their provenance, and what becomes of a fault."""

from pathlib import Path

import pytest

from evaluators.design import DesignPoint
from evaluators.metrics import METRICS, Evaluation
from evaluators.pipeline import Pipeline
from evaluators.silicon import verilator
from evaluators.target import Target
from hwlib.edit import RtlEdit
from hwlib.elaborate import shipped_source

SMALL = {"array": {"rows": 4, "columns": 4}}

compiled = pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "there is a compiler"
)


def evaluate(pipeline: Pipeline, design: DesignPoint, target: Target = Target()) -> Evaluation:  # noqa: B008
    stages: list[str] = []
    evaluation = pipeline.evaluate(design, target, stages.append)
    assert stages[0] == "accuracy"
    return evaluation.model_copy(update={"elapsed_s": 0.0})


@pytest.fixture
def synthetic(cache_dir: Path, tmp_path: Path) -> Pipeline:
    """On the synthetic set alone, whatever data this machine has."""
    return Pipeline(data_dir=tmp_path, cache_dir=cache_dir)


@compiled
@pytest.mark.eda
def test_a_design_gets_every_metric_and_the_same_from_a_warm_store(synthetic: Pipeline) -> None:
    design = DesignPoint.model_validate({"hardware": SMALL})
    cold = evaluate(synthetic, design)
    assert (cold.status, cold.reason) == ("ok", "")
    assert cold.metrics.keys() == {metric.name for metric in METRICS}
    assert evaluate(synthetic, design) == cold
    stages = [each.evaluator for each in cold.provenance]
    assert stages == ["accuracy", "rtl_simulation", "synthesis"]
    assert cold.metrics["latency_s"] == cold.metrics["cycles"] / cold.metrics["clock_hz"]
    # A slower link holds the clock, and with it the latency; what was built stays as it is.
    slow = evaluate(synthetic, design, Target(dram_bytes_per_s=8e8))
    assert slow.metrics["clock_hz"] == 1e8
    assert slow.details["clock_limited_by"] == "DRAM link"
    assert slow.metrics["cycles"] == cold.metrics["cycles"]


def test_without_a_compiler_a_sample_is_simulated_and_the_cycles_are_the_same(
    synthetic: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    design = DesignPoint.model_validate(
        {
            "hardware": SMALL,
            "compression": {"pruning": {"vision_blocks": (1, 2, 3), "decoder_blocks": (1, 2)}},
        }
    )
    with monkeypatch.context() as patch:
        patch.setenv("CXX", "no-such-compiler")
        sampled = evaluate(synthetic, design)
        edit = RtlEdit(unit="element", source=shipped_source("element"), latency=1)
        (verdict,) = synthetic.gate(DesignPoint(edits=(edit,)))
    assert sampled.status == "ok"
    assert "one tile of each shape" in str(sampled.details["rtl_engine"])
    assert not verdict.accepted
    assert "no C++ compiler" in verdict.reason
    if not verilator.available():
        assert evaluate(synthetic, design).metrics == sampled.metrics


def test_a_plan_that_breaks_a_law_is_invalid_in_one_sentence(synthetic: Pipeline) -> None:
    plan = {"pruning": {"decoder_blocks": (0, 1, 2)}}
    evaluation = evaluate(synthetic, DesignPoint.model_validate({"compression": plan}))
    assert evaluation.status == "invalid"
    assert evaluation.metrics == {}
    assert "leave at least one" in evaluation.reason


def test_an_edit_outside_the_playbook_is_never_built(synthetic: Pipeline) -> None:
    edit = RtlEdit(unit="element", source="raise SystemExit('ran')", latency=1)
    design = DesignPoint(edits=(edit,))
    (verdict,) = synthetic.gate(design)
    assert not verdict.accepted
    assert "not byte-equal to a file of the playbook" in verdict.reason or verilator.available()
    evaluation = evaluate(synthetic, design)
    assert evaluation.status == "invalid"
    assert "edit of element refused" in evaluation.reason


@compiled
@pytest.mark.eda
def test_a_netlist_that_computes_something_else_fails(
    synthetic: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluators import latency
    from swopt.compiler.lowering import Program

    def with_an_error(program: Program, store: bytes):  # type: ignore[no-untyped-def]
        y = unpack(program, store)
        y[-1, -1] ^= 1
        return y

    unpack = latency.unpack
    monkeypatch.setattr(latency, "unpack", with_an_error)
    unseen = {"hardware": SMALL, "compression": {"pruning": {"vision_blocks": (3,)}}}
    evaluation = evaluate(synthetic, DesignPoint.model_validate(unseen))
    assert evaluation.status == "failed"
    assert "the RTL gives" in evaluation.reason
