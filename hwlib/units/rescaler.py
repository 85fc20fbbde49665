"""The rescaler: a 32-bit sum times a factor, rounded and saturated to 32 bits, in four cycles."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Rescaler(wiring.Component):
    """y = sat32((acc * multiplier + 2^(shift-1)) >> shift), rounding half up.

    Latency 4, one result an enabled cycle; without `enable` every register holds. Each sum brings
    its own `multiplier` and `shift` (1..47).
    """

    enable: In(1)
    acc: In(signed(32))
    multiplier: In(unsigned(16))
    shift: In(unsigned(6))
    y: Out(signed(32))

    def elaborate(self, platform):
        m = Module()
        low = Signal(unsigned(32))
        high = Signal(signed(32))
        product = Signal(signed(48))
        shifted = Signal(signed(48))
        shifts = [Signal(6, name=f"shift_{stage}") for stage in range(2)]
        rounded = Signal(signed(48))
        fits = Signal()
        m.d.comb += [
            rounded.eq((shifted + 1) >> 1),
            fits.eq((rounded[31:] == 0) | rounded[31:].all()),
        ]
        sign = rounded[-1]
        with m.If(self.enable):
            m.d.sync += [
                low.eq(self.acc[:16] * self.multiplier),
                high.eq(self.acc[16:].as_signed() * self.multiplier),
                shifts[0].eq(self.shift),
                product.eq(low + Cat(Const(0, 16), high).as_signed()),
                shifts[1].eq(shifts[0]),
                shifted.eq(product >> (shifts[1] - 1)[:6]),
                self.y.eq(Mux(fits, rounded[:32], Cat((~sign).replicate(31), sign))),
            ]
        return m
