"""The prompt: what a role may read of the context, as Markdown with JSON in it.

Every section is a heading and a fenced block, so that a person, a model and the offline model read
the same text. Words that came from a model stand inside JSON strings, where they cannot close a
fence or open a section; a source file is fenced with more backticks than it holds.

What is shown is chosen by name (`SHOWN_METRICS`, `SHOWN_DETAILS`): a figure that nobody listed,
such as one measured on test images, cannot reach a prompt by accident.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.llm import Message
from agents.proposer import Context, Role, Trial
from agents.rewrites import Library
from agents.text import many_lines, one_line
from evaluators import space
from evaluators.design import DesignPoint
from evaluators.metrics import METRICS, OBJECTIVES

PROMPTS = Path(__file__).parent / "prompts"
"""The roles' instructions, one file each."""

HISTORY_ROWS = 32
"""Most trials that a prompt shows: the front, then the latest."""

SHOWN_METRICS = frozenset(metric.name for metric in METRICS)
"""Metrics that may stand in a prompt: those measured on validation data."""

SHOWN_DETAILS = re.compile(
    r"^(?!.*test)(worst_path|netlist|cycles|latency|area|energy|sram|utilization)[a-z0-9_]*$"
)
"""Names of the details that may stand in a prompt."""


def instructions(role: Role) -> str:
    """The role's standing instructions."""
    return (PROMPTS / f"{role}.md").read_text("utf-8")


def messages(role: Role, sections: Iterable[str], schema: Mapping[str, Any]) -> list[Message]:
    """The two messages of a role's first call."""
    answer = as_json("reply", schema)
    return [
        {"role": "system", "content": instructions(role)},
        {"role": "user", "content": "\n\n".join([*sections, answer])},
    ]


def as_json(title: str, value: object) -> str:
    """A section with one JSON value on one line, keys sorted."""
    return f"## {title}\n```json\n{_dump(value)}\n```"


def as_json_lines(title: str, values: Iterable[object]) -> str:
    """A section with one JSON value a line."""
    body = "\n".join(_dump(value) for value in values)
    return f"## {title}\n```jsonl\n{body}\n```"


def as_file(title: str, source: str) -> str:
    """A section that holds a source file, unchanged but for control characters."""
    text = many_lines(source, 65_536).removesuffix("\n")
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"## {title}\n{fence}python\n{text}\n{fence}"


def common(context: Context, library: Library) -> list[str]:
    """What every role reads: the run, the target, the history and the suggestion."""
    run = {"seed": context.seed, "trial": context.trial, "workload": one_line(context.workload)}
    meanings = [{"name": m.name, "objective": m.name in OBJECTIVES, "doc": m.doc} for m in METRICS]
    return [
        as_json("run", run),
        as_json("target", context.target.resolved().model_dump(mode="json")),
        as_json_lines("metrics", meanings),
        as_json_lines("history", [row(t, context, library) for t in shown(context.history)]),
        as_json_lines("under measurement now", [compact(d, library) for d in context.pending]),
        as_json("suggestion", compact(context.suggestion, library)),
    ]


def shown(history: Sequence[Trial]) -> list[Trial]:
    """The trials that a prompt shows, in trial order: those of the front, then the latest."""
    ranked = sorted(history, key=lambda t: (t.on_front, t.index), reverse=True)
    return sorted(ranked[:HISTORY_ROWS], key=lambda t: t.index)


def row(trial: Trial, context: Context, library: Library) -> dict[str, Any]:
    """One trial as a row of the history."""
    verdict = trial.evaluation
    metrics = {n: short(v) for n, v in verdict.metrics.items() if n in SHOWN_METRICS}
    if "area_um2" in metrics:
        metrics["area_share"] = short(metrics["area_um2"] / context.target.area_limit_um2)
    details = {
        name: one_line(value, 120) if isinstance(value, str) else short(value)
        for name, value in verdict.details.items()
        if SHOWN_DETAILS.match(name)
    }
    return {
        "trial": trial.index,
        "status": verdict.status,
        "feasible": trial.feasible,
        "on_front": trial.on_front,
        "metrics": metrics,
        "details": details,
        "reason": one_line(verdict.reason, 200),
        **compact(trial.design, library),
    }


def compact(design: DesignPoint, library: Library) -> dict[str, Any]:
    """A design as its knobs away from the default, and its edits by name."""
    values = space.values_of(design)
    away = {k.path: values[k.path] for k in space.knobs() if values[k.path] != k.default}
    edits = [
        {
            "unit": edit.unit,
            "latency": edit.latency,
            "rewrite": library.name_of(edit.source)
            or f"sha256:{hashlib.sha256(edit.source.encode()).hexdigest()[:12]}",
        }
        for edit in design.edits
    ]
    return {"knobs": away, "edits": sorted(edits, key=lambda e: str(e["unit"]))}


def knob_table(part: str, design: DesignPoint, layers: Sequence[str]) -> str:
    """The knobs under `part` that a model of these layers takes, with their values in `design`."""
    values = space.values_of(design)
    return as_json_lines(
        "knobs",
        [
            {
                "path": k.path,
                "value": values[k.path],
                "default": k.default,
                "is": k.type,
                "doc": k.doc,
            }
            for k in space.knobs_for(layers)
            if k.path.startswith(f"{part}.")
        ],
    )


def short(value: float) -> float:
    """Four significant digits: enough to compare designs, and the same text on every machine."""
    return float(f"{value:.4g}")


def _dump(value: object) -> str:
    # ASCII escapes keep invisible characters of model text visible to whoever reads the prompt.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
