"""Commands of single designs and files: measure, judge and compile them."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from dovetail import checks
from dovetail.desk import Desk, desk_of
from dovetail.errors import BadInput, ExitCode, Missing
from dovetail.options import AsJson, Checkpoint, DataDir, SetTarget, Workload, settings_of
from swopt.workloads.model_store import expanded

if TYPE_CHECKING:
    from dovetail.settings import Settings
    from evaluators.design import DesignPoint
    from evaluators.fpga.ecp5 import Ecp5Cost
    from evaluators.silicon.technology import Technology


class RecipeName(StrEnum):
    """How a Verilog file is mapped."""

    STRONG = "strong"
    PLAIN = "plain"


class TargetName(StrEnum):
    """What a design or a Verilog file is measured on."""

    NANGATE45 = "nangate45"
    ECP5 = "ecp5"


def evaluate(
    context: typer.Context,
    design: Annotated[
        Path | None, typer.Argument(metavar="DESIGN.json", help="A design.", show_default=False)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A run file, for target and data.")] = None,
    workload: Workload = None,
    checkpoint: Checkpoint = None,
    data_dir: DataDir = None,
    changes: SetTarget = [],  # noqa: B006 (typer reads the default, nobody changes it)
    test: Annotated[bool, typer.Option("--test", help="Score the test data instead.")] = False,
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
    """Measure one design, on validation data unless told otherwise."""
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
        if test or workload or checkpoint or data_dir or config or changes:
            raise BadInput(
                "--verilog goes without --test, --workload, --checkpoint, --data-dir, --config and "
                "--set: they are a model's"
            )
        if on_ecp5:
            _show_ecp5_of_file(desk_of(context), verilog, top, as_json)
        else:
            _show_verilog(desk_of(context), verilog, top, recipe, technology_named(*cells), as_json)
        return
    if design is None:
        raise BadInput("name a design: dovetail evaluate DESIGN.json, or --verilog FILE --top NAME")
    if recipe != RecipeName.STRONG:
        raise BadInput("--recipe goes with --verilog; a design's core has the strong recipe")
    from dovetail import session, trace
    from dovetail.design_file import read_design
    from evaluators.silicon import verilator

    desk = desk_of(context)
    point = read_design(design)
    checks.refuse_knobs(changes, design)
    named = {
        "--workload": ("workload", workload),
        "--checkpoint": ("checkpoint", checkpoint),
        "--data-dir": ("data_dir", data_dir),
    }
    settings = settings_of(config, changes, named)
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
    if test:
        with session.isolated(settings, bench) as evaluator:
            results = evaluator.test(point)
        if as_json:
            desk.print_json(results)
        else:
            for line in trace.score_lines(results):
                desk.out.print(line, soft_wrap=True)
        return
    evaluation = session.looked_up(settings, bench, point)
    if evaluation is None:
        with session.isolated(settings, bench) as evaluator:
            evaluation = trace.measured(evaluator, point, settings.target)
    if as_json:
        desk.print_json(evaluation.model_dump(mode="json"))
    else:
        for line in trace.evaluation_lines(evaluation, settings.target):
            desk.out.print(line, soft_wrap=True)
    if evaluation.status != "ok":
        invalid = evaluation.status == "invalid"
        raise typer.Exit(ExitCode.BAD_INPUT if invalid else ExitCode.EVALUATOR)


def gate(
    context: typer.Context,
    edit: Annotated[
        Path,
        typer.Argument(metavar="EDIT", help="The unit's new file: .py, or Verilog in .v or .sv."),
    ],
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

    desk, named = desk_of(context), gating.unit_named(unit)
    source = read_text(edit, gating.SOURCE_LIMIT_BYTES)
    config = CoreConfig(composable=named == "composable_mac")
    if design is not None:
        config = read_design(design).hardware
    if missing := verilator.available():
        raise Missing(f"{missing}; without it no RTL edit can be judged")
    checks.check_store()
    found = gating.report(
        named, source, gating.language_of(edit), latency, config, shipped.pipeline(), desk.tell
    )
    if as_json:
        desk.print_json(found.model_dump(mode="json"))
    else:
        for line in trace.gate_lines(found):
            desk.out.print(line, soft_wrap=True)
    if not found.accepted:
        raise typer.Exit(ExitCode.BAD_INPUT)


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
    checkpoint: Checkpoint = None,
    data_dir: DataDir = None,
) -> None:
    """Write a design's program, DRAM image and Verilog, with its roofline and accesses."""
    from dovetail import compiling
    from dovetail.design_file import read_design
    from evaluators import cache
    from evaluators.silicon import verilator

    desk, named = desk_of(context), expanded(data_dir) if data_dir else None
    point = read_design(design)
    compiling.check_folder(out)
    trained = expanded(checkpoint) if checkpoint else None
    if trained is None:
        checks.check_images(named)
    checks.check_store()
    if check and (missing := verilator.available()):
        raise Missing(f"{missing}; or leave --check out")
    case = desk.open_workshop().case(point, question, named, trained)
    desk.err.print(Text(f"compiling {point.id} for {case.data}"), soft_wrap=True)
    made = compiling.compile_case(case, cache.root() / "simulators" if check else None)
    compiling.write(out, made.files)
    for line in made.summary:
        desk_of(context).say(line)
    desk_of(context).say(f"{', '.join(made.files)} in {out}")


def knobs(context: typer.Context, as_json: AsJson = False) -> None:
    """List every knob of a design."""
    from evaluators import space

    desk = desk_of(context)
    if as_json:
        desk.print_json([knob.model_dump(mode="json") for knob in space.knobs()])
        return
    for knob in space.knobs():
        head = Text(knob.path, style="bold") + Text(f" = {json.dumps(knob.default)}")
        desk.out.print(head, soft_wrap=True)
        desk.out.print(Text(f"    {knob.type}. {knob.doc}"), soft_wrap=True)


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

    checks.check_store()
    try:
        store = cache.root() / "silicon"
        cost = cost_of_verilog(path, top, store, recipe.value, technology, desk.tell)
    except ForeignError as error:
        raise BadInput(str(error)) from None
    if as_json:
        desk.print_json(cost.model_dump(mode="json"))
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
        desk.print_json(cost.model_dump(mode="json"))
        return
    for line in trace.ecp5_lines(name, cost):
        desk.out.print(line, soft_wrap=True)
