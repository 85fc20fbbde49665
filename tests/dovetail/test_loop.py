"""The laws of the loop: what a run finds depends on its settings alone."""

import pytest

from agents.proposer import Context, Proposal
from dovetail import events
from dovetail.events import ModelCalled, Rejected, RunStopped, Told
from dovetail.history import fold
from dovetail.loop import Ledger, Loop, Unwatched
from dovetail.settings import Settings
from dovetail.testing import ScriptedProposer, ToyEvaluator
from evaluators.design import DesignPoint
from evaluators.target import Target
from tests.dovetail.runs import Memory, finish, ordered, start

SETTINGS = Settings(seed=7, iterations=6)


@pytest.fixture(scope="module")
def whole() -> Memory:
    record = Memory()
    finish(record, SETTINGS)
    return record


def test_the_first_trial_is_the_baseline_and_counts(whole: Memory) -> None:
    state = fold(whole.events)
    assert state.trials[0].proposal.design == DesignPoint()
    assert sorted(state.trials) == list(range(6))
    assert all(trial.told is not None for trial in state.trials.values())


def test_the_base_of_the_run_file_is_measured_second() -> None:
    record = Memory()
    base = DesignPoint().model_validate({"hardware": {"rows": 4}})
    finish(record, Settings(seed=7, iterations=3, base=base))
    state = fold(record.events)
    assert state.trials[0].proposal.design == DesignPoint()
    assert state.trials[1].proposal.design == base
    assert not state.trials[1].calls


def test_test_images_are_seen_once_and_last(whole: Memory) -> None:
    assert [type(event) for event in whole.events[-2:]] == [events.Tested, RunStopped]
    assert sum(isinstance(event, events.Tested) for event in whole.events) == 1


def test_no_proposer_sees_a_test_figure(whole: Memory) -> None:
    prompts = [event.call.messages for event in whole.events if isinstance(event, ModelCalled)]
    assert prompts
    assert "baseline_accuracy" not in str(prompts)


def test_the_fakes_exercise_refusals_and_gates(whole: Memory) -> None:
    state = fold(whole.events)
    assert any(isinstance(event, Rejected) for event in whole.events)
    assert any(v.accepted for t in state.trials.values() for v in t.verdicts.values())
    refused = [t for t in state.trials.values() if any(not v.accepted for v in t.verdicts.values())]
    assert refused and all(t.told is not None and t.told.values is None for t in refused)


def test_the_number_of_workers_is_no_difference_between_two_runs(whole: Memory) -> None:
    record = Memory()
    finish(record, SETTINGS.model_copy(update={"workers": 5}))
    assert ordered(record.events) == ordered(whole.events)


def test_the_last_line_says_what_the_front_does_not_show(whole: Memory) -> None:
    ended = whole.events[-1]
    assert isinstance(ended, RunStopped)
    assert ended.reason == ("finished: 5 of 6 designs gave figures; 2 of 10 replies were refused")


def test_an_unreachable_limit_is_said_in_the_last_line() -> None:
    record = Memory()
    tight = Settings(seed=7, iterations=2, target=Target(area_limit_um2=1.0))
    finish(record, tight)
    ended = record.events[-1]
    assert isinstance(ended, RunStopped)
    assert "none keeps the target's limits, so the front is empty" in ended.reason


def test_two_runs_are_equal(whole: Memory) -> None:
    again = Memory()
    finish(again, SETTINGS)
    assert ordered(again.events) == ordered(whole.events)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_never_change_what_is_found(whole: Memory, workers: int) -> None:
    other = Memory()
    finish(other, SETTINGS.model_copy(update={"workers": workers}))
    # The setting itself stands in the first event.
    assert ordered(other.events)[1:] == ordered(whole.events)[1:]


def test_another_seed_and_another_lag_find_something_else(whole: Memory) -> None:
    for change in ({"seed": 8}, {"lag": 1}):
        other = Memory()
        finish(other, SETTINGS.model_copy(update=change))
        assert ordered(other.events)[1:] != ordered(whole.events)[1:]


