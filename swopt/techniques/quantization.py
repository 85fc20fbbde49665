"""Quantization with the bits chosen level by level down the model's hierarchy."""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hwlib.frozen import Frozen
from swopt.techniques import compensation, rounding
from swopt.techniques.compensation import Moment
from swopt.techniques.rounding import QuantizedWeight

WeightBits = Literal[2, 3, 4, 5, 6, 7, 8]
"""Bits of a weight; in DRAM it takes the next of 2, 4 or 8."""

EmbeddingBits = Literal[16, 8, 4]
"""Bits that a channel of a word's embedding is kept in."""

Rounding = Literal["nearest", "compensated"]
"""How weights are rounded."""

GroupInputs = Literal[16, 32, 64, 128]
"""Inputs of a group of weights."""

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

    embedding_bits: EmbeddingBits = 16
    """Bits of a channel of a word's embedding, with a scale for each word where they are fewer than
    16; the host looks words up and hands int16 to the core."""

    rounding: Rounding = "nearest"
    """How weights of fewer than 8 bits are rounded: each to its nearest step, or so that those not
    rounded yet make up for the errors of the others, by what calibration saw."""

    group: GroupInputs | None = None
    """Inputs that have a factor beside their row's scale, in weights of 4 bits or fewer: a byte for
    each group. As it is multiplied such a weight has 8 bits, or 4 where it had 2."""

    overrides: Annotated[dict[str, WeightBits], Field(max_length=64)] = {}
    """Bits of single blocks or layers by name, e.g. `vision.1` or `decoder.0.mlp.down`."""


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


Moments = Callable[[], Mapping[str, Moment]]
"""Gives `compensation.second_moments` of all layers; asked only where rounding needs them."""


def apply(
    weights: Mapping[str, NDArray[np.float64]],
    input_power: Mapping[str, NDArray[np.float64]],
    moments: Moments,
    knobs: QuantizationKnobs,
    shared: Mapping[str, WeightBits] | None = None,
) -> dict[str, QuantizedWeight]:
    """Quantizes every linear layer to the bits that `knobs` give it.

    Args:
        weights: By layer name, `[outputs, inputs]`.
        input_power: By layer name, mean square of each input on calibration data, `[inputs]`.
        moments: By layer name, of each two inputs.
        knobs: Which bits where.
        shared: What `mean_bits` gave to layers.
    """
    bits = {name: bits_of(knobs, name, shared) for name in weights}
    made_up = moments() if any(is_compensated(knobs, each) for each in bits.values()) else {}
    return {
        name: compensation.quantize(weight, bits[name], made_up[name], group_of(knobs, bits[name]))
        if is_compensated(knobs, bits[name])
        else rounding.quantize(weight, bits[name], input_power[name], group_of(knobs, bits[name]))
        for name, weight in weights.items()
    }


def group_of(knobs: QuantizationKnobs, bits: int) -> GroupInputs | None:
    """Inputs of a group of weights of so many bits; None where they have none."""
    return knobs.group if bits <= 4 else None


def is_compensated(knobs: QuantizationKnobs, bits: int) -> bool:
    """Whether weights of so many bits make up for each other's errors."""
    return knobs.rounding == "compensated" and bits < 8


def compensated(
    weights: Mapping[str, QuantizedWeight], moments: Moments, knobs: QuantizationKnobs
) -> dict[str, Moment]:
    """The moments that weights were rounded by, of those whose rounding was compensated.

    Args:
        weights: By layer name, as `knobs` have them.
        moments: Of all layers.
        knobs: Which bits where.
    """
    names = [name for name, each in weights.items() if is_compensated(knobs, each.bits)]
    found = moments() if names else {}
    return {name: found[name] for name in names}
