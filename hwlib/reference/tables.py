"""The tables of the vector lanes: what the shipped units hold as constants.

Each is computed here from its closed form, in exact integers or in float64 far from any rounding
boundary that matters; units take the values from here, so hardware and software share one source.
"""

import math
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[np.int64]

Activation = Literal["gelu", "silu"]

OCTAVE = 32
"""Steps of an attention score in one octave: a score is in units of log2 / 32."""

PROBABILITY_MAX = 127
"""The largest unnormalised probability: seven bits, so that the array needs no unsigned mode."""

ACTIVATION_ENTRIES = 512
"""Entries of an activation table: |x| from 0 to 8 in steps of 1/64."""

RSQRT_SEGMENT = 1024
"""Mantissas in one segment of the inverse square root, of 2^14 .. 2^16 - 1."""

RECIPROCAL_SEGMENT = 512
"""Mantissas in one segment of the reciprocal, of 2^15 .. 2^16 - 1."""


@cache
def exponential(entries: int) -> Table:
    """2^-x over one octave, scaled to `PROBABILITY_MAX`.

    Args:
        entries: 4, 8, 16 or 32; entry j stands for the scores j * 32 / entries and those after it
            up to the next, and holds the value at their middle.
    """
    width = OCTAVE // entries
    middle = (np.arange(entries) * width + (width - 1) / 2) / OCTAVE
    table: Table = np.rint(PROBABILITY_MAX * 2.0**-middle).astype(np.int64)
    return table


@cache
def activation(name: Activation) -> Table:
    """relu(x) - f(x) for |x| = i / 64, in 1/256, `[512]`: even in x for GELU and for SiLU.

    GELU is the tanh approximation (Hendrycks & Gimpel 2016), as in SigLIP; SiLU is x * sigmoid(x).
    """
    x = np.arange(ACTIVATION_ENTRIES) / 64
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    gate = 0.5 * (1 + np.tanh(inner)) if name == "gelu" else 1 / (1 + np.exp(-x))
    table: Table = np.rint(256 * x * (1 - gate)).astype(np.int64)
    return table


@cache
def inverse_sqrt() -> tuple[Table, Table]:
    """Start and fall of 2^23 / sqrt(v) in each segment, `[48]` each; segment 0 begins at 2^14."""
    return _segments(RSQRT_SEGMENT, 1 << 14, lambda v: 2**23 / np.sqrt(v))


@cache
def reciprocal() -> tuple[Table, Table]:
    """Start and fall of 2^31 / v in each segment, `[64]` each; segment 0 begins at 2^15."""
    return _segments(RECIPROCAL_SEGMENT, 1 << 15, lambda v: 2**31 / v)


def _segments(width: int, low: int, curve) -> tuple[Table, Table]:  # type: ignore[no-untyped-def]
    """A convex falling curve on [low, 2^16) as chords, lowered by half of their largest error."""
    edges = np.arange(low, (1 << 16) + 1, width, dtype=np.float64)
    start, end = curve(edges[:-1]), curve(edges[1:])
    sag = (start + end) / 2 - curve((edges[:-1] + edges[1:]) / 2)
    starts = np.minimum(np.rint(start - sag / 2), 65535).astype(np.int64)
    return starts, np.rint(start - end).astype(np.int64)
