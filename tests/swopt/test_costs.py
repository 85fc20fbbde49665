"""The cost of a pass in blocks, by hand and for arrays."""

import numpy as np
import pytest

from hwlib.config import CoreConfig
from swopt.compiler.costs import Cost

CORE = CoreConfig(rows=8, columns=8, weight_bytes=16384, dma_bytes=8)
"""1024 words of weights."""


def test_weights_that_do_not_stay_are_loaded_once_a_block() -> None:
    stay = Cost(groups=10, block_bytes=800, block_beats=7, once_bytes=80, weight_words=1024)
    assert stay.cycles(CORE, 4, 1) == pytest.approx(10 + 100 + 7)
    stay.weight_words += 1
    assert stay.cycles(CORE, 4, 1) == pytest.approx(10 + 3 * (100 + 7))


def test_one_block_at_a_time_hides_no_norm_and_no_tail() -> None:
    cost = Cost(groups=10, norm=20, tail=3)
    assert cost.cycles(CORE, 4, 1) == pytest.approx(10 * 20 + 3 * 3)
    assert cost.cycles(CORE, 4, 2) == pytest.approx(4 * 20 + 3)
    assert cost.cycles(CORE, 1 << 16, 2) == pytest.approx(10 * 20 + 3)


def test_engines_that_are_equally_busy_take_a_little_longer_than_one() -> None:
    assert Cost(1, array=500).cycles(CORE, 1, 1) == pytest.approx(500)
    assert Cost(1, array=500, vector=500).cycles(CORE, 1, 1) == pytest.approx(500 * 2 ** (1 / 6))


def test_arrays_cost_what_each_value_costs() -> None:
    cost = Cost(13, 9000, 8000, 20, 30, 12000, 50, 640, 1500)
    groups, ways, dma_bytes = np.array([1, 4, 13]), np.array([1, 2, 3]), np.array([[4], [16]])
    found = cost.cycles_of(dma_bytes, np.array([[1024], [2048]]), groups, ways)
    expected = [
        [
            cost.cycles(
                CORE.model_copy(update={"dma_bytes": width, "weight_bytes": 16 * capacity}), g, w
            )
            for g, w in zip(groups.tolist(), ways.tolist(), strict=True)
        ]
        for width, capacity in ((4, 1024), (16, 2048))
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
