"""The upper half of a composable element's sum a cycle behind the lower one.

unit: composable_mac
latency: 2
helps: area, clock

As `mac_late_upper`: 15 bits are added as the products come, with 2^15 on top so that they are never
negative, and the upper bits count what these carry up or down a cycle later. Of what a reset
clears, the activations and the sum are enough: an activation of 0 makes no product.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

LOW = 15
"""Bits of the sum that are added at once: those of a product without its sign."""

SEGMENT = 8
"""Bits of the counter that carry at once."""


class ComposableMac(wiring.Component):
    """Multiplies broadcast operands of 8 or 4 bits and adds the products to an accumulator.

    Args:
        bits: Of the accumulator, which wraps, and of the drain register; `drain_out` is
            sign-extended.
        stages: Of the shipped unit; this one has two.
    """

    def __init__(self, bits=32, stages=2):
        self.bits = bits
        super().__init__(
            {
                "a": In(16),
                "w": In(16),
                "mode": In(2),
                "capture": In(1),
                "shift": In(1),
                "drain_in": In(signed(32)),
                "drain_out": Out(signed(32)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        a = Signal(16)
        w = Signal(16, reset_less=True)
        mode = Signal(2, reset_less=True)
        m.d.sync += [a.eq(self.a), w.eq(self.w), mode.eq(self.mode)]
        narrow_a = Signal()
        narrow_w = Signal()
        high_signed = Signal()
        m.d.comb += [narrow_a.eq(mode == 3), narrow_w.eq(mode[1]), high_signed.eq(mode != 1)]

        # A byte's high nibble has its sign; its low nibble has none.
        a_signed = [narrow_a, high_signed, narrow_a, high_signed]
        w_signed = [narrow_w, narrow_w, 1, 1]
        bricks = []
        for k in range(4):
            x, y = a.word_select(k, 4), w.word_select(k, 4)
            brick = Signal(signed(10), name=f"brick_{k}")
            m.d.comb += brick.eq(
                Cat(x, x[3] & a_signed[k]).as_signed() * Cat(y, y[3] & w_signed[k]).as_signed()
            )
            bricks.append(brick)
        low = Signal(signed(13))
        high = Signal(signed(13))
        product = Signal(signed(16))
        m.d.comb += [
            low.eq(bricks[0] + Mux(narrow_a, bricks[1], bricks[1] << 4)),
            high.eq(bricks[2] + Mux(narrow_a, bricks[3], bricks[3] << 4)),
        ]
        low_sum, raised_sum = Signal(LOW), Signal(LOW + 2)
        m.d.comb += [
            product.eq(low + Mux(narrow_w, high, high << 4)),
            # A sign bit of weight -2^15, turned over, is the product with 2^15 on top.
            raised_sum.eq(Mux(self.capture, 0, low_sum) + Cat(product[:LOW], ~product[LOW])),
        ]
        m.d.sync += low_sum.eq(raised_sum[:LOW])
        late, high_sum = self.upper(m, raised_sum[LOW:])
        self.drain(m, low_sum, late, high_sum)
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
