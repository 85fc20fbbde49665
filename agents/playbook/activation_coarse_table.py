"""A table of 32 magnitudes.

unit: activation
latency: 1
helps: area

Not exact: 16 magnitudes in a row share the entry between them, so that a result is off by up to
14 of 1/256. The model is scored with what this gives. Each table has 32 entries, where the shipped
unit's have 512.
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.reference import tables

SHARED = 16
"""Magnitudes that share an entry."""


class ActivationFunction(wiring.Component):
    """GELU or SiLU of an int16 in 1/64 as an int16 in 1/256, saturating. One value a cycle."""

    x: In(signed(16))
    silu: In(1)
    y: Out(signed(16))

    def elaborate(self, platform):
        m = Module()
        magnitude = Signal(16)
        m.d.comb += magnitude.eq(Mux(self.x < 0, -self.x, self.x))
        curves = {name: Signal(7, name=name) for name in ("gelu", "silu")}
        for name, curve in curves.items():
            table = tables.activation(name)
            with m.Switch(magnitude[4:9]):
                for at in range(0, tables.ACTIVATION_ENTRIES, SHARED):
                    with m.Case(at // SHARED):
                        shared = table[at : at + SHARED]
                        m.d.comb += curve.eq(int(min(shared) + max(shared)) // 2)
        inside = magnitude < tables.ACTIVATION_ENTRIES
        positive = Mux(self.x < 0, 0, self.x) << 2
        value = Signal(signed(18))
        m.d.comb += value.eq(
            positive - Mux(inside, Mux(self.silu, curves["silu"], curves["gelu"]), 0)
        )
        m.d.sync += self.y.eq(Mux(value > 32767, 32767, value))
        return m
