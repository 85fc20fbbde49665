"""Fine-tunes `tiny-vlm` to one's own questions about images, for the domain that they are from.

Every linear layer but the head learns a change of low rank (LoRA, Hu et al., ICLR 2022, by peft),
which is merged in the end; embeddings and head learn whole, since new words have their rows there.
The loss is the cross entropy of the answer's token, softened over the answers of its kind. What is
kept is the step of the least loss on validation questions; test questions are not looked at.

Each step draws from a seed of its own, so a fine-tuning that was ended goes on as if it had not.
"""

import hashlib
import io
import json
import math
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.nn import functional

from hwlib.frozen import Frozen
from swopt.techniques import recovery
from swopt.workloads import block_drop, own_words, tiny_vlm
from swopt.workloads.augmentation import lit, moved
from swopt.workloads.checkpoint import QUESTIONS, TinyVlm, token_id
from swopt.workloads.own_questions import KINDS, Packed, Table
from swopt.workloads.vqa import Questions

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TOOLS = ("torch", "transformers", "peft", "numpy")

CHECKED_QUESTIONS = 512
"""Validation questions, evenly drawn, that a step is judged by."""


class Recipe(Frozen):
    """How a model is fine-tuned."""

    steps: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Optimizer steps."""

    batch: Annotated[int, Field(ge=1, le=1024)] = 48
    """Questions a step."""

    rank: Annotated[int, Field(ge=1, le=64)] = 16
    """Rank of each layer's change."""

    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = 2e-3
    """At its peak, reached after the first tenth and falling as a cosine."""

    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the target that is spread over the other answers of the question's kind."""

    block_drop: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Chance that a block is left out of a step."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the order, of augmentation and of new words' embeddings."""


class Judged(Frozen):
    """How well a model answers some questions."""

    nll_nats: float
    """Mean negative log-likelihood of the true answer."""

    accuracy: dict[str, float]
    """By kind: share of questions whose likeliest answer is the true one."""

    commonest: dict[str, float]
    """By kind: the same of saying always what is the commonest answer of training."""


