"""The command that measures every technique: alone, stacked, and left out."""

from pathlib import Path
from typing import Annotated

import typer

from dovetail import checks
from dovetail.desk import desk_of
from dovetail.errors import BadInput
from dovetail.options import AsJson, DataDir, SetTarget, settings_of


def study(
    context: typer.Context,
    workload: Annotated[
        str, typer.Option(help="The model: tiny-vlm, or smollm2-135m.")
    ] = "tiny-vlm",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the study.")] = Path(
        "runs/study"
    ),
    config: Annotated[Path | None, typer.Option(help="A run file, for target and data.")] = None,
    data_dir: DataDir = None,
    changes: SetTarget = [],  # noqa: B006 (typer reads the default, nobody changes it)
    workers: Annotated[int | None, typer.Option(help="Designs at once.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the designs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure each technique alone, one after the other and left out; go on where it stopped."""
    from agents.rewrites import shipped_library
    from dovetail import studying

    desk = desk_of(context)
    if (listed := studying.LISTS.get(workload)) is None:
        known = " and ".join(studying.LISTS)
        raise BadInput(f"there is no study of `{workload[:40]}`; there are those of {known}")
    named = {
        "--workload": ("workload", workload),
        "--data-dir": ("data_dir", data_dir),
        "--workers": ("workers", workers),
    }
    checks.refuse_knobs(changes, Path("the study's list of designs"))
    settings = settings_of(config, changes, named)
    playbook = shipped_library().rewrites
    if dry_run:
        for line in studying.plan(listed, playbook):
            desk.say(line)
        return
    checks.check_data(settings)
    checks.check_cells(settings)
    checks.check_store()
    done = studying.study(listed, settings, out, playbook, desk.open_workshop(), desk.tell)
    if as_json:
        desk.print_json(done.figures)
    for line in done.summary:
        desk.tell(line) if as_json else desk.say(line)
