"""Fine-tuning for a domain: low-rank adapters that are merged in the end, judged on held-out data.

LoRA (Hu et al., ICLR 2022), by peft. What is kept is the step of the least loss on validation data;
test data is not looked at. Each step draws from a seed of its own, so a fine-tuning that was ended
goes on as if it had not. What is learnt is up to `QuestionTuning` and `TextTuning`.
"""

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from hwlib.frozen import Frozen
from swopt.techniques import recovery

_TOOLS = ("torch", "transformers", "peft", "numpy")


class Recipe(Frozen):
    """How a model is fine-tuned."""

    steps: Annotated[int, Field(ge=1, le=100_000)]
    """Optimizer steps."""

    batch: Annotated[int, Field(ge=1, le=1024)]
    """Examples a step."""

    rank: Annotated[int, Field(ge=1, le=64)]
    """Rank of each layer's change."""

    learning_rate: Annotated[float, Field(gt=0, le=0.1, allow_inf_nan=False)]
    """At its peak, reached after the first tenth and falling as a cosine."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of all that is drawn."""


class Outcome(Frozen):
    """How a model does on validation data."""

    nll_nats: float
    """Mean negative log-likelihood of what is true."""


class FineTuning(ABC):
    """A model on its way to a domain.

    Args:
        model: It gets adapters, and is not the caller's any more.
        layers: Linear layers by name that get one.
        whole: Parts that learn whole.
        recipe: How.
        device: Where it is taught, as torch names it.

    Attributes:
        checks: How often validation data is looked at.
        save_every: Steps between two states that are worth keeping.
        steps_done: Steps so far.
    """

    checks = 20
    save_every = 50

    def __init__(
        self,
        model: Any,
        layers: Mapping[str, torch.nn.Linear],
        whole: Sequence[torch.nn.Module],
        recipe: Recipe,
        device: str,
    ) -> None:
        self._recipe, self._device = recipe, device
        self._model = model.to(device)
        self._adapted = recovery.with_adapters(model, layers, recipe.rank)
        for part in whole:
            part.requires_grad_(True)
        self._learning = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._optimizer = torch.optim.AdamW(self._learning.values(), weight_decay=0.0)
        self._best: tuple[float, int, dict[str, torch.Tensor]] = (math.inf, 0, {})
        self.steps_done = 0

    @abstractmethod
    def _loss(self, step: int, chance: torch.Generator) -> torch.Tensor:
        """The loss of a step, with its gradient."""

    @abstractmethod
    def _validation(self) -> float:
        """The loss on validation data, in nats, or on an even part of it."""

    @property
    @abstractmethod
    def about(self) -> dict[str, Any]:
        """All that the outcome hangs on but the device, for JSON."""

    @abstractmethod
    def finish(self) -> tuple[dict[str, bytes], Outcome]:
        """The last call: all files of the model but `training.json`, by name, and how it does on
        validation data."""

    @property
    def _made_by(self) -> dict[str, Any]:
        """Recipe and versions, for `about`."""
        versions = {name: version(name) for name in _TOOLS}
        return {"recipe": self._recipe.model_dump(), "versions": versions}

    def step(self) -> float:
        """Does the next step; its loss in nats.

        Raises:
            ValueError: The loss is no number.
        """
        recipe, at = self._recipe, self.steps_done
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.learning_rate * recovery.pace(at / recipe.steps)
        self._model.train()
        self._optimizer.zero_grad()
        loss = self._loss(at, torch.Generator().manual_seed(recipe.seed * 1_000_003 + at))
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
        """The loss on validation data, in nats; the step of the least one is kept."""
        found = self._validation()
        if found < self._best[0]:
            kept = {name: each.detach().clone() for name, each in self._learning.items()}
            self._best = (found, self.steps_done, kept)
        return found

    @property
    def kept_step(self) -> int:
        """The step of the least loss on validation data so far."""
        return self._best[1]

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

    def _merged(self) -> torch.nn.Module:
        """The model as it was at the step that is kept, without adapters."""
        if self._best[2]:
            self._put(self._best[2])
        merged: torch.nn.Module = self._adapted.merge_and_unload()
        return merged

    def _put(self, learnt: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, each in self._learning.items():
                each.copy_(learnt[name])

    def _drawn(self, examples: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """The examples of a step: each once before any is drawn again."""
        batch, count = self._recipe.batch, len(examples)
        places = np.arange(step * batch, (step + 1) * batch).tolist()
        rounds = {
            index: np.random.default_rng([self._recipe.seed, index]).permutation(examples)
            for index in {at // count for at in places}
        }
        return np.array([rounds[at // count][at % count] for at in places])


def evenly(examples: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of some examples, from the first to the last."""
    places = np.linspace(0, len(examples) - 1, min(len(examples), most))
    return examples[places.astype(np.int64)]


def in_half(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights in float16 on the CPU, by name."""
    return {name: w.half().cpu().contiguous() for name, w in model.state_dict().items()}