class FineTuning:
    """A model on its way to answer other questions.

    Args:
        base: Where it begins; it is left as it was.
        packed: Questions of all three splits, and the answer set.
        recipe: How.
        device: Where it is taught, as torch names it.

    Attributes:
        steps_done: Steps so far.
    """

    def __init__(self, base: TinyVlm, packed: Packed, recipe: Recipe, device: str = "cpu") -> None:
        self._packed, self._recipe, self._device = packed, recipe, device
        self._base_sha256 = base.sha256
        self._table = packed.table
        texts = [self._table.texts[i] for i in self._table.of("train")]
        self._tokenizer = own_words.extended(base.tokenizer, texts, packed.answers)
        self._config, self._model = _grown(base, self._tokenizer, recipe.seed)
        self._model.to(device)
        layers = dict(tiny_vlm.linear_layers(self._model))
        head = layers.pop("head")
        self._adapted = recovery.with_adapters(self._model, layers, recipe.rank)
        for whole in (head, self._model.get_input_embeddings()):
            whole.requires_grad_(True)
        self._learning = {n: p for n, p in self._model.named_parameters() if p.requires_grad}
        self._optimizer = torch.optim.AdamW(self._learning.values(), weight_decay=0.0)
        self._best: tuple[float, int, dict[str, torch.Tensor]] = (math.inf, 0, {})
        self.steps_done = 0

    def step(self) -> float:
        """Does the next step; its loss in nats.

        Raises:
            ValueError: The loss is no number.
        """
        recipe, at = self._recipe, self.steps_done
        chance = torch.Generator().manual_seed(recipe.seed * 1_000_003 + at)
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.learning_rate * recovery.pace(at / recipe.steps)
        chosen = self._drawn(at)
        self._model.train()
        self._optimizer.zero_grad()
        with block_drop.left_out(self._model, recipe.block_drop, chance):
            asked = _varied(self._table.questions(chosen), chance)
            logits = tiny_vlm.padded_logits(self._tokenizer, self._model, asked)
            loss = functional.cross_entropy(logits, self._targets(chosen).to(logits.device))
            if not math.isfinite(found := float(loss.detach())):
                raise ValueError(
                    f"fine-tuning diverged: the loss of step {at} is {found}; "
                    "take a smaller --learning-rate"
                )
            loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._learning.values(), 1.0)
        self._optimizer.step()
        self.steps_done += 1
        return found

    def check(self) -> float:
        """The loss on validation questions, in nats; the step of the least one is kept."""
        chosen = self._table.of("val")
        even = np.linspace(0, len(chosen) - 1, min(len(chosen), CHECKED_QUESTIONS)).astype(np.int64)
        found = self._judged(chosen[even]).nll_nats
        if found < self._best[0]:
            kept = {name: each.detach().clone() for name, each in self._learning.items()}
            self._best = (found, self.steps_done, kept)
        return found

    def state(self) -> bytes:
        """All that `restore` needs."""
        content = io.BytesIO()
        learnt = {name: each.detach() for name, each in self._learning.items()}
        whole = (self.steps_done, learnt, self._optimizer.state_dict(), self._best)
        torch.save(whole, content)
        return content.getvalue()

    def restore(self, state: bytes) -> None:
        """Goes on where `state` was taken.

        Raises:
            ValueError: It is damaged, or of another fine-tuning.
        """
        try:
            whole = torch.load(io.BytesIO(state), self._device, weights_only=True)
            self.steps_done, learnt, optimizer, self._best = whole
            self._optimizer.load_state_dict(optimizer)
            self._put(learnt)
        except Exception as error:  # torch raises what it likes for a damaged file
            raise ValueError(f"it holds no state of this fine-tuning ({error})") from None

    def finish(self) -> tuple[dict[str, bytes], Judged]:
        """The last call: all files of the checkpoint but `training.json`, by name, and how the
        model answers validation questions."""
        from safetensors.torch import save

        if self._best[2]:
            self._put(self._best[2])
        judged = self._judged(self._table.of("val"))
        merged: torch.nn.Module = self._adapted.merge_and_unload()
        weights = {n: w.half().cpu().contiguous() for n, w in merged.state_dict().items()}
        files = {
            "model.safetensors": save(weights),
            "config.json": (json.dumps(self._config, indent=2) + "\n").encode(),
            "tokenizer.json": self._tokenizer.to_str().encode(),
            QUESTIONS: self._table.packed(),
        }
        return files, judged

    @property
    def about(self) -> dict[str, Any]:
        """All that the outcome hangs on but the device, for JSON."""
        return {
            "recipe": self._recipe.model_dump(),
            "begun_from_sha256": self._base_sha256,
            "answers": list(self._packed.answers),
            "unseen": self._packed.unseen,
            "long": self._packed.long,
            "table_sha256": hashlib.sha256(self._table.packed()).hexdigest(),
            "versions": {name: version(name) for name in _TOOLS},
        }

    @property
    def kept_step(self) -> int:
        """The step of the least loss on validation questions so far."""
        return self._best[1]

    def _put(self, learnt: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, each in self._learning.items():
                each.copy_(learnt[name])

    def _drawn(self, step: int) -> NDArray[np.int64]:
        """The training questions of a step: each once before any is drawn again."""
        training, batch = self._table.of("train"), self._recipe.batch
        places = np.arange(step * batch, (step + 1) * batch)
        rounds = {
            index: np.random.default_rng([self._recipe.seed, index]).permutation(training)
            for index in set((places // len(training)).tolist())
        }
        return np.array([rounds[at // len(training)][at % len(training)] for at in places.tolist()])

    def _targets(self, chosen: NDArray[np.int64]) -> torch.Tensor:
        """The soft target of each question, float32 `[n, vocabulary]`."""
        smoothing, table = self._recipe.smoothing, self._table
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
