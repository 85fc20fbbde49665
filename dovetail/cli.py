"""The command `dovetail`. docs/cli.md lists every command and every exit code."""

import json
import os
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from dovetail import checks
from dovetail.errors import BadInput, DovetailError, ExitCode, FolderRefused, Interrupted, Missing

if TYPE_CHECKING:
    from dovetail.doctor import Check
    from dovetail.settings import Settings
    from dovetail.workshop import Workshop
    from evaluators.design import DesignPoint
    from evaluators.fpga.ecp5 import Ecp5Cost
    from evaluators.silicon.technology import Technology

app = typer.Typer(
    name="dovetail",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
fetch_app = typer.Typer()
app.add_typer(fetch_app, name="fetch")


@dataclass(frozen=True)
class Desk:
    """What the commands work with; tests hand in fakes."""

    out: Console
    """Results."""

    err: Console
    """Progress and complaints."""

    workshop: "Workshop | None" = None
    """`None`: the shipped one."""

    def open_workshop(self) -> "Workshop":
        """The workshop, imported when a command needs it."""
        if self.workshop is not None:
            return self.workshop
        from dovetail.shipped import Shipped

        return Shipped()

    def tell(self, stage: str) -> None:
        """Says on the error stream what begins."""
        self.err.print(Text(stage), soft_wrap=True)


Set = Annotated[
    list[str],
    typer.Option("--set", metavar="PATH=VALUE", help="A setting or a knob of the base design."),
]
SetTarget = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="A setting, such as target.area_limit_um2; the knobs are those of the design file.",
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
RunFile = Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="A run file (YAML).")]


class RecipeName(StrEnum):
    """How a Verilog file is mapped."""

    STRONG = "strong"
    PLAIN = "plain"


class TargetName(StrEnum):
    """What a design or a Verilog file is measured on."""

    NANGATE45 = "nangate45"
    ECP5 = "ecp5"


DataDir = Annotated[str | None, typer.Option("--data-dir", help="Folder of the MedMNIST files.")]


@app.callback(
    invoke_without_command=True,
    help="Agents co-design an accelerator and a multimodal model; every number can be traced.",
)
@fetch_app.callback(invoke_without_command=True, help="Fetch public data.")
def without_command(context: typer.Context) -> None:
    """Shows the help where no command is named."""
    if context.invoked_subcommand is None:
        _say(context, context.get_help())


@app.command()
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
    _say(context, f"{path} written; run it with: dovetail run {path}")


@app.command()
def run(
    context: typer.Context,
    config: RunFile = None,
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
        "--iterations": ("iterations", iterations),
        "--seed": ("seed", seed),
        "--llm": ("llm.provider", llm),
        "--model": ("llm.model", model),
        "--base-url": ("llm.base_url", base_url),
        "--max-calls": ("llm.max_calls", max_calls),
        "--workers": ("workers", workers),
        "--data-dir": ("data_dir", data_dir),
    }
    desk = _desk(context)
    settings = _settings(config, changes, named)
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


@app.command()
def resume(context: typer.Context, folder: Folder) -> None:
    """Go on with a run that was interrupted."""
    from dovetail import session

    desk = _desk(context)
    checks.check_store()
    with _resumable(folder):
        session.resume(folder, desk.open_workshop(), desk.err)


@app.command()
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
        _desk(context).out.print(table)
    else:
        _say(context, f"no runs in {folder}")


