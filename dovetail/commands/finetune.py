"""The command that teaches `tiny-vlm` one's own questions."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dovetail.commands.machine import MEDICAL_SETS
from dovetail.desk import desk_of
from dovetail.options import AsJson


class Device(StrEnum):
    """Where a model is taught."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def finetune(
    context: typer.Context,
    rows: Annotated[
        str,
        typer.Argument(
            metavar="ROWS",
            help="JSON lines of image, question and answer; or vqa-rad, slake, path-vqa.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new checkpoint.")],
    base: Annotated[
        Path | None, typer.Option("--from", help="Checkpoint to begin from, else the shipped one.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 600,
    rank: Annotated[int, typer.Option(help="Rank of each layer's change.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="At its peak.")] = 2e-3,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    device: Annotated[Device, typer.Option(help="Where it is taught.")] = Device.AUTO,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder of fetched sets.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Teach tiny-vlm one's own questions about images; go on where it stopped."""
    from pydantic import ValidationError

    from dovetail import finetuning
    from dovetail.errors import BadInput
    from dovetail.reading import first_fault
    from swopt.workloads.finetune import Recipe

    desk = desk_of(context)
    try:
        recipe = Recipe(steps=steps, rank=rank, learning_rate=learning_rate, seed=seed)
    except ValidationError as error:
        name, _, law = first_fault(error)
        raise BadInput(f"--{name.replace('_', '-')}: {law}") from None
    wanted = finetuning.Wanted(rows, out, base, data_dir, device.value)
    judged = finetuning.finetune(wanted, recipe, tuple(MEDICAL_SETS), desk.err)
    if as_json:
        desk.print_json(judged.model_dump())
        return
    desk.say(f"validation questions: {judged.nll_nats:.3f} nats")
    for kind, share in judged.accuracy.items():
        usual = judged.commonest[kind]
        desk.say(f"  {kind}: {share:.1%} right; saying the commonest answer always: {usual:.1%}")
    desk.say(f"fit it to hardware with: dovetail run --checkpoint {out}")
