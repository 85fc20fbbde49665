"""State = fold(events): the trials of a run, their Pareto front and its hypervolume."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from agents.proposer import ModelCall, Proposal, Rejection, Trial
from dovetail.events import (
    Asked,
    Evaluated,
    Gated,
    ModelCalled,
    Proposed,
    Rejected,
    RunEvent,
    RunStarted,
    RunStopped,
    Tested,
    Told,
)
from evaluators.metrics import OBJECTIVES, Evaluation, Verdict

REFERENCE = 1.1
"""The hypervolume's reference point: this many times the baseline in each objective."""


@dataclass
class TrialRecord:
    """What is on record of one trial; each field is set once, by the event of its name."""

    index: int
    asked: Asked | None = None
    calls: dict[tuple[str, int], ModelCall] = field(default_factory=dict)
    rejections: dict[tuple[str, int], Rejection] = field(default_factory=dict)
    proposed: Proposed | None = None
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    told: Told | None = None

    @property
    def proposal(self) -> Proposal:
        """The proposal of a trial that has one."""
        if self.proposed is None:
            raise ValueError(f"trial {self.index} has no proposal yet")
        return self.proposed.proposal

    @property
    def feasible(self) -> bool:
        """Whether it was measured and keeps the target's limits."""
        return self.told is not None and self.told.values is not None and self.told.violation <= 0


@dataclass
class RunState:
    """What is on record of a run."""

    started: RunStarted | None = None
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    tested: Tested | None = None
    stopped: RunStopped | None = None

    def apply(self, event: RunEvent) -> None:
        """Takes one event in."""
        match event:
            case RunStarted():
                self.started = event
                return
            case RunStopped():
                self.stopped = event
                return
            case Tested():
                self.tested = event
                return
        trial = self.trials.setdefault(event.trial, TrialRecord(event.trial))
        match event:
            case Asked():
                trial.asked = event
            case ModelCalled():
                trial.calls[event.call.role, event.call.call] = event.call
            case Rejected():
                trial.rejections[event.rejection.role, event.rejection.call] = event.rejection
            case Proposed():
                trial.proposed = event
            case Gated():
                trial.verdicts[event.verdict.unit] = event.verdict
            case Evaluated():
                trial.evaluation = event.evaluation
            case Told():
                trial.told = event

    def told(self, before: int | None = None) -> list[TrialRecord]:
        """Told trials in trial order, those with an index under `before` alone if it is given."""
        return [
            trial
            for index, trial in sorted(self.trials.items())
            if trial.told is not None and (before is None or index < before)
        ]


def fold(events: Iterable[RunEvent]) -> RunState:
    """The state that the events add up to."""
    state = RunState()
    for event in events:
        state.apply(event)
    return state


def dominates(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Whether `a` is nowhere worse than `b` in the objectives, and somewhere better."""
    return all(a[o] <= b[o] for o in OBJECTIVES) and any(a[o] < b[o] for o in OBJECTIVES)


def front(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials on the Pareto front of `OBJECTIVES`, fastest first.

    Only what was measured and keeps the limits is on it; of equal designs the first stands.
    """
    best: list[TrialRecord] = []
    seen: set[tuple[float, ...]] = set()
    for trial in sorted((t for t in trials if t.feasible), key=lambda t: t.index):
        values = _values(trial)
        point = tuple(values[o] for o in OBJECTIVES)
        rivals = (t for t in trials if t.feasible)
        if point not in seen and not any(dominates(_values(rival), values) for rival in rivals):
            seen.add(point)
            best.append(trial)
    return sorted(best, key=lambda t: (_values(t)[OBJECTIVES[0]], t.index))


def known(trials: Sequence[TrialRecord]) -> tuple[Trial, ...]:
    """Told trials as a proposer may see them: validation figures only."""
    on_front = {t.index for t in front(trials)}
    return tuple(
        Trial(
            index=t.index,
            design=t.proposal.design,
            evaluation=t.evaluation,
            feasible=t.feasible,
            on_front=t.index in on_front,
        )
        for t in trials
        if t.evaluation is not None
    )


def hypervolume(trials: Sequence[TrialRecord]) -> float | None:
    """Volume that the front dominates, in objectives divided by the baseline's (trial 0).

    The reference point is `REFERENCE` in each objective, so the baseline alone, if it is feasible,
    has `0.1 ** 3`, and a design at zero everywhere would have `1.1 ** 3`. `None` until the baseline
    is measured.
    """
    baseline = next((t for t in trials if t.index == 0), None)
    if baseline is None or baseline.told is None or baseline.told.values is None:
        return None
    unit = baseline.told.values
    points = [tuple(_values(t)[o] / unit[o] for o in OBJECTIVES) for t in front(trials)]
    return _volume([p for p in points if max(p) < REFERENCE], len(OBJECTIVES))


def _volume(points: Sequence[tuple[float, ...]], axes: int) -> float:
    """Volume under `REFERENCE` that the points dominate in their first `axes` coordinates.

    Slices along the last axis; between two neighbouring coordinates the cross-section is constant.
    """
    if not points:
        return 0.0
    if axes == 1:
        return REFERENCE - min(p[0] for p in points)
    edges = [*sorted({p[axes - 1] for p in points}), REFERENCE]
    return sum(
        (above - below) * _volume([p for p in points if p[axes - 1] <= below], axes - 1)
        for below, above in pairwise(edges)
    )


def _values(trial: TrialRecord) -> dict[str, float]:
    """The objectives of a trial that has them."""
    if trial.told is None or trial.told.values is None:
        raise ValueError(f"trial {trial.index} has no objectives")
    return trial.told.values
