"""The whole chain on one design: figures, their provenance, and what becomes of a fault."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from evaluators import accuracy
from evaluators.bench import DesignBench
from evaluators.cache import NotKept, only_kept
from evaluators.design import DesignPoint
from evaluators.energy import Energy
from evaluators.latency import longest_question
from evaluators.metrics import METRICS, Evaluation
from evaluators.pipeline import Pipeline
from evaluators.silicon import verilator
from evaluators.target import Target
from hwlib.config import CoreConfig
from hwlib.edit import RtlEdit
from hwlib.unit_source import shipped_source
from swopt.workloads import checkpoint
from swopt.workloads.own_questions import OwnQuestions
from swopt.workloads.workload import Workload
from tests.swopt.own_rows import packed

SMALL = {"rows": 4, "columns": 4}

SHALLOW = {"pruning": {"vision_blocks": (1, 2, 3), "decoder_blocks": (1, 2)}}
"""One block a tower, which is lowered in a moment."""

LOOK_UP = """
import sys
from evaluators.design import DesignPoint
from evaluators.pipeline import Pipeline
from evaluators.target import Target
pipeline, design = Pipeline.model_validate_json(input()), DesignPoint.model_validate_json(input())
print(pipeline.evaluate(design, Target(), lambda stage: None).model_dump_json())
sys.exit(bool({"torch", "transformers"} & set(sys.modules)))
"""

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


def part_j(evaluation: Evaluation, part: str) -> float:
    share = evaluation.details[f"energy_share_{part}"]
    return float(share) * evaluation.metrics["energy_j"]


@compiled
@pytest.mark.eda
def test_a_design_gets_every_metric_and_the_same_from_a_warm_store(synthetic: Pipeline) -> None:
    design = DesignPoint.model_validate({"hardware": SMALL, "compression": SHALLOW})
    cold = evaluate(synthetic, design)
    assert (cold.status, cold.reason) == ("ok", "")
    assert cold.metrics.keys() == {metric.name for metric in METRICS}
    assert evaluate(synthetic, design) == cold
    stages = [each.evaluator for each in cold.provenance]
    assert stages == ["accuracy", "synthesis", "rtl_simulation"]
    assert cold.metrics["latency_s"] == cold.metrics["cycles"] / cold.metrics["clock_hz"]
    assert cold.details["cycles_predicted"] == pytest.approx(cold.metrics["cycles"], rel=0.02)
    assert not cold.energy_is_modelled
    shares = {name: v for name, v in cold.details.items() if name.startswith("energy_share_")}
    assert shares.keys() == {
        f"energy_share_{part.removesuffix('_j')}" for part in Energy.model_fields
    }
    assert min(shares.values()) > 0.0 and sum(shares.values()) == pytest.approx(1.0)
    # A slower DRAM takes longer, however fast the core is; what was built stays as it is.
    slow = evaluate(synthetic, design, Target(dram_bytes_per_s=1e8))
    assert slow.details["latency_limited_by"] == "DRAM bandwidth"
    assert slow.metrics["latency_s"] > 2 * cold.metrics["latency_s"]
    assert slow.metrics["clock_hz"] == cold.metrics["clock_hz"]
    # The target's clock has to be reached, and then it counts.
    held = evaluate(synthetic, design, Target(clock_hz=1e8, dram_latency_s=0.0))
    assert held.metrics["latency_s"] == held.metrics["cycles"] / 1e8
    assert held.metrics["cycles"] < cold.metrics["cycles"]  # the DRAM's latency is none
    # At a tenth of the clock the core leaks for longer; what switches costs the same.
    slower = held.metrics["latency_s"] / cold.metrics["latency_s"]
    assert part_j(held, "leakage") == pytest.approx(slower * part_j(cold, "leakage"), rel=0.02)
    assert part_j(held, "clock") == pytest.approx(part_j(cold, "clock"), rel=0.05)
    beyond = evaluate(synthetic, design, Target(clock_hz=5e9))
    assert beyond.status == "invalid"
    assert "MHz, not the target's clock_hz of 5000 MHz" in beyond.reason
    # What is kept is looked up without the packages that take seconds to import.
    found = subprocess.run(
        [sys.executable, "-c", LOOK_UP],
        input=f"{synthetic.model_dump_json()}\n{design.model_dump_json()}\n",
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Evaluation.model_validate_json(found.stdout).metrics == cold.metrics
    with only_kept():
        assert evaluate(synthetic, design) == cold
        with pytest.raises(NotKept):
            evaluate(synthetic, DesignPoint())


def test_without_a_compiler_the_cycles_are_predicted_and_called_so(
    synthetic: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    design = DesignPoint.model_validate({"hardware": SMALL, "compression": SHALLOW})
    monkeypatch.setenv("CXX", "no-such-compiler")
    predicted = evaluate(synthetic, design)
    edit = RtlEdit(unit="mac", source=shipped_source("mac"), latency=2)
    (verdict,) = synthetic.gate(DesignPoint(edits=(edit,)))
    assert predicted.status == "ok"
    assert "no C++ compiler" in str(predicted.details["rtl_engine"])
    assert predicted.metrics["cycles"] == predicted.details["cycles_predicted"]
    assert predicted.energy_is_modelled
    assert not verdict.accepted
    assert "no C++ compiler" in verdict.reason


def test_fusion_and_dataflow_are_lowered_anew_and_never_scored_anew(
    synthetic: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("the model is scored again")

    monkeypatch.setenv("CXX", "no-such-compiler")
    plain = evaluate(
        synthetic, DesignPoint.model_validate({"hardware": SMALL, "compression": SHALLOW})
    )
    monkeypatch.setattr(accuracy, "answer", refuse)
    choices = {"fusion": {"residuals": False}, "dataflow": {"groups": 1, "ways": 1}}
    plan = {"hardware": SMALL, "compression": SHALLOW | choices}
    other = evaluate(synthetic, DesignPoint.model_validate(plan))
    assert (other.status, other.reason) == ("ok", "")
    scores = ("nll_nats", "nll_increase_nats", "accuracy", "model_bytes", "area_um2")
    assert {n: other.metrics[n] for n in scores} == {n: plain.metrics[n] for n in scores}
    assert other.metrics["cycles"] > plain.metrics["cycles"]
    used, before = (int(e.details["activation_bytes_used"]) for e in (other, plain))
    assert 0 < used < before <= CoreConfig().activation_bytes
    assert float(other.details["dram_bytes"]) >= float(plain.details["dram_bytes"]) > 0
    inputs = [{each.evaluator: each.inputs for each in e.provenance} for e in (other, plain)]
    assert inputs[0]["accuracy"] == inputs[1]["accuracy"]
    assert inputs[0]["rtl_simulation"] != inputs[1]["rtl_simulation"]
    plan = {"compression": SHALLOW | {"attention": {"block": 32}}}
    with pytest.raises(AssertionError, match="scored again"):
        evaluate(synthetic, DesignPoint.model_validate(plan))


def test_a_plan_that_breaks_a_law_is_invalid_in_one_sentence(
    synthetic: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And before its edits are judged, which takes minutes."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the edit is judged")

    monkeypatch.setattr(Pipeline, "judgement", refuse)
    edit = {"unit": "mac", "source": shipped_source("mac"), "latency": 2}
    plan = {"pruning": {"decoder_blocks": (0, 1, 2)}}
    evaluation = evaluate(
        synthetic, DesignPoint.model_validate({"compression": plan, "edits": [edit]})
    )
    assert evaluation.status == "invalid"
    assert evaluation.metrics == {}
    assert "leave at least one" in evaluation.reason


def test_a_core_that_holds_the_first_question_has_to_hold_the_longest(cache_dir: Path) -> None:
    vlm = checkpoint.load()
    table = packed(vlm, 4).table
    nine = " ".join(["light"] * 9)
    last = int(table.of("test")[-1])

    def workload(longest: str) -> Workload:
        texts = [nine] * len(table.texts)
        texts[last] = longest
        asked = OwnQuestions("rows", replace(table, texts=tuple(texts)), vlm.answers[:4], {}, "")
        return Workload("tiny-vlm", vlm, asked)

    design = DesignPoint.model_validate(
        {
            "hardware": {"activation_bytes": 16384},
            "compression": {"resolution": {"image_width": 16}},
        }
    )
    pipeline = Pipeline(cache_dir=cache_dir)
    short, long = workload(nine), workload(" ".join(["light"] * 48))
    assert longest_question(long).texts == (" ".join(["light"] * 48),)
    DesignBench(pipeline, design, Target())._lower(short, {"of": "short"})
    with pytest.raises(ValueError, match="use a larger activation memory"):
        DesignBench(pipeline, design, Target())._lower(long, {"of": "long"})


def test_an_edit_that_gives_no_netlist_is_invalid(synthetic: Pipeline) -> None:
    edit = RtlEdit(unit="mac", source="raise SystemExit('ran')", latency=1)
    design = DesignPoint(edits=(edit,))
    (verdict,) = synthetic.gate(design)
    assert not verdict.accepted
    assert re.search("SystemExit: ran|there is no sandbox", verdict.reason) or verilator.available()
    evaluation = evaluate(synthetic, design)
    assert evaluation.status == "invalid"
    assert "edit of mac refused" in evaluation.reason


def test_a_missing_sandbox_is_told_and_not_remembered(
    synthetic: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluators.gate import check

    if verilator.available():
        pytest.skip("nothing is judged without a compiler")
    pipeline = synthetic.model_copy(update={"cache_dir": tmp_path})
    edit = RtlEdit(unit="mac", source="raise SystemExit('ran')", latency=2)
    design = DesignPoint(edits=(edit,))
    monkeypatch.setattr(check, "sandbox_missing", lambda: "the kernel offers no Landlock")
    (refused,) = pipeline.gate(design)
    assert "there is no sandbox here (the kernel offers no Landlock)" in refused.reason
    assert not pipeline.gate(DesignPoint())  # what has no edit needs none
    pipeline = pipeline.model_copy(update={"vetted": frozenset({check.source_sha256(edit.source)})})
    (judged,) = pipeline.gate(design)
    assert "SystemExit: ran" in judged.reason


@compiled
@pytest.mark.parametrize("final", [False, True])
def test_a_verdict_for_want_of_time_is_not_remembered(
    final: bool, synthetic: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluators.gate import check

    def judge(*arguments: object) -> check.Judgement:
        asked.append(arguments)
        reason = "g++ took longer than 120 s"
        return check.Judgement(unit="mac", accepted=False, reason=reason, final=final)

    asked: list[object] = []
    monkeypatch.setattr(check, "judge", judge)
    pipeline = synthetic.model_copy(update={"cache_dir": tmp_path})
    edit = RtlEdit(unit="mac", source=shipped_source("mac"), latency=2)
    for _ in range(2):
        (verdict,) = pipeline.gate(DesignPoint(edits=(edit,)))
        assert not verdict.accepted and "took longer" in verdict.reason
    assert len(asked) == (1 if final else 2)
    # A design is not called wrong of whose edit nothing is known.
    evaluation = pipeline.evaluate(DesignPoint(edits=(edit,)), Target(), lambda stage: None)
    assert evaluation.status == ("invalid" if final else "failed")


@compiled
@pytest.mark.eda
def test_a_tool_that_is_killed_gives_no_verdict(
    synthetic: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluators.silicon import verilator

    def killed(*arguments: object, **named: object) -> Path:
        raise verilator.ToolFailed("g++ died of SIGKILL; its last words: (nothing)")

    pipeline = synthetic.model_copy(update={"cache_dir": tmp_path})
    design = DesignPoint(
        edits=(RtlEdit(unit="mac", source=shipped_source("mac") + "# as it is\n", latency=2),)
    )
    with monkeypatch.context() as patch:
        patch.setattr(verilator, "build", killed)
        (verdict,) = pipeline.gate(design)
    assert not verdict.accepted
    assert verdict.reason.startswith("no verdict: g++ died of SIGKILL")
    (verdict,) = pipeline.gate(design)
    assert verdict.accepted, verdict.reason


@compiled
@pytest.mark.eda
def test_a_netlist_that_computes_something_else_fails(
    synthetic: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evaluators import latency

    def with_an_error(*arguments):  # type: ignore[no-untyped-def]
        tensor = unpack_result(*arguments)
        tensor[-1, -1] ^= 1
        return tensor

    unpack_result = latency.unpack_result
    monkeypatch.setattr(latency, "unpack_result", with_an_error)
    unseen = {"pruning": {**SHALLOW["pruning"], "vision_mlp_keep": 0.5}}
    design = DesignPoint.model_validate({"hardware": SMALL, "compression": unseen})
    evaluation = evaluate(synthetic, design)
    assert evaluation.status == "failed"
    assert "the core gives" in evaluation.reason
