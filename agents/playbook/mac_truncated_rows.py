"""Booth rows without their lowest bits.

unit: mac
latency: 1
helps: area, energy, cycles
costs: clock

As `mac_booth_unregistered`, but each row of the product is cut off below bit 5 before it is
negated, so the five lowest bits of products and sums are 0 and need no adder and no accumulator. A
product with 0 stays 0, and a row's sign costs nothing, as what is left of it is negated whole.

Not exact: products are off by up to 75, 16 in the mean, beside at most 32,768.

Row k is (-2, -1, 0, 1 or 2) times `a` times 4^k. Above the cut a negative row is inverted, and
completed by a 1 at its lowest bit. A sign bit of weight -2^n, turned over, adds 2^n: the constant
takes these off and puts 2^16 on top, so that the whole is never negative.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

CUT = 5
"""Lowest bit of a product."""

LOW = 16
"""Bits of the sum that are added at once: those of a product without its sign."""

SEGMENT = 8
"""Bits of the counter that carry at once."""


class Mac(wiring.Component):
    """Multiplies two broadcast operands, roughly, and adds the product to an accumulator, wrapping.

    Args:
        bits: Of the accumulator and of the drain register; `drain_out` is sign-extended.
        stages: Of the shipped unit; this one has one.
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
        width = LOW - CUT
        low, raised_sum = Signal(width), Signal(width + 2)
        words = self.booth_words(m)
        product = Signal(width + 2)
        m.d.comb += [
            product.eq(sum(words[1:], words[0])),
            raised_sum.eq(product + Mux(self.capture, 0, low)),
        ]
        m.d.sync += low.eq(raised_sum[:width])
        late, high = self.upper(m, raised_sum[width:])
        self.drain(m, low, late, high)
        return m

    def booth_words(self, m):
        """Words in units of 2^CUT whose sum is the product + 2^16, modulo 2^18."""
        digits = Cat(Const(0, 1), self.w)
        once, twice = Cat(self.a, self.a[8]), Cat(Const(0, 1), self.a)
        words, corrections = [], [Const(0, 1)] * (LOW + 2 - CUT)
        extra = []
        for k in range(4):
            below, middle, above = digits[2 * k], digits[2 * k + 1], digits[2 * k + 2]
            one, two = Signal(name=f"one_{k}"), Signal(name=f"two_{k}")
            cut = max(CUT - 2 * k, 0)
            row = Signal(10 - cut, name=f"row_{k}")
            chosen = (once & one.replicate(10)) | (twice & two.replicate(10))
            m.d.comb += [
                one.eq(below ^ middle),
                two.eq((above ^ middle) & ~one),
                row.eq(chosen[cut:] ^ above.replicate(10 - cut)),
            ]
            begin = max(2 * k - CUT, 0)
            words.append(Cat(Const(0, begin), row[:-1], ~row[-1]))
            if isinstance(corrections[begin], Const):
                corrections[begin] = above
            else:
                extra.append(Cat(Const(0, begin), above))
        constant = (1 << LOW) - sum(1 << 9 + 2 * k for k in range(4))
        bits = constant >> CUT & (1 << LOW + 2 - CUT) - 1
        return [*words, *extra, Cat(*corrections), Const(bits, LOW + 2 - CUT)]

    def upper(self, m, carried):
        """The upper bits, which change by `carried` - 1 a cycle later, and their `capture`."""
        width = self.bits - LOW
        late, step = Signal(), Signal(2, init=1)
        high, kept, turned = Signal(width), Signal(width), Signal(width)
        down = Signal()
        m.d.sync += [late.eq(self.capture), step.eq(carried)]
        # Counting down is counting up between two inversions.
        m.d.comb += [
            down.eq(step == 0),
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
            m.d.sync += drained_low.eq(Cat(Const(0, CUT), low))
        with m.Elif(self.shift):
            m.d.sync += drained_low.eq(self.drain_in[:LOW])
        with m.If(late):
            m.d.sync += drained_high.eq(high)
        with m.Elif(self.shift):
            m.d.sync += drained_high.eq(self.drain_in[LOW : self.bits])
