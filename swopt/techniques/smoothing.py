"""Moves the size of single channels out of activations into weights; in float nothing changes.

A channel that a linear layer reads is divided by a factor, and the column that reads it multiplied
with the same: where some channels are much larger than the others, one step for all of them then
fits all (SmoothQuant, Xiao et al., ICML 2023, equation 4). The division costs nothing where it can
be written into the weights that make the channel:

- what `mlp.down` reads is silu(gate) * up: the rows of `mlp.up`;
- what `attention.output` reads are sums of values: the rows of `attention.value`, with one factor
  for all the heads that share a key-value head.

What norms give after a rotation has no such channels, and queries and keys are turned by pairs.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hwlib.frozen import Frozen
from swopt.techniques.watching import watch_inputs

if TYPE_CHECKING:
    import torch


class SmoothingKnobs(Frozen):
    """How far sizes move from activations to weights: 0 not at all, 1 wholly."""

    down: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3
    """Alpha of what `mlp.down` reads; 0: its channels are left as they are."""

    output: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Alpha of what `attention.output` reads; 0: its channels are left as they are."""


def largest_inputs(
    layers: "Mapping[str, torch.nn.Linear]", calibrate: Callable[[], object], skip: int = 0
) -> "dict[str, torch.Tensor]":
    """Largest magnitude of each channel that some layers read, float64 `[inputs]` each.

    Args:
        layers: Linear layers by name.
        calibrate: Runs the model that they are part of.
        skip: Tokens at the beginning of each text that do not count.
    """
    import torch

    largest = {name: torch.zeros(layer.in_features) for name, layer in layers.items()}

    def see(name: str, inputs: torch.Tensor) -> None:
        seen = inputs.detach()[..., skip:, :].abs().flatten(0, -2).amax(0)
        largest[name] = torch.maximum(largest[name], seen)

    watch_inputs(layers, see, calibrate)
    return {name: each.double() for name, each in largest.items()}


def smooth(
    layers: "Mapping[str, torch.nn.Linear]",
    largest: "Mapping[str, torch.Tensor]",
    heads: int,
    kv_heads: int,
    knobs: SmoothingKnobs,
) -> None:
    """Moves sizes in place, block by block.

    Args:
        layers: All linear layers of a decoder by name.
        largest: `largest_inputs` of `mlp.down` and `attention.output` of every block.
        heads, kv_heads: Of each attention.
        knobs: How far.
    """
    for name, layer in layers.items():
        block, _, kind = name.rpartition(".attention.")
        if kind == "output" and block and knobs.output:
            factor = factors(largest[name], layer.weight, knobs.output, heads, kv_heads)
            _move(layers[f"{block}.attention.value"], layer, factor, heads)
        block, _, kind = name.rpartition(".mlp.")
        if kind == "down" and block and knobs.down:
            _move(
                layers[f"{block}.mlp.up"], layer, factors(largest[name], layer.weight, knobs.down)
            )


def factors(
    largest: "torch.Tensor", weight: "torch.Tensor", alpha: float, heads: int = 1, kv_heads: int = 1
) -> "torch.Tensor":
    """What channels are divided by: max|x|^alpha / max|w|^(1 - alpha), geometric mean 1, float64.

    Args:
        largest: Magnitude of each channel, `[inputs]`.
        weight: Of the layer that reads them, `[outputs, inputs]`.
        alpha: Share of the size that goes, over 0.
        heads, kv_heads: Channels are those of heads, and heads that read the same values have the
            same factors.

    Returns:
        `[kv_heads, inputs / heads]`.
    """
    columns = weight.detach().double().abs().amax(0)
    size, column = (
        each.double().reshape(kv_heads, heads // kv_heads, -1).amax(1)
        for each in (largest, columns)
    )
    # A channel that nothing was seen of, or that nothing reads, stays out of it.
    log = alpha * size.clamp(min=1e-5).log() - (1 - alpha) * column.clamp(min=1e-5).log()
    return (log - log.mean()).exp()


def _move(
    maker: "torch.nn.Linear", reader: "torch.nn.Linear", factor: "torch.Tensor", heads: int = 1
) -> None:
    """Divides what `maker` gives by factors and multiplies what `reader` does with it."""
    import torch

    rows = factor.flatten()
    maker.weight = _parameter(maker.weight.detach().double() / rows[:, None])
    if maker.bias is not None:
        maker.bias = _parameter(maker.bias.detach().double() / rows)
    columns = torch.repeat_interleave(factor, heads // len(factor), 0).flatten()
    reader.weight = _parameter(reader.weight.detach().double() * columns)


def _parameter(values: "torch.Tensor") -> "torch.nn.Parameter":
    import torch

    return torch.nn.Parameter(values.float(), requires_grad=False)
