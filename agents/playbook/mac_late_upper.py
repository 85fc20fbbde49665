"""The upper half of the sum a cycle behind the lower one.

unit: mac
latency: 2
helps: area, clock

A product of 17 bits changes the upper bits of a sum by -1, 0 or +1 alone. So 16 bits are added
as the product comes, with 2^16 on top so that it is never negative, and what they carry is
registered: the upper bits count it up or down a cycle later. `capture` reaches them a cycle later
too, which the drain allows, as it shifts two cycles after a capture at the earliest. A half of the
adder leaves the path behind the multiplier, and a counter takes its place.

What a capture or the next tile overwrites needs no reset: the drain registers, and one of the two
operands. The sum begins anew by an addend of 0 rather than by a multiplexer behind the adder.
Quick to simulate.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

LOW = 16
"""Bits of the sum that are added at once: those of a product without its sign."""

SEGMENT = 8
"""Bits of the counter that carry at once."""


class Mac(wiring.Component):
    """Multiplies two broadcast operands and adds the product to an accumulator, wrapping.

    Args:
        bits: Of the accumulator and of the drain register; `drain_out` is sign-extended.
        stages: Of the shipped unit; this one has two.
    """

    def __init__(self, bits=32, stages=2):
        self.bits = bits
        super().__init__(
            {
                "a": In(signed(9)),
                "w": In(signed(8)),
                "capture": In(1),
                "shift": In(1),
                "drain_in": In(signed(32)),
                "drain_out": Out(signed(32)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        a, w = Signal(signed(9)), Signal(signed(8), reset_less=True)
        product = Signal(signed(17))
        low, raised_sum = Signal(LOW), Signal(LOW + 2)
        m.d.comb += [
            product.eq(a * w),
            # A sign bit of weight -2^16, turned over, is the product with 2^16 on top.
            raised_sum.eq(Mux(self.capture, 0, low) + Cat(product[:LOW], ~product[LOW])),
        ]
        m.d.sync += [a.eq(self.a), w.eq(self.w), low.eq(raised_sum[:LOW])]
        late, high = self.upper(m, raised_sum[LOW:])
        self.drain(m, low, late, high)
        return m

    def upper(self, m, carried):
        """The upper bits, which change by `carried` - 1 a cycle later, and their `capture`."""
        width = self.bits - LOW
        late, step = Signal(), Signal(2, init=1)
        high, kept, turned = Signal(width), Signal(width), Signal(width)
        down = Signal()
        m.d.sync += [late.eq(self.capture), step.eq(carried)]
        # Counting down is counting up between two inversions.
        m.d.comb += [
            down.eq(~step[0] & ~step[1]),
            kept.eq(Mux(late, 0, high)),
            turned.eq(kept ^ down.replicate(width)),
        ]
        counted, carry = [], ~step[0]
        for at in range(0, width, SEGMENT):
            part = turned[at : at + SEGMENT]
            total = Signal(len(part) + 1, name=f"counted_{at}")
            m.d.comb += total.eq(part + carry)
            counted.append(total[:-1])
            carry = total[-1]
        m.d.sync += high.eq(Cat(*counted) ^ down.replicate(width))
        return late, high

    def drain(self, m, low, late, high):
        """The drain register, whose upper bits are captured a cycle later."""
        drained_low = Signal(LOW, reset_less=True)
        drained_high = Signal(self.bits - LOW, reset_less=True)
        m.d.comb += self.drain_out.eq(Cat(drained_low, drained_high).as_signed())
        with m.If(self.capture):
            m.d.sync += drained_low.eq(low)
        with m.Elif(self.shift):
            m.d.sync += drained_low.eq(self.drain_in[:LOW])
        with m.If(late):
            m.d.sync += drained_high.eq(high)
        with m.Elif(self.shift):
            m.d.sync += drained_high.eq(self.drain_in[LOW : self.bits])
