"""`dovetail finetune`: teaches `tiny-vlm` one's own questions, and goes on where it ended."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from dovetail.errors import BadInput, FolderRefused, Interrupted, Missing, NoSpace
from dovetail.formatting import one_line, plain_number, safe
from dovetail.journal import FULL
from swopt.workloads.checkpoint import QUESTIONS, UNFINISHED

if TYPE_CHECKING:
    from swopt.workloads.checkpoint import TinyVlm
    from swopt.workloads.finetune import FineTuning, Judged, Recipe
    from swopt.workloads.own_questions import Packed
    from swopt.workloads.vqa_rows import PackedRow, Row

STATE, RECORD = "progress.pt", "training.json"

SAVE_EVERY = 50
"""Steps between two states that are kept."""

CHECKS = 20
"""How often validation questions are looked at."""


@dataclass(frozen=True)
class Wanted:
    """What is to be taught.

    Attributes:
        rows: A file of JSON lines, or the name of a set that `dovetail fetch` brings.
        out: The folder of the checkpoint.
        base: Folder of the checkpoint to begin from; None: the shipped one.
        data_dir: Folder of fetched sets; None: where they usually are.
        device: `cpu`, `cuda`, or `auto` for what is there.
    """

    rows: str
    out: Path
    base: Path | None
    data_dir: Path | None
    device: str


def finetune(wanted: Wanted, recipe: "Recipe", sets: tuple[str, ...], console: Console) -> "Judged":
    """Teaches, or goes on teaching, and writes the checkpoint; how it answers validation questions.

    Args:
        wanted: What.
        recipe: How.
        sets: Names of sets that can be fetched.
        console: Where progress is shown.

    Raises:
        BadInput: A row breaks a law, there is nothing to learn, or the loss diverges.
        Missing: A set, a checkpoint, a library or a device is not there.
        FolderRefused: The folder is another checkpoint, or cannot be written.
        Interrupted: It was ended; the same command goes on.
    """
    import torch

    from swopt.workloads.finetune import FineTuning

    torch.set_num_threads(1)
    base = _base(wanted.base)
    packed = _packed(wanted, sets, base)
    device = _device(wanted.device)
    _say(console, _told(packed, wanted, device))
    teaching = FineTuning(base, packed, recipe, device)
    about = {"questions_of": _name(wanted.rows), **teaching.about}
    folder = _Folder(wanted.out)
    if state := folder.begin(about):
        try:
            teaching.restore(state)
        except ValueError as error:
            raise BadInput(
                f"{folder.path / STATE} was changed: {one_line(str(error), 200)}; remove the "
                "folder and begin anew"
            ) from None
        _say(console, f"going on from step {teaching.steps_done}")
    try:
        _teach(teaching, recipe.steps, folder, console)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted at step {teaching.steps_done} of {recipe.steps}; the same command goes "
            f"on from step {teaching.steps_done // SAVE_EVERY * SAVE_EVERY}"
        ) from None
    except ValueError as error:
        raise BadInput(str(error)) from None
    files, judged = teaching.finish()
    learnt = {"kept_step": teaching.kept_step, "validation": judged.model_dump()}
    folder.finish(files, about | learnt | _hashes(files) | {"sets": []})
    return judged


def _teach(teaching: "FineTuning", steps: int, folder: "_Folder", console: Console) -> None:
    every = max(1, steps // CHECKS)
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
            if done % SAVE_EVERY == 0 and done < steps:
                folder.keep(teaching.state())


class _Folder:
    """The folder of a checkpoint, while it is made and when it is done."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, about: dict[str, Any]) -> bytes | None:
        """Makes the folder, or finds what was kept of the same fine-tuning.

        Raises:
            FolderRefused: It holds something else, or cannot be written.
        """
        path, there = self.path, self.path / UNFINISHED
        try:
            if (path / RECORD).exists():
                raise FolderRefused(f"{path} holds a checkpoint; name a new folder with --out")
            if there.is_file():
                if json.loads(there.read_text()) != json.loads(json.dumps(about)):
                    raise FolderRefused(
                        f"{path} holds the beginning of another fine-tuning, with other questions, "
                        "settings or versions; give the same command, or name a new folder with "
                        "--out"
                    )
                return (path / STATE).read_bytes() if (path / STATE).is_file() else None
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise FolderRefused(f"{path} holds something else; name a new folder with --out")
        except (OSError, ValueError) as error:
            raise FolderRefused(
                f"{path} cannot be used ({one_line(str(error), 120)}); name another with --out"
            ) from None
        self._write(UNFINISHED, json.dumps(about, indent=1).encode())
        return None

    def keep(self, state: bytes) -> None:
        """Keeps a state to go on from."""
        self._write(STATE, state)

    def finish(self, files: dict[str, bytes], record: dict[str, Any]) -> None:
        """Writes the checkpoint, `training.json` last; what was kept on the way goes."""
        for name, content in files.items():
            self._write(name, content)
        self._write(RECORD, (json.dumps(record, indent=2) + "\n").encode())
        for name in (STATE, UNFINISHED):
            (self.path / name).unlink(missing_ok=True)

    def _write(self, name: str, content: bytes) -> None:
        from evaluators.cache import write_atomically

        try:
            write_atomically(self.path / name, content)
        except OSError as error:
            where = f"{self.path / name} cannot be written ({error.strerror})"
            if error.errno in FULL:
                raise NoSpace(f"{where}; make room and give the same command again") from None
            raise FolderRefused(f"{where}; name another folder with --out") from None


