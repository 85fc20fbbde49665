"""How much a model's answers change when the weights of one layer alone are rounded.

Every linear layer is rounded to every number of bits in turn, all others stay in float, and the
answers are compared with those of the float model: the mean Kullback-Leibler divergence, which
needs no true answer. A tower's or a block's sensitivity is the sum over its layers, which is what
allocation counts with; how far sums are from rounding together is a matter of measurement.

What comes before a layer does not change, so each measurement restarts from the block that holds
it, with what that block read in the float run.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from hwlib.frozen import Frozen
from swopt.techniques.allocation import allocate
from swopt.techniques.quantization import WeightBits, packed_bits
from swopt.techniques.rounding import quantize

if TYPE_CHECKING:
    import torch

MEASURED_BITS: tuple[WeightBits, ...] = (2, 4, 8)
"""Bits that are tried on each layer: those that memory has."""


class Sensitivities(Frozen):
    """What rounding each layer alone costs."""

    kl_nats: dict[str, dict[WeightBits, float]]
    """Layer -> bits -> mean divergence of the answers from the float model's, 0 or more."""

    @field_validator("kl_nats", mode="before")
    @classmethod
    def _bits_are_numbers(cls, read: Any) -> Any:
        """Out of JSON, whose keys are texts, bits come as texts."""
        if not isinstance(read, dict):
            return read
        return {
            layer: {int(bits) if str(bits).isdigit() else bits: loss for bits, loss in each.items()}
            if isinstance(each, dict)
            else each
            for layer, each in read.items()
        }

    def shared_out(self, weights: Mapping[str, int], mean_bits: float) -> "dict[str, WeightBits]":
        """Bits of some layers with the least sum of divergences.

        Args:
            weights: Layer -> number of its weights.
            mean_bits: Stored bits of a weight in the mean over these layers, 2 or more.

        Raises:
            KeyError: A layer was not measured.
        """
        loss = {name: self.kl_nats[name] for name in weights}
        cost = {
            name: {bits: count * packed_bits(bits) for bits in loss[name]}
            for name, count in weights.items()
        }
        return allocate(loss, cost, math.floor(mean_bits * sum(weights.values()))).bits

    def of(self, prefix: str, bits: WeightBits) -> float:
        """The sum over all layers whose names begin with a tower, a block or a layer's own name."""
        return sum(
            losses[bits]
            for name, losses in self.kl_nats.items()
            if name == prefix or name.startswith(f"{prefix}.")
        )


def measure(
    towers: "Mapping[str, torch.nn.ModuleList]",
    layers: "Mapping[str, torch.nn.Linear]",
    input_power: Mapping[str, NDArray[np.float64]],
    answers: "Callable[[], torch.Tensor]",
    bits: Sequence[WeightBits] = MEASURED_BITS,
    on_layer: Callable[[str], None] = lambda name: None,
) -> Sensitivities:
    """Rounds each layer in turn; the model is left as it was.

    Args:
        towers: The lists of blocks by name; each block gives one tensor.
        layers: Linear layers by name in order of execution; those of a block begin with
            `<tower>.<index>.`.
        input_power: By layer, mean square of each input, `[K]`.
        answers: Runs the model on fixed questions: log-probabilities, `[n, answers]`.
        bits: What is tried.
        on_layer: Told each layer as it begins.

    Raises:
        ValueError: The model gives no number for a question.
    """
    import torch

    restart = _Restart(towers, tuple(layers))
    with torch.no_grad(), restart.recorded():
        float_answers = answers().double()
    if not torch.isfinite(float_answers).all():
        raise ValueError("the float model gives no number for some question; check its weights")
    found: dict[str, dict[WeightBits, float]] = {}
    for name, layer in layers.items():
        on_layer(name)
        weight = layer.weight.detach().clone()
        found[name] = {}
        for count in bits:
            rounded = quantize(weight.double().numpy(), count, input_power[name])
            values = torch.from_numpy(rounded.values * rounded.scale[:, None])
            layer.weight.data = values.to(weight.dtype)
            with torch.no_grad(), restart.at(name):
                found[name][count] = _divergence(float_answers, answers().double())
        layer.weight.data = weight
    return Sensitivities(kl_nats=found)


def _divergence(reference: "torch.Tensor", other: "torch.Tensor") -> float:
    """Mean over the questions of sum p (log p - log q), in nats."""
    per_question = (reference.exp() * (reference - other)).sum(-1)
    return max(0.0, float(per_question.mean()))


class _Restart:
    """Lets a model begin at one of its layers: blocks before it hand on what they once gave.

    What stands outside the blocks is computed as ever; it costs little.
    """

    def __init__(self, towers: "Mapping[str, torch.nn.ModuleList]", layers: Sequence[str]) -> None:
        self._blocks: dict[str, torch.nn.Module] = {
            f"{tower}.{index}": block
            for tower, blocks in towers.items()
            for index, block in enumerate(blocks)
        }
        self._layers = tuple(layers)
        self._given: dict[str, list[torch.Tensor]] = {name: [] for name in self._blocks}

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Records what each block gives, call by call."""
        hooks = [
            block.register_forward_hook(
                lambda _, inputs, output, name=name: self._given[name].append(output.detach())
            )
            for name, block in self._blocks.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def at(self, layer: str) -> Iterator[None]:
        """Leaves out the blocks that are wholly before `layer`."""
        before = {".".join(n.split(".")[:2]) for n in self._layers[: self._layers.index(layer)]}
        skipped = [n for n in self._blocks if n in before and not layer.startswith(f"{n}.")]
        for name in skipped:
            calls = iter(self._given[name])
            self._blocks[name].forward = lambda *_, calls=calls, **__: next(calls)
        try:
            yield
        finally:
            for name in skipped:
                del self._blocks[name].forward  # the class has its own
