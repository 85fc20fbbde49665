"""The command that teaches a model one's own questions or texts."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dovetail.commands.machine import MEDICAL_SETS
from dovetail.desk import desk_of
from dovetail.errors import BadInput
from dovetail.options import AsJson
from evaluators.workloads import TINY_VLM
from swopt.workloads.model_store import expanded


class Device(StrEnum):
    """Where a model is taught."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def finetune(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="JSON lines of image, question and answer, or vqa-rad, slake, path-vqa; for a "
            "language model a text, or a folder of texts.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new model.")],
    workload: Annotated[
        str, typer.Option(help="tiny-vlm, or a language model by name or folder.")
    ] = TINY_VLM,
    base: Annotated[
        Path | None,
        typer.Option("--from", help="Of tiny-vlm: the checkpoint to begin from, not the shipped."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Optimizer steps, else 600; of a language model 100.")
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="Rank of each layer's change, else 16; 8.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="At its peak, else 0.002; 0.0005.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of all that is drawn, else 0.")] = None,
    device: Annotated[Device, typer.Option(help="Where it is taught.")] = Device.AUTO,
    suffix: Annotated[str, typer.Option(help="How names of texts in a folder end.")] = ".py",
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder of fetched sets.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Teach a model one's own questions or texts; go on where it stopped."""
    from dovetail import finetuning
    from dovetail.finetuning_data import Wanted

    if workload != TINY_VLM and (base or data_dir):
        raise BadInput("--from and --data-dir are of tiny-vlm; leave them out")
    if data_dir is not None and data.lower() not in MEDICAL_SETS:
        raise BadInput("--data-dir is where fetched sets are; leave it out")
    if not data.strip():
        raise BadInput("DATA is empty; name a file, or a set such as vqa-rad")
    given = {"steps": steps, "rank": rank, "learning_rate": learning_rate, "seed": seed}
    recipe = {name: value for name, value in given.items() if value is not None}
    desk = desk_of(context)
    named = data.lower() if data.lower() in MEDICAL_SETS else str(expanded(data))
    out, base = expanded(out), expanded(base) if base else None
    wanted = Wanted(named, out, workload, base, data_dir, suffix, device.value, recipe)
    judged = finetuning.finetune(wanted, desk.err)
    if as_json:
        desk.print_json(judged.model_dump())
        return
    for line in finetuning.lines(judged, out):
        desk.say(line)
