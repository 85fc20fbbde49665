"""What a person without a live terminal is told while a run goes on."""

import io
import time

import pytest
from rich.console import Console

from dovetail import progress
from dovetail.events import Evaluated, RunEvent, Told
from dovetail.history import fold
from dovetail.progress import Progress, front_table
from dovetail.settings import Settings
from tests.dovetail.runs import Memory, finish


@pytest.fixture(scope="module")
def events() -> list[RunEvent]:
    record = Memory()
    finish(record, Settings(seed=7, iterations=5))
    return record.events


def sampled(events: list[RunEvent]) -> list[RunEvent]:
    """The same run as it would be without a compiler."""
    return [
        event.model_copy(
            update={
                "evaluation": event.evaluation.model_copy(
                    update={"details": {"rtl_engine": "numpy model of the core, cycles predicted"}}
                )
            }
        )
        if isinstance(event, Evaluated)
        else event
        for event in events
    ]


def told(events: list[RunEvent]) -> str:
    out = io.StringIO()
    watch = Progress(Console(file=out, width=400), 5, [])
    for event in events:
        watch.event(event)
    return out.getvalue()


def shown(events: list[RunEvent]) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(front_table(fold(events)))
    return out.getvalue()


def test_predicted_cycles_are_said_with_every_figure_and_under_the_front(
    events: list[RunEvent],
) -> None:
    measured = sum(isinstance(e, Told) and e.values is not None for e in events)
    assert told(sampled(events)).count("no g++, so no RTL was run") == measured
    assert "cycles predicted" in shown(sampled(events))
    assert "predicted" not in told(events) + shown(events)


def test_the_baseline_stands_under_the_front_that_it_is_not_on(events: list[RunEvent]) -> None:
    beaten = [
        e.model_copy(update={"values": {name: 10 * v for name, v in e.values.items()}})
        if isinstance(e, Told) and e.trial == 0 and e.values is not None
        else e
        for e in events
    ]
    table = shown(beaten)
    assert "and the baseline" in table
    assert "\u2502    0\u2502" in table
    assert "and the baseline" not in shown(events)  # there it is on the front


def test_a_silent_wait_is_explained(
    events: list[RunEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SILENCE_S", 0.0)
    out = io.StringIO()
    with Progress(Console(file=out), 5, []) as watch:
        watch.stage(3, "RTL simulation")
        deadline_s = time.monotonic() + 30
        while "still at work" not in out.getvalue() and time.monotonic() < deadline_s:
            time.sleep(0.05)
    assert "still at work (trial 3: RTL simulation)" in out.getvalue()
