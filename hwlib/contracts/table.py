"""The contracts of all units, with the latencies of the shipped ones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from hwlib.config import CoreConfig
from hwlib.contracts import (
    activation,
    array,
    composable_mac,
    dot_product,
    exponential,
    lif,
    mac,
    mantissa,
    multiplier,
    rescaler,
)
from hwlib.contracts.contract import UnitContract
from hwlib.edit import CoreUnitName, LooseUnitName, UnitName
from hwlib.unit_latencies import of_shipped_array


@dataclass(frozen=True)
class CoreUnit:
    """One unit of the core."""

    contract: UnitContract
    """What it must do."""

    latency: int
    """Cycles of the shipped unit."""


EXPONENTIAL_ENTRIES: tuple[int, ...] = get_args(
    CoreConfig.model_fields["exponential_entries"].annotation
)
"""Sizes of the exponential's table: each is a unit of its own."""

CORE_UNITS: dict[str, CoreUnit] = {
    "mac": CoreUnit(mac.contract(bits=32, stages=2), latency=2),
    "composable_mac": CoreUnit(composable_mac.contract(bits=32, stages=2), latency=2),
    "rescaler": CoreUnit(rescaler.CONTRACT, latency=4),
    "activation": CoreUnit(activation.CONTRACT, latency=1),
    "inverse_sqrt": CoreUnit(mantissa.INVERSE_SQRT, latency=2),
    "reciprocal": CoreUnit(mantissa.RECIPROCAL, latency=2),
    **{
        f"exponential_{entries}": CoreUnit(exponential.contract(entries), latency=1)
        for entries in EXPONENTIAL_ENTRIES
    },
}
"""One row a unit and parameter; elements with the default ones."""

LOOSE_UNITS: dict[LooseUnitName, CoreUnit] = {
    "multiplier_4": CoreUnit(multiplier.contract(4), latency=1),
    "multiplier_8": CoreUnit(multiplier.contract(8), latency=1),
    "multiplier_16": CoreUnit(multiplier.contract(16), latency=1),
    "dot_product_2": CoreUnit(dot_product.contract(2), latency=2),
    "dot_product_4": CoreUnit(dot_product.contract(4), latency=2),
    "dot_product_8": CoreUnit(dot_product.contract(8), latency=2),
    "lif_8": CoreUnit(lif.contract(8), latency=1),
    "lif_12": CoreUnit(lif.contract(12), latency=1),
    "lif_16": CoreUnit(lif.contract(16), latency=1),
}
"""One row a unit that no core has, and size."""

_CONTRACTS: dict[CoreUnitName, Callable[[CoreConfig], UnitContract]] = {
    "mac": lambda config: mac.contract(config.accumulator_bits, config.mac_stages),
    "composable_mac": lambda config: composable_mac.contract(
        config.accumulator_bits, config.mac_stages
    ),
    "rescaler": lambda config: rescaler.CONTRACT,
    "array": array.contract,
    "activation": lambda config: activation.CONTRACT,
    "exponential": lambda config: exponential.contract(config.exponential_entries),
    "inverse_sqrt": lambda config: mantissa.INVERSE_SQRT,
    "reciprocal": lambda config: mantissa.RECIPROCAL,
}


def units_of(config: CoreConfig) -> tuple[CoreUnitName, ...]:
    """Names of the units that a core has: elements first, either fixed or composable."""
    return tuple(unit for unit in _CONTRACTS if unit != config.absent_element)


def shipped_latency(unit: UnitName, config: CoreConfig) -> int:
    """Cycles of the shipped unit of a core, or of one that no core has."""
    if unit in LOOSE_UNITS:
        return LOOSE_UNITS[unit].latency
    if unit in ("mac", "composable_mac"):
        return config.mac_stages
    if unit == "array":
        return of_shipped_array(config.mac_stages)
    return CORE_UNITS.get(unit, CORE_UNITS[f"exponential_{EXPONENTIAL_ENTRIES[0]}"]).latency


def contract_of(unit: UnitName, config: CoreConfig) -> UnitContract:
    """The contract of a core's unit, with the parameters that the core's knobs give it; or that of
    a unit that no core has.

    Raises:
        ValueError: The core has no such unit.
    """
    if unit in LOOSE_UNITS:
        return LOOSE_UNITS[unit].contract
    units = units_of(config)
    if unit not in units:
        raise ValueError(
            f"this core has no unit {unit}; it has {', '.join(units)}: name one of these, or "
            "change `composable`, which chooses between mac and composable_mac"
        )
    return _CONTRACTS[unit](config)
