"""Shipped units with more registers at their operands: right units of other latencies."""

import importlib
from functools import cache

from amaranth.hdl import Module
from amaranth.lib import wiring

from hwlib.contracts.contract import UnitContract
from hwlib.contracts.table import CORE_UNITS, LOOSE_UNITS
from hwlib.convert import convert
from hwlib.elaborate import UnitNetlist

CONTROLS = {
    "mac": ("capture", "shift", "drain_in"),
    "composable_mac": ("capture", "shift", "drain_in"),
    "rescaler": ("enable",),
}
"""Inputs that act at once, whatever the latency, by unit."""


def component(contract: UnitContract) -> wiring.Component:
    """The shipped unit of a contract."""
    family = contract.unit.rpartition("_")[0] if contract.unit in LOOSE_UNITS else contract.unit
    module = importlib.import_module(f"hwlib.units.{family}")
    component: wiring.Component = getattr(module, contract.class_name)(*contract.class_arguments)
    return component


class Later(wiring.Component):
    """A shipped unit with more registers at its operands.

    Args:
        contract: Of the unit.
        cycles: Registers.
    """

    def __init__(self, contract: UnitContract, cycles: int = 1) -> None:
        self.contract = contract
        self.cycles = cycles
        self.inner = component(contract)
        super().__init__(self.inner.signature)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = self.inner
        (output,) = self.contract.outputs
        m.d.comb += getattr(self, output.name).eq(getattr(self.inner, output.name))
        enable = getattr(self, "enable", 1)
        for port in self.contract.inputs:
            source, target = getattr(self, port.name), getattr(self.inner, port.name)
            if port.name not in CONTROLS.get(self.contract.unit, ()):
                for stage in range(self.cycles):
                    register = source.__class__(source.shape(), name=f"{port.name}_{stage}")
                    with m.If(enable):
                        m.d.sync += register.eq(source)
                    source = register
            m.d.comb += target.eq(source)
        return m


@cache
def later(name: str, latency: int) -> UnitNetlist:
    """A unit of the table of contracts, of a latency of at least the shipped one's."""
    unit = CORE_UNITS[name]
    rtlil = convert(Later(unit.contract, latency - unit.latency), unit.contract.unit)
    return UnitNetlist(rtlil=rtlil, latency=latency)
