"""A search in float32 first finds the integers that a search in float64 alone finds."""

import numpy as np
import pytest
from numpy.typing import NDArray

from swopt.techniques.rounding import CLIPPINGS, SEARCHED_AT_ONCE, quantize

Floats = NDArray[np.float64]


def searched_in_float64(weight: Floats, bits: int, power: Floats) -> tuple[Floats, Floats]:
    """Every clipping point in turn, of equal ones the last: values and scales."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    largest = np.abs(weight).max(1)
    largest[largest == 0] = 1.0
    best_error, best_scale = np.full(len(weight), np.inf), largest / high
    for share in CLIPPINGS:
        scale = share * largest / high
        rounded = np.clip(np.rint(weight / scale[:, None]), low, high)
        error = ((weight - rounded * scale[:, None]) ** 2) @ power
        better = error <= best_error
        best_error = np.where(better, error, best_error)
        best_scale = np.where(better, scale, best_scale)
    return np.clip(np.rint(weight / best_scale[:, None]), low, high), best_scale


def drawn(kind: str, shape: tuple[int, int]) -> Floats:
    rng = np.random.default_rng(3)
    match kind:
        case "heavy tails":
            return rng.standard_t(2, shape) * 1e-3
        case "on steps":
            weight = np.round(rng.standard_normal(shape) * 2) / 50
            weight[3] = 0
            return weight
        case "half precision":
            return (rng.standard_normal(shape) * 0.05).astype(np.float16).astype(np.float64)
        case _:
            return rng.standard_normal(shape)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("kind", ["normal", "heavy tails", "on steps", "half precision"])
def test_same_integers_as_a_search_in_float64(kind: str, bits: int) -> None:
    rng = np.random.default_rng(bits)
    for shape in ((300, 96), (40, 900)):
        weight, power = drawn(kind, shape), rng.random(shape[1]) ** 4 * 1e3
        power[::7] = 0
        values, scale = searched_in_float64(weight, bits, power)
        made = quantize(weight, bits, power)
        assert np.array_equal(made.scale, scale)
        assert np.array_equal(made.values, values)


def test_pieces_do_not_show() -> None:
    weight = drawn("normal", (300, 2 * SEARCHED_AT_ONCE // 300))
    whole, part = quantize(weight, 4, np.ones(weight.shape[1])), slice(100, 107)
    alone = quantize(weight[part], 4, np.ones(weight.shape[1]))
    assert np.array_equal(whole.values[part], alone.values)
    assert np.array_equal(
        quantize(weight, 4, np.zeros(weight.shape[1])).scale,
        whole.scale * 0 + (np.abs(weight).max(1) / 7),
    )
