"""A register between multiplier and accumulator.

unit: element
latency: 2
helps: clock
costs: area, cycles

Splits the slowest path of the array in two, multiply and add, for 16 flip-flops an element and one
cycle at the end of each tile. Latency 2.
"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Element(wiring.Component):
    """Multiplies in one cycle, adds in the next."""

    a_in: In(signed(8))
    w_in: In(signed(8))
    acc_in: In(signed(32))
    shift: In(1)
    a_out: Out(signed(8))
    w_out: Out(signed(8))
    acc_out: Out(signed(32))

    def elaborate(self, platform):
        m = Module()
        product = Signal(signed(16))
        m.d.sync += [
            self.a_out.eq(self.a_in),
            self.w_out.eq(self.w_in),
            product.eq(self.a_in * self.w_in),
            # The operands were 0 a cycle before `shift` rises: no product is lost.
            self.acc_out.eq(Mux(self.shift, self.acc_in, self.acc_out + product)),
        ]
        return m
