"""One radix-4 Booth multiplier with its product registered in carry-save form.

unit: requantizer
latency: 4
helps: clock
costs: area

The shipped unit completes two half products and adds them: three carry propagations. Here nine
Booth rows of the multiplier are reduced to two words and registered, and one carry propagation in
the next cycle ends the product. Latency 4.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

WIDTH = 48
"""Bits of the product."""


def booth_row(m, a, low, middle, high):
    """Digit (low + middle - 2 high) times `a`, 33 bits, one too small where `high` is set."""
    one, two = Signal(), Signal()
    row = Signal(33)
    m.d.comb += [
        one.eq(low ^ middle),
        two.eq((high ^ middle) & ~one),
        row.eq((Mux(one, a, 0) | Mux(two, a.shift_left(1), 0)) ^ Mux(high, (1 << 33) - 1, 0)),
    ]
    return row


def compress(m, x, y, z):
    """Three words to two of the same sum modulo 2^48: a row of full adders."""
    half, total, carry = Signal(WIDTH), Signal(WIDTH), Signal(WIDTH)
    m.d.comb += [
        half.eq(x ^ y),
        total.eq(half ^ z),
        carry.eq(((x & y) | (half & z)).shift_left(1)),
    ]
    return total, carry


class Requantizer(wiring.Component):
    """y = sat8(((acc * multiplier + 2^(shift-1)) >> shift) + zero_point), rounding half up."""

    enable: In(1)
    acc: In(signed(32))
    multiplier: In(unsigned(16))
    shift: In(unsigned(6))
    zero_point: In(signed(8))
    y: Out(signed(8))

    def product_words(self, m):
        """Two words whose sum is acc * multiplier modulo 2^48."""
        a = Signal(33)
        m.d.comb += a.eq(self.acc)
        digits = Cat(Const(0, 1), self.multiplier, Const(0, 2))
        words = []
        below = Const(0, 0)  # what completes the negative row below, two bits under this one
        for i in range(9):
            low, middle, high = digits[2 * i], digits[2 * i + 1], digits[2 * i + 2]
            row = booth_row(m, a, low, middle, high)
            # A sign bit s of weight 2^n is (1 - s) 2^n less 2^n; what is taken off, summed over
            # all rows, is the two bits above the first sign and a one above each other.
            sign = row[32]
            top = Cat(~sign, Const(1, 1)) if i else Cat(sign, sign, ~sign)
            word = Signal(WIDTH)
            m.d.comb += word.eq(Cat(Const(0, max(2 * i - 2, 0)), below, row[:32], top))
            words.append(word)
            below = Cat(high, Const(0, 1))
        while len(words) > 2:
            triples = len(words) // 3
            rest = words[3 * triples :]
            words = [
                word for k in range(triples) for word in compress(m, *words[3 * k : 3 * k + 3])
            ] + rest
        return words

    def elaborate(self, platform):
        m = Module()
        words = self.product_words(m)
        first, second = Signal(WIDTH), Signal(WIDTH)
        product = Signal(signed(WIDTH))
        scaled = Signal(signed(10))

        shifted = Signal(signed(WIDTH))
        rounded = Signal(signed(10))
        result = Signal(signed(11))
        m.d.comb += [
            shifted.eq(product >> (self.shift - 1)[:6]),
            rounded.eq((scaled + 1) >> 1),
            result.eq(rounded + self.zero_point),
        ]
        # Beyond ten bits the result saturates whatever the zero point is.
        fits = (shifted[9:] == 0) | shifted[9:].all()
        sign = shifted[-1]
        clamped = Mux(fits, shifted[:10], Cat((~sign).replicate(9), sign)).as_signed()
        in_range = (result[7:] == 0) | result[7:].all()
        saturated = Mux(in_range, result[:8], Cat((~result[-1]).replicate(7), result[-1]))

        with m.If(self.enable):
            m.d.sync += [
                first.eq(words[0]),
                second.eq(words[1]),
                product.eq((first + second)[:WIDTH].as_signed()),
                scaled.eq(clamped),
                self.y.eq(saturated),
            ]
        return m
