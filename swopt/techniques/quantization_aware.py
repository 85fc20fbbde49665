"""Teaches a model behind the rounding that it will have, so that it learns to do with it.

On the way forward weights and what layers read are rounded, on the way back gradients pass as if
they were not, but where a number was clipped (the straight-through estimator, Bengio et al., 2013).
What is learnt is a change of low rank to each layer's weights *before* they are rounded (LR-QAT,
Bondarenko et al., 2024), which moves those that lie near the middle between two steps, and the size
of each row's steps (LSQ, Esser et al., ICLR 2020). What comes out are integers of the same bits.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.nn.utils import parametrize

from swopt.techniques import compensation
from swopt.techniques.compensation import Moment
from swopt.techniques.recovery import LEARNING_RATE, SEED, RecoveryKnobs, Taught, learn
from swopt.techniques.rounding import QuantizedWeight, Steps

WITHIN = 0.98
"""How far weights begin from their integers, as a share of how far they were: so that float32 does
not take one in the middle between two steps for the other."""


def teach(
    model: Any,
    layers: Mapping[str, torch.nn.Linear],
    weights: Mapping[str, QuantizedWeight],
    read: Mapping[str, Steps],
    moments: Mapping[str, Moment],
    knobs: RecoveryKnobs,
    lesson: Callable[[int], torch.Tensor],
    learning_rate: float = LEARNING_RATE,
    on_step: Callable[[int], None] = lambda step: None,
) -> Taught:
    """Teaches a model behind its rounding; it is left as it was.

    Deterministic on one thread: equal arguments give equal results.

    Args:
        model: The one that `layers` belong to, in float.
        layers: Its linear layers by name.
        weights: What their weights are rounded to.
        read: How what they read is rounded.
        moments: Of what those read whose rounding was compensated.
        knobs: How long, and of which rank.
        lesson: The loss of the model as it is at a step, with its gradient.
        learning_rate: At its peak.
        on_step: Told each step as it ends.

    Raises:
        ValueError: The loss is no number.
    """
    chance = torch.Generator().manual_seed(SEED)
    learners = {
        name: Learner(_begin(layer, weights[name], moments.get(name)), weights[name], knobs, chance)
        for name, layer in layers.items()
    }
    learning = [each for learner in learners.values() for each in learner.parameters()]
    with _alone(model), _rounded(layers, learners, read):
        learn(learning, knobs.steps, lesson, learning_rate, on_step)
    learnt: dict[str, torch.Tensor] = {}
    for name, learner in learners.items():
        moved = learner.integers() - torch.from_numpy(weights[name].values)
        learnt |= {f"{name}.moved": moved, f"{name}.gain": learner.gain}
    return Taught.of(learnt)


def apply(weights: Mapping[str, QuantizedWeight], taught: Taught) -> dict[str, QuantizedWeight]:
    """The weights in integers after they were taught.

    Args:
        weights: As they were taught.
        taught: What `teach` gave.
    """
    learnt, made = taught.tensors(), {}
    for name, weight in weights.items():
        values = weight.values + learnt[f"{name}.moved"].numpy()
        scale = weight.scale * learnt[f"{name}.gain"].double().exp().numpy()
        made[name] = replace(weight, values=values, scale=scale)
    return made


def _begin(layer: torch.nn.Linear, rounded: QuantizedWeight, moment: Moment | None) -> torch.Tensor:
    """What was rounded to the nearest steps, in steps, `[outputs, inputs]`."""
    weight = layer.weight.detach().double().numpy()
    if moment is not None:
        group = rounded.groups.inputs if rounded.groups else None
        weight = compensation.made_up(weight, rounded.bits, moment, group)
    return torch.from_numpy(weight / rounded.scale[:, None])


class Learner(torch.nn.Module):
    """A layer's weights as they are rounded, with what they learn.

    Args:
        begin: What is rounded at first, in steps, `[outputs, inputs]`.
        rounded: To what.
        knobs: Of which rank its change is.
        chance: Draws one of the factors of it.

    Attributes:
        up, down: Their product is the change; `[outputs, rank]` and `[rank, inputs]`.
        gain: Natural logarithm of how much larger the steps of each row become, `[outputs]`.
    """

    def __init__(
        self,
        begin: torch.Tensor,
        rounded: QuantizedWeight,
        knobs: RecoveryKnobs,
        chance: torch.Generator,
    ) -> None:
        super().__init__()
        outputs, inputs = begin.shape
        values, steps = torch.from_numpy(rounded.values), torch.ones(1, 1, dtype=torch.float64)
        self._group = inputs
        if rounded.groups is not None:
            self._group = rounded.groups.inputs
            steps = torch.from_numpy(rounded.groups.factors).double()
        spread = steps.repeat_interleave(self._group, 1)[:, :inputs]
        off = begin - values
        near = torch.where(off.abs() > 0.5 * spread, off, WITHIN * off)  # those beyond were clipped
        self._most = 1 << (rounded.bits - 1)
        self._size = torch.from_numpy(rounded.scale).float()
        self._begin = (values + near).float() * self._size[:, None]
        self._sizes = (self._size[:, None] * steps).float().flatten()  # of each row's groups
        self._zero = torch.zeros(len(self._sizes), dtype=torch.int32)
        self.up = torch.nn.Parameter(torch.zeros(outputs, knobs.rank))
        down = torch.randn(knobs.rank, inputs, generator=chance) / inputs**0.5
        self.down = torch.nn.Parameter(down)
        self.gain = torch.nn.Parameter(torch.zeros(outputs))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """What stands for the weight now, `[outputs, inputs]`."""
        return self._steps() * self.gain.exp()[:, None]

    def integers(self) -> torch.Tensor:
        """What it is rounded to now, int8 `[outputs, inputs]`."""
        with torch.no_grad():
            return (self._steps() / self._size[:, None]).round().to(torch.int8)

    def _steps(self) -> torch.Tensor:
        """Rounded to steps of the size that they had at first."""
        moved = self._begin + self.up @ self.down
        outputs, inputs = moved.shape
        if spare := -inputs % self._group:  # padding by nothing would copy
            moved = torch.nn.functional.pad(moved, (0, spare))
        rounded = torch.fake_quantize_per_channel_affine(
            moved.reshape(-1, self._group),
            self._sizes,
            self._zero,
            0,
            -self._most,
            self._most - 1,
        )
        return rounded.reshape(outputs, -1)[:, :inputs]


@contextmanager
def _alone(model: Any) -> Iterator[None]:
    """None of the model's own parameters asks for a gradient for a while."""
    asked = [each for each in model.parameters() if each.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for each in asked:
            each.requires_grad_(True)


@contextmanager
def _rounded(
    layers: Mapping[str, torch.nn.Linear],
    learners: Mapping[str, Learner],
    read: Mapping[str, Steps],
) -> Iterator[None]:
    """Rounds weights, and what layers read, for a while."""
    hooks = []
    for name, layer in layers.items():
        parametrize.register_parametrization(layer, "weight", learners[name], unsafe=True)
        hooks.append(layer.register_forward_pre_hook(_rounds(read[name])))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer in layers.values():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)


def _rounds(steps: Steps) -> Callable[[torch.nn.Module, tuple[torch.Tensor]], torch.Tensor]:
    """Rounds what a layer reads."""
    most = 1 << (steps.bits - 1)

    def round_inputs(layer: torch.nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
        return torch.fake_quantize_per_tensor_affine(
            inputs[0], steps.size, steps.zero, -most, most - 1
        )

    return round_inputs
