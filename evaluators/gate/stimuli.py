"""What the gate drives a unit with: the vectors of its contract, and where those do not look.

Two of the sequences are the contract's: of a seed that everybody knows, and of one that is drawn
from the netlist, since no netlist can know the vectors of its own digest. The others have every
pair of operands of an element, values that stay for long, and resets in any state.
"""

from collections.abc import Iterator, Set
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from evaluators.gate import array_stimuli, element_stimuli
from hwlib.contracts.contract import Trace, UnitContract

PUBLIC_SEED = 11
"""Seed of the vectors that anybody can look at beforehand."""

DWELL_CYCLES = 1 << 17
"""Cycles of the sequence whose values stay."""

PACES = (1.0, 0.5, 0.05, 0.01)
"""Chances that a port's value changes in a cycle, each for a stretch of `STRETCH_CYCLES`."""

STRETCH_CYCLES = 512

CUTS = 40
"""Short sequences, each of which ends at a reset."""

CUT_CYCLES = (8, 300)
"""Shortest and longest of them."""


POWER_ONS = 512
"""Shorter sequences, each of which begins with a power-on of its own."""

POWERED_CYCLES = (8, 40)
"""Shortest and longest of them."""


class Stimulus(NamedTuple):
    """One sequence, from a reset on."""

    trace: Trace
    """What is driven."""

    where: str = ""
    """What a reason says of it, behind the number of a cycle."""

    powered: bool = False
    """Whether a power-on comes before its reset, whatever comes before others."""


def public(contract: UnitContract, latency: int) -> Stimulus:
    """The first of `stimuli`, which hangs on no netlist."""
    return Stimulus(contract.stimulus(latency, PUBLIC_SEED))


def stimuli(contract: UnitContract, latency: int, drawn_seed: int) -> Iterator[Stimulus]:
    """The sequences that a unit is judged by, each from a reset on; made as they are asked for.

    Args:
        contract: What the unit must do.
        latency: The latency that it is held to, in cycles.
        drawn_seed: Seed of all but the first sequence; of the netlist alone.
    """
    yield public(contract, latency)
    rng = np.random.default_rng(drawn_seed)
    drawn = contract.stimulus(latency, drawn_seed)
    yield Stimulus(drawn, " of the vectors drawn for this netlist")
    if contract.handshake:
        yield Stimulus(array_stimuli.depths(contract, rng), " of tiles of many depths")
    if contract.unit in element_stimuli.OPERANDS:
        swept, dwelling = element_stimuli.sweep_and_dwell(contract, latency, rng)
        yield Stimulus(swept, " of the sweep over all operands")
    else:
        dwelling = _dwelling(drawn, contract.together, rng)
    yield Stimulus(dwelling, " of the values that stay")
    for cut in _cuts(dwelling, rng, CUTS, CUT_CYCLES):
        yield Stimulus(cut, " after one reset of many")
    for cut in _cuts(dwelling, rng, POWER_ONS, POWERED_CYCLES):
        yield Stimulus(cut, " after one power-on of many", powered=True)


def _dwelling(source: Trace, together: Set[str], rng: np.random.Generator) -> Trace:
    """The values of a sequence, of which each port keeps each for a while.

    The same operands come again and again, gaps last for hundreds of cycles, and one port's value
    meets several of another's.
    """

    def places(rows: int) -> npt.NDArray[np.int64]:
        paces = np.repeat(rng.choice(PACES, DWELL_CYCLES // STRETCH_CYCLES), STRETCH_CYCLES)
        moves: npt.NDArray[np.int64] = np.cumsum(rng.random(DWELL_CYCLES) < paces)
        return moves % rows

    rows = len(next(iter(source.values())))
    shared = places(rows) if together else None
    return {
        port: values[shared if port in together else places(rows)]
        for port, values in source.items()
    }


def _cuts(
    source: Trace, rng: np.random.Generator, count: int, bounds: tuple[int, int]
) -> Iterator[Trace]:
    """Pieces of a sequence from anywhere in it, of so many cycles."""
    length = len(next(iter(source.values())))
    for cycles in rng.integers(*bounds, count):
        start = int(rng.integers(0, length - cycles))
        piece = {port: values[start : start + cycles].copy() for port, values in source.items()}
        if "capture" in piece:  # there is no `shift` before the first
            piece["shift"] *= np.cumsum(piece["capture"]) > 0
        if "enable" in piece:
            piece["enable"][0] = 1
        yield piece
