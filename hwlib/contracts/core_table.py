"""The contracts of the whole-model core's units, with the latencies that the core assumes."""

from dataclasses import dataclass
from typing import get_args

from hwlib.contracts import activation, composable_mac, exponential, mac, mantissa, rescaler
from hwlib.contracts.contract import UnitContract
from hwlib.core_config import CoreConfig


@dataclass(frozen=True)
class CoreUnit:
    """One unit of the core."""

    contract: UnitContract
    """What it must do."""

    latency: int
    """Cycles of the shipped unit, for which the blocks around it are made: the contract can hold a
    unit to any latency within its bounds, but only one of this latency fits into the core."""


EXPONENTIAL_ENTRIES: tuple[int, ...] = get_args(
    CoreConfig.model_fields["exponential_entries"].annotation
)
"""Sizes of the exponential's table: each is a unit of its own."""

CORE_UNITS: dict[str, CoreUnit] = {
    "mac": CoreUnit(mac.CONTRACT, latency=2),
    "composable_mac": CoreUnit(composable_mac.CONTRACT, latency=2),
    "rescaler": CoreUnit(rescaler.CONTRACT, latency=4),
    "activation": CoreUnit(activation.CONTRACT, latency=1),
    "inverse_sqrt": CoreUnit(mantissa.INVERSE_SQRT, latency=2),
    "reciprocal": CoreUnit(mantissa.RECIPROCAL, latency=2),
    **{
        f"exponential_{entries}": CoreUnit(exponential.contract(entries), latency=1)
        for entries in EXPONENTIAL_ENTRIES
    },
}
"""One row a unit and parameter."""
