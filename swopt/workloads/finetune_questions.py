"""Fine-tunes `tiny-vlm` to one's own questions about images.

Every linear layer but the head gets an adapter; embeddings and head learn whole, since new words
have their rows there. The loss is the cross entropy of the answer's token, softened over the
answers of its kind.
"""

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.nn import functional

from swopt.workloads import block_drop, own_words, tiny_vlm
from swopt.workloads.augmentation import lit, moved
from swopt.workloads.checkpoint import QUESTIONS, TinyVlm, token_id
from swopt.workloads.finetune import FineTuning, Outcome, Recipe, evenly, in_half
from swopt.workloads.own_questions import KINDS, Packed, Table
from swopt.workloads.vqa import Questions

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHECKED_QUESTIONS = 512
"""Validation questions, evenly drawn, that a step is judged by."""


class QuestionRecipe(Recipe):
    """How `tiny-vlm` is fine-tuned."""

    steps: Annotated[int, Field(ge=1, le=100_000)] = 600
    """Optimizer steps."""

    batch: Annotated[int, Field(ge=1, le=1024)] = 48
    """Questions a step."""

    rank: Annotated[int, Field(ge=1, le=64)] = 16
    """Rank of each layer's change."""

    learning_rate: Annotated[float, Field(gt=0, le=0.1, allow_inf_nan=False)] = 2e-3
    """At its peak, reached after the first tenth and falling as a cosine."""

    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the target that is spread over the other answers of the question's kind."""

    block_drop: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Chance that a block is left out of a step."""


class Judged(Outcome):
    """How well a model answers some questions."""

    accuracy: dict[str, float]
    """By kind: share of questions whose likeliest answer is the true one."""

    commonest: dict[str, float]
    """By kind: the same of saying always what is the commonest answer of training."""


class QuestionTuning(FineTuning):
    """A model on its way to answer other questions.

    Args:
        base: Where it begins; it is left as it was.
        packed: Questions of all three splits, and the answer set.
        recipe: How.
        device: Where it is taught, as torch names it.
    """

    def __init__(
        self, base: TinyVlm, packed: Packed, recipe: QuestionRecipe, device: str = "cpu"
    ) -> None:
        self._packed, self._table, self._how = packed, packed.table, recipe
        self._base_sha256, self._content = base.sha256, packed.content()
        texts = [self._table.texts[i] for i in self._table.of("train")]
        self._tokenizer = own_words.extended(base.tokenizer, texts, packed.answers)
        self._config, model = _grown(base, self._tokenizer, recipe.seed)
        layers = dict(tiny_vlm.linear_layers(model))
        whole = (layers.pop("head"), model.get_input_embeddings())
        super().__init__(model, layers, whole, recipe, device)

    def _loss(self, step: int, chance: torch.Generator) -> torch.Tensor:
        chosen = self._drawn(self._table.of("train"), step)
        with block_drop.left_out(self._model, self._how.block_drop, chance):
            asked = _varied(self._table.questions(chosen), chance)
            logits = tiny_vlm.padded_logits(self._tokenizer, self._model, asked)
        return functional.cross_entropy(logits, self._targets(chosen).to(logits.device))

    def _validation(self) -> float:
        return self._judged(evenly(self._table.of("val"), CHECKED_QUESTIONS)).nll_nats

    @property
    def about(self) -> dict[str, Any]:
        """All that the outcome hangs on but the device, for JSON."""
        return self._made_by | {
            "begun_from_sha256": self._base_sha256,
            "answers": list(self._packed.answers),
            "unseen": self._packed.unseen,
            "long": self._packed.long,
            "table_sha256": hashlib.sha256(self._content).hexdigest(),
        }

    def finish(self) -> tuple[dict[str, bytes], Judged]:
        """The last call: all files of the checkpoint but `training.json`, by name, and how the
        model answers validation questions."""
        from safetensors.torch import save

        weights = in_half(self._merged())
        files = {
            "model.safetensors": save(weights),
            "config.json": (json.dumps(self._config, indent=2) + "\n").encode(),
            "tokenizer.json": self._tokenizer.to_str().encode(),
            QUESTIONS: self._content,
        }
        return files, self._judged(self._table.of("val"))

    def _targets(self, chosen: NDArray[np.int64]) -> torch.Tensor:
        """The soft target of each question, float32 `[n, vocabulary]`."""
        smoothing, table = self._how.smoothing, self._table
        target = torch.zeros(len(chosen), int(self._config["text_config"]["vocab_size"]))
        for row, index in enumerate(chosen.tolist()):
            others = self._of_kind[int(table.kinds[index])]
            target[row, others] = smoothing / len(others)
            target[row, self._tokens[int(table.answers[index])]] += 1 - smoothing
        return target

    @cached_property
    def _tokens(self) -> list[int]:
        """The token of each answer."""
        return [token_id(self._tokenizer, answer) for answer in self._packed.answers]

    @cached_property
    def _of_kind(self) -> list[list[int]]:
        """Tokens of the answers that training questions of each kind have."""
        training = self._table.of("train")
        kinds, answers = self._table.kinds[training], self._table.answers[training]
        return [
            [self._tokens[a] for a in np.unique(answers[kinds == kind]).tolist()]
            for kind in range(len(KINDS))
        ]

    def _judged(self, chosen: NDArray[np.int64]) -> Judged:
        self._model.eval()
        asked = self._table.questions(chosen)
        logits = tiny_vlm.next_token_logits(self._tokenizer, self._model, asked)
        scores = torch.log_softmax(logits[:, self._tokens].double(), -1).cpu().numpy()
        return _judged(scores, self._table, chosen)


def _grown(base: TinyVlm, tokenizer: "Tokenizer", seed: int) -> tuple[dict[str, Any], Any]:
    """The base with rows for new words, and its configuration."""
    config: dict[str, Any] = json.loads(json.dumps(base.config))
    config["text_config"]["vocab_size"] = (tokenizer.get_vocab_size() + 15) // 16 * 16
    known = base.tokenizer.get_vocab_size()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = tiny_vlm.build_model(config)
    held = model.state_dict()
    for name, weight in base.model.state_dict().items():
        if held[name].shape == weight.shape:
            held[name].copy_(weight)
        else:
            held[name][:known] = weight[:known]
    return config, model


def _varied(questions: Questions, chance: torch.Generator) -> Questions:
    """The same questions with their images moved and lit otherwise; left stays left."""
    pixels = torch.from_numpy(questions.images).permute(0, 3, 1, 2).float() / 127.5 - 1
    seen = lit(moved(pixels, chance, mirrored=False), chance)
    images = ((seen + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
    return Questions(images.numpy(), questions.texts, questions.sets)


def _judged(scores: NDArray[np.float64], table: Table, chosen: NDArray[np.int64]) -> Judged:
    truth, kinds = table.answers[chosen], table.kinds[chosen]
    right = scores.argmax(1) == truth
    training = table.of("train")
    accuracy, commonest = {}, {}
    for index, kind in enumerate(KINDS):
        if not np.any(kinds == index):
            continue
        accuracy[kind] = float(right[kinds == index].mean())
        said = table.answers[training][table.kinds[training] == index]
        usual = np.bincount(said).argmax() if len(said) else -1
        commonest[kind] = float((truth[kinds == index] == usual).mean())
    nll = -scores[np.arange(len(truth)), truth].mean()
    return Judged(nll_nats=float(nll), accuracy=accuracy, commonest=commonest)
