"""Where the contract of the whole array does not look: tiles of many depths, and long waits."""

import numpy as np

from hwlib.contracts.array import LONGEST_PAUSE
from hwlib.contracts.contract import Trace, UnitContract

EVERY_DEPTH = 256
"""Every depth up to it comes once."""

DEEPER = range(288, 2049, 32)
"""Deeper tiles, among them the widths of usual models."""

WAIT_CYCLES = 4096
"""Cycles in which a column is not taken, once."""


def depths(contract: UnitContract, rng: np.random.Generator) -> Trace:
    """Tiles of exactly these depths in a drawn order, and a column that waits for long.

    Each begins when the columns of the one before are gone, so that its last pair is not refused.
    """
    _, columns, *_ = contract.class_arguments
    gap = columns * (1 + LONGEST_PAUSE) + contract.latency_bounds[1] + 2 * LONGEST_PAUSE
    lengths = rng.permutation([*range(1, EVERY_DEPTH + 1), *DEEPER])
    ends = np.cumsum(lengths + gap)
    cycles = int(ends[-1]) + WAIT_CYCLES + gap
    cycle = np.arange(cycles)
    valid, last = np.zeros((2, cycles), np.int64)
    for end, length in zip(ends, lengths, strict=True):
        valid[end - length : end] = 1
    last[ends - 1] = 1
    source = contract.stimulus(contract.latency_bounds[0], int(rng.integers(1 << 32)))
    drawn = rng.integers(0, len(source["valid"]), cycles)
    operands = {
        port.name: source[port.name][drawn if port.name in contract.together else drawn[::-1]]
        for port in contract.inputs
        if port.name not in ("valid", "last", "wanted", "sums_ready")
    }
    return {
        **operands,
        "valid": valid,
        "last": last,
        "wanted": rng.integers(1, columns + 1, cycles),
        "sums_ready": ((cycle < ends[-1]) | (cycle >= ends[-1] + WAIT_CYCLES)).astype(np.int64),
    }
