"""The study: its list of designs, a folder that goes on where it stopped, page and picture."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.rewrites import Rewrite, shipped_library
from dovetail.cli import main
from dovetail.errors import BadInput, EvaluatorBroken, FolderRefused
from dovetail.formatting import metric
from dovetail.study.entries import Entry, StudyList
from dovetail.study.folder import Header, ScoresOnTest, StudyFolder
from dovetail.study.measuring import Row, Study
from dovetail.study.smollm2 import SMOLLM2
from dovetail.study.tiny_vlm import TINY_VLM
from dovetail.testing import ToyEvaluator, ToyWorkshop
from dovetail.viewer import study_page
from dovetail.viewer.study_page import accuracy_of
from evaluators.design import DesignPoint
from evaluators.metrics import Evaluation, Stage
from evaluators.target import Target
from hwlib.config import CoreConfig


@pytest.fixture(scope="module")
def playbook() -> tuple[Rewrite, ...]:
    return shipped_library().rewrites


HEADER = Header(data="made up", data_sha256={}, target=Target(), versions={"dovetail": "1"})


class Counting(ToyEvaluator):
    """Counts what it measures, and may fail at a design."""

    def __init__(self, broken: Callable[[DesignPoint], str] = lambda design: "") -> None:
        super().__init__()
        object.__setattr__(self, "seen", [])
        object.__setattr__(self, "broken", broken)

    def evaluate(self, design: DesignPoint, target: Target, on_stage: Stage) -> Evaluation:
        """The toy's figures, or the status that was asked for."""
        self.seen.append(design.id)  # type: ignore[attr-defined]
        found = super().evaluate(design, target, on_stage)
        if status := self.broken(design):  # type: ignore[attr-defined]
            return found.model_copy(update={"status": status, "reason": "so", "metrics": {}})
        return found


def study_in(path: Path, evaluator: ToyEvaluator, **target: Any) -> Study:
    return Study(
        TINY_VLM, evaluator, Target(**target), StudyFolder.begin(path, HEADER), 1, lambda line: None
    )


@pytest.mark.parametrize("listed", [TINY_VLM, SMOLLM2])
def test_every_technique_stands_alone_in_turn_and_left_out(
    listed: StudyList, playbook: tuple[Rewrite, ...]
) -> None:
    rows = listed.entries(CoreConfig(), playbook)
    of = {part: [r for r in rows if r.part == part] for part in ("alone", "cumulative", "without")}
    assert len(of["cumulative"]) == len(of["without"]) == len(listed.stack) + 1
    whole = of["cumulative"][-1].design
    for row in of["without"]:
        assert row.design != whole
        assert row.design.hardware.rows == whole.hardware.rows
    # Each step adds to the one before it: no knob goes back.
    for before, after in zip(of["cumulative"], of["cumulative"][1:], strict=False):
        old, new = (json.loads(each.design.canonical_json()) for each in (before, after))
        assert old.get("compression", {}).keys() <= new.get("compression", {}).keys() or old == new
        assert before.design != after.design
    assert {row.design.edits for row in listed.fitted(playbook)} == {whole.edits}
    assert [row.design.compression for row in listed.fitted(playbook)] == [whole.compression] * len(
        listed.cores
    )


@pytest.mark.parametrize("listed", [TINY_VLM, SMOLLM2])
def test_designs_of_the_list_are_lawful_and_named_once(
    listed: StudyList, playbook: tuple[Rewrite, ...]
) -> None:
    rows = [
        *listed.baselines(),
        *listed.entries(CoreConfig(), playbook),
        *listed.fitted(playbook),
    ]
    names = [(row.part, row.name) for row in rows]
    assert len(set(names)) == len(names)
    for row in rows:
        assert DesignPoint.model_validate_json(row.design.model_dump_json()) == row.design


def test_what_was_measured_is_not_measured_again(
    tmp_path: Path, playbook: tuple[Rewrite, ...]
) -> None:
    first = Counting()
    rows = study_in(tmp_path / "study", first).rows(playbook)
    assert rows[0].entry.part == "cores"
    again = Counting()
    assert [r.evaluation for r in study_in(tmp_path / "study", again).rows(playbook)] == [
        row.evaluation for row in rows
    ]
    assert again.seen == []  # type: ignore[attr-defined]
    # One file less is one design more.
    lost = rows[5].entry.design.id
    (tmp_path / "study" / "evaluations" / f"{lost}.json").unlink()
    study_in(tmp_path / "study", again).rows(playbook)
    assert again.seen == [lost]  # type: ignore[attr-defined]


