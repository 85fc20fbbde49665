"""Pipelined product and split accumulator together.

unit: element
latency: 3
helps: clock
costs: area, cycles

Multiply, add the lower 16 bits, add the upper 16 bits: three cycles, so that the multiplier alone
is the slowest path. 18 flip-flops an element. Latency 3.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Element(wiring.Component):
    """Product register, then 16 bits a cycle."""

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
        low, high = Signal(16), Signal(16)
        low_sum = Signal(17)
        carry, sign = Signal(), Signal()
        m.d.comb += [
            low_sum.eq(low + product.as_unsigned()),
            self.acc_out.eq(Cat(low, high)),
        ]
        m.d.sync += [
            self.a_out.eq(self.a_in),
            self.w_out.eq(self.w_in),
            product.eq(self.a_in * self.w_in),
            low.eq(Mux(self.shift, self.acc_in[:16], low_sum[:16])),
            carry.eq(low_sum[16]),
            sign.eq(product[15]),
            # Carry less sign: +1, 0 or -1. Both are 0 when `shift` is high.
            high.eq(
                Mux(
                    self.shift,
                    self.acc_in[16:],
                    high + Cat(carry ^ sign, (sign & ~carry).replicate(15)),
                )
            ),
        ]
        return m
