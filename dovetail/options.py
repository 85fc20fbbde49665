"""Options and arguments that several commands have, and the settings that come of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dovetail.settings import Settings

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
Workload = Annotated[
    str | None, typer.Option(help="tiny-vlm, or a language model by name or folder.")
]
Checkpoint = Annotated[
    str | None,
    typer.Option(help="Folder of a tiny-vlm that `dovetail finetune` made, with its questions."),
]
DataDir = Annotated[str | None, typer.Option("--data-dir", help="Folder of the MedMNIST files.")]


def settings_of(
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
