"""Bits are shared out at the least loss: against every possibility, and within the budget."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swopt.techniques.allocation import TABLE_ENTRIES, allocate
from swopt.techniques.quantization import WeightBits

BITS: tuple[WeightBits, ...] = (2, 4, 8)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_nothing_within_the_budget_has_less_loss(seed: int, layers: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"layer.{i}" for i in range(layers)]
    loss = {n: {b: float(rng.integers(0, 100)) for b in BITS} for n in names}
    sizes = {n: int(rng.integers(1, 12)) * 16 for n in names}
    cost = {n: {b: b * sizes[n] for b in BITS} for n in names}
    whole = sum(sizes.values())
    budget = int(rng.integers(2 * whole, 9 * whole))
    found = allocate(loss, cost, budget)
    every = [dict(zip(names, choice, strict=True)) for choice in product(BITS, repeat=layers)]
    fitting = [c for c in every if sum(cost[n][b] for n, b in c.items()) <= budget]
    assert found.loss == min(sum(loss[n][b] for n, b in c.items()) for c in fitting)
    assert found.cost == sum(cost[n][b] for n, b in found.bits.items()) <= budget


def test_of_equal_losses_more_bits_win() -> None:
    found = allocate({"a": dict.fromkeys(BITS, 0.0)}, {"a": {2: 2, 4: 4, 8: 8}}, 8)
    assert found.bits == {"a": 8}


def test_what_cannot_fit_or_be_tried_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 20 units, more than the 19 given"):
        allocate({"a": {2: 0.0}}, {"a": {2: 20}}, 19)
    primes = {f"{i}": {2: 1_000_003 + 2 * i, 4: 2_000_003} for i in range(30)}
    losses = {name: {2: 1.0, 4: 0.0} for name in primes}
    with pytest.raises(ValueError, match="common divisor"):
        allocate(losses, primes, 10 * TABLE_ENTRIES)