@pytest.mark.parametrize("lag", [1, 2, 4])
def test_a_suggestion_sees_the_trials_up_to_lag_before_it(lag: int) -> None:
    record = Memory()
    finish(record, SETTINGS.model_copy(update={"lag": lag}))
    for event in record.events:
        if isinstance(event, ModelCalled) and event.call.role == "planner":
            seen = event.call.messages[0]["content"].split("known ")[1].split(";")[0]
            indices = [int(item.split(":")[0]) for item in seen.split(", ") if item]
            assert indices == list(range(max(0, event.trial - lag + 1)))


@pytest.mark.parametrize("lag", [1, 2, 4])
def test_a_proposer_sees_the_designs_whose_figures_it_may_not_know(lag: int) -> None:
    settings = SETTINGS.model_copy(update={"lag": lag})
    record = Memory()
    contexts = listen(record, settings)
    designs = [t.proposal.design for _, t in sorted(fold(record.events).trials.items())]
    assert [c.trial for c in contexts] == list(range(1, 6))
    for c in contexts:
        known = max(0, c.trial - lag + 1)
        assert [t.index for t in c.history] == list(range(known))
        assert c.pending == tuple(designs[known : c.trial])


def test_a_context_made_from_a_record_that_holds_test_figures_holds_none() -> None:
    """Nobody writes `tested` before the end; even if it stood there, no agent could read it."""
    planted = events.Tested(
        trial=0, rule="x", design_id="x", results={"toy": {"design_accuracy": 0.91327}}
    )
    record = Memory([start(SETTINGS), planted])
    contexts = listen(record, SETTINGS)
    assert len(contexts) == 5
    text = "".join(c.model_dump_json() for c in contexts)
    assert "0.91327" not in text and "design_accuracy" not in text


def listen(record: Memory, settings: Settings) -> list[Context]:
    """Runs to the end and returns what the proposer was shown."""
    ledger = Ledger(record, Unwatched())
    if ledger.state.started is None:
        ledger.write(start(settings))
    seen: list[Context] = []

    class Listening(ScriptedProposer):
        def propose(self, context: Context) -> Proposal:
            seen.append(context)
            return super().propose(context)

    proposer = Listening({}, lambda trial, call, _: ledger.write_call(trial, call))
    Loop(settings, ledger, proposer, ToyEvaluator(), Unwatched()).run()
    return seen


@pytest.mark.parametrize(("iterations", "step"), [(4, 1), (6, 6)])
def test_a_run_stopped_after_any_event_ends_as_if_it_had_not(iterations: int, step: int) -> None:
    """A short run after every event; one with guided suggestions, which cost, after some."""
    settings = SETTINGS.model_copy(update={"iterations": iterations})
    whole = Memory()
    finish(whole, settings)
    for count in range(1, len(whole.events) + 1, step):
        part = Memory(whole.events[:count])
        proposer = finish(part, settings)
        assert ordered(part.events) == ordered(whole.events), f"stopped after {count} events"
        on_record = {
            f"{event.trial} {event.call.role}"
            for event in whole.events[:count]
            if isinstance(event, ModelCalled)
        }
        assert not on_record & set(proposer.asked), "a model call on record was asked again"


def test_calls_after_a_crash_are_marked_as_maybe_repeated(whole: Memory) -> None:
    at = next(i for i, e in enumerate(whole.events) if isinstance(e, ModelCalled))
    part = Memory(whole.events[:at])
    finish(part, SETTINGS)
    marked = [e for e in part.events if isinstance(e, ModelCalled) and e.maybe_repeated]
    assert {event.trial for event in marked} == {whole.events[at].trial}  # type: ignore[union-attr]
    assert not any(e.maybe_repeated for e in whole.events if isinstance(e, ModelCalled))


def test_told_values_are_those_of_the_evaluation(whole: Memory) -> None:
    state = fold(whole.events)
    for event in whole.events:
        if isinstance(event, Told) and event.values is not None:
            evaluation = state.trials[event.trial].evaluation
            assert evaluation is not None
            assert all(evaluation.metrics[name] == v for name, v in event.values.items())
            assert event.violation == pytest.approx(
                evaluation.metrics["area_um2"] / SETTINGS.target.area_limit_um2 - 1
            )
