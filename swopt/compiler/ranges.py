"""What linear layers read and give in the float model: ranges, powers, histograms."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

BINS = 2048
"""Parts of a histogram of what a layer reads."""


@dataclass(frozen=True)
class Range:
    """What calibration saw at one end of a layer.

    Attributes:
        low: Smallest value.
        high: Largest value.
    """

    low: float
    high: float

    def quantizer(self, bits: int = 8) -> tuple[float, int]:
        """Scale and zero point that map the range, and 0 with it, onto integers of `bits` bits."""
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        least = -(1 << (bits - 1))
        scale = (high - low) / ((1 << bits) - 1) or 1.0
        return scale, max(least, min(-least - 1, round(least - low / scale)))


@dataclass(frozen=True)
class Calibration:
    """What calibration saw of one linear layer.

    Attributes:
        inputs: Range of its inputs.
        outputs: Range of its outputs.
        input_power: Mean square of each input, float64 `[K]`.
        histogram: How many inputs fell into each of `BINS` equal parts of their range, int64.
    """

    inputs: Range
    outputs: Range
    input_power: NDArray[np.float64]
    histogram: NDArray[np.int64]


class Observer:
    """Watches linear layers while calibration data goes through the float model."""

    def __init__(self, layers: Mapping[str, torch.nn.Linear]) -> None:
        self._seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {n: [] for n in layers}
        self._hooks = [
            layer.register_forward_hook(
                lambda _, inputs, output, name=name: self._seen[name].append(
                    (inputs[0].detach().flatten(0, -2), output.detach().flatten(0, -2))
                )
            )
            for name, layer in layers.items()
        ]

    def finish(self) -> dict[str, Calibration]:
        """Stops watching and says what was seen, by layer name."""
        for hook in self._hooks:
            hook.remove()
        return {name: _summary(pairs) for name, pairs in self._seen.items()}


def _summary(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> Calibration:
    inputs = torch.cat([x for x, _ in pairs])
    outputs = torch.cat([y for _, y in pairs])
    power = inputs.double().square().mean(0).numpy()
    seen = Range(float(inputs.min()), float(inputs.max()))
    return Calibration(
        seen,
        Range(float(outputs.min()), float(outputs.max())),
        power,
        _histogram(inputs, seen),
    )


def _histogram(values: torch.Tensor, seen: Range) -> NDArray[np.int64]:
    width = (seen.high - seen.low) / BINS or 1.0
    places = ((values.flatten() - seen.low) / width).int().clamp_(max=BINS - 1)
    counts: NDArray[np.int64] = torch.bincount(places, minlength=BINS).numpy()
    return counts
