"""What `dovetail finetune` teaches: questions or texts, and the model that is to learn them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from dovetail.errors import BadInput, Missing
from dovetail.formatting import plain_number
from dovetail.reading import first_fault

if TYPE_CHECKING:
    from swopt.workloads.checkpoint import TinyVlm
    from swopt.workloads.finetune import FineTuning, Recipe
    from swopt.workloads.own_questions import Packed
    from swopt.workloads.vqa_rows import PackedRow, Row

AnyRecipe = TypeVar("AnyRecipe", bound="Recipe")


@dataclass(frozen=True)
class Wanted:
    """What is to be taught.

    Attributes:
        data: Rows or texts: a file of JSON lines, or the name of a set that `dovetail fetch`
            brings; for a language model a text, or a folder of texts.
        out: The folder of the new model.
        workload: `tiny-vlm`, or a language model as `dovetail run` names it.
        base: Folder of the checkpoint that `tiny-vlm` begins from; None: the shipped one.
        data_dir: Folder of fetched sets; None: where they usually are.
        suffix: How names of texts in a folder end.
        device: `cpu`, `cuda`, or `auto` for what is there.
        recipe: Fields of the recipe that are not left as they are.
    """

    data: str
    out: Path
    workload: str
    base: Path | None
    data_dir: Path | None
    suffix: str
    device: str
    recipe: Mapping[str, int | float]


def of_questions(wanted: Wanted, device: str) -> "tuple[FineTuning, str]":
    """`tiny-vlm` on its way to questions about images, and what they are, in words.

    Raises:
        BadInput: A row breaks a law, there is nothing to learn, or a setting breaks one.
        Missing: A set, a checkpoint or a library is not there.
    """
    from swopt.workloads.finetune_questions import QuestionRecipe, QuestionTuning

    recipe = _recipe(wanted, QuestionRecipe)
    base = _base(wanted.base)
    packed = _packed(wanted, base)
    return QuestionTuning(base, packed, recipe, device), _told(wanted, packed)


def of_texts(wanted: Wanted, device: str) -> "tuple[FineTuning, str]":
    """A language model on its way to texts, and what they are, in words.

    Raises:
        BadInput: There is nothing to learn, or a setting breaks a law.
        Missing: There is no such model.
    """
    from swopt.workloads import language_models, own_texts
    from swopt.workloads.finetune_text import TextRecipe, TextTuning
    from swopt.workloads.model_store import ModelError

    recipe = _recipe(wanted, TextRecipe)
    path = Path(wanted.data)
    try:
        base = language_models.load(wanted.workload)
        texts = own_texts.read(path, wanted.suffix, base.tokenizer)
        tuning = TextTuning(base, texts, recipe, device)
    except ModelError as error:
        raise Missing(str(error)) from None
    except own_texts.TextError as error:
        raise BadInput(str(error)) from None
    told = (
        f"{path.name}: {plain_number(len(texts.training))} windows of training and "
        f"{plain_number(len(texts.validation))} of validation, of {texts.files} files, for "
        f"{wanted.workload}; {base.source}"
    )
    return tuning, told


def _recipe(wanted: Wanted, kind: type[AnyRecipe]) -> AnyRecipe:
    try:
        return kind.model_validate(wanted.recipe)
    except ValidationError as error:
        name, _, law = first_fault(error)
        raise BadInput(f"--{name.replace('_', '-')}: {law}") from None


def _base(folder: Path | None) -> "TinyVlm":
    from swopt.workloads import checkpoint

    try:
        return checkpoint.load(folder or checkpoint.SHIPPED)
    except checkpoint.CheckpointError as error:
        raise Missing(str(error)) from None


def _packed(wanted: Wanted, base: "TinyVlm") -> "Packed":
    """The questions, in the form that a model is taught by."""
    from swopt.workloads import own_questions, own_words
    from swopt.workloads.model_store import ModelError
    from swopt.workloads.vqa_rows import RowError

    plain = own_words.tokenizer_of([])

    def words_of(text: str) -> list[str]:
        return own_words.taken_apart(plain, text)

    try:
        return own_questions.pack(_rows(wanted), own_questions.words_max(base), words_of)
    except (ModelError, ModuleNotFoundError) as error:
        raise Missing(str(error)) from None
    except (RowError, own_questions.NoQuestions) as error:
        raise BadInput(str(error)) from None


def _rows(wanted: Wanted) -> Iterator["Row | PackedRow"]:
    from swopt.workloads import medical_vqa, model_store, vqa_rows

    if wanted.data not in medical_vqa.SETS:
        yield from vqa_rows.each_of(Path(wanted.data))
        return
    data = model_store.data_dir(wanted.data_dir)
    for split in medical_vqa.SETS[wanted.data].splits:
        yield from medical_vqa.read(wanted.data, split, data)


def _told(wanted: Wanted, packed: "Packed") -> str:
    from swopt.workloads.vqa import SPLITS

    table, name = packed.table, Path(wanted.data).name
    counts = ", ".join(f"{plain_number(len(table.of(each)))} {each}" for each in SPLITS)
    said = (
        f"{name}: {counts} questions about {plain_number(len(table.images))} images, "
        f"{plain_number(len(packed.answers))} answers"
    )
    for what, gone in (
        ("their answer is none of these", packed.unseen),
        ("they are too long for the model", packed.long),
    ):
        if gone:
            left = ", ".join(f"{count} of {split}" for split, count in gone.items())
            said += f"; left out, since {what}: {left}"
    if packed.merged:
        said += f"; {packed.merged} answers are taken for others but for signs and articles"
    if packed.shared:
        said += f"; {packed.shared} images are in more than one split"
    return said
