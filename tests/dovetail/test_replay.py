"""Replay finds a run equal to its record, and names the first event that is not."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from dovetail import journal, search
from dovetail.errors import Differs
from dovetail.events import EVENT, Asked, Evaluated, ModelCalled, Proposed, RunEvent
from dovetail.journal import Journal
from dovetail.loop import Ledger, Loop, Unwatched
from dovetail.replay import remeasure, replay
from dovetail.settings import Settings
from dovetail.shipped import Shipped
from dovetail.testing import ScriptedProposer, ToyEvaluator, ToyWorkshop
from evaluators.design import DesignPoint
from evaluators.metrics import Evaluation, Stage
from evaluators.target import Target
from tests.dovetail.runs import Memory, finish, start

SETTINGS = Settings(seed=7, iterations=5)


@pytest.fixture(scope="module")
def events() -> list[RunEvent]:
    record = Memory()
    finish(record, SETTINGS)
    return record.events


def edited(events: list[RunEvent], index: int, change: dict[str, object]) -> list[RunEvent]:
    """The journal as it reads after one record was edited and its checksum renewed."""
    tree = events[index].model_dump(mode="json")
    for path, value in change.items():
        *above, name = path.split(".")
        place = tree
        for step in above:
            place = place[step]
        place[name] = value
    other = EVENT.validate_json(json.dumps(tree))
    content = b"".join(journal.encode(e) for e in [*events[:index], other, *events[index + 1 :]])
    return journal.parse(content)[0]


def test_a_recorded_run_is_equal_to_its_replay(events: list[RunEvent]) -> None:
    done = replay(events, ToyWorkshop())
    assert (done.events, done.trials, done.finished) == (len(events), 5, True)


def test_an_unfinished_run_is_equal_as_far_as_it_goes(events: list[RunEvent]) -> None:
    for count in range(1, len(events)):
        done = replay(events[:count], ToyWorkshop())
        assert not done.finished


def test_every_edited_reply_is_named(events: list[RunEvent]) -> None:
    indices = [i for i, e in enumerate(events) if isinstance(e, ModelCalled)]
    assert indices
    for i in indices:
        call = events[i]
        assert isinstance(call, ModelCalled)
        answer = json.loads(call.call.reply) | {"rationale": "forged"}
        changed = edited(events, i, {"call.reply": json.dumps(answer)})
        line = rf"trial {call.trial} model_called \w+ \d+ \(line {i + 1} of the journal\)"
        with pytest.raises(Differs, match=f"first event that differs: {line}: reply_sha256"):
            replay(changed, ToyWorkshop())


def test_an_edited_reply_with_its_hash_renewed_is_named_at_the_proposal(
    events: list[RunEvent],
) -> None:
    i = max(i for i, e in enumerate(events) if isinstance(e, ModelCalled))
    call = events[i]
    assert isinstance(call, ModelCalled)
    reply = call.call.reply + " "
    renewed = hashlib.sha256(reply.encode()).hexdigest()
    changed = edited(events, i, {"call.reply": reply, "reply_sha256": renewed})
    with pytest.raises(Differs, match=rf"trial {call.trial} proposed .*replies_sha256"):
        replay(changed, ToyWorkshop())


def test_a_suggestion_that_optuna_would_not_make_here_is_followed_and_noted() -> None:
    def elsewhere(*question: Any) -> tuple[DesignPoint, dict[str, Any]]:
        design, params = search.suggest(*question)
        if question[3] != 3:
            return design, params
        return DesignPoint.model_validate({"hardware": {"rows": 4}}), params

    record = Memory()
    ledger = Ledger(record, Unwatched())
    ledger.write(start(SETTINGS))
    proposer = ScriptedProposer({}, lambda trial, call, _: ledger.write_call(trial, call))
    Loop(SETTINGS, ledger, proposer, ToyEvaluator(), Unwatched(), elsewhere).run()
    done = replay(record.events, ToyWorkshop())
    assert (done.events, done.drifted) == (len(record.events), (3,))
    assert done.note.startswith("trials 3: Optuna would suggest another design on this machine")


def test_a_forged_suggestion_is_named_where_it_matters(events: list[RunEvent]) -> None:
    i = next(i for i, e in enumerate(events) if isinstance(e, Asked) and e.trial == 3)
    forged = {"rows": 16, "columns": 16, "composable": True}  # lawful for any compression
    changed = edited(events, i, {"suggestion.hardware": forged})
    with pytest.raises(Differs, match="first event that differs: trial 3 "):
        replay(changed, ToyWorkshop())


def test_a_forged_test_figure_is_found_by_measuring_again(events: list[RunEvent]) -> None:
    i = next(i for i, e in enumerate(events) if e.event == "tested")
    tested = events[i]
    assert tested.event == "tested"
    data = next(iter(tested.results))
    name = next(iter(tested.results[data]))
    forged = edited(events, i, {f"results.{data}.{name}": tested.results[data][name] + 0.1})
    assert remeasure(events, ToyEvaluator(), Unwatched()) == 4  # the gate refused one of the five
    with pytest.raises(Differs, match=f"test data of trial .*{name}"):
        remeasure(forged, ToyEvaluator(), Unwatched())


def test_an_edited_figure_is_named_at_what_was_told(events: list[RunEvent]) -> None:
    i = next(i for i, e in enumerate(events) if isinstance(e, Evaluated))
    changed = edited(events, i, {"evaluation.metrics.latency_s": 1e-9})
    with pytest.raises(Differs, match=r"trial 0 told .*latency_s"):
        replay(changed, ToyWorkshop())


def test_an_edited_proposal_is_named(events: list[RunEvent]) -> None:
    i = max(i for i, e in enumerate(events) if isinstance(e, Proposed))
    changed = edited(events, i, {"proposal.rationale": "forged"})
    with pytest.raises(Differs, match=r"proposed .*rationale is .*, on record .forged"):
        replay(changed, ToyWorkshop())


class Drifting(ToyEvaluator):
    """Gives every latency a little higher."""

    def evaluate(self, design: DesignPoint, target: Target, on_stage: Stage) -> Evaluation:
        evaluation = super().evaluate(design, target, on_stage)
        metrics = evaluation.metrics | {"latency_s": evaluation.metrics["latency_s"] * 1.000001}
        return evaluation.model_copy(update={"metrics": metrics})


def test_measuring_again_compares_within_the_tolerances(events: list[RunEvent]) -> None:
    assert remeasure(events, ToyEvaluator(), Unwatched()) >= 3
    with pytest.raises(Differs, match=r"trial 0: latency_s is .*, on record"):
        remeasure(events, Drifting(), Unwatched())


def test_a_journal_on_disk_replays(tmp_path: Path) -> None:
    with Journal.create(tmp_path / "run") as record:
        finish(record, SETTINGS)
    assert replay(journal.read(tmp_path / "run"), ToyWorkshop()).finished


class AgentsOnToys(ToyWorkshop):
    """The real agents with the offline model; the evaluator is a toy."""

    proposer = Shipped.proposer
    replayer = Shipped.replayer
    _server = Shipped._server


def test_a_run_of_the_real_agents_replays(tmp_path: Path) -> None:
    workshop, settings = AgentsOnToys(), Settings(seed=7, iterations=4)
    record = Memory()
    ledger = Ledger(record, Unwatched())
    ledger.write(start(settings))
    proposer = workshop.proposer(settings, {}, lambda t, call, _: ledger.write_call(t, call))  # type: ignore[misc]
    Loop(settings, ledger, proposer, ToyEvaluator(), Unwatched()).run()
    assert {e.call.role for e in record.events if isinstance(e, ModelCalled)} >= {"planner", "rtl"}
    assert replay(record.events, workshop).finished
