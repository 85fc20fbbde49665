"""The element of the outer-product array: multiply, accumulate, and hand the sum to the drain."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Mac(wiring.Component):
    """Multiplies two broadcast operands and adds the product to a 32-bit accumulator, wrapping.

    Latency 2: with `capture` in cycle u the drain register takes the sum of all operands of cycles
    up to u - 2, and the accumulator goes on with those after them. While `shift` is high the drain
    registers of a row form a chain to the left. Operands of 0 leave the sum as it is.
    """

    a: In(signed(9))
    w: In(signed(8))
    capture: In(1)
    shift: In(1)
    drain_in: In(signed(32))
    drain_out: Out(signed(32))

    def elaborate(self, platform):
        m = Module()
        a = Signal(signed(9))
        w = Signal(signed(8))
        total = Signal(signed(32))
        product = Signal(signed(17))
        m.d.comb += product.eq(a * w)
        m.d.sync += [a.eq(self.a), w.eq(self.w), total.eq(total + product)]
        with m.If(self.capture):
            m.d.sync += [self.drain_out.eq(total), total.eq(product)]
        with m.Elif(self.shift):
            m.d.sync += self.drain_out.eq(self.drain_in)
        return m