def _hashes(files: dict[str, bytes]) -> dict[str, str]:
    """By which damaged files are found out."""
    from evaluators.cache import sha256

    weights, questions = files["model.safetensors"], files[QUESTIONS]
    return {"weights_sha256": sha256(weights), "questions_sha256": sha256(questions)}


def _base(folder: Path | None) -> "TinyVlm":
    from swopt.workloads import checkpoint

    try:
        return checkpoint.load(folder or checkpoint.SHIPPED)
    except checkpoint.CheckpointError as error:
        raise Missing(str(error)) from None


def _packed(wanted: Wanted, sets: tuple[str, ...], base: "TinyVlm") -> "Packed":
    """The questions, in the form that a model is taught by."""
    from swopt.workloads import own_questions, own_words
    from swopt.workloads.model_store import ModelError
    from swopt.workloads.vqa_rows import RowError

    plain = own_words.tokenizer_of([])

    def words_of(text: str) -> list[str]:
        return own_words.taken_apart(plain, text)

    try:
        rows = list(_rows(wanted, sets))
        return own_questions.pack(rows, own_questions.words_max(base), words_of)
    except ModelError as error:
        raise Missing(str(error)) from None
    except ModuleNotFoundError as error:
        raise Missing(str(error)) from None
    except (RowError, own_questions.NoQuestions) as error:
        raise BadInput(str(error)) from None


def _rows(wanted: Wanted, sets: tuple[str, ...]) -> Iterator["Row | PackedRow"]:
    from swopt.workloads import medical_vqa, model_store, vqa_rows

    if wanted.rows not in sets:
        yield from vqa_rows.read(Path(wanted.rows).expanduser())
        return
    data = model_store.data_dir(wanted.data_dir)
    for split in medical_vqa.SETS[wanted.rows].splits:
        yield from medical_vqa.read(wanted.rows, split, data)


def _device(named: str) -> str:
    import torch

    if named == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if named == "cuda" and not torch.cuda.is_available():
        raise Missing("torch finds no CUDA device here; leave --device out, or say --device cpu")
    return named


def _name(rows: str) -> str:
    return Path(rows).name


def _told(packed: "Packed", wanted: Wanted, device: str) -> str:
    from swopt.workloads.own_questions import SPLITS

    table = packed.table
    counts = ", ".join(f"{plain_number(len(table.of(each)))} {each}" for each in SPLITS)
    said = (
        f"{_name(wanted.rows)}: {counts} questions about {plain_number(len(table.images))} images, "
        f"{plain_number(len(packed.answers))} answers; teaching on {device}"
    )
    for what, gone in (
        ("have an answer that no training question has", packed.unseen),
        ("are too long for the model", packed.long),
    ):
        if gone:
            left = ", ".join(f"{count} of {split}" for split, count in gone.items())
            said += f"; left out, since they {what}: {left}"
    return said


def _say(console: Console, sentence: str) -> None:
    console.print(Text(safe(sentence)), soft_wrap=True)
