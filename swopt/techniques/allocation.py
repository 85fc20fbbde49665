"""Shares bits out among layers: the least sum of losses within a budget, exactly.

Each layer takes one of some numbers of bits; each choice has a loss and a cost, and costs add up to
a budget. That is the multiple-choice knapsack problem (Kellerer, Pferschy and Pisinger, *Knapsack
Problems*, 2004, chapter 11), solved by dynamic programming over the budget in units of the greatest
common divisor of all costs. Weight matrices have sides with large common divisors, so tables stay
small: SmolLM2-135M's memory is some 8,000 units.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hwlib.frozen import Frozen
from swopt.techniques.quantization import WeightBits

TABLE_ENTRIES = 20_000_000
"""Most entries of the table, layers times units of the budget: some 20 MB and seconds."""


class Allocation(Frozen):
    """Bits of each layer."""

    bits: dict[str, WeightBits]
    """By layer."""

    loss: float
    """Sum over the layers."""

    cost: int
    """Sum over the layers, at most the budget."""


def allocate(
    loss: Mapping[str, Mapping[WeightBits, float]],
    cost: Mapping[str, Mapping[WeightBits, int]],
    budget: int,
) -> Allocation:
    """The bits with the least sum of losses whose costs fit.

    Of equal losses those with more bits in the last layers win: the answer hangs on the arguments
    alone.

    Args:
        loss: Layer -> bits -> loss.
        cost: Of the same layers and bits, in whole units such as bits of memory, 0 or more.
        budget: Largest sum of costs.

    Raises:
        ValueError: Not even the cheapest choices fit, or the table would be too large.
    """
    names = list(loss)
    least = sum(min(cost[name].values()) for name in names)
    if least > budget:
        raise ValueError(
            f"the layers take at least {least:,} units, more than the {budget:,} given"
        )
    unit = math.gcd(*(value for each in cost.values() for value in each.values())) or 1
    units = budget // unit
    units = min(units, sum(max(cost[name].values()) for name in names) // unit)
    if units * len(names) > TABLE_ENTRIES:
        raise ValueError(
            f"{len(names)} layers times {units:,} units of budget are too many to try; "
            "use costs with a greater common divisor"
        )
    best = np.zeros(units + 1)  # least loss of the layers so far, by units that they may take
    chosen: list[NDArray[np.int8]] = []
    for name in names:
        options = sorted(cost[name])
        losses = np.full((len(options), units + 1), np.inf)
        for row, bits in enumerate(options):
            taken = cost[name][bits] // unit
            if taken <= units:
                losses[row, taken:] = best[: units + 1 - taken] + loss[name][bits]
        # The last of equal ones: more bits for as little loss.
        row_of = len(options) - 1 - losses[::-1].argmin(0)
        chosen.append(np.array(options, np.int8)[row_of])
        best = losses.min(0)
    return _read_back(names, chosen, loss, cost, units, unit)


def _read_back(
    names: list[str],
    chosen: list[NDArray[np.int8]],
    loss: Mapping[str, Mapping[WeightBits, float]],
    cost: Mapping[str, Mapping[WeightBits, int]],
    units: int,
    unit: int,
) -> Allocation:
    """The choices of all layers, from the last to the first."""
    bits: dict[str, WeightBits] = {}
    for name, of_layer in zip(reversed(names), reversed(chosen), strict=True):
        picked: WeightBits = next(b for b in cost[name] if b == of_layer[units])
        bits[name] = picked
        units -= cost[name][picked] // unit
    return Allocation(
        bits={name: bits[name] for name in names},
        loss=sum(loss[name][bits[name]] for name in names),
        cost=sum(cost[name][bits[name]] for name in names),
    )
