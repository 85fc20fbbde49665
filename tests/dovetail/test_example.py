"""The recorded run in `runs/example` is what the documentation says of it."""

import re
from pathlib import Path

import pytest

import dovetail
from dovetail.replay import other_versions, replay
from dovetail.saved import Run, load
from dovetail.shipped import Shipped
from dovetail.viewer.report import page

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "runs" / "example"


@pytest.fixture(scope="module")
def run() -> Run:
    return load(EXAMPLE)


def test_it_is_a_finished_default_run_of_twelve_designs_under_two_megabytes(run: Run) -> None:
    assert run.state.stopped is not None and run.state.tested is not None
    assert len(run.state.told()) == 12
    assert any(trial.proposal.design.edits for trial in run.state.told())
    assert sum(path.stat().st_size for path in EXAMPLE.rglob("*")) < 2_000_000


def test_its_front_is_a_table_and_its_report_a_page(run: Run) -> None:
    front = dovetail.load(str(EXAMPLE)).front
    assert [row["trial"] for row in front] == [row["trial"] for row in run.front]
    assert len(front) > 2
    assert "<svg" in page(run.events)


def test_this_dovetail_replays_it_event_for_event(run: Run) -> None:
    done = replay(run.events, Shipped())
    assert (done.events, done.trials, done.finished) == (len(run.events), 12, True)
    assert "prompts" not in other_versions(run.state), "agents read other words now: record it anew"


def test_the_readme_quotes_its_front(run: Run) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    rows = re.findall(
        r"^\| (\d+)(?:, baseline)? \| \w* ?\| ([\d.]+) µs \| ([\d.]+) µJ \| ([\d.]+) nats \|"
        r" ([\d,]+) µm² \|",
        text,
        re.MULTILINE,
    )
    quoted = {int(row[0]): tuple(float(cell.replace(",", "")) for cell in row[1:]) for row in rows}
    assert set(quoted) == {0, *(row["trial"] for row in run.front)}
    for index, (latency_us, energy_uj, nll_nats, area_um2) in quoted.items():
        evaluation = run.state.trials[index].evaluation
        assert evaluation is not None
        found = evaluation.metrics
        assert latency_us == pytest.approx(1e6 * found["latency_s"], rel=0.01)
        assert energy_uj == pytest.approx(1e6 * found["energy_j"], rel=0.01)
        assert nll_nats == pytest.approx(found["nll_nats"], abs=0.0006)
        assert area_um2 == pytest.approx(found["area_um2"], abs=1)
