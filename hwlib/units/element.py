"""The element of the systolic array: an int8 multiply-accumulate in one cycle."""

from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Element(wiring.Component):
    """Multiplies the two passing operands and adds the product to a 32-bit accumulator.

    Operands go through to the next element in one cycle. While `shift` is high the accumulators
    of a column form a chain: each takes its upper neighbour's sum. The accumulator wraps.
    Latency 1: operands at the ports in cycle t are in `acc_out` in cycle t + 1.
    """

    a_in: In(signed(8))
    w_in: In(signed(8))
    acc_in: In(signed(32))
    shift: In(1)
    a_out: Out(signed(8))
    w_out: Out(signed(8))
    acc_out: Out(signed(32))

    def elaborate(self, platform):
        m = Module()
        m.d.sync += [self.a_out.eq(self.a_in), self.w_out.eq(self.w_in)]
        with m.If(self.shift):
            m.d.sync += self.acc_out.eq(self.acc_in)
        with m.Else():
            m.d.sync += self.acc_out.eq(self.acc_out + self.a_in * self.w_in)
        return m
