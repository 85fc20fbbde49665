"""What a person sees while a run goes on: a live table, or plain lines without a terminal."""

import threading
import time
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dovetail import history
from dovetail.events import (
    Asked,
    Evaluated,
    ModelCalled,
    Proposed,
    RunEvent,
    RunStarted,
    RunStopped,
    Told,
)
from dovetail.formatting import duration, metric, one_line, plain_number
from dovetail.history import RunState, TrialRecord, fold
from evaluators.metrics import OBJECTIVES, Evaluation

ENERGY = "gates as they switch, SRAM and DRAM by accesses; no glitches, no clock tree"
"""What an energy that was measured is."""

PREDICTED = "cycles predicted: no g++, so no RTL was run"
"""What stands beside figures that no simulation of the RTL is behind."""


SILENCE_S = 30.0
"""After so long without a line, a run without a terminal says what it is doing."""


def figure(name: str, value: float, evaluation: Evaluation | None) -> str:
    """A metric of an evaluation for a table; an estimate is marked."""
    modelled = name == "energy_j" and (evaluation is None or evaluation.energy_is_modelled)
    return metric(name, value) + (" (modelled)" if modelled else "")


class Progress:
    """Watches a run and shows it; a context manager."""

    def __init__(self, console: Console, iterations: int, events: list[RunEvent]) -> None:
        self._console, self._iterations = console, iterations
        self._state: RunState = fold(events)
        self._doing: dict[int, str] = {}
        self._began_s = time.monotonic()
        self._told_before = len(self._state.told())
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._ended = threading.Event()
        self._spoke_s = time.monotonic()

    def __enter__(self) -> Self:
        self._ended.clear()
        if not self._console.is_terminal:
            threading.Thread(target=self._speak_up, name="still-there", daemon=True).start()
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._table, console=self._console, refresh_per_second=4
            )
            self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._live is not None:
            self._live.__exit__(None, None, None)

    def stage(self, trial: int, stage: str) -> None:
        """A stage of an evaluation begins."""
        with self._lock:
            self._doing[trial] = one_line(stage, 60)

    def event(self, event: RunEvent) -> None:
        """An event is on record."""
        with self._lock:
            self._state.apply(event)
            line = self._line(event)
        if self._live is None and line:
            self._say(line)

    def _say(self, line: str) -> None:
        self._spoke_s = time.monotonic()
        self._console.print(Text(line), soft_wrap=True)

    def _speak_up(self) -> None:
        """Without a terminal: says what goes on where nothing else was said for a while."""
        while not self._ended.wait(1.0):
            silent_s = time.monotonic() - self._spoke_s
            if silent_s < SILENCE_S:
                continue
            with self._lock:
                doing = "; ".join(f"trial {t}: {d}" for t, d in sorted(self._doing.items()))
            self._say(f"still at work ({doing or 'starting'})")

    def _line(self, event: RunEvent) -> str:
        """What the event means to somebody who reads along; empty where it is a detail."""
        match event:
            case RunStarted():
                return f"measuring on {one_line(event.data, 400)}"
            case Asked():
                self._doing[event.trial] = "proposing"
            case ModelCalled():
                self._doing[event.trial] = f"{event.call.role} answered"
            case Proposed():
                self._doing[event.trial] = "measuring"
                proposal = event.proposal
                return (
                    f"trial {event.trial}: {one_line(proposal.author, 40)} proposes "
                    f"{proposal.design.id}: {one_line(proposal.rationale)}"
                )
            case Evaluated() if event.evaluation.status != "ok":
                reason = one_line(event.evaluation.reason, 400)
                return f"trial {event.trial}: {event.evaluation.status}: {reason}"
            case Told():
                self._doing.pop(event.trial, None)
                if event.values is None:
                    return ""
                trial = self._state.trials[event.trial]
                figures = (figure(n, event.values[n], trial.evaluation) for n in OBJECTIVES)
                shown = ", ".join(figures)
                over = ", over a limit of the target" if event.violation > 0 else ""
                predicted = " · " + PREDICTED if _predicted(trial) else ""
                return f"trial {event.trial}: {shown}{over}{predicted} · {self._summary()}"
            case RunStopped():
                return event.reason
            case _:
                pass
        return ""

    def _summary(self) -> str:
        told = len(self._state.told())
        parts = [f"{told} of {self._iterations} designs"]
        fresh = told - self._told_before
        if fresh > 0 and told < self._iterations:
            left_s = (time.monotonic() - self._began_s) / fresh * (self._iterations - told)
            parts.append(f"about {duration(left_s)} left")
        return ", ".join(parts)

    def _table(self) -> RenderableType:
        with self._lock:
            now = Table.grid(padding=(0, 2))
            for trial, doing in sorted(self._doing.items()):
                record = self._state.trials.get(trial)
                proposed = record.proposed if record else None
                design = proposed.proposal.design.id if proposed else "…"
                now.add_row(f"trial {trial}", design, Text(doing))
            best = _best(self._state)
            return Group(now, Text(best) if best else "", Text(self._summary(), style="dim"))


def _best(state: RunState) -> str:
    front = history.front(state.told())
    if not front:
        return ""
    measured = [(t.told.values, t.evaluation) for t in front if t.told and t.told.values]
    least = {name: min(measured, key=lambda m: m[0][name]) for name in OBJECTIVES}
    shown = ", ".join(figure(name, m[0][name], m[1]) for name, m in least.items())
    return f"front of {len(front)}; best of each: {shown}"


def front_table(state: RunState) -> Table:
    """The Pareto front as a table that fits a terminal of 80 columns."""
    trials = history.front(state.told())
    predicted = "; " + PREDICTED if any(map(_predicted, trials)) else ""
    baseline = [t for t in state.told(before=1) if t not in trials and t.feasible]
    table = Table(
        title="Pareto front (validation)" + (", and the baseline" if baseline else ""),
        title_justify="left",
        caption=f"* {'modelled' if any(map(_modelled, trials)) else ENERGY}{predicted}",
        caption_justify="left",
        padding=0,
    )
    for heading in ("trial", "design", "by", "latency", "energy*", "NLL/nats", "area/µm²", "RTL"):
        right = heading not in ("design", "by", "RTL")
        table.add_column(heading, justify="right" if right else "left")
    for trial in [*trials, *baseline]:
        assert trial.evaluation is not None
        m, design = trial.evaluation.metrics, trial.proposal.design
        shown = [metric(name, m[name]) for name in ("latency_s", "energy_j")]
        shown += [plain_number(m[name]) for name in ("nll_nats", "area_um2")]
        edits = " ".join(edit.unit for edit in design.edits) or "shipped"
        author = one_line(trial.proposal.author, 8)
        style = "dim" if trial in baseline else ""
        table.add_row(str(trial.index), design.id[:8], Text(author), *shown, edits, style=style)
    return table


def _modelled(trial: TrialRecord) -> bool:
    return trial.evaluation is None or trial.evaluation.energy_is_modelled


def _predicted(trial: TrialRecord) -> bool:
    """Whether a trial's cycles are those of the cycle model, without the RTL."""
    engine = trial.evaluation.details.get("rtl_engine", "") if trial.evaluation else ""
    return "predicted" in str(engine)
