"""The whole-model core as one linked netlist in RTLIL.

Units, lanes, rows and memories are instances of fixed names; each is elaborated alone, once, and
the texts are joined here.
"""

from collections.abc import Callable
from functools import lru_cache, partial

from amaranth.hdl import Elaboratable

from hwlib.blocks.byte_sram import byte_sram
from hwlib.blocks.cells import instance
from hwlib.blocks.drain_lane import DRAIN_LANE, ENTRY_BITS, DrainLane
from hwlib.blocks.outer_product import GRID_ROW, GridRow
from hwlib.blocks.vector_lane import LANE, VectorLane
from hwlib.core import WEIGHT_BANKS, Core
from hwlib.core_config import LANE_BYTES, CoreConfig
from hwlib.elaborate import convert
from hwlib.units.activation import ActivationFunction
from hwlib.units.composable_mac import ComposableMac
from hwlib.units.exponential import Exponential
from hwlib.units.inverse_sqrt import InverseSqrt
from hwlib.units.mac import Mac
from hwlib.units.reciprocal import Reciprocal
from hwlib.units.rescaler import Rescaler

TOP = "core"
"""Name of the linked netlist's top module."""


def elaborate_core(config: CoreConfig) -> str:
    """The core as linked RTLIL, top module `core`; equal configs give equal text."""
    lane_bits = 8 * LANE_BYTES
    srams = {
        (config.activation_words // config.activation_banks, lane_bits * config.rows),
        (config.weight_words // WEIGHT_BANKS, lane_bits * config.columns),
        (config.channel_entries, ENTRY_BITS),
    }
    parts = [
        f"attribute \\top 1\n{convert(Core(config, instance), TOP)}",
        _cell(GRID_ROW, config.columns, config.composable),
        _cell(DRAIN_LANE),
        _cell(LANE, composable=config.composable),
        _cell("composable_mac" if config.composable else "mac"),
        _cell("rescaler"),
        _cell("activation"),
        _cell("exponential", config.exponential_entries),
        _cell("inverse_sqrt"),
        _cell("reciprocal"),
    ]
    return "\n".join([*parts, *(byte_sram(words, bits) for words, bits in sorted(srams))])


@lru_cache(maxsize=64)
def _cell(name: str, size: int = 0, composable: bool = False) -> str:
    make: dict[str, Callable[[], Elaboratable]] = {
        GRID_ROW: partial(GridRow, size, composable, instance),
        DRAIN_LANE: partial(DrainLane, instance),
        LANE: partial(VectorLane, composable, instance),
        "mac": Mac,
        "composable_mac": ComposableMac,
        "rescaler": Rescaler,
        "activation": ActivationFunction,
        "exponential": partial(Exponential, size),
        "inverse_sqrt": InverseSqrt,
        "reciprocal": Reciprocal,
    }
    return convert(make[name](), name)


def forget_cells() -> None:
    """Drops what earlier cores left of their parts, so that the next is elaborated from nothing."""
    _cell.cache_clear()
