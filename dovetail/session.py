"""A run from the first line of its journal to its report, and going on with one."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from agents.proposer import ModelCall, Proposer
from dovetail import trace
from dovetail.errors import BadInput, FolderRefused, Missing, NoSpace
from dovetail.events import Proposed, RunEvent, RunStarted
from dovetail.executors import Isolated
from dovetail.formatting import safe
from dovetail.history import RunState, fold
from dovetail.journal import FULL, Journal
from dovetail.loop import Ledger, Loop
from dovetail.progress import Progress, front_table
from dovetail.replay import recorded_calls, settings_of
from dovetail.settings import Settings
from dovetail.viewer import report
from dovetail.workshop import Bench, Workshop, versions
from evaluators.cache import NotKept, only_kept, write_atomically
from evaluators.design import DesignPoint, check
from evaluators.gatekeeper import Gatekeeper
from evaluators.metrics import Evaluation

REPORT = "report.html"


def new_folder(seed: int, runs: Path = Path("runs")) -> Path:
    """A folder of that time and seed under `runs` that does not exist yet."""
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-seed{seed}"
    names = [stem, *(f"{stem}-{i}" for i in range(2, 100))]
    free = next((runs / name for name in names if not (runs / name).exists()), None)
    if free is None:
        raise FolderRefused(f"{runs / stem} and 99 more are taken; name a folder with --out")
    return free


def start(settings: Settings, folder: Path, workshop: Workshop, console: Console) -> None:
    """Runs from the beginning; everything that can be refused is refused before the first line."""
    bench = workshop.bench(settings)
    check_base(settings, bench)
    calls = _Calls()
    proposer = workshop.proposer(settings, {}, calls)
    with Journal.create(folder) as journal:
        _go_on(folder, journal, settings, bench, proposer, calls, console)
    close(folder, journal.events, console)


def resume(folder: Path, workshop: Workshop, console: Console) -> None:
    """Goes on with a run; a finished one gets its report anew and is otherwise left alone."""
    with Journal.resume(folder) as journal:
        if journal.torn_bytes:
            console.print(
                f"the journal's last line was unfinished: its {journal.torn_bytes} bytes are cut",
                style="yellow",
            )
        state = fold(journal.events)
        settings = settings_of(state)
        if state.stopped is None:
            bench = workshop.bench(settings)
            _check_same_data(state, bench)
            calls = _Calls()
            proposer = workshop.proposer(settings, recorded_calls(state), calls)
            _go_on(folder, journal, settings, bench, proposer, calls, console)
        else:
            console.print("this run is finished; its report is written anew")
    close(folder, journal.events, console)


def check_base(settings: Settings, bench: Bench) -> None:
    """Holds the design that a search starts from to the laws of the model.

    Raises:
        BadInput: it breaks one.
    """
    try:
        check(settings.base, bench.layers)
    except ValueError as error:
        raise BadInput(f"base: {error}") from None


def close(folder: Path, events: list[RunEvent], console: Console) -> None:
    """Writes the report and says what was found."""
    path = folder / REPORT
    _write(path, report.page(events).encode())
    state = fold(events)
    console.print(front_table(state))
    if state.tested is not None:
        for line in trace.test_lines(state.tested):
            console.print(line, soft_wrap=True)
    console.print(Text(safe(f"report: {path}")), soft_wrap=True)


def first_event(settings: Settings, bench: Bench) -> RunStarted:
    """The first line of a run's journal."""
    return RunStarted(
        settings=settings.model_dump(mode="json"),
        data=bench.data,
        data_sha256=dict(bench.data_sha256),
        layers=bench.layers,
        versions=versions(),
    )


@contextmanager
def isolated(settings: Settings, bench: Bench) -> Iterator[Isolated]:
    """The bench's evaluator in processes of its own, which all end with the block."""
    evaluator = Isolated(bench.evaluator, settings.deadline_s, settings.workers, bench.preload)
    try:
        yield evaluator
    finally:
        evaluator.close()


def looked_up(settings: Settings, bench: Bench, design: DesignPoint) -> Evaluation | None:
    """The design's evaluation where every stage of it is kept; None where one is to be measured.

    Nothing of the design is run for it, so it needs no process of its own.
    """
    if not isinstance(bench.evaluator, Gatekeeper):
        return None
    try:
        with only_kept():
            return trace.measured(bench.evaluator, design, settings.target)
    except NotKept:
        return None


class _Calls:
    """Passes model calls on to the ledger, which is there only once the journal is."""

    ledger: Ledger | None = None

    def __call__(self, trial: int, call: ModelCall, origin: str) -> None:
        if self.ledger is None:
            raise RuntimeError("a model was called before the run began")
        self.ledger.write_call(trial, call)


class _WithDesigns:
    """The journal, with each proposed design as a file of its own for `dovetail evaluate`.

    The file is on disk before the line that names the design.
    """

    def __init__(self, journal: Journal, folder: Path) -> None:
        self._journal, self._folder = journal, folder
        self.events = journal.events

    def append(self, event: RunEvent) -> RunEvent:
        """Puts one event on record."""
        if isinstance(event, Proposed):
            design = event.proposal.design
            name = f"{event.trial:04}-{design.id}.json"
            text = design.model_dump_json(exclude_defaults=True, indent=2)
            _write(self._folder / "designs" / name, text.encode())
        return self._journal.append(event)


def _go_on(
    folder: Path,
    journal: Journal,
    settings: Settings,
    bench: Bench,
    proposer: Proposer,
    calls: _Calls,
    console: Console,
) -> None:
    with (
        isolated(settings, bench) as evaluator,
        Progress(console, settings.iterations, journal.events) as progress,
    ):
        ledger = calls.ledger = Ledger(_WithDesigns(journal, folder), progress)
        if ledger.state.started is None:
            ledger.write(first_event(settings, bench))
        Loop(settings, ledger, proposer, evaluator, progress).run()


def _check_same_data(state: RunState, bench: Bench) -> None:
    """Raises Missing where a resumed run would measure on other data than it began with."""
    assert state.started is not None
    before, here = state.started.data_sha256, dict(bench.data_sha256)
    if other := sorted(name for name in {*before, *here} if before.get(name) != here.get(name)):
        raise Missing(
            f"this run measures on {state.started.data}, and here is {bench.data}, of another "
            f"{' and '.join(other)}; give it the data and the model it began with "
            "(DOVETAIL_DATA_DIR, or the folder of its checkpoint) or start a new run"
        )


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise NoSpace(f"no room for {path} ({error.strerror}); make room and resume") from None
