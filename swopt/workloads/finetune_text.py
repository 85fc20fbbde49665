"""Fine-tunes a language model to one's own texts: to give each of their tokens after the others.

Every linear layer of its blocks gets an adapter; embeddings and head stay. The loss is the cross
entropy of the next token.
"""

import json
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.nn import functional

from swopt.workloads.finetune import FineTuning, Outcome, Recipe, evenly, in_half
from swopt.workloads.language_models import CONFIG, TOKENIZER, WEIGHTS
from swopt.workloads.own_texts import Texts

if TYPE_CHECKING:
    from swopt.workloads.language_models import LanguageModel

CHECKED_WINDOWS = 16
"""Validation windows, evenly drawn, that a model is judged by."""


class TextRecipe(Recipe):
    """How a language model is fine-tuned."""

    steps: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Optimizer steps."""

    batch: Annotated[int, Field(ge=1, le=1024)] = 4
    """Windows a step."""

    rank: Annotated[int, Field(ge=1, le=64)] = 8
    """Rank of each layer's change."""

    learning_rate: Annotated[float, Field(gt=0, le=0.1, allow_inf_nan=False)] = 5e-4
    """At its peak, reached after the first tenth and falling as a cosine."""


class TextJudged(Outcome):
    """How well a model goes on in validation texts."""

    nll_nats_before: float
    """Mean negative log-likelihood of the next token before it was taught."""

    windows: int
    """Windows that both are of."""


class TextTuning(FineTuning):
    """A language model on its way to other texts.

    Args:
        base: Where it begins; its model is changed, so that it should be asked for anew.
        texts: To be learnt, and to be judged by.
        recipe: How.
        device: Where it is taught, as torch names it.
    """

    checks = 5
    save_every = 10

    def __init__(
        self, base: "LanguageModel", texts: Texts, recipe: TextRecipe, device: str = "cpu"
    ) -> None:
        self._base, self._texts = base, texts
        model: Any = base.model
        model.requires_grad_(False)
        layers = {
            name: each
            for name, each in model.model.layers.named_modules()
            if isinstance(each, torch.nn.Linear)
        }
        super().__init__(model, layers, (), recipe, device)

    def _loss(self, step: int, chance: torch.Generator) -> torch.Tensor:
        chosen = self._drawn(np.arange(len(self._texts.training)), step)
        return self._nll(self._texts.training[chosen])

    def _validation(self) -> float:
        self._model.eval()
        windows = evenly(self._texts.validation, CHECKED_WINDOWS)
        with torch.inference_mode():
            return float(np.mean([float(self._nll(window[None])) for window in windows]))

    def _nll(self, windows: NDArray[np.int64]) -> torch.Tensor:
        """Mean over all tokens of some windows but the first of each."""
        ids = torch.from_numpy(windows).to(self._device)
        logits = self._model(input_ids=ids, use_cache=False).logits[:, :-1]
        return functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    @property
    def about(self) -> dict[str, Any]:
        """All that the outcome hangs on but the device, for JSON."""
        return self._made_by | {
            "begun_from": self._base.source,
            "begun_from_sha256": self._base.sha256,
            "texts_sha256": self._texts.sha256,
            "training_windows": len(self._texts.training),
            "validation_windows": len(self._texts.validation),
        }

    def finish(self) -> tuple[dict[str, bytes], TextJudged]:
        """The last call: all files of the model but `training.json`, by name, and how it does on
        validation texts."""
        from safetensors.torch import save

        with self._adapted.disable_adapter():
            before = self._validation()
        merged = self._merged()
        config, folder = self._base.files.config, self._base.files.folder
        weights = in_half(merged)
        if config.get("tie_word_embeddings"):
            weights.pop("lm_head.weight", None)
        files = {
            WEIGHTS: save(weights),
            CONFIG: (json.dumps(config | {"dtype": "float16"}, indent=2) + "\n").encode(),
            TOKENIZER: (folder / TOKENIZER).read_bytes(),
        }
        judged = TextJudged(
            nll_nats=self._validation(),
            nll_nats_before=before,
            windows=min(len(self._texts.validation), CHECKED_WINDOWS),
        )
        return files, judged
