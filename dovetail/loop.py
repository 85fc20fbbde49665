"""The loop: every step first looks in the journal, and is done only if it is not on record.

There is one loop. A new run starts it with an empty record, `resume` with what is on disk, and
`replay` with an empty record that compares and with replies and evaluations from the old one.

Trials are proposed one after the other. Trial i waits until all trials up to `i - lag` are told; it
sees the figures of those alone, and the designs of all. So at most `lag` are in flight, and nothing
that a run finds depends on which evaluation ends first.
"""

import hashlib
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from agents.proposer import Context, ModelCall, Proposal, Proposer
from dovetail import history, search
from dovetail.errors import EvaluatorBroken
from dovetail.events import (
    Asked,
    Evaluated,
    Gated,
    ModelCalled,
    Proposed,
    Rejected,
    RunEvent,
    RunStopped,
    Tested,
    Told,
)
from dovetail.history import RunState, TrialRecord, fold
from dovetail.settings import Settings, TestSettings
from evaluators import space
from evaluators.design import DesignPoint
from evaluators.metrics import OBJECTIVES, Evaluation, Evaluator, refusal
from evaluators.target import Target

GRACE_S = 3.0
"""How long an interrupted run waits for a model call in flight."""


class Record(Protocol):
    """Where events go: the journal, or a comparison with one."""

    events: list[RunEvent]

    def append(self, event: RunEvent) -> RunEvent:
        """Puts one event on record and returns it as it stands there."""
        ...


class Watch(Protocol):
    """Told what happens, for a person who looks on."""

    def event(self, event: RunEvent) -> None:
        """An event is on record."""
        ...

    def stage(self, trial: int, stage: str) -> None:
        """A stage of a trial's evaluation begins."""
        ...


class Unwatched:
    """Nobody looks on."""

    def event(self, event: RunEvent) -> None:
        """Says nothing."""

    def stage(self, trial: int, stage: str) -> None:
        """Says nothing."""


class Suggest(Protocol):
    """Gives Optuna's suggestion for a trial; `dovetail.search.suggest` is the one that runs."""

    def __call__(
        self,
        history: Sequence[TrialRecord],
        in_flight: Sequence[DesignPoint],
        seed: int,
        trial: int,
        layers: tuple[str, ...],
    ) -> tuple[DesignPoint, dict[str, Any]]: ...


class Stopped(Exception):
    """The loop was asked to stop; what is on record stays, and the run can be resumed."""


class Ledger:
    """The record, and the state that it adds up to, for several threads."""

    def __init__(self, record: Record, watch: Watch) -> None:
        self.state: RunState = fold(record.events)
        self.resumed_trials = {i for i, t in self.state.trials.items() if t.proposed is None}
        """Trials that an earlier process left between question and proposal."""
        self._record, self._watch = record, watch
        self._changed = threading.Condition(threading.RLock())
        self._stopping: BaseException | None = None

    def write(self, event: RunEvent) -> None:
        """Puts one event on record.

        Raises:
            Stopped: the run is stopping. A model call that has just returned is written even then,
                so that it need not be paid for twice; nothing else is.
        """
        with self._changed:
            if not isinstance(event, ModelCalled):
                self.check()
            stamped = self._record.append(event)
            self.state.apply(stamped)
            self._changed.notify_all()
            self.check()
        self._watch.event(stamped)

    def write_call(self, trial: int, call: ModelCall) -> None:
        """Puts a model call on record, unless it is there already."""
        with self._changed:
            calls = self.trial(trial).calls
            if (call.role, call.call) not in calls:
                asked_again = trial in self.resumed_trials
                self.write(
                    ModelCalled(
                        trial=trial,
                        call=call,
                        reply_sha256=_sha256(call.reply),
                        maybe_repeated=asked_again,
                    )
                )

    def trial(self, index: int) -> TrialRecord:
        """What is on record of one trial."""
        with self._changed:
            return self.state.trials.get(index) or TrialRecord(index)

    def wait_told(self, count: int) -> list[TrialRecord]:
        """Waits until the trials before `count` are told, and returns them in trial order.

        Raises:
            Stopped: the run is stopping.
        """
        with self._changed:
            while True:
                self.check()
                told = self.state.told(before=count)
                if len(told) == max(0, count):
                    return told
                self._changed.wait()

    def stop(self, reason: BaseException) -> None:
        """Wakes all who wait and ends every step at its next write; the first reason stands."""
        with self._changed:
            self._stopping = self._stopping or reason
            self._changed.notify_all()

    def check(self) -> None:
        """Raises `Stopped` where the run is stopping."""
        if self._stopping is not None:
            raise Stopped

    @property
    def reason(self) -> BaseException | None:
        """Why the run is stopping."""
        return self._stopping


