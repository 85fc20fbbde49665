"""The core as one linked netlist in RTLIL.

Units, lanes, rows and memories are instances of fixed names; each is elaborated alone, once, and
the texts are joined here.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from amaranth.hdl import Elaboratable

from hwlib.behaviour import Behaviour
from hwlib.blocks.byte_sram import byte_sram
from hwlib.blocks.cells import instance
from hwlib.blocks.drain_lane import DRAIN_LANE, DrainLane
from hwlib.blocks.outer_product import ARRAY, GRID_ROW, GridRow, OuterProductArray
from hwlib.blocks.vector_lane import LANE, VectorLane
from hwlib.config import CoreConfig
from hwlib.contracts.table import contract_of, units_of
from hwlib.convert import convert
from hwlib.core import Core
from hwlib.edit import CoreUnitName
from hwlib.frozen import Frozen
from hwlib.unit_latencies import UnitLatencies, of_shipped_array, shipped_latencies
from hwlib.units.activation import ActivationFunction
from hwlib.units.composable_mac import ComposableMac
from hwlib.units.exponential import Exponential
from hwlib.units.inverse_sqrt import InverseSqrt
from hwlib.units.mac import Mac
from hwlib.units.reciprocal import Reciprocal
from hwlib.units.rescaler import Rescaler

TOP = "core"
"""Name of the linked netlist's top module."""


class UnitNetlist(Frozen):
    """A unit that takes the place of a shipped one."""

    rtlil: str
    """Its netlist, with the module name and the ports of the unit's contract."""

    latency: int
    """Cycles from its inputs to its result, within the contract's bounds."""

    behaviour: Behaviour | None = None
    """What it gives where that is not the reference's."""


def latencies_of(config: CoreConfig, units: Mapping[CoreUnitName, UnitNetlist]) -> UnitLatencies:
    """Latencies of the units of a core, the shipped ones where `units` names no other."""
    shipped = shipped_latencies(config).model_dump()
    given = {UNIT_LATENCY.get(name, name): unit.latency for name, unit in units.items()}
    if "mac" in given:
        given = {"array": of_shipped_array(given["mac"])} | given
    return UnitLatencies.model_validate(shipped | given)


UNIT_LATENCY: dict[CoreUnitName, str] = {"composable_mac": "mac"}
"""Units whose latency has another name than they."""


def elaborate_core(
    config: CoreConfig, units: Mapping[CoreUnitName, UnitNetlist] | None = None
) -> str:
    """The core as linked RTLIL, top module `core`; equal arguments give equal text.

    Args:
        config: The core's knobs.
        units: Units that take the place of shipped ones, by name.

    Raises:
        ValueError: The core has no unit of a name, or a latency is beyond what blocks can take.
    """
    units = units or {}
    for name in units:
        contract_of(name, config)
    if "array" in units and config.element in units:
        raise ValueError(f"an array brings elements of its own; leave out {config.element}")
    memories = (config.activation_memory, config.weight_memory, config.channel_tables)
    latencies = latencies_of(config, units)
    core = convert(Core(config, instance, latencies), TOP)
    row = (config.columns, config.composable)
    cells: dict[str, tuple[Any, ...]] = {
        DRAIN_LANE: (),
        LANE: (config.composable, latencies),
        **{name: contract_of(name, config).class_arguments for name in units_of(config)},
        ARRAY: (config.rows, *row, latencies.mac),
        GRID_ROW: row,
    }
    if "array" in units:  # brings elements of its own
        del cells[GRID_ROW], cells[config.element]
    parts = [
        f"attribute \\top 1\n{core}",
        *(_cell(name, *arguments) for name, arguments in cells.items() if name not in units),
        *(unit.rtlil for unit in units.values()),
    ]
    srams = sorted({(memory.words, memory.bits) for memory in memories})
    return "\n".join([*parts, *(byte_sram(words, bits) for words, bits in srams)])


@lru_cache(maxsize=64)
def _cell(name: str, *arguments: Any) -> str:
    make: dict[str, Callable[..., Elaboratable]] = {
        ARRAY: lambda rows, columns, composable, latency: OuterProductArray(
            rows, columns, composable, latency, instance
        ),
        GRID_ROW: lambda columns, composable: GridRow(columns, composable, instance),
        DRAIN_LANE: lambda: DrainLane(instance),
        LANE: lambda composable, latencies: VectorLane(composable, instance, latencies),
        "mac": Mac,
        "composable_mac": ComposableMac,
        "rescaler": Rescaler,
        "activation": ActivationFunction,
        "exponential": Exponential,
        "inverse_sqrt": InverseSqrt,
        "reciprocal": Reciprocal,
    }
    return convert(make[name](*arguments), name)


def forget_cells() -> None:
    """Drops what earlier cores left of their parts, so that the next is elaborated from nothing."""
    _cell.cache_clear()