def test_the_baseline_is_the_core_of_least_product_under_the_limit(tmp_path: Path) -> None:
    rows = study_in(tmp_path / "all", ToyEvaluator()).measured(TINY_VLM.baselines())
    whole = study_in(tmp_path / "all", ToyEvaluator()).best(rows)
    assert whole.edp_js == min(row.edp_js for row in rows)
    limit = whole.evaluation.metrics["area_um2"] - 1
    small = study_in(tmp_path / "small", ToyEvaluator(), area_limit_um2=limit)
    assert small.best(rows).evaluation.metrics["area_um2"] <= limit
    with pytest.raises(EvaluatorBroken, match="no core serves as a baseline: over the area limit"):
        study_in(tmp_path / "none", ToyEvaluator(), area_limit_um2=1.0).best(rows)


def test_a_design_that_fails_is_a_row_and_is_tried_again_another_time(
    tmp_path: Path, playbook: tuple[Rewrite, ...]
) -> None:
    at = {"failed": "decoder_mlp_keep", "invalid": "wording"}

    def broken(design: DesignPoint) -> str:
        alone = design.canonical_json()
        return next((s for s, knob in at.items() if knob in alone and "mean_bits" not in alone), "")

    rows = study_in(tmp_path / "study", Counting(broken)).rows(playbook)
    failed = {row.entry.design.id: row for row in rows if row.evaluation.status != "ok"}
    assert {row.evaluation.status for row in failed.values()} == {"failed", "invalid"}
    best = study_in(tmp_path / "study", Counting()).best(
        [row for row in rows if row.entry.part == "fitted"]
    )
    text = study_page.page(TINY_VLM, HEADER, rows, best, "dovetail study")
    assert text.count("| failed | so |") and text.count("| invalid | so |")
    again = Counting()
    study_in(tmp_path / "study", again).rows(playbook)
    mended = {id_ for id_, row in failed.items() if row.evaluation.status == "failed"}
    assert set(again.seen) == mended  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change", [{"data_sha256": {"a": "1"}}, {"versions": {}}, {"target": Target(sram="itrs-lstp")}]
)
def test_a_study_does_not_go_on_with_something_else(tmp_path: Path, change: dict[str, Any]) -> None:
    StudyFolder.begin(tmp_path / "study", HEADER)
    StudyFolder.begin(tmp_path / "study", HEADER)
    with pytest.raises(BadInput, match=f"another `{next(iter(change))}`.*--out"):
        StudyFolder.begin(tmp_path / "study", HEADER.model_copy(update=change))


def test_a_folder_of_something_else_and_a_changed_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FolderRefused, match="holds something else"):
        StudyFolder.begin(tmp_path, HEADER)
    with pytest.raises(FolderRefused, match="holds something else"):
        StudyFolder.begin(tmp_path / "file", HEADER)
    study = StudyFolder.begin(tmp_path / "new", HEADER)
    study.keep(DesignPoint(), ScoresOnTest(figures={}))
    path = tmp_path / "new" / "tests" / f"{DesignPoint().id}.json"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BadInput, match=r"was changed and cannot be read .*remove that file"):
        study.test(DesignPoint())


def test_accuracy_is_the_mean_over_medical_sets() -> None:
    entry = Entry(part="cores", name="x", design=DesignPoint())
    evaluation = ToyEvaluator().evaluate(DesignPoint(), Target(), lambda stage: None)
    figures = {
        "breastmnist": {"accuracy_difference": -0.02, "accuracy_difference_se": 0.03},
        "retinamnist": {"accuracy_difference": 0.04, "accuracy_difference_se": 0.04},
        "synthetic": {"accuracy_difference": 0.5, "accuracy_difference_se": 0.5},
    }
    found = accuracy_of(Row(entry, evaluation, ScoresOnTest(figures=figures)))
    assert found is not None
    assert found.mean == pytest.approx(0.01)
    assert found.standard_error == pytest.approx(0.025)
    assert found.lower_bound == pytest.approx(0.01 - 1.645 * 0.025)


