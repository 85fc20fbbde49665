"""Whole runs of fakes, for the tests of this room."""

from pathlib import Path

from dovetail.events import RunEvent, RunStarted, key, timeless
from dovetail.journal import Journal
from dovetail.loop import Ledger, Loop, Unwatched
from dovetail.replay import recorded_calls
from dovetail.settings import Settings
from dovetail.testing import ScriptedProposer, ToyEvaluator, ToyWorkshop


class Memory:
    """A record in memory."""

    def __init__(self, events: list[RunEvent] | None = None) -> None:
        self.events = list(events or [])

    def append(self, event: RunEvent) -> RunEvent:
        stamped = event.model_copy(update={"sequence": len(self.events)})
        self.events.append(stamped)
        return stamped


def start(settings: Settings) -> RunStarted:
    """The first event of a run of fakes."""
    bench = ToyWorkshop().bench(settings)
    return RunStarted(
        settings=settings.model_dump(mode="json"),
        data=bench.data,
        data_sha256={},
        layers=bench.layers,
        versions={"toy": "1"},
    )


def finish(record: Memory | Journal, settings: Settings) -> ScriptedProposer:
    """Runs to the end from wherever the record stands."""
    ledger = Ledger(record, Unwatched())
    if ledger.state.started is None:
        ledger.write(start(settings))
    proposer = ScriptedProposer(
        recorded_calls(ledger.state), lambda trial, call, _: ledger.write_call(trial, call)
    )
    Loop(settings, ledger, proposer, ToyEvaluator(), Unwatched()).run()
    return proposer


def ordered(events: list[RunEvent]) -> list[object]:
    """What two journals of the same run have in common."""
    return [timeless(event) for event in sorted(events, key=key)]


def journal_bytes(folder: Path) -> bytes:
    return (folder / "journal.jsonl").read_bytes()
