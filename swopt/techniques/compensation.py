"""Rounds a weight matrix input by input, and lets the inputs still to come make up for each error.

GPTQ (Frantar et al., ICLR 2023): what an output loses is e^T M e, with e the errors of its weights
and M the mean of x x^T over what the layer reads in calibration. Once a weight is rounded, those
not rounded yet take the values at which the loss is least, by M's inverse; inputs of the greatest
power come first. Scales are those of `swopt.techniques.rounding`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from swopt.techniques import rounding
from swopt.techniques.rounding import QuantizedWeight
from swopt.techniques.watching import watch_inputs

if TYPE_CHECKING:
    import torch

DAMPING = 0.01
"""Share of the mean power that is added to every input's, against errors of the inverse: GPTQ's."""

INPUTS_AT_ONCE = 64
"""Inputs whose errors are handed on together to those behind them; no number depends on it but for
the order of sums."""


@dataclass(frozen=True)
class Moment:
    """What rounding has to know of the inputs that some layers read.

    Attributes:
        mean: Of x x^T, float32 `[inputs, inputs]`.
    """

    mean: NDArray[np.float32]

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """Inputs, those of the greatest power first."""
        return np.argsort(-self.mean.diagonal(), kind="stable")

    @cached_property
    def upper(self) -> NDArray[np.float64]:
        """U of U^T U, the inverse of the damped mean in that order: row i makes up for input i."""
        mean = self.mean[np.ix_(self.order, self.order)].astype(np.float64)
        added = DAMPING * float(mean.diagonal().mean()) or 1.0
        inverse = np.linalg.inv(mean + added * np.eye(len(mean)))
        return np.asarray(np.linalg.cholesky((inverse + inverse.T) / 2).T, np.float64)


def second_moments(
    layers: "Mapping[str, torch.nn.Linear]", calibrate: Callable[[], object], skip: int = 0
) -> dict[str, Moment]:
    """The moment of what each layer reads; layers of one input share it.

    Args:
        layers: Linear layers by name.
        calibrate: Runs the model that they are part of.
        skip: Tokens at the beginning of each text that do not count.
    """
    import torch

    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}
    owner: dict[str, str] = {}
    last: list[tuple[torch.Tensor, str]] = []

    def see(name: str, inputs: torch.Tensor) -> None:
        if name not in owner:
            owner[name] = last[0][1] if last and last[0][0] is inputs else name
        if owner[name] != name:
            return
        last[:] = [(inputs, name)]
        x = inputs.detach()[..., skip:, :].flatten(0, -2).double()
        sums[name] = sums.get(name, 0.0) + x.T @ x
        counts[name] = counts.get(name, 0) + len(x)

    watch_inputs(layers, see, calibrate)
    found = {name: Moment((total / counts[name]).float().numpy()) for name, total in sums.items()}
    return {name: found[owner[name]] for name in layers}


def quantize(
    weight: NDArray[np.float64], bits: int, moment: Moment, group: int | None = None
) -> QuantizedWeight:
    """Rounds to `bits` bits; no output loses more than by rounding each weight to its nearest step.

    Args:
        weight: `[outputs, inputs]`.
        bits: 2..8, as `rounding.quantize` has them.
        moment: Of its inputs.
        group: Inputs that have a factor of their own; None for none.
    """
    return _quantized(weight, bits, moment, group)[0]


def made_up(
    weight: NDArray[np.float64], bits: int, moment: Moment, group: int | None = None
) -> NDArray[np.float64]:
    """What `quantize` rounds to its nearest steps: each weight, with what it makes up for.

    Args:
        weight, bits, moment, group: As for `quantize`.

    Returns:
        `[outputs, inputs]`.
    """
    return _quantized(weight, bits, moment, group)[1]


def _quantized(
    weight: NDArray[np.float64], bits: int, moment: Moment, group: int | None
) -> tuple[QuantizedWeight, NDArray[np.float64]]:
    exact, order = moment.mean.astype(np.float64), moment.order
    nearest = rounding.quantize(weight, bits, exact.diagonal().copy(), group)
    factors = np.ones(weight.shape, np.int8)
    if nearest.groups is not None:
        factors = nearest.groups.spread(weight.shape[1])
    values, changed = np.empty(weight.shape, np.int8), np.empty(weight.shape)
    steps = nearest.scale[:, None] * factors[:, order]
    values[:, order], changed[:, order] = _rounded(weight[:, order], steps, bits, moment.upper)
    values *= factors
    # Clipping may cost more than is won back, and what is damped is not quite what is lost.
    scale = nearest.scale[:, None]
    worse = _loss(weight - values * scale, exact) > _loss(weight - nearest.values * scale, exact)
    values[worse], changed[worse] = nearest.values[worse], weight[worse]
    return replace(nearest, values=values), changed


def _loss(error: NDArray[np.float64], moment: NDArray[np.float64]) -> NDArray[np.float64]:
    """e^T M e of each output."""
    return np.asarray(((error @ moment) * error).sum(1))


def _rounded(
    weight: NDArray[np.float64], steps: NDArray[np.float64], bits: int, upper: NDArray[np.float64]
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """The integers, and what each weight had become when it was rounded to steps of its size."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    left = weight.copy()
    values = np.empty(weight.shape, np.int8)
    for start in range(0, weight.shape[1], INPUTS_AT_ONCE):
        stop = min(start + INPUTS_AT_ONCE, weight.shape[1])
        errors = np.empty((len(weight), stop - start))
        for at in range(start, stop):
            size = steps[:, at]
            values[:, at] = np.clip(np.rint(left[:, at] / size), low, high)
            error = (left[:, at] - values[:, at] * size) / upper[at, at]
            left[:, at + 1 : stop] -= np.outer(error, upper[at, at + 1 : stop])
            errors[:, at - start] = error
        left[:, stop:] -= errors @ upper[start:stop, stop:]
    return values, left