def test_the_command_writes_page_and_picture_and_says_what_it_came_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOVETAIL_CACHE_DIR", str(tmp_path / "store"))
    folder = tmp_path / "study"
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main(["study", "--out", str(folder)], replace(ToyWorkshop()))
        assert ended.value.code == 0
        assert "times less energy-delay product" in capsys.readouterr().out.replace("\n", " ")
    page = (folder / "study.md").read_text()
    columns = {line.count("|") for line in page.splitlines() if line.startswith("| ")}
    assert "baseline: w8a8 on" in page and len(columns) == 3  # the table, the aims, the sets
    ET.fromstring((folder / "study.svg").read_text())
    design = next((folder / "designs").iterdir())
    assert DesignPoint.model_validate_json(design.read_bytes()).id == design.stem


def test_limits_of_bits_per_byte_pick_the_least_that_keeps_them(
    tmp_path: Path, playbook: tuple[Rewrite, ...]
) -> None:
    def row(name: str, lost: float, memory: float, latency_s: float) -> Row:
        details = {"bits_per_byte": 1 + lost, "bits_per_byte_of_float": 1.0}
        found = ToyEvaluator().evaluate(DesignPoint(), Target(), lambda stage: None)
        found = found.model_copy(
            update={
                "metrics": found.metrics | {"latency_s": latency_s, "energy_j": 1.0},
                "details": details | {"memory_of_float16": memory},
            }
        )
        return Row(Entry(part="ladder", name=name, design=DesignPoint()), found, None)

    rows = [
        row("baseline", 0.0, 0.5, 8.0),
        row("near", 0.0199, 0.4, 4.0),
        row("small", 0.019, 0.3, 5.0),
        row("far", 0.09, 0.2, 2.0),
        row("lost", 0.3, 0.1, 1.0),
    ]
    lines = list(study_page._limits(rows))
    assert lines[2] == ("| 2% over the float model | 2.00: near, +2.0% | 0.300: small, +1.9% |")
    assert lines[3] == "| 10% over the float model | 4.00: far, +9.0% | 0.200: far, +9.0% |"
    assert "no row" in list(study_page._limits(rows[-1:]))[2]


def test_the_list_can_be_read_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["study", "--dry-run"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    rows = TINY_VLM.entries(CoreConfig(), shipped_library().rewrites)
    assert len(lines) == 1 + 2 * len(TINY_VLM.cores) + len(rows)


def test_a_study_of_another_model_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["study", "--workload", "gpt-9"])
    assert ended.value.code == 3
    assert "there are those of tiny-vlm and smollm2-135m" in " ".join(
        capsys.readouterr().err.split()
    )


STUDIES = Path(__file__).parents[2] / "docs" / "studies"


@pytest.mark.parametrize("folder", sorted(STUDIES.iterdir()), ids=lambda folder: folder.name)
def test_every_row_of_a_shipped_study_is_that_of_its_evaluation(folder: Path) -> None:
    rows = re.findall(r"^\| \[.*\]\(evaluations/(\w+)\.json\) \| (.*) \|$",
                      (folder / "study.md").read_text(), re.MULTILINE)  # fmt: skip
    evaluations = {
        path.stem: Evaluation.model_validate_json(path.read_bytes())
        for path in (folder / "evaluations").iterdir()
    }
    able = {name for name, each in evaluations.items() if each.status == "ok"}
    assert {name for name, _ in rows} == able
    products = []
    for name, text in rows:
        found, cells = evaluations[name].metrics, text.split(" | ")
        design = DesignPoint.model_validate_json((folder / "designs" / f"{name}.json").read_bytes())
        assert design.id == evaluations[name].design_id == name
        assert cells[1:3] == [metric(m, found[m]) for m in ("latency_s", "energy_j")]
        assert cells[3] == f"{found['cycles']:,.0f}"
        assert cells[7].startswith(f"{found['nll_increase_nats']:+.4f} ")
        products.append(found["latency_s"] * found["energy_j"])
        assert cells[0] == f"{products[0] / products[-1]:.2f}"
