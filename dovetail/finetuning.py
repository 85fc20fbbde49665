"""`dovetail finetune`: teaches a model one's own questions or texts, and goes on where it ended."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from dovetail.errors import BadInput, Interrupted, Missing
from dovetail.finetuning_data import Wanted, of_questions, of_texts
from dovetail.formatting import safe
from dovetail.model_folder import ModelFolder
from evaluators.cache import sha256
from evaluators.workloads import TINY_VLM

if TYPE_CHECKING:
    from swopt.workloads.finetune import FineTuning, Outcome


def finetune(wanted: Wanted, console: Console) -> "Outcome":
    """Teaches, or goes on teaching, and writes the model; how it does on validation data.

    Args:
        wanted: What.
        console: Where progress is shown.

    Raises:
        BadInput: The data breaks a law, there is nothing to learn, or the loss diverges.
        Missing: A set, a model, a library or a device is not there.
        FolderRefused: The folder is another model, or cannot be written.
        Interrupted: It was ended; the same command goes on.
    """
    import torch

    torch.set_num_threads(1)
    device, folder = _device(wanted.device), ModelFolder(wanted.out)
    folder.check()
    made = of_questions if wanted.workload == TINY_VLM else of_texts
    teaching, told = made(wanted, device)
    _say(console, f"{told}; teaching on {device}")
    about = {"of": Path(wanted.data).name, **teaching.about}
    state = folder.begin(about)
    with folder.alone():
        if state is not None:
            folder.restore(teaching.restore, state)
            _say(console, f"going on from step {teaching.steps_done}")
        files, judged = _taught(teaching, int(about["recipe"]["steps"]), folder, console)
        learnt = {"kept_step": teaching.kept_step, "validation": judged.model_dump()}
        folder.finish(files, about | learnt | _hashes(files))
    return judged


def lines(judged: "Outcome", out: Path) -> Iterator[str]:
    """What came of it, and what to do next."""
    from swopt.workloads.finetune_questions import Judged
    from swopt.workloads.finetune_text import TextJudged

    if isinstance(judged, TextJudged):
        yield (
            f"next token of {judged.windows} validation windows: "
            f"{judged.nll_nats_before:.3f} nats before, {judged.nll_nats:.3f} now"
        )
        yield f"fit it to hardware with: dovetail run --workload {shlex.quote(str(out))}"
    if isinstance(judged, Judged):
        yield f"validation questions: {judged.nll_nats:.3f} nats"
        for kind, share in judged.accuracy.items():
            usual = judged.commonest[kind]
            yield f"  {kind}: {share:.1%} right; saying the commonest answer always: {usual:.1%}"
        yield f"fit it to hardware with: dovetail run --checkpoint {shlex.quote(str(out))}"


def _taught(
    teaching: "FineTuning", steps: int, folder: ModelFolder, console: Console
) -> "tuple[dict[str, bytes], Outcome]":
    """The files of the model when it has learnt, and how it does."""
    try:
        _teach(teaching, steps, folder, console)
        return teaching.finish()
    except KeyboardInterrupt:
        done = teaching.steps_done
        kept = done if done == steps else done // teaching.save_every * teaching.save_every
        raise Interrupted(
            f"interrupted at step {done} of {steps}; the same command goes on from step {kept}"
        ) from None
    except ValueError as error:
        raise BadInput(str(error)) from None


def _teach(teaching: "FineTuning", steps: int, folder: ModelFolder, console: Console) -> None:
    every = max(1, steps // teaching.checks)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("teaching", total=steps, completed=teaching.steps_done)
        while teaching.steps_done < steps:
            loss = teaching.step()
            done = teaching.steps_done
            if done % every == 0 or done == steps:
                said = f"step {done}: {loss:.3f} nats, on validation {teaching.check():.3f}"
                progress.update(bar, description=said)
                if not console.is_terminal:
                    _say(console, said)
            progress.update(bar, completed=done)
            if done % teaching.save_every == 0 or done == steps:
                folder.keep(teaching.state())


def _hashes(files: dict[str, bytes]) -> dict[str, Any]:
    """By which damaged files are found out."""
    each = {name: sha256(content) for name, content in files.items()}
    return {"weights_sha256": each["model.safetensors"], "files_sha256": each}


def _device(named: str) -> str:
    import torch

    if named == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if named == "cuda" and not torch.cuda.is_available():
        raise Missing("torch finds no CUDA device here; leave --device out, or say --device cpu")
    return named


def _say(console: Console, sentence: str) -> None:
    console.print(Text(safe(sentence)), soft_wrap=True)
