"""Commands of runs: begin one, go on with it, list, trace and replay it."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from dovetail import checks
from dovetail.desk import Desk, desk_of
from dovetail.errors import BadInput, FolderRefused, Interrupted
from dovetail.options import (
    AsJson,
    Checkpoint,
    DataDir,
    Folder,
    RunFile,
    Set,
    Workload,
    settings_of,
)

if TYPE_CHECKING:
    from dovetail.settings import Settings
    from dovetail.workshop import Workshop


def init(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="[FILE]")] = Path("dovetail.yaml"),
) -> None:
    """Write a commented run file whose every value is the default."""
    from dovetail import settings

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(settings.commented())
    except FileExistsError:
        raise BadInput(f"{path} exists; name another file, or remove it first") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({error.strerror}); name another file") from None
    desk_of(context).say(f"{path} written; run it with: dovetail run {path}")


def run(
    context: typer.Context,
    config: RunFile = None,
    workload: Workload = None,
    checkpoint: Checkpoint = None,
    iterations: Annotated[int | None, typer.Option(help="Designs measured, baseline in.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything that is drawn.")] = None,
    llm: Annotated[str | None, typer.Option(help="mock, openai or none.")] = None,
    model: Annotated[str | None, typer.Option(help="The model's name on the server.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Root of the server's API.")] = None,
    max_calls: Annotated[int | None, typer.Option(help="Most model calls of the run.")] = None,
    workers: Annotated[int | None, typer.Option(help="Evaluations at once.")] = None,
    data_dir: DataDir = None,
    changes: Set = [],  # noqa: B006 (typer reads the default, nobody changes it)
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done.")] = False,
) -> None:
    """Search: propose, build and measure designs, and report the Pareto front."""
    from dovetail import session

    named = {
        "--workload": ("workload", workload),
        "--checkpoint": ("checkpoint", checkpoint),
        "--iterations": ("iterations", iterations),
        "--seed": ("seed", seed),
        "--llm": ("llm.provider", llm),
        "--model": ("llm.model", model),
        "--base-url": ("llm.base_url", base_url),
        "--max-calls": ("llm.max_calls", max_calls),
        "--workers": ("workers", workers),
        "--data-dir": ("data_dir", data_dir),
    }
    desk = desk_of(context)
    settings = settings_of(config, changes, named)
    checks.check_data(settings)
    checks.check_cells(settings)
    if dry_run:
        _show_plan(desk, settings)
        return
    checks.check_store()
    workshop = desk.open_workshop()
    folder = out if out is not None else session.new_folder(settings.seed)
    with _resumable(folder):
        if settings.llm.provider == "openai":
            _show_estimate(desk, settings, workshop)
        session.start(settings, folder, workshop, desk.err)


def resume(context: typer.Context, folder: Folder) -> None:
    """Go on with a run that was interrupted."""
    from dovetail import session

    desk = desk_of(context)
    checks.check_store()
    with _resumable(folder):
        session.resume(folder, desk.open_workshop(), desk.err)


def runs(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where runs are.")] = Path("runs"),
) -> None:
    """List runs."""
    from dovetail import trace

    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FolderRefused(f"{folder} {what}; name the folder that holds the runs' folders")
    table = trace.table_of_runs(folder)
    if table.row_count:
        desk_of(context).out.print(table)
    else:
        desk_of(context).say(f"no runs in {folder}")


def trace_command(
    context: typer.Context,
    folder: Folder,
    step: Annotated[int | None, typer.Option(help="One trial, with prompts and replies.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how a run came to its front, step by step."""
    from dovetail import saved, trace

    desk, run = desk_of(context), saved.load(folder)
    if step is not None and step not in run.state.trials:
        known = f"0 to {max(run.state.trials)}" if run.state.trials else "none yet"
        raise BadInput(f"{folder} has no trial {step}; its trials are {known}")
    if as_json:
        desk.print_json(trace.as_json(run, step))
    else:
        for line in trace.lines(run, step):
            desk.out.print(line, soft_wrap=True)


def replay(
    context: typer.Context,
    folder: Folder,
    remeasure: Annotated[
        bool, typer.Option("--remeasure", help="Measure every design again and compare.")
    ] = False,
) -> None:
    """Go through a run again from its record alone, and name the first event that differs."""
    from dovetail import replay as replaying
    from dovetail import saved, session
    from dovetail.progress import Progress

    desk, run = desk_of(context), saved.load(folder)
    workshop = desk.open_workshop()
    if other := replaying.other_versions(run.state):
        desk.err.print(Text(f"recorded with {other}"), soft_wrap=True)
    done = replaying.replay(run.events, workshop)
    if done.note:
        desk.err.print(Text(done.note), soft_wrap=True)
    ending = "" if done.finished else "; the record ends there, unfinished"
    desk_of(context).say(f"{done.events} events of {done.trials} trials are equal{ending}")
    if not remeasure:
        return
    checks.check_data(run.settings)
    checks.check_cells(run.settings)
    bench = workshop.bench(run.settings)
    with session.isolated(run.settings, bench) as evaluator:
        progress = Progress(desk.err, run.settings.iterations, [])
        agreed = replaying.remeasure(run.events, evaluator, progress)
    desk_of(context).say(f"{agreed} designs measured again agree within the tolerances")


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Says of an interrupted run in `folder` how to go on with it."""
    from dovetail import journal

    try:
        yield
    except KeyboardInterrupt:
        if not journal.begun(folder):
            raise Interrupted(
                "interrupted before anything was recorded; no run was begun"
            ) from None
        raise Interrupted(
            "interrupted; what is on record stays, go on with: dovetail resume "
            f"{shlex.quote(str(folder))}"
        ) from None


def _show_plan(desk: Desk, settings: "Settings") -> None:
    """What `--dry-run` says, which is a run file; nothing is written."""
    from dovetail.session import check_base
    from dovetail.settings import as_yaml

    workshop = desk.open_workshop()
    bench = workshop.bench(settings)
    check_base(settings, bench)
    desk.out.print(Text(f"# would measure on {bench.data}"), soft_wrap=True)
    desk.out.print(f"# {settings.iterations} designs, the baseline among them", soft_wrap=True)
    desk.out.print(Text(as_yaml(settings).rstrip()), soft_wrap=True)
    _show_estimate(desk, settings, workshop)


def _show_estimate(desk: Desk, settings: "Settings", workshop: "Workshop") -> None:
    about = workshop.estimate(settings, workshop.bench(settings))
    if about is not None:
        desk.err.print(
            f"about {about.calls} model calls, {about.input_tokens:,} tokens in and "
            f"{about.output_tokens:,} out (an estimate; at most {settings.llm.max_calls} calls)"
        )
