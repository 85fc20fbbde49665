"""What `trace`, `runs` and `evaluate` print: a run and its steps for a terminal."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from dovetail import history, saved, scores
from dovetail.errors import DovetailError
from dovetail.events import Tested
from dovetail.formatting import duration, metric, one_line, plain_number, safe
from dovetail.history import TrialRecord
from dovetail.progress import figure
from dovetail.saved import Run
from evaluators import space
from evaluators.design import DesignPoint
from evaluators.metrics import METRICS, OBJECTIVES, Evaluation, Evaluator, Verdict, refusal
from evaluators.target import Target

if TYPE_CHECKING:
    from dovetail.gating import GateReport
    from evaluators.fpga.ecp5 import Ecp5Cost
    from evaluators.silicon.foreign import ForeignCost

NEUTRAL = DesignPoint()


def changed_knobs(design: DesignPoint, parent: DesignPoint) -> dict[str, tuple[Any, Any]]:
    """Knobs in which a design differs from its parent: path -> (parent's value, its own)."""
    before, after = space.values_of(parent), space.values_of(design)
    return {path: (before[path], after[path]) for path in after if before[path] != after[path]}


def parent_of(run: Run, trial: TrialRecord) -> DesignPoint:
    """The design that a trial's proposal grew from; the neutral one where it names none."""
    index = trial.proposal.parent_trial
    parent = run.state.trials.get(index) if index is not None else None
    return parent.proposal.design if parent is not None and parent.proposed else NEUTRAL


def lines(run: Run, step: int | None) -> Iterator[Text]:
    """The whole run with one paragraph a trial, or one trial with everything on record."""
    state = run.state
    if step is not None:
        yield from _trial_lines(run, state.trials[step])
        yield from _conversation(state.trials[step])
        return
    if state.started is not None:
        yield Text(f"measured on {safe(state.started.data)}", style="bold")
    for _, trial in sorted(state.trials.items()):
        yield from _trial_lines(run, trial)
    front = ", ".join(str(t.index) for t in history.front(state.told()))
    yield Text(f"front: trials {front}" if front else "front: empty")
    if (volume := run.hypervolume) is not None:
        yield Text(f"hypervolume: {volume:.4g} (objectives over the baseline's, up to 1.1)")
    if state.tested is not None:
        yield from test_lines(state.tested)
    yield Text(safe(state.stopped.reason) if state.stopped else "not finished: dovetail resume")


def test_lines(tested: Tested) -> Iterator[Text]:
    """The test figures under the rule that picked the design."""
    yield Text(f"test data: trial {tested.trial}, by {safe(tested.rule)}")
    yield from score_lines(tested.results)


def score_lines(results: Mapping[str, Mapping[str, float]]) -> Iterator[Text]:
    """The test figures, a data set a column, so that three sets fit 80 columns."""
    headings, rows = scores.table(results)
    columns = [headings, *rows]
    for cells in zip(*columns, strict=True):
        yield Text(f"    {cells[0]:20}" + "".join(f" {one_line(c, 17):>17}" for c in cells[1:]))


def evaluation_lines(evaluation: Evaluation, target: Target) -> Iterator[Text]:
    """An evaluation's figures with units, or why it has none, and a limit that it breaks."""
    yield Text(f"{evaluation.design_id}: {evaluation.status}", style="bold")
    if evaluation.reason:
        yield Text(f"    {one_line(evaluation.reason, 600)}")
    if evaluation.metrics.get("area_um2", 0) > target.area_limit_um2:
        limit = metric("area_um2", target.area_limit_um2)
        yield Text(f"    over the target's area limit of {limit}: no run puts it on its front")
    if evaluation.status == "ok" and target.power_limit_w is not None:
        mean_power_w = evaluation.metrics["energy_j"] / evaluation.metrics["latency_s"]
        if mean_power_w > target.power_limit_w:
            yield Text(
                f"    a mean power of {metric('power_w', mean_power_w)}, over the target's limit "
                f"of {metric('power_w', target.power_limit_w)}: no run puts it on its front"
            )
    for known in METRICS:
        if known.name in evaluation.metrics:
            value = figure(known.name, evaluation.metrics[known.name], evaluation)
            yield Text(f"    {known.name:22} {value:24} {known.doc}")
    for name, detail in evaluation.details.items():
        text = plain_number(detail) if isinstance(detail, int | float) else one_line(detail)
        yield Text(f"    {one_line(name, 40):22} {text}")


def verilog_lines(top: str, cost: "ForeignCost") -> Iterator[Text]:
    """What a Verilog file costs, with units."""
    about = f"{top}: {cost.recipe} recipe, {cost.library}, {cost.corner} corner, before layout"
    yield Text(about, style="bold")
    for name, field in type(cost).model_fields.items():
        value = getattr(cost, name)
        if isinstance(value, int | float):
            yield Text(f"    {name:16} {metric(name, value):16} {field.description}")
    yield Text(f"    worst_path       {one_line(cost.worst_path)}")


def ecp5_lines(name: str, cost: "Ecp5Cost") -> Iterator[Text]:
    """What a netlist takes of an FPGA, beside what that has, and its fastest clock."""
    about = f"{name}: {cost.device}, speed grade {cost.speed_grade}, placed and routed"
    yield Text(f"{about}, out of context, seed {cost.seed}", style="bold")
    fields = type(cost).model_fields
    for field in ("lut4", "flip_flops", "dsp", "block_ram", "distributed_ram"):
        used = getattr(cost, field)
        share = f"{used.used / used.available:.1%}" if used.available else ""
        counts = f"{plain_number(used.used):>8} of {plain_number(used.available):>6} {share:>6}"
        yield Text(f"    {field:18} {counts}  {fields[field].description}")
    fmax = "none" if cost.fmax_hz is None else metric("fmax_hz", cost.fmax_hz)
    yield Text(f"    {'fmax_hz':18} {fmax:>25}  {fields['fmax_hz'].description}")
    if cost.worst_path:
        yield Text(f"    worst_path         {one_line(cost.worst_path)}")
    took = f"{duration(cost.synthesis_s)} and {duration(cost.place_and_route_s)}"
    yield Text(f"    mapped, and placed and routed, in {took}")
    tools = ", ".join(f"{tool} {version}" for tool, version in cost.versions.items())
    yield Text(f"    {one_line(tools)}")


def verdict_words(verdict: "Verdict | GateReport") -> str:
    """Whether an edit was accepted, and how far it was shown to be right."""
    if not verdict.accepted:
        return "refused"
    return f"accepted, {verdict.shown}" if verdict.shown else "accepted"


def gate_lines(report: "GateReport") -> Iterator[Text]:
    """A verdict, and where it is favourable what the unit costs before and after."""
    yield Text(f"{report.unit}: {verdict_words(report)}", style="bold")
    yield Text(f"    {one_line(report.reason, 600)}")
    if report.cost is None or report.shipped is None:
        return
    for name in type(report.cost).model_fields:
        new, old = getattr(report.cost, name), getattr(report.shipped, name)
        change = f"{new / old - 1:+.1%} against the shipped {metric(name, old)}"
        yield Text(f"    {name:17} {metric(name, new):10} {change}")
    yield Text(
        "    the unit alone, typical corner, before layout; energy of a cycle of random operands, "
        "power at the fastest clock"
    )


def as_json(run: Run, step: int | None) -> Any:
    """The events as JSON values: all of them, or one trial's."""
    return [
        event.model_dump(mode="json")
        for event in run.events
        if step is None or getattr(event, "trial", None) == step
    ]


def measured(evaluator: Evaluator, design: DesignPoint, target: Target) -> Evaluation:
    """Gates a design's edits and measures it, as one trial of a run does."""
    refused = refusal(design.id, evaluator.gate(design))
    return refused or evaluator.evaluate(design, target, lambda stage: None)


def table_of_runs(folder: Path) -> Table:
    """The runs under a folder, the newest last; one that cannot be read says why."""
    table = Table()
    for heading in ("run", "trials", "front", "state", "measured on"):
        table.add_column(heading, overflow="fold")
    for path in sorted(folder.glob("*/journal.jsonl")):
        name = Text(safe(str(path.parent)))
        try:
            run = saved.load(path.parent)
            told = run.state.told()
            started = run.state.started
            ended = "finished" if run.state.stopped else "not finished"
            data = Text(safe(started.data) if started else "")
            front = str(len(history.front(told)))
            table.add_row(name, str(len(told)), front, ended, data)
        except DovetailError as error:
            table.add_row(name, "", "", Text(safe(str(error)), style="red"), "")
    return table


def _trial_lines(run: Run, trial: TrialRecord) -> Iterator[Text]:
    if trial.proposed is None:
        yield Text(f"trial {trial.index}: asked, not yet proposed", style="dim")
        return
    proposal = trial.proposal
    grew = "" if proposal.parent_trial is None else f" from trial {proposal.parent_trial}"
    author = one_line(proposal.author, 40)
    yield Text(f"trial {trial.index}: {proposal.design.id} by {author}{grew}", style="bold")
    yield Text(f"    {one_line(proposal.rationale, 600)}")
    for path, (before, after) in changed_knobs(proposal.design, parent_of(run, trial)).items():
        yield Text(f"    {path}: {json.dumps(before)} -> {json.dumps(after)}")
    inherited = {edit.unit: edit for edit in parent_of(run, trial).edits}
    for edit in proposal.design.edits:
        whose = ", as its parent" if inherited.get(edit.unit) == edit else ""
        yield Text(f"    RTL edit of {edit.unit}, latency {edit.latency}{whose}")
    for rejection in trial.rejections.values():
        yield Text(f"    refused ({rejection.role}): {one_line(rejection.reason, 600)}")
    for verdict in trial.verdicts.values():
        words = verdict_words(verdict)
        yield Text(f"    gate: {verdict.unit} {words}: {one_line(verdict.reason, 600)}")
    if trial.told is not None and trial.told.values is not None and trial.evaluation is not None:
        told, evaluation = trial.told.values, trial.evaluation
        values = [figure(name, told[name], evaluation) for name in OBJECTIVES]
        area = metric("area_um2", trial.evaluation.metrics["area_um2"])
        over = " (over the limit)" if trial.told.violation > 0 else ""
        yield Text(f"    {', '.join(values)}, {area}{over}")
    elif trial.evaluation is not None:
        yield Text(f"    {trial.evaluation.status}: {one_line(trial.evaluation.reason, 600)}")


def _conversation(trial: TrialRecord) -> Iterator[Text]:
    for (role, call), made in sorted(trial.calls.items()):
        yield Text(f"\n{role}, call {call}, {one_line(made.model, 80)}", style="bold")
        for message in made.messages:
            yield Text(f"[{safe(message.get('role', ''))}]", style="dim")
            yield Text(safe(message.get("content", "")))
        yield Text("[reply]", style="dim")
        yield Text(safe(made.error or made.reply))
