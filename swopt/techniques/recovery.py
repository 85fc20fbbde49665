"""Recovery: low-rank adapters teach what is left of a model to answer as the whole one does.

LoRA (Hu et al., ICLR 2022) on every linear layer by peft, merged into the weights before anything
is rounded, so that the core sees no more than before; behind the rounding it is
`swopt.techniques.quantization_aware`. What is learnt is up to the lesson
(`swopt.workloads.lessons`): the answers of the uncompressed model (distillation, Hinton et al.,
2015), for which no true answer is needed.
"""

import base64
import math
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from hwlib.frozen import Frozen

if TYPE_CHECKING:
    import torch

LEARNING_RATE = 4e-3
"""Of the adapters, at its peak."""

SEED = 7
"""Of the adapters' first weights; the same in every run."""


class RecoveryKnobs(Frozen):
    """How long what is left is taught. The neutral default teaches nothing."""

    steps: Literal[0, 50, 100, 200] = 0
    """Optimizer steps, after resolution and pruning."""

    rank: Literal[4, 8, 16] = 8
    """Rank of the adapter of each linear layer."""

    quantization_aware: bool = False
    """Teach behind the rounding of weights and of what layers read, which is then made up for, too;
    else before anything is rounded."""

    @property
    def behind_rounding(self) -> bool:
        """Whether there is teaching, and behind the rounding."""
        return self.steps > 0 and self.quantization_aware


class Taught(Frozen):
    """What was learnt of the weights of each linear layer."""

    packed: str
    """A safetensors file, deflated and in base 64.

    For each layer NAME before rounding float32 `NAME.up` [outputs, rank] and `NAME.down` [rank,
    inputs], whose product its weights change by; behind rounding int8 `NAME.moved` [outputs,
    inputs], by how many steps each weight moved, and float32 `NAME.gain` [outputs], the logarithm
    of how much larger its steps became."""

    @classmethod
    def of(cls, tensors: "Mapping[str, torch.Tensor]") -> Self:
        """What was learnt, under these names."""
        import safetensors.torch

        kept = {name: each.detach().contiguous() for name, each in tensors.items()}
        return cls(packed=base64.b64encode(zlib.compress(safetensors.torch.save(kept), 1)).decode())

    def tensors(self) -> "dict[str, torch.Tensor]":
        """What was learnt, by name."""
        import safetensors.torch

        return safetensors.torch.load(zlib.decompress(base64.b64decode(self.packed)))

    def into(self, layers: "Mapping[str, torch.nn.Linear]") -> None:
        """Merges them into the weights that they were taught beside.

        Args:
            layers: By name; those that were not taught are left as they are.
        """
        factors = self.tensors()
        for name, layer in layers.items():
            if f"{name}.up" in factors:
                layer.weight.data += factors[f"{name}.up"] @ factors[f"{name}.down"]


def teach(
    model: Any,
    layers: "Mapping[str, torch.nn.Linear]",
    knobs: RecoveryKnobs,
    lesson: "Callable[[int], torch.Tensor]",
    learning_rate: float = LEARNING_RATE,
    on_step: Callable[[int], None] = lambda step: None,
) -> Taught:
    """Teaches a model with adapters; its own weights are left as they are.

    Deterministic on one thread: equal arguments give equal adapters.

    Args:
        model: The one that `layers` belong to, in float.
        layers: Linear layers by name that get an adapter.
        knobs: How long, and of which rank.
        lesson: The loss of the model as it is at a step, with its gradient.
        learning_rate: At its peak.
        on_step: Told each step as it ends.

    Raises:
        ValueError: The loss is no number.
    """
    names: dict[torch.nn.Module, str] = {layer: name for name, layer in layers.items()}
    adapted = with_adapters(model, layers, knobs.rank)
    try:
        learning = [each for each in adapted.parameters() if each.requires_grad]
        learn(learning, knobs.steps, lesson, learning_rate, on_step)
        return Taught.of(_adapters(adapted, names))
    finally:
        adapted.unload()
        for each in model.parameters():
            each.requires_grad_(True)


def with_adapters(model: Any, layers: "Mapping[str, torch.nn.Linear]", rank: int) -> Any:
    """peft's model around one whose layers got adapters, which alone ask for gradients.

    Args:
        model: The one that `layers` belong to; it gets the adapters, too, until they are unloaded.
        layers: By name.
        rank: Of the adapters.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    these = set(layers.values())
    targets = [path for path, module in model.named_modules() if module in these]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(SEED)
        # peft asks transformers for an attribute by its old name.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        return get_peft_model(model, config)


def learn(
    learning: "Sequence[torch.nn.Parameter]",
    steps: int,
    lesson: "Callable[[int], torch.Tensor]",
    learning_rate: float,
    on_step: Callable[[int], None],
) -> None:
    """Changes parameters, in place, so that the lesson's loss falls.

    Args:
        learning: The parameters.
        steps: How often they are changed.
        lesson: The loss at a step, with its gradient.
        learning_rate: At its peak; it rises over the first tenth and falls as a cosine.
        on_step: Told each step as it ends.

    Raises:
        ValueError: The loss is no number.
    """
    import torch

    optimizer = torch.optim.AdamW(learning, lr=learning_rate, weight_decay=0.0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * pace(step / steps)
        loss = lesson(step)
        if not math.isfinite(found := float(loss.detach())):
            raise ValueError(f"recovery diverged: the loss of step {step} is {found}")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        on_step(step)


def _adapters(adapted: Any, names: "Mapping[torch.nn.Module, str]") -> "dict[str, torch.Tensor]":
    """Both factors of each layer's change."""
    import torch
    from peft.tuners.lora import LoraLayer

    found: dict[str, torch.Tensor] = {}
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            up = module.lora_B["default"].get_parameter("weight")
            down = module.lora_A["default"].get_parameter("weight")
            name = names[module.get_base_layer()]
            found |= {f"{name}.up": up * module.scaling["default"], f"{name}.down": down}
    return found


def pace(progress: float) -> float:
    """Share of the peak learning rate: it rises over the first tenth and falls as a cosine."""
    return min(1.0, progress / 0.1 + 0.05) * (1 + math.cos(math.pi * progress)) / 2