class Loop:
    """One run, from wherever its record stands to its end.

    Args:
        settings: The run's settings.
        ledger: Its record, which begins with `RunStarted`.
        proposer: Who proposes; tells each model call to `ledger.write_call`.
        evaluator: Gates, measures and tests. What it raises stops the run, and so does a baseline
            that cannot be measured: then the fault is not a design's.
        watch: Told of stages.
        suggest: Who suggests; a replay answers from its record.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        proposer: Proposer,
        evaluator: Evaluator,
        watch: Watch,
        suggest: Suggest = search.suggest,
    ) -> None:
        started = ledger.state.started
        if started is None:
            raise ValueError("a record begins with run_started")
        self._settings, self._ledger, self._watch = settings, ledger, watch
        self._proposer, self._evaluator, self._suggest = proposer, evaluator, suggest
        self._data, self._layers = started.data, started.layers

    def run_in_turn(self) -> None:
        """Runs every trial to its end before the next; what is found is the same."""
        for index in range(self._settings.iterations):
            self._propose(index)
            self._measure(index)
        self._finish()

    def run(self) -> None:
        """Runs with up to `lag` trials in flight, in threads; raises what stopped it.

        The caller's thread only waits, so that Ctrl-C finds it and never a half-written line.
        """
        done = threading.Event()
        conductor = threading.Thread(
            target=self._guarded, args=(self._conduct, done), name="conductor", daemon=True
        )
        conductor.start()
        try:
            done.wait()
        except KeyboardInterrupt as interrupt:
            self._ledger.stop(interrupt)
            done.wait(GRACE_S)  # a model call that returns by then is kept; Ctrl-C again ends this
        if self._ledger.reason is not None:
            raise self._ledger.reason

    def _conduct(self) -> None:
        for index in range(self._settings.iterations):
            self._propose(index)
            if self._ledger.trial(index).told is None:
                threading.Thread(
                    target=self._guarded,
                    args=(lambda index=index: self._measure(index), threading.Event()),
                    name=f"trial-{index}",
                    daemon=True,
                ).start()
        self._finish()

    def _guarded(self, work: Callable[[], None], done: threading.Event) -> None:
        """Runs `work`; what it raises stops the whole run."""
        try:
            work()
        except Stopped:
            pass
        except BaseException as error:  # handed to the caller's thread, which raises it
            self._ledger.stop(error)
        finally:
            done.set()

    def _propose(self, index: int) -> None:
        told = self._ledger.wait_told(index - self._settings.lag + 1)
        if self._ledger.trial(index).asked is None:
            self._ask(index, told)
        if self._ledger.trial(index).proposed is not None:
            return
        proposal = self._proposal(index, told)
        trial = self._ledger.trial(index)
        for rejection in proposal.rejections:
            if (rejection.role, rejection.call) not in trial.rejections:
                self._ledger.write(Rejected(trial=index, rejection=rejection))
        self._ledger.write(
            Proposed(
                trial=index,
                proposal=proposal.model_copy(update={"rejections": ()}),
                replies_sha256=_replies_sha256(trial),
            )
        )

    def _ask(self, index: int, told: Sequence[TrialRecord]) -> None:
        given = self._given()
        if index < len(given):
            design = given[index][0]
            params: dict[str, Any] = dict(space.params_of(design, self._layers))
        else:
            design, params = self._suggest(
                told, self._pending(index, told), self._settings.seed, index, self._layers
            )
        self._ledger.write(Asked(trial=index, suggestion=design, params=params))

    def _proposal(self, index: int, told: Sequence[TrialRecord]) -> Proposal:
        asked = self._ledger.trial(index).asked
        assert asked is not None
        given = self._given()
        if index < len(given):
            design, author, rationale = given[index]
            return Proposal(parent_trial=None, design=design, author=author, rationale=rationale)
        return self._proposer.propose(
            Context(
                trial=index,
                suggestion=asked.suggestion,
                history=history.known(told),
                pending=self._pending(index, told),
                target=self._settings.target,
                workload=self._data,
                layers=self._layers,
                seed=self._settings.seed,
            )
        )

    def _pending(self, index: int, told: Sequence[TrialRecord]) -> tuple[DesignPoint, ...]:
        """Designs of the trials between those that `index` may know and itself.

        Trials are proposed in order, so these are on record, whatever is still measured.
        """
        return tuple(self._ledger.trial(i).proposal.design for i in range(len(told), index))

    def _given(self) -> list[tuple[DesignPoint, str, str]]:
        """Designs that are measured before anybody proposes: design, author, rationale."""
        neutral = self._settings.baseline
        given = [(neutral, "baseline", "The neutral design, which every other is compared with.")]
        if self._settings.base != neutral:
            given.append((self._settings.base, "run file", "Where the run file starts the search."))
        return given

    def _measure(self, index: int) -> None:
        design = self._ledger.trial(index).proposal.design
        if len(self._ledger.trial(index).verdicts) < len(design.edits):
            for verdict in self._evaluator.gate(design):
                if verdict.unit not in self._ledger.trial(index).verdicts:
                    self._ledger.write(Gated(trial=index, verdict=verdict))
        if self._ledger.trial(index).evaluation is None:
            evaluation = _sound(self._evaluation(index, design))
            if index == 0 and evaluation.status != "ok":
                raise EvaluatorBroken(
                    f"the baseline cannot be measured: {evaluation.reason}; mend that "
                    "(dovetail doctor) and go on with `dovetail resume`"
                )
            self._ledger.write(Evaluated(trial=index, evaluation=evaluation))
        trial = self._ledger.trial(index)
        if trial.told is None:
            assert trial.evaluation is not None
            self._ledger.write(told(index, trial.evaluation, self._settings.target))

    def _evaluation(self, index: int, design: DesignPoint) -> Evaluation:
        refused = refusal(design.id, self._ledger.trial(index).verdicts.values())
        return refused or self._evaluator.evaluate(
            design, self._settings.target, lambda stage: self._watch.stage(index, stage)
        )

    def _finish(self) -> None:
        trials = self._ledger.wait_told(self._settings.iterations)
        if self._ledger.state.tested is None:
            chosen = pick(trials, self._settings.test)
            design = chosen.proposal.design
            self._watch.stage(chosen.index, "test data")
            self._ledger.write(
                Tested(
                    trial=chosen.index,
                    rule=rule_in_words(self._settings.test),
                    design_id=design.id,
                    results=self._evaluator.test(design),
                )
            )
        if self._ledger.state.stopped is None:
            self._ledger.write(RunStopped(reason=_closing(trials)))


def _closing(trials: Sequence[TrialRecord]) -> str:
    """The run in one sentence, with what a reader of the front alone would not notice."""
    measured = sum(t.told is not None and t.told.values is not None for t in trials)
    parts = [f"finished: {measured} of {len(trials)} designs gave figures"]
    if not any(t.feasible for t in trials):
        parts.append("none keeps the target's limits, so the front is empty")
    calls = [call for t in trials for call in t.calls.values()]
    failed = sum(bool(call.error) for call in calls)
    refused = sum(len(t.rejections) for t in trials)
    if failed:
        parts.append(f"{failed} of {len(calls)} model calls failed, and those trials went without")
    if refused:
        parts.append(f"{refused} of {len(calls)} replies were refused")
    agents = [t for t in trials if t.calls]
    if agents and not any(t.proposal.author == "agents" for t in agents):
        parts.append("no design came from the agents")
    return "; ".join(parts)


def told(index: int, evaluation: Evaluation, target: Target) -> Told:
    """What Optuna is told of an evaluation."""
    if evaluation.status != "ok":
        return Told(trial=index, values=None, violation=0.0)
    found = evaluation.metrics
    mean_power_w = found["energy_j"] / found["latency_s"]
    return Told(
        trial=index,
        values={name: found[name] for name in OBJECTIVES},
        violation=target.violation(found["area_um2"], mean_power_w),
    )


def pick(trials: Sequence[TrialRecord], test: TestSettings) -> TrialRecord:
    """The design of the front that the rule picks; the baseline where none fits the rule."""
    baseline = next(trial for trial in trials if trial.index == 0)
    bound = math.inf
    if test.rule.endswith("_within_nll") and baseline.told and baseline.told.values:
        bound = baseline.told.values["nll_nats"] + test.margin_nats
    objective = {
        "lowest_latency_within_nll": "latency_s",
        "lowest_energy_within_nll": "energy_j",
        "lowest_nll": "nll_nats",
    }[test.rule]
    fit = [
        (trial.told.values[objective], trial.index, trial)
        for trial in history.front(trials)
        if trial.told and trial.told.values and trial.told.values["nll_nats"] <= bound
    ]
    return min(fit)[2] if fit else baseline


def rule_in_words(test: TestSettings) -> str:
    """The test rule as a reader sees it."""
    within = f", margin {test.margin_nats:g} nats" if test.rule.endswith("_within_nll") else ""
    return f"{test.rule}{within}, on validation"


def _sound(evaluation: Evaluation) -> Evaluation:
    """The evaluation, or `failed` where a figure is missing or no number: NaN beats nothing."""
    if evaluation.status != "ok":
        return evaluation.model_copy(update={"metrics": {}})
    needed = (*OBJECTIVES, "area_um2")
    wrong = sorted({n for n in needed if n not in evaluation.metrics})
    wrong += sorted(n for n, value in evaluation.metrics.items() if not math.isfinite(value))
    if not wrong:
        return evaluation
    reason = f"the evaluator gave no finite number for {', '.join(wrong)}"
    return evaluation.model_copy(update={"status": "failed", "metrics": {}, "reason": reason})


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _replies_sha256(trial: TrialRecord) -> str:
    """SHA-256 over a trial's replies in the order of role and call."""
    digest = hashlib.sha256()
    for _, call in sorted(trial.calls.items()):
        digest.update(f"{call.role}/{call.call}/{len(call.reply)}/{call.reply}".encode())
    return digest.hexdigest()
