"""A run on disk, for a person at a Python prompt: `dovetail.load("runs/x").front`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dovetail import history, journal
from dovetail.events import RunEvent
from dovetail.history import RunState, TrialRecord
from dovetail.replay import settings_of
from dovetail.settings import Settings
from evaluators import space
from evaluators.metrics import METRICS

Row = dict[str, str | int | float | bool | None]
"""One line of a table; every row of a table has the same keys, so `DataFrame(rows)` takes it."""


@dataclass(frozen=True)
class Run:
    """What the journal of one run says."""

    folder: Path
    """Where it stands."""

    events: tuple[RunEvent, ...]
    """Every event, in order of arrival."""

    @cached_property
    def state(self) -> RunState:
        """What the events add up to."""
        return history.fold(self.events)

    @cached_property
    def settings(self) -> Settings:
        """The settings it was started with."""
        return settings_of(self.state)

    @property
    def front(self) -> list[Row]:
        """The Pareto front, fastest first: figures in SI units, knobs by path."""
        return rows(history.front(self.state.told()))

    @property
    def trials(self) -> list[Row]:
        """Every told trial, in trial order, in the same columns as the front."""
        return rows(self.state.told())

    @property
    def hypervolume(self) -> float | None:
        """Volume that the front dominates; see `dovetail.history.hypervolume`."""
        return history.hypervolume(self.state.told())


def load(folder: str | Path) -> Run:
    """The run in that folder, finished or not.

    Raises:
        FolderRefused: there is no run.
        JournalCorrupt: a line of its journal was changed.
    """
    return Run(Path(folder), tuple(journal.read(Path(folder))))


def rows(trials: Sequence[TrialRecord]) -> list[Row]:
    """Flat rows of told trials."""
    return [_row(trial) for trial in trials]


def _row(trial: TrialRecord) -> Row:
    design = trial.proposal.design
    row: Row = {
        "trial": trial.index,
        "design": design.id,
        "author": trial.proposal.author,
        "status": trial.evaluation.status if trial.evaluation else None,
        "feasible": trial.feasible,
        "edits": " ".join(edit.unit for edit in design.edits),
    }
    metrics = trial.evaluation.metrics if trial.evaluation else {}
    row |= {metric.name: metrics.get(metric.name) for metric in METRICS}
    for path, value in space.values_of(design).items():
        row[path] = value if isinstance(value, str | int | float | None) else str(value)
    return row
