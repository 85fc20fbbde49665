"""Replay: the same loop against recorded suggestions, replies and evaluations, nothing live.

Each event that the loop produces is compared with the recorded one of the same key (trial, step,
role, call), times apart. The first that differs is named.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from agents.llm import ReplayMiss
from agents.proposer import ModelCall
from dovetail import search
from dovetail.errors import Differs, JournalCorrupt
from dovetail.events import Key, ModelCalled, RunEvent, key, timeless, title
from dovetail.formatting import one_line
from dovetail.history import RunState, TrialRecord, fold
from dovetail.loop import Ledger, Loop, Unwatched, Watch
from dovetail.settings import Settings, validated
from dovetail.workshop import Workshop, versions
from evaluators.design import DesignPoint
from evaluators.metrics import METRICS, Evaluation, Evaluator, Metric, Stage, Verdict
from evaluators.target import Target


@dataclass(frozen=True)
class Replayed:
    """What a replay found equal."""

    events: int
    """Events that were produced and are equal."""

    trials: int
    """Trials that were gone through to their end."""

    finished: bool
    """Whether the record is that of a finished run."""

    drifted: tuple[int, ...]
    """Trials for which Optuna would suggest otherwise on this machine; the record was followed."""

    @property
    def note(self) -> str:
        """What a reader should know of `drifted`; empty where it is empty."""
        if not self.drifted:
            return ""
        which = ", ".join(map(str, self.drifted))
        return (
            f"trials {which}: Optuna would suggest another design on this machine, as numpy's "
            "functions differ in their last bits from processor to processor; the recorded "
            "suggestions were followed"
        )


class EndOfRecord(Exception):
    """The record of an unfinished run holds nothing further."""


def settings_of(state: RunState) -> Settings:
    """The settings that a run was started with.

    Raises:
        JournalCorrupt: the journal does not begin with them.
    """
    if state.started is None:
        raise JournalCorrupt("the journal does not begin with run_started; there is no run to read")
    return validated(state.started.settings, "the settings in the journal")


def recorded_calls(state: RunState) -> dict[int, tuple[ModelCall, ...]]:
    """Model calls on record, by trial."""
    return {i: tuple(call for _, call in sorted(t.calls.items())) for i, t in state.trials.items()}


def replay(events: Sequence[RunEvent], workshop: Workshop) -> Replayed:
    """Goes through the whole run again and compares.

    Raises:
        Differs: names the first event that differs, and how.
    """
    state = fold(events)
    settings = settings_of(state)
    assert state.started is not None
    comparison = _Comparison(events, state)
    ledger = Ledger(comparison, Unwatched())
    ledger.write(state.started)
    proposer = workshop.replayer(
        settings, recorded_calls(state), lambda trial, call, _: ledger.write_call(trial, call)
    )
    suggestions = _RecordedSuggestions(state)
    evaluator = RecordedEvaluator(state)
    try:
        Loop(settings, ledger, proposer, evaluator, Unwatched(), suggestions).run_in_turn()
    except EndOfRecord:
        if state.stopped is not None:
            raise Differs("the record is that of a finished run, but events are missing") from None
    except ReplayMiss as missed:
        comparison.check()
        if not comparison.open(missed.trial):
            raise Differs(f"the first event that differs: {one_line(str(missed), 400)}") from None
    comparison.check()
    if state.stopped is not None:
        comparison.check_complete()
    return Replayed(
        events=len(comparison.events),
        trials=len(ledger.state.told()),
        finished=state.stopped is not None,
        drifted=tuple(suggestions.drifted),
    )


class _Comparison:
    """A record that compares what is written to it with the recorded events."""

    def __init__(self, recorded: Sequence[RunEvent], state: RunState) -> None:
        self.events: list[RunEvent] = []
        self._recorded: dict[Key, RunEvent] = {key(event): event for event in recorded}
        self._state = state
        self._differences: dict[Key, str] = {}

    def append(self, event: RunEvent) -> RunEvent:
        """Compares one event; the roles of a trial may call in any order, so calls wait."""
        place = key(event)
        recorded = self._recorded.get(place)
        if recorded is None:
            if not isinstance(event, ModelCalled):
                self.check()
            if self.open(place[0]):
                raise EndOfRecord
            self._differences[place] = f"{title(event)}: the record holds no such event"
        elif (difference := _difference(timeless(recorded), timeless(event))) is not None:
            line = recorded.sequence + 1
            self._differences[place] = f"{title(event)} (line {line} of the journal): {difference}"
        self.events.append(event)
        if not isinstance(event, ModelCalled):
            self.check()
        return event

    def open(self, trial: int) -> bool:
        """Whether the record is unfinished and breaks off in that trial."""
        recorded = self._state.trials.get(trial)
        return self._state.stopped is None and (recorded is None or recorded.told is None)

    def check(self) -> None:
        """Raises `Differs` for the first difference so far."""
        if self._differences:
            first = self._differences[min(self._differences)]
            raise Differs(f"the first event that differs: {first}")

    def check_complete(self) -> None:
        """Raises `Differs` for the first recorded event that was not produced."""
        missing = sorted(self._recorded.keys() - {key(event) for event in self.events})
        if missing:
            event = self._recorded[missing[0]]
            raise Differs(
                f"the first event that differs: {title(event)} (line {event.sequence + 1} of the "
                "journal): the replay does not produce it"
            )


class _RecordedSuggestions:
    """Answers with what is on record, and notes where Optuna would not say the same here.

    A suggestion hangs on the last bits of floating-point functions, which differ between
    processors; a run read on another machine must not look forged for that.
    """

    def __init__(self, state: RunState) -> None:
        self.drifted: list[int] = []
        self._asked = {i: t.asked for i, t in state.trials.items() if t.asked is not None}

    def __call__(
        self,
        history: Sequence[TrialRecord],
        in_flight: Sequence[DesignPoint],
        seed: int,
        trial: int,
        layers: tuple[str, ...],
    ) -> tuple[DesignPoint, dict[str, Any]]:
        design, params = search.suggest(history, in_flight, seed, trial, layers)
        recorded = self._asked.get(trial)
        if recorded is None:
            return design, params
        if recorded.suggestion != design:
            self.drifted.append(trial)
        return recorded.suggestion, dict(recorded.params)


class RecordedEvaluator:
    """Answers with what is on record, and with nothing else."""

    name = "record"

    def __init__(self, state: RunState) -> None:
        trials = [t for t in state.trials.values() if t.proposed is not None]
        self._verdicts: dict[str, tuple[Verdict, ...]] = {
            t.proposal.design.id: tuple(t.verdicts.values()) for t in trials if t.verdicts
        }
        self._evaluations: dict[str, Evaluation] = {
            t.proposal.design.id: t.evaluation for t in trials if t.evaluation is not None
        }
        self._tested = state.tested

    def gate(self, design: DesignPoint) -> tuple[Verdict, ...]:
        """The recorded verdicts."""
        return self._verdicts.get(design.id, ())

    def evaluate(self, design: DesignPoint, target: Target, on_stage: Stage) -> Evaluation:
        """The recorded evaluation."""
        if design.id not in self._evaluations:
            raise EndOfRecord
        return self._evaluations[design.id]

    def test(self, design: DesignPoint) -> dict[str, dict[str, float]]:
        """The recorded test figures."""
        if self._tested is None:
            raise EndOfRecord
        return self._tested.results


def other_versions(state: RunState) -> str:
    """Which versions differ from those that the run was recorded with; empty where none does."""
    recorded = state.started.versions if state.started is not None else {}
    here = versions()
    names = [name for name in here if recorded.get(name) not in (None, here[name])]
    return ", ".join(f"{name} {recorded[name]}, here {here[name]}" for name in names)


def remeasure(events: Sequence[RunEvent], evaluator: Evaluator, watch: Watch) -> int:
    """Measures every design of the record again and compares within each metric's tolerance.

    Returns:
        How many designs were measured and agree.

    Raises:
        Differs: names the first trial and metric outside its tolerance.
    """
    state = fold(events)
    target = settings_of(state).target
    agreed = 0
    for index, trial in sorted(state.trials.items()):
        recorded = trial.evaluation
        if recorded is None or recorded.evaluator == "gate":
            continue
        design = trial.proposal.design
        fresh = evaluator.evaluate(design, target, partial(watch.stage, index))
        _compare(index, recorded, fresh)
        agreed += 1
    if state.tested is not None:
        index = state.tested.trial
        watch.stage(index, "test data")
        fresh_figures = evaluator.test(state.trials[index].proposal.design)
        _compare_tested(index, state.tested.results, fresh_figures)
    return agreed


TEST_TOLERANCE = 0.02
"""How far a test figure may lie from the record: float operators round differently elsewhere."""


def _compare_tested(
    trial: int,
    recorded: Mapping[str, Mapping[str, float]],
    fresh: Mapping[str, Mapping[str, float]],
) -> None:
    for data in sorted(recorded.keys() | fresh.keys()):
        old, new = recorded.get(data, {}), fresh.get(data, {})
        for name in sorted(old.keys() | new.keys()):
            a, b = old.get(name), new.get(name)
            if a is None or b is None or not abs(a - b) <= TEST_TOLERANCE:
                raise Differs(
                    f"test data of trial {trial}: {data} {name} is {b}, on record {a}; "
                    f"the tolerance is {TEST_TOLERANCE:g}"
                )


def _compare(trial: int, recorded: Evaluation, fresh: Evaluation) -> None:
    if recorded.status != fresh.status:
        why = f" ({one_line(fresh.reason)})" if fresh.reason else ""
        raise Differs(f"trial {trial}: {fresh.status}{why}, on record {recorded.status}")
    for metric in METRICS:
        old, new = recorded.metrics.get(metric.name), fresh.metrics.get(metric.name)
        if old is None and new is None:
            continue
        if old is None or new is None or not _close(old, new, metric):
            raise Differs(
                f"trial {trial}: {metric.name} is {new}, on record {old}; "
                f"the tolerance is {metric.tolerance:g} of the value"
                + (f" or {metric.least_tolerance:g}" if metric.least_tolerance else "")
            )


def _close(old: float, new: float, metric: Metric) -> bool:
    # The last bits of a float sum may differ between machines even where the tolerance is 0.
    relative, least = max(metric.tolerance, 1e-12), max(metric.least_tolerance, 1e-300)
    return math.isclose(old, new, rel_tol=relative, abs_tol=least)


def _difference(recorded: Any, produced: Any, where: str = "") -> str | None:
    """The first place at which two JSON values differ, in words; `None` where they are equal."""
    if isinstance(recorded, dict) and isinstance(produced, dict):
        for name in [*recorded, *(n for n in produced if n not in recorded)]:
            below = f"{where}.{name}" if where else name
            if found := _difference(recorded.get(name), produced.get(name), below):
                return found
        return None
    if isinstance(recorded, list) and isinstance(produced, list):
        for index, pair in enumerate(zip(recorded, produced, strict=False)):
            if found := _difference(*pair, f"{where}[{index}]"):
                return found
        if len(recorded) != len(produced):
            return f"{where} has {len(produced)} items, on record {len(recorded)}"
        return None
    if recorded == produced:
        return None
    return f"{where} is {_shown(produced)}, on record {_shown(recorded)}"


def _shown(value: Any) -> str:
    return one_line(json.dumps(value), 80)
