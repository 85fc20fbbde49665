"""Quantization with the bits chosen level by level down the model's hierarchy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hwlib.frozen import Frozen

WeightBits = Literal[2, 3, 4, 5, 6, 7, 8]
"""Bits of a weight; in DRAM it takes the next of 2, 4 or 8."""

LayerKind = Literal["attention", "mlp"]
"""The kinds of linear layers inside a block."""


class TowerBits(Frozen):
    """Bits of one tower; `None` inherits from the level above."""

    bits: WeightBits | None = None
    """Bits of every linear layer of the tower; `None`: the model's `bits`."""

    attention_bits: WeightBits | None = None
    """Bits of the attention projections; `None`: the tower's."""

    mlp_bits: WeightBits | None = None
    """Bits of the MLP layers; `None`: the tower's."""


class QuantizationKnobs(Frozen):
    """Bits per level: model -> tower -> layer kind -> block -> layer; the deepest that speaks wins.

    The neutral default is 8-bit weights everywhere, which is the baseline.
    """

    bits: WeightBits = 8
    """Bits of every linear layer that no deeper level names."""

    vision: TowerBits = TowerBits()
    """The image encoder."""

    connector_bits: WeightBits | None = None
    """The projection between the towers; `None`: the model's `bits`."""

    decoder: TowerBits = TowerBits()
    """The language decoder."""

    head_bits: WeightBits | None = None
    """The language model's head; `None`: the model's `bits`."""

    mean_bits: Annotated[float, Field(ge=2.0, le=8.0, multiple_of=0.125)] = 8.0
    """Stored bits of a weight in the mean, shared out by measured sensitivity among the layers for
    which nothing but `bits` speaks; 8: all of these have `bits`."""

    activation_bits: Literal[8, 4] = 8
    """Bits of what linear layers read whose weights have 4 bits or fewer."""

    overrides: Annotated[dict[str, WeightBits], Field(max_length=64)] = {}
    """Bits of single blocks or layers by name, e.g. `vision.1` or `decoder.0.mlp.down`."""


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight matrix in integers.

    Attributes:
        values: int8 `[outputs, inputs]`, in the range of `bits` bits, two's complement.
        scale: float64 `[outputs]`; `values * scale` is what stands for the weight.
        bits: Bits of each value.
    """

    values: NDArray[np.int8]
    scale: NDArray[np.float64]
    bits: int


def bits_of(
    knobs: QuantizationKnobs, layer: str, shared: Mapping[str, WeightBits] | None = None
) -> int:
    """Bits of the linear layer named `layer`: the deepest level that speaks wins.

    From deep to shallow: an override of the layer, an override of its block, its tower's bits for
    its kind, its tower's bits (or the connector's, the head's), what it has of `mean_bits`, the
    model's bits.

    Args:
        knobs: What speaks.
        layer: Its name.
        shared: What `mean_bits` gave to layers.
    """
    bits = spoken_bits(knobs, layer)
    if bits is not None:
        return bits
    return (shared or {}).get(layer, knobs.bits)


def spoken_bits(knobs: QuantizationKnobs, layer: str) -> WeightBits | None:
    """Bits that a level below the model gives to a layer; None where none speaks."""
    spoken: list[WeightBits | None] = [knobs.overrides.get(layer)]
    if layer == "connector":
        spoken.append(knobs.connector_bits)
    elif layer == "head":
        spoken.append(knobs.head_bits)
    else:
        tower_name, index, kind, _ = layer.split(".")
        tower = knobs.vision if tower_name == "vision" else knobs.decoder
        of_kind = tower.attention_bits if kind == "attention" else tower.mlp_bits
        spoken += [knobs.overrides.get(f"{tower_name}.{index}"), of_kind, tower.bits]
    return next((bits for bits in spoken if bits is not None), None)


def packed_bits(bits: int) -> Literal[2, 4, 8]:
    """Bits that a weight takes in memory: the next of 2, 4 or 8."""
    if bits <= 2:
        return 2
    return 4 if bits <= 4 else 8


def apply(
    weights: Mapping[str, NDArray[np.float64]],
    input_power: Mapping[str, NDArray[np.float64]],
    knobs: QuantizationKnobs,
    shared: Mapping[str, WeightBits] | None = None,
) -> dict[str, QuantizedWeight]:
    """Quantizes every linear layer to the bits that `knobs` give it.

    Args:
        weights: By layer name, `[outputs, inputs]`.
        input_power: By layer name, mean square of each input on calibration data, `[inputs]`.
        knobs: Which bits where.
        shared: What `mean_bits` gave to layers.
    """
    return {
        name: quantize(weight, bits_of(knobs, name, shared), input_power[name])
        for name, weight in weights.items()
    }


CLIPPINGS = np.concatenate([np.linspace(0.2, 0.98, 40), [1.0]])
"""Clipping points that are tried, as shares of a channel's largest magnitude."""


def quantize(
    weight: NDArray[np.float64], bits: int, input_power: NDArray[np.float64]
) -> QuantizedWeight:
    """Rounds to `bits` bits, symmetric, one scale a channel, clipped where the error is least.

    The error of channel n is sum_k E[x_k^2] (w_nk - v_nk s_n)^2: the output's expected squared
    error where inputs are uncorrelated. Of equal errors the largest clipping point wins.

    Args:
        weight: `[outputs, inputs]`.
        bits: 2..8; values reach from -2^(bits-1) to 2^(bits-1) - 1.
        input_power: Mean square of each input, `[inputs]`.
    """
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    largest = np.abs(weight).max(1)
    largest[largest == 0] = 1.0
    best_error = np.full(len(weight), np.inf)
    best_scale = largest / high
    for share in CLIPPINGS:
        scale = share * largest / high
        rounded = np.clip(np.rint(weight / scale[:, None]), low, high)
        error = ((weight - rounded * scale[:, None]) ** 2) @ input_power
        better = error <= best_error
        best_error = np.where(better, error, best_error)
        best_scale = np.where(better, scale, best_scale)
    values = np.clip(np.rint(weight / best_scale[:, None]), low, high).astype(np.int8)
    return QuantizedWeight(values, best_scale, bits)
