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


class StreamedObserver:
    """As `Observer`, without keeping what it sees: for models whose activations take gigabytes.

    Calibration data goes through the model twice, in the same order: first for ranges and powers,
    then, after `ranges_are_known`, for histograms.

    Args:
        layers: Linear layers by name.
        skip: Tokens at the beginning of each text that do not count.
    """

    def __init__(self, layers: Mapping[str, torch.nn.Linear], skip: int = 0) -> None:
        self._skip = skip
        self._tokens = dict.fromkeys(layers, 0)
        self._inputs = dict.fromkeys(layers, _EMPTY)
        self._outputs = dict.fromkeys(layers, _EMPTY)
        self._power = {name: torch.zeros(m.in_features).double() for name, m in layers.items()}
        self._histograms: dict[str, NDArray[np.int64]] | None = None
        self._hooks = [
            layer.register_forward_hook(
                lambda _, inputs, output, name=name: self._see(name, inputs[0], output)
            )
            for name, layer in layers.items()
        ]

    def ranges_are_known(self) -> None:
        """Ends the first time through."""
        self._histograms = {name: np.zeros(BINS, np.int64) for name in self._tokens}

    def finish(self) -> dict[str, Calibration]:
        """Stops watching and says what was seen, by layer name.

        Raises:
            ValueError: Calibration data did not go through twice.
        """
        for hook in self._hooks:
            hook.remove()
        histograms = self._histograms
        if histograms is None or not all(each.any() for each in histograms.values()):
            raise ValueError("calibration data has to go through the model twice")
        return {
            name: Calibration(
                self._inputs[name],
                self._outputs[name],
                (self._power[name] / count).numpy(),
                histograms[name],
            )
            for name, count in self._tokens.items()
        }

    def _see(self, name: str, inputs: torch.Tensor, output: torch.Tensor) -> None:
        x, y = (t.detach()[..., self._skip :, :].flatten(0, -2) for t in (inputs, output))
        if self._histograms is not None:
            self._histograms[name] += _histogram(x, self._inputs[name])
            return
        self._tokens[name] += len(x)
        self._inputs[name] = _wider(self._inputs[name], x)
        self._outputs[name] = _wider(self._outputs[name], y)
        self._power[name] += x.double().square().sum(0)


_EMPTY = Range(np.inf, -np.inf)


def _wider(seen: Range, values: torch.Tensor) -> Range:
    low, high = values.aminmax()
    return Range(min(seen.low, float(low)), max(seen.high, float(high)))


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
