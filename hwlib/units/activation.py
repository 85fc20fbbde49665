"""The activation functions: a rectifier less an even table."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.reference import tables


class ActivationFunction(wiring.Component):
    """GELU or SiLU of an int16 in 1/64 as an int16 in 1/256, saturating.

    Latency 1, one value a cycle.
    """

    x: In(signed(16))
    silu: In(1)
    y: Out(signed(16))

    def elaborate(self, platform):
        m = Module()
        magnitude = Signal(16)
        inside = Signal()
        curves = {name: Signal(7, name=name) for name in ("gelu", "silu")}
        m.d.comb += [
            magnitude.eq(Mux(self.x < 0, -self.x, self.x)),
            inside.eq(magnitude < tables.ACTIVATION_ENTRIES),
        ]
        for name, curve in curves.items():
            with m.Switch(magnitude[:9]):
                for at, value in enumerate(tables.activation(name)):
                    with m.Case(at):
                        m.d.comb += curve.eq(int(value))
        value = Signal(signed(18))
        positive = Mux(self.x < 0, 0, self.x) << 2
        m.d.comb += value.eq(
            positive - Mux(inside, Mux(self.silu, curves["silu"], curves["gelu"]), 0)
        )
        m.d.sync += self.y.eq(Mux(value > 32767, 32767, value))
        return m