@app.command(name="trace")
def trace_command(
    context: typer.Context,
    folder: Folder,
    step: Annotated[int | None, typer.Option(help="One trial, with prompts and replies.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how a run came to its front, step by step."""
    from dovetail import saved, trace

    desk, run = _desk(context), saved.load(folder)
    if step is not None and step not in run.state.trials:
        known = f"0 to {max(run.state.trials)}" if run.state.trials else "none yet"
        raise BadInput(f"{folder} has no trial {step}; its trials are {known}")
    if as_json:
        _print_json(desk, trace.as_json(run, step))
    else:
        for line in trace.lines(run, step):
            desk.out.print(line, soft_wrap=True)


@app.command()
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

    desk, run = _desk(context), saved.load(folder)
    workshop = desk.open_workshop()
    if other := replaying.other_versions(run.state):
        desk.err.print(Text(f"recorded with {other}"), soft_wrap=True)
    done = replaying.replay(run.events, workshop)
    if done.note:
        desk.err.print(Text(done.note), soft_wrap=True)
    ending = "" if done.finished else "; the record ends there, unfinished"
    _say(context, f"{done.events} events of {done.trials} trials are equal{ending}")
    if not remeasure:
        return
    checks.check_data(run.settings)
    checks.check_cells(run.settings)
    bench = workshop.bench(run.settings)
    with session.isolated(run.settings, bench) as evaluator:
        progress = Progress(desk.err, run.settings.iterations, [])
        agreed = replaying.remeasure(run.events, evaluator, progress)
    _say(context, f"{agreed} designs measured again agree within the tolerances")


@app.command()
def evaluate(
    context: typer.Context,
    design: Annotated[
        Path | None, typer.Argument(metavar="DESIGN.json", help="A design.", show_default=False)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A run file, for target and data.")] = None,
    data_dir: DataDir = None,
    changes: SetTarget = [],  # noqa: B006 (typer reads the default, nobody changes it)
    test: Annotated[bool, typer.Option("--test", help="Score the test images instead.")] = False,
    verilog: Annotated[
        Path | None, typer.Option(help="Area, slowest path and power of this file.")
    ] = None,
    top: Annotated[str | None, typer.Option(help="With --verilog: its top module.")] = None,
    recipe: Annotated[
        RecipeName, typer.Option(help="With --verilog: how it is mapped.")
    ] = RecipeName.STRONG,
    liberty: Annotated[
        Path | None, typer.Option(help="With --verilog: another corner of Nangate 45 nm.")
    ] = None,
    technology: Annotated[
        Path | None, typer.Option(help="With --verilog: a technology file (YAML).")
    ] = None,
    target: Annotated[
        TargetName,
        typer.Option(help="ecp5: look-up tables, memories and Fmax on that FPGA, no model."),
    ] = TargetName.NANGATE45,
    as_json: AsJson = False,
) -> None:
    """Measure one design, on validation images unless told otherwise."""
    cells = (liberty, technology)
    on_ecp5 = target == TargetName.ECP5
    if on_ecp5 and (test or data_dir or any(cells) or recipe != RecipeName.STRONG):
        raise BadInput(
            "--target ecp5 goes without --test, --data-dir, --recipe, --liberty and --technology"
        )
    if verilog is not None or top is not None or any(cells):
        from dovetail.technology_file import technology_named

        if design is not None or verilog is None or top is None:
            raise BadInput("--verilog FILE and --top NAME go together, and without a design")
        if on_ecp5:
            _show_ecp5_of_file(_desk(context), verilog, top, as_json)
        else:
            _show_verilog(_desk(context), verilog, top, recipe, technology_named(*cells), as_json)
        return
    if design is None:
        raise BadInput("name a design: dovetail evaluate DESIGN.json, or --verilog FILE --top NAME")
    from dovetail import session, trace
    from dovetail.design_file import read_design
    from evaluators.silicon import verilator

    desk = _desk(context)
    point = read_design(design)
    checks.refuse_knobs(changes, design)
    settings = _settings(config, changes, {"--data-dir": ("data_dir", data_dir)})
    if target == TargetName.ECP5:
        _show_ecp5_of_design(desk, point, settings, as_json)
        return
    checks.check_data(settings)
    checks.check_cells(settings)
    checks.check_store()
    if point.edits and (missing := verilator.available()):
        raise Missing(f"{missing}; without it no RTL edit can be judged")
    bench = desk.open_workshop().bench(settings)
    desk.err.print(Text(f"measuring on {bench.data}"), soft_wrap=True)
    with session.isolated(settings, bench) as evaluator:
        if test:
            results = evaluator.test(point)
            if as_json:
                _print_json(desk, results)
            else:
                for line in trace.score_lines(results):
                    desk.out.print(line, soft_wrap=True)
            return
        evaluation = trace.measured(evaluator, point, settings.target)
    if as_json:
        _print_json(desk, evaluation.model_dump(mode="json"))
    else:
        for line in trace.evaluation_lines(evaluation, settings.target):
            desk.out.print(line, soft_wrap=True)
    if evaluation.status != "ok":
        invalid = evaluation.status == "invalid"
        raise typer.Exit(ExitCode.BAD_INPUT if invalid else ExitCode.EVALUATOR)


@app.command()
def gate(
    context: typer.Context,
    edit: Annotated[Path, typer.Argument(metavar="EDIT.py", help="The unit's new file.")],
    unit: Annotated[str, typer.Option(help="The unit that it replaces.")],
    latency: Annotated[
        int | None, typer.Option(min=1, max=8, help="Its cycles; found out where left out.")
    ] = None,
    design: Annotated[
        Path | None, typer.Option(help="A design, for the knobs of its core.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a rewrite of one unit, and map it beside the shipped unit."""
    from dovetail import gating, shipped, trace
    from dovetail.design_file import read_design
    from dovetail.reading import read_text
    from evaluators.silicon import verilator
    from hwlib.config import CoreConfig

    desk, named = _desk(context), gating.unit_named(unit)
    source = read_text(edit, gating.SOURCE_LIMIT_BYTES)
    config = CoreConfig(composable=named == "composable_mac")
    if design is not None:
        config = read_design(design).hardware
    if missing := verilator.available():
        raise Missing(f"{missing}; without it no RTL edit can be judged")
    checks.check_store()
    found = gating.report(named, source, latency, config, shipped.pipeline())
    if as_json:
        _print_json(desk, found.model_dump(mode="json"))
    else:
        for line in trace.gate_lines(found):
            desk.out.print(line, soft_wrap=True)
    if not found.accepted:
        raise typer.Exit(ExitCode.BAD_INPUT)


@app.command(name="compile")
def compile_command(
    context: typer.Context,
    design: Annotated[
        Path, typer.Argument(metavar="DESIGN.json", help="A design, as `evaluate` takes it.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="A folder that is new or empty.")
    ],
    question: Annotated[int, typer.Option(min=0, help="Which validation question.")] = 0,
    check: Annotated[
        bool, typer.Option("--check", help="Run it on the RTL and compare with the model.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Write a design's program, DRAM image and Verilog, with its roofline and accesses."""
    from dovetail import compiling
    from dovetail.design_file import read_design
    from evaluators import cache
    from evaluators.silicon import verilator

    desk, named = _desk(context), Path(data_dir).expanduser() if data_dir else None
    point = read_design(design)
    compiling.check_folder(out)
    checks.check_images(named)
    checks.check_store()
    if check and (missing := verilator.available()):
        raise Missing(f"{missing}; or leave --check out")
    case = desk.open_workshop().case(point, question, named)
    desk.err.print(Text(f"compiling {point.id} for {case.data}"), soft_wrap=True)
    made = compiling.compile_case(case, cache.root() / "simulators" if check else None)
    compiling.write(out, made.files)
    for line in made.summary:
        _say(context, line)
    _say(context, f"{', '.join(made.files)} in {out}")


@app.command()
def knobs(context: typer.Context, as_json: AsJson = False) -> None:
    """List every knob of a design."""
    from evaluators import space

    desk = _desk(context)
    if as_json:
        _print_json(desk, [knob.model_dump(mode="json") for knob in space.knobs()])
        return
    for knob in space.knobs():
        head = Text(knob.path, style="bold") + Text(f" = {json.dumps(knob.default)}")
        desk.out.print(head, soft_wrap=True)
        desk.out.print(Text(f"    {knob.type}. {knob.doc}"), soft_wrap=True)


@fetch_app.command()
def medmnist(
    context: typer.Context,
    names: Annotated[
        list[str], typer.Argument(metavar="[NAME]...", help="Sets, e.g. breastmnist.")
    ] = ["breastmnist", "retinamnist"],  # noqa: B006 (typer reads the default)
    data_dir: DataDir = None,
    deadline_s: Annotated[float, typer.Option(help="Give up after so many seconds.")] = 600.0,
) -> None:
    """Fetch MedMNIST sets from Zenodo, checked by MD5."""
    from dovetail import fetching

    fetching.fetch_medmnist(names, data_dir, deadline_s, _desk(context).err)


@app.command()
def doctor(
    context: typer.Context,
    data_dir: DataDir = None,
    llm: Annotated[bool, typer.Option("--llm", help="Try the configured chat server.")] = False,
    model: Annotated[str | None, typer.Option(help="With --llm: a model on a server.")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="With --llm: root of a server's API.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A run file, for data folder and server.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say which tools, models and data are here, and what to type for those that are not."""
    from dovetail import doctor as doctoring

    if not llm and (model is not None or base_url is not None):
        raise BadInput("--model and --base-url are of the chat server; add --llm to have it tried")
    named = {
        "--llm": ("llm.provider", "openai" if model or base_url else None),
        "--model": ("llm.model", model),
        "--base-url": ("llm.base_url", base_url),
        "--data-dir": ("data_dir", data_dir),
    }
    desk, settings = _desk(context), _settings(config, [], named)
    checks = list(doctoring.report(Path(settings.data_dir) if settings.data_dir else None))
    code = ExitCode.OK
    if any(check.required and check.state != "ok" for check in checks):
        code = ExitCode.MISSING
    if llm:
        from dovetail.server_check import check_server

        checks.append(check_server(settings.llm))
        if checks[-1].state != "ok" and code == ExitCode.OK:
            code = ExitCode.SERVER
    if as_json:
        _print_json(desk, [check.model_dump(mode="json") for check in checks])
    else:
        _show_checks(desk, checks)
    if code != ExitCode.OK:
        raise typer.Exit(code)


def _show_checks(desk: Desk, checks: "Sequence[Check]") -> None:
    marks = {"ok": ("✓", "green"), "missing": ("–", "yellow"), "broken": ("✗", "red")}
    for check in checks:
        mark, style = marks[check.state]
        desk.out.print(Text(f"{mark} {check.name}: {check.detail}", style=style), soft_wrap=True)
        if check.state != "ok":
            desk.out.print(Text(f"    type: {check.remedy}"), soft_wrap=True)
            desk.out.print(Text(f"    without it: {check.without}"), soft_wrap=True)


def main(arguments: Sequence[str] | None = None, workshop: "Workshop | None" = None) -> None:
    """Runs one command and exits with its code; no expected fault shows a traceback."""
    with _terminable():
        desk = Desk(Console(highlight=False), Console(stderr=True, highlight=False), workshop)
        try:
            code = _exit_code(arguments, desk)
        except KeyboardInterrupt:  # a second one, while the first was being told
            code = ExitCode.INTERRUPTED
    sys.exit(int(code))


@contextmanager
def _terminable() -> Iterator[None]:
    """Makes SIGTERM end the command as Ctrl-C does, from its first moment on."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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


def _exit_code(arguments: Sequence[str] | None, desk: Desk) -> int:
    from dovetail.formatting import safe

    try:
        checks.check_names()
        code = int(app(arguments, obj=desk, standalone_mode=False) or ExitCode.OK)
        return _interrupted(desk) if code == ExitCode.INTERRUPTED else code
    except DovetailError as error:
        desk.err.print(Text(safe(f"dovetail: {error}")), soft_wrap=True)
        return error.code
    except KeyboardInterrupt:
        return _interrupted(desk)
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone: that is no fault.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:  # the last door: no traceback on a person's screen
        from dovetail.journal import FULL

        if isinstance(error, OSError) and error.errno in FULL:
            desk.err.print(f"dovetail: no room to write ({error.strerror}); make room first")
            return ExitCode.NO_SPACE
        return _command_line_fault(error, desk) or _unexpected(error, desk)


def _interrupted(desk: Desk) -> int:
    # Typer turns Ctrl-C inside a command into this code by itself.
    desk.err.print("dovetail: interrupted; no run or file was begun")
    return ExitCode.INTERRUPTED


def _command_line_fault(error: Exception, desk: Desk) -> int | None:
    """The exit code of an unknown command or option; `None` where it is something else."""
    show = getattr(error, "format_message", None)
    if show is None:
        return None
    from dovetail.formatting import one_line

    said = one_line(show(), 400)
    desk.err.print(Text(f"dovetail: {said} (dovetail --help lists the commands)"), soft_wrap=True)
    return ExitCode.USAGE


def _unexpected(error: Exception, desk: Desk) -> int:
    from dovetail.formatting import one_line

    with tempfile.NamedTemporaryFile(
        "w", prefix="dovetail-traceback-", suffix=".txt", delete=False
    ) as file:
        traceback.print_exception(error, file=file)
    said = one_line(f"{type(error).__name__}: {error}", 200)
    desk.err.print(
        Text(f"dovetail: a defect, not your fault: {said}; the traceback is in {file.name}"),
        soft_wrap=True,
    )
    return ExitCode.UNEXPECTED


def _desk(context: typer.Context) -> Desk:
    desk = context.obj
    assert isinstance(desk, Desk)
    return desk


def _say(context: typer.Context, text: str) -> None:
    from dovetail.formatting import safe

    _desk(context).out.print(Text(safe(text)), soft_wrap=True)


def _print_json(desk: Desk, value: Any) -> None:
    # ASCII: JSON's own escapes keep control characters off the terminal.
    desk.out.print(Text(json.dumps(value, indent=2)), soft_wrap=True)


def _settings(
    config: Path | None,
    changes: Sequence[str],
    named: Mapping[str, tuple[str, str | int | None]],
) -> "Settings":
    """The settings; `named` holds the path and value of each option, `None` where it was not given.

    An option counts more than `--set`, and that more than the run file.
    """
    from dovetail import settings

    options = {
        path: settings.Option(flag, value)
        for flag, (path, value) in named.items()
        if value is not None
    }
    return settings.load(config, changes, options)


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


def _show_verilog(
    desk: Desk,
    path: Path,
    top: str,
    recipe: RecipeName,
    technology: "Technology | None",
    as_json: bool,
) -> None:
    from dovetail import trace
    from evaluators import cache
    from evaluators.silicon.foreign import ForeignError, cost_of_verilog

    try:
        cost = cost_of_verilog(path, top, cache.root() / "silicon", recipe.value, technology)
    except ForeignError as error:
        raise BadInput(str(error)) from None
    if as_json:
        _print_json(desk, cost.model_dump(mode="json"))
        return
    for line in trace.verilog_lines(top, cost):
        desk.out.print(line, soft_wrap=True)


def _show_ecp5_of_file(desk: Desk, path: Path, top: str, as_json: bool) -> None:
    from dovetail import fpga

    checks.check_store()
    fpga.check_tools()
    _show_ecp5(desk, top, fpga.cost_of_file(path, top, desk.tell), as_json)


def _show_ecp5_of_design(
    desk: Desk, design: "DesignPoint", settings: "Settings", as_json: bool
) -> None:
    from dovetail import fpga

    checks.check_store()
    fpga.check_tools(design)
    _show_ecp5(desk, design.id, fpga.cost_of_design(design, settings, desk.tell), as_json)


def _show_ecp5(desk: Desk, name: str, cost: "Ecp5Cost", as_json: bool) -> None:
    from dovetail import trace

    if as_json:
        _print_json(desk, cost.model_dump(mode="json"))
        return
    for line in trace.ecp5_lines(name, cost):
        desk.out.print(line, soft_wrap=True)
