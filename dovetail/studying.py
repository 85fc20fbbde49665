"""What `dovetail study` does: measures its list of designs and writes the page and the picture."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.rewrites import Rewrite
from dovetail import session
from dovetail.settings import Settings
from dovetail.study.entries import Entry, StudyList
from dovetail.study.folder import Header, StudyFolder
from dovetail.study.measuring import Row, Study
from dovetail.study.smollm2 import SMOLLM2
from dovetail.study.tiny_vlm import TINY_VLM
from dovetail.viewer import study_chart, study_page
from dovetail.workshop import Workshop, versions
from hwlib.config import CoreConfig

PAGE, CHART = "study.md", "study.svg"

LISTS: Mapping[str, StudyList] = {each.workload: each for each in (TINY_VLM, SMOLLM2)}
"""What can be studied, by the model's name."""


@dataclass(frozen=True)
class Done:
    """A finished study.

    Attributes:
        summary: What it came to, in lines.
        figures: Every row, for JSON.
    """

    summary: tuple[str, ...]
    figures: list[dict[str, Any]]


def plan(listed: StudyList, playbook: Sequence[Rewrite]) -> Iterator[str]:
    """The designs, a line each; those that depend on the baseline's core as on the first one."""
    core = CoreConfig(**listed.cores[0])
    wanted = [*listed.baselines(), *listed.entries(core, playbook), *listed.fitted(playbook)]
    yield f"{len(wanted)} designs; all but the fitted ones on the core of the baseline"
    for entry in wanted:
        yield f"{entry.part:11} {entry.name}"


def study(
    listed: StudyList,
    settings: Settings,
    path: Path,
    playbook: Sequence[Rewrite],
    workshop: Workshop,
    tell: Callable[[str], None],
) -> Done:
    """Measures what is not measured yet, and writes the report.

    Raises:
        DovetailError: Data or a tool is missing, the folder is something else, or there is no
            baseline.
    """
    bench = workshop.bench(settings)
    target = settings.target.resolved()
    header = Header(
        data=bench.data,
        data_sha256=dict(bench.data_sha256),
        target=target,
        versions={k: v for k, v in versions().items() if k != "prompts"},
    )
    folder = StudyFolder.begin(path, header)
    tell(f"measuring on {bench.data}")
    with session.isolated(settings, bench) as evaluator:
        running = Study(listed, evaluator, target, folder, settings.workers, tell)
        rows = running.rows(playbook)
        best = running.best([row for row in rows if row.entry.part == "fitted"])
    command = f"dovetail study --workload {listed.workload}"
    text = study_page.page(listed, header, rows, best, command)
    pages = [folder.write(PAGE, text), folder.write(CHART, study_chart.svg(rows, best))]
    return Done(tuple(_summary(rows, best, pages)), [_figures(row) for row in rows])


def _summary(rows: Sequence[Row], best: Row, pages: Sequence[Path]) -> Iterator[str]:
    gain = rows[0].edp_js / best.edp_js
    failed = [row for row in rows if row.evaluation.status != "ok"]
    yield f"the whole stack, fitted: {gain:.1f} times less energy-delay product than the baseline"
    if failed:
        yield f"without figures: {', '.join(row.entry.name for row in failed)}"
    yield f"report: {', '.join(map(str, pages))}"


def _figures(row: Row) -> dict[str, Any]:
    entry: Entry = row.entry
    return {
        "part": entry.part,
        "name": entry.name,
        "design_id": entry.design.id,
        "status": row.evaluation.status,
        "reason": row.evaluation.reason,
        "metrics": row.evaluation.metrics,
        "test": row.test.figures if row.test else None,
    }
