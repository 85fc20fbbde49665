"""report.html: a run on one page that needs nothing else, no network and no script.

Everything that a model wrote is data: the template escapes it, control characters are stripped, and
the page's own policy forbids scripts, images, frames and connections. The styles are allowed by
their hash.
"""

import base64
import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hwlib
from dovetail import history, scores
from dovetail.events import RunEvent
from dovetail.formatting import metric, safe
from dovetail.history import RunState, TrialRecord
from dovetail.saved import Run
from dovetail.trace import changed_knobs, parent_of
from dovetail.viewer.plot import Panel, panel
from evaluators.metrics import METRICS, OBJECTIVES

ROOM = Path(__file__).parent

DIFF_LINES = 800
"""Longest RTL diff that is shown whole."""


@dataclass(frozen=True)
class Step:
    """One trial as the page shows it."""

    record: TrialRecord
    on_front: bool
    knobs: dict[str, tuple[str, str]]
    """Path -> parent's value and its own."""
    diffs: dict[str, list[tuple[str, str]]]
    """Unit -> lines of the diff against the shipped file: kind and text."""
    figures: list[tuple[str, str, bool, str]]
    """Name, value with unit, whether it is modelled, what it means measured."""
    badge: str
    headline: str
    """The objectives, where there are any."""


def page(events: Sequence[RunEvent]) -> str:
    """The whole page.

    Args:
        events: A run's events; the run may be unfinished.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(ROOM),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Jinja stringifies what it prints; what a model wrote loses its control characters here.
        finalize=lambda value: safe(value) if type(value) is str else value,
    )
    style = (ROOM / "style.css").read_text(encoding="utf-8")
    run = Run(Path(), tuple(events))
    template = environment.get_template("report.html.j2")
    return template.render(**_content(run), style=style, style_hash=_hash(style))


def _content(run: Run) -> dict[str, Any]:
    state = run.state
    told = state.told()
    front = history.front(told)
    on_front = {trial.index for trial in front}
    steps = [
        _step(run, trial, trial.index in on_front)
        for _, trial in sorted(state.trials.items())
        if trial.proposed is not None
    ]
    return {
        "state": state,
        "settings": run.settings,
        "panels": _panels(told),
        "energy": _energy(told),
        "front": [_row(trial) for trial in front],
        "gains": _gains(told, front),
        "hypervolume": run.hypervolume,
        "steps": steps,
        "tests": _tests(state),
        "pretty": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
    }


def _energy(told: Sequence[TrialRecord]) -> str:
    """What to call the energy of a run."""
    measured = [t.evaluation for t in told if t.evaluation and t.evaluation.metrics]
    return "energy, modelled" if any(e.energy_is_modelled for e in measured) else "energy"


def _panels(told: Sequence[TrialRecord]) -> list[Panel]:
    if not any(trial.told is not None and trial.told.values for trial in told):
        return []
    nll = "NLL of the true answer"
    return [
        panel("Latency and error", told, "latency_s", "nll_nats", ("latency per question", nll)),
        panel(
            "Energy and error",
            told,
            "energy_j",
            "nll_nats",
            (f"{_energy(told)}, per question", nll),
        ),
    ]


def _gains(told: Sequence[TrialRecord], front: Sequence[TrialRecord]) -> list[dict[str, str]]:
    """The best of each objective on the front, beside the baseline."""
    baseline = next((t for t in told if t.index == 0 and t.told and t.told.values), None)
    if baseline is None or baseline.told is None or not baseline.told.values or not front:
        return []
    names = {"latency_s": "latency", "energy_j": _energy(told), "nll_nats": "NLL"}
    gains = []
    for name in OBJECTIVES:
        least, index = min(
            (t.told.values[name], t.index) for t in front if t.told and t.told.values
        )
        base = baseline.told.values[name]
        change = f"{base / least:.2f}× lower" if least < base else "the baseline's own"
        if name == "nll_nats" and least < base:
            change = f"{base - least:.3g} nats lower"
        gains.append(
            {
                "name": names[name],
                "value": metric(name, least),
                "change": change,
                "base": metric(name, base),
                "trial": str(index),
            }
        )
    return gains


def _row(trial: TrialRecord) -> dict[str, Any]:
    assert trial.evaluation is not None
    metrics = trial.evaluation.metrics
    return {
        "trial": trial.index,
        "design": trial.proposal.design.id,
        "author": trial.proposal.author,
        "edits": [edit.unit for edit in trial.proposal.design.edits],
        "figures": [
            metric(name, metrics[name]) if name in metrics else "–"
            for name in (*OBJECTIVES, "area_um2", "clock_hz")
        ],
        "accuracy": f"{100 * metrics['accuracy']:.1f} %" if "accuracy" in metrics else "–",
    }


def _step(run: Run, trial: TrialRecord, on_front: bool) -> Step:
    design = trial.proposal.design
    changed = changed_knobs(design, parent_of(run, trial))
    metrics = trial.evaluation.metrics if trial.evaluation else {}
    modelled = trial.evaluation is not None and trial.evaluation.energy_is_modelled
    return Step(
        record=trial,
        on_front=on_front,
        knobs={path: (json.dumps(a), json.dumps(b)) for path, (a, b) in changed.items()},
        diffs={edit.unit: _diff(edit.unit, edit.source) for edit in design.edits},
        figures=[
            (m.name, metric(m.name, metrics[m.name]), modelled and m.name == "energy_j", m.doc)
            for m in METRICS
            if m.name in metrics
        ],
        badge=_badge(trial, on_front),
        headline=" · ".join(metric(name, metrics[name]) for name in OBJECTIVES if name in metrics),
    )


def _badge(trial: TrialRecord, on_front: bool) -> str:
    if trial.evaluation is None:
        return "in flight"
    if trial.evaluation.status != "ok":
        return str(trial.evaluation.status)
    if not trial.feasible:
        return "over the limit"
    return "front" if on_front else "dominated"


def _diff(unit: str, source: str) -> list[tuple[str, str]]:
    """Lines of the unified diff against the shipped unit, each with its kind."""
    before = _shipped(unit).splitlines()
    lines = list(
        difflib.unified_diff(
            before, source.splitlines(), f"shipped/{unit}.py", f"edit/{unit}.py", lineterm=""
        )
    )
    kinds = {"+": "added", "-": "removed", "@": "place"}
    names, rest = lines[:2], lines[2:DIFF_LINES]
    shown = [("place", name) for name in names]
    shown += [(kinds.get(line[:1], "same"), line) for line in rest]
    if len(lines) > DIFF_LINES:
        shown.append(("place", f"… {len(lines) - DIFF_LINES} more lines"))
    return shown


@cache
def _shipped(unit: str) -> str:
    """The text of a shipped unit; empty where this version has none of that name."""
    path = Path(hwlib.__file__).parent / "units" / f"{unit}.py"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _tests(state: RunState) -> dict[str, Any] | None:
    """The test figures as a table."""
    if state.tested is None:
        return None
    columns, rows = scores.table(state.tested.results)
    return {
        "trial": state.tested.trial,
        "rule": state.tested.rule,
        "columns": columns,
        "rows": rows,
    }


def _hash(style: str) -> str:
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
