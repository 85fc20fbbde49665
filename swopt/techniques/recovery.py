"""Recovery: low-rank adapters teach what is left of a model to answer as the whole one does.

LoRA (Hu et al., ICLR 2022) on every linear layer by peft, merged into the weights before anything
is rounded, so that the core sees no more than before. What is learnt is up to the lesson: here the
answers of the uncompressed model (distillation, Hinton et al., 2015), for which no true answer is
needed.
"""

import base64
import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from hwlib.frozen import Frozen

if TYPE_CHECKING:
    import torch

LEARNING_RATE = 4e-3
"""Of the adapters, at its peak; it rises over the first tenth and falls as a cosine."""

_SEED = 7
"""Of the adapters' first weights; the same in every run."""


class RecoveryKnobs(Frozen):
    """How long what is left is taught. The neutral default teaches nothing."""

    steps: Literal[0, 50, 100, 200] = 0
    """Optimizer steps, after resolution and pruning and before rounding."""

    rank: Literal[4, 8, 16] = 8
    """Rank of the adapter of each linear layer."""


class Taught(Frozen):
    """Weights of linear layers after they were taught."""

    packed: str
    """A safetensors file in base 64: float32 weights by layer name."""

    @classmethod
    def of(cls, layers: "Mapping[str, torch.nn.Linear]") -> Self:
        """Those that layers have now."""
        import safetensors.torch

        weights = {name: layer.weight.detach().contiguous() for name, layer in layers.items()}
        return cls(packed=base64.b64encode(safetensors.torch.save(weights)).decode())

    def into(self, layers: "Mapping[str, torch.nn.Linear]") -> None:
        """Gives them to the same layers."""
        import safetensors.torch

        weights = safetensors.torch.load(base64.b64decode(self.packed))
        for name, layer in layers.items():
            layer.weight.data = weights[name]


def apply(
    model: Any,
    layers: "Mapping[str, torch.nn.Linear]",
    knobs: RecoveryKnobs,
    lesson: "Callable[[int], torch.Tensor]",
    on_step: Callable[[int], None] = lambda step: None,
) -> None:
    """Teaches a model with adapters and merges them, in place.

    Deterministic on one thread: equal arguments give equal weights.

    Args:
        model: The one that `layers` belong to, in float.
        layers: Linear layers by name that get an adapter.
        knobs: How long, and of which rank.
        lesson: The loss of the model as it is at a step, with its gradient.
        on_step: Told each step as it ends.

    Raises:
        ValueError: The loss is no number.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    if not knobs.steps:
        return
    chosen = set(layers.values())
    names = [name for name, module in model.named_modules() if module in chosen]
    config = LoraConfig(r=knobs.rank, lora_alpha=2 * knobs.rank, target_modules=names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        with warnings.catch_warnings():
            # peft asks transformers for an attribute by its old name.
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            adapted = get_peft_model(model, config)
    learning = [each for each in adapted.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=LEARNING_RATE, weight_decay=0.0)
    for step in range(knobs.steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * _pace(step / knobs.steps)
        loss = lesson(step)
        if not math.isfinite(found := float(loss.detach())):
            raise ValueError(f"recovery diverged: the loss of step {step} is {found}")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        on_step(step)
    adapted.merge_and_unload()
    for each in model.parameters():
        each.requires_grad_(True)


def _pace(progress: float) -> float:
    """Share of the peak learning rate."""
    return min(1.0, progress / 0.1 + 0.05) * (1 + math.cos(math.pi * progress)) / 2
