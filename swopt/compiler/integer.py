"""The compressed model in the arithmetic of the core: the torch twin of `hwlib.reference`.

A linear layer takes int8 activations with one scale and zero point for the whole tensor, int8
weights with one scale a channel, sums in 32 bits, and gives int8 again, or the 32-bit sums where
they are the model's logits. Every other operator stays in float.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from swopt.techniques.quantization import QuantizedWeight, packed_bits

Output = Literal["int8", "int32"]

MULTIPLIER_BITS = 16
SHIFT_MAX = 47

BINS = 2048
"""Parts of a histogram of what a layer reads."""

_EXACT_IN_FLOAT32 = 2**24 // (128 * 128)
"""Longest sum of int8 products that float32 holds exactly."""


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


class IntegerLinear(torch.nn.Module):
    """One linear layer, bit for bit as the core computes it.

    Shapes: x_q int8 `[M, K]`, weight int8 `[N, K]`, y_q int8 or int32 `[M, N]`. For int8 output
    y_q = sat8((((acc + bias) * multiplier + 2^(shift-1)) >> shift) + output_zero_point) with
    wrapping 32-bit sums and an arithmetic shift; for int32 output y_q = acc + bias.

    Buffers: weight, bias int32, multiplier, shift `[N]`, weight_scale float64 `[N]`. The bias
    holds the layer's bias and -input_zero_point * sum_k weight.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    multiplier: torch.Tensor
    shift: torch.Tensor
    weight_scale: torch.Tensor

    def __init__(
        self,
        weight: QuantizedWeight,
        bias: NDArray[np.float64],
        inputs: Range,
        outputs: Range,
        output: Output,
    ) -> None:
        super().__init__()
        self.weight_bits = weight.bits
        self.output: Output = output
        self.input_scale, self.input_zero_point = inputs.quantizer()
        self.output_scale, self.output_zero_point = outputs.quantizer()
        sum_scale = self.input_scale * weight.scale
        offset = self.input_zero_point * weight.values.astype(np.int64).sum(1)
        integer_bias = np.rint(bias / sum_scale).astype(np.int64) - offset
        wrapped = integer_bias.astype(np.int32)
        if not np.array_equal(wrapped, integer_bias):
            raise ValueError(
                f"a bias of {np.abs(integer_bias).max()} steps does not fit 32 bits; "
                "the layer's weights are too small for its bias"
            )
        multiplier, shift = requantizers(sum_scale / self.output_scale)
        self.register_buffer("weight", torch.from_numpy(weight.values))
        self.register_buffer("bias", torch.from_numpy(wrapped))
        self.register_buffer("multiplier", torch.from_numpy(multiplier))
        self.register_buffer("shift", torch.from_numpy(shift))
        self.register_buffer("weight_scale", torch.from_numpy(weight.scale))
        exact = torch.float32 if weight.values.shape[1] <= _EXACT_IN_FLOAT32 else torch.float64
        self._weight_t = self.weight.to(exact).t().contiguous()
        self._trace: list[tuple[torch.Tensor, torch.Tensor]] | None = None

    @property
    def packed_bytes(self) -> int:
        """Bytes of the packed weights in memory."""
        return self.weight.numel() * packed_bits(self.weight_bits) // 8

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float `[..., K]` -> float `[..., N]`, through integers."""
        x_q = self.quantize(x.reshape(-1, x.shape[-1]))
        y_q = self.integer(x_q)
        if self._trace is not None:
            self._trace.append((x_q, y_q))
        return self.dequantize(y_q).reshape(*x.shape[:-1], -1)

    def quantize(self, x: torch.Tensor) -> torch.Tensor:
        """Float to int8, halves to even, saturating."""
        steps = torch.round(x / self.input_scale) + self.input_zero_point
        return steps.clamp_(-128, 127).to(torch.int8)

    def integer(self, x_q: torch.Tensor) -> torch.Tensor:
        """What the core computes: int8 `[M, K]` -> int8 or int32 `[M, N]`."""
        # Sums of int8 products are exact in this float type, so no rounding mode is in play.
        acc = (x_q.to(self._weight_t.dtype) @ self._weight_t).to(torch.int32) + self.bias
        if self.output == "int32":
            return acc
        half = torch.ones_like(self.shift) << (self.shift - 1)
        scaled = (acc.to(torch.int64) * self.multiplier + half) >> self.shift
        return (scaled + self.output_zero_point).clamp_(-128, 127).to(torch.int8)

    def dequantize(self, y_q: torch.Tensor) -> torch.Tensor:
        """Integers to the float32 values that they stand for."""
        if self.output == "int32":
            return (y_q.double() * (self.weight_scale * self.input_scale)).float()
        return (y_q.float() - self.output_zero_point) * self.output_scale

    @contextmanager
    def tracing(self) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
        """Records (x_q, y_q) of every forward pass while it is open."""
        trace: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._trace = trace
        try:
            yield trace
        finally:
            self._trace = None


def requantizers(factor: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Multiplier and shift with multiplier / 2^shift nearest to each factor.

    Args:
        factor: `[N]`, from 0 to under 2^15.

    Returns:
        Multiplier 0..65535 and shift 1..47, int64 `[N]`. The multiplier has its top bit set unless
        the shift is at a limit, so the factor is met to 2^-16.

    Raises:
        ValueError: A factor is too large for the requantizer.
    """
    _, exponent = np.frexp(factor)
    shift = np.clip(MULTIPLIER_BITS - exponent.astype(np.int64), 1, SHIFT_MAX)
    multiplier = np.rint(np.ldexp(factor, shift)).astype(np.int64)
    carried = (multiplier == 2**MULTIPLIER_BITS) & (shift > 1)
    shift = np.where(carried, shift - 1, shift)
    multiplier = np.where(carried, multiplier // 2, multiplier)
    if len(factor) and multiplier.max() >= 2**MULTIPLIER_BITS:
        largest = math.ldexp(2**MULTIPLIER_BITS - 1, -1)
        raise ValueError(f"requantizer factor must be at most {largest}, not {factor.max()}")
    return multiplier, shift


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


def convert(
    model: torch.nn.Module,
    layers: Mapping[str, torch.nn.Linear],
    weights: Mapping[str, QuantizedWeight],
    calibration: Mapping[str, Calibration],
    int32_outputs: frozenset[str],
) -> dict[str, IntegerLinear]:
    """Puts an `IntegerLinear` in the place of every layer of `layers`, in `model` itself.

    Returns:
        The new layers under the old names, in the order of `layers`.
    """
    parents = {child: (parent, at) for parent in model.modules() for at, child in _children(parent)}
    converted: dict[str, IntegerLinear] = {}
    for name, layer in layers.items():
        bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach()
        seen = calibration[name]
        converted[name] = IntegerLinear(
            weights[name],
            bias.double().numpy(),
            seen.inputs,
            seen.outputs,
            "int32" if name in int32_outputs else "int8",
        )
        parent, at = parents[layer]
        setattr(parent, at, converted[name])
    return converted


def _children(module: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    return list(module.named_children())
