"""One Booth product of 32 x 16 bits, and all that follows it in one cycle.

unit: rescaler
latency: 2
helps: area, cycles
costs: clock

The shipped unit makes two half products, each with a carry propagation, registers them, adds them,
and registers what the shifter gives. Here nine Booth rows of the whole product are reduced in
carry-save and propagated once, in four segments; the next cycle shifts, saturates and rounds. Two
cycles and 118 flip-flops less.

What is shifted is first clipped to 33 bits, [-2^32, 2^32 - 1], so that rounding takes 33 bits and
not 48: whatever is less rounds to less than -2^31 and saturates to what -2^32 rounds to, and
whatever is more saturates like 2^32 - 1, the one value that rounds up to 2^31. No register needs a
reset, as no result is looked at before the first sum's.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

WIDTH = 48
"""Bits of the product."""

SEGMENT = 12
"""Bits of the product that carry at once."""


def compress(m, x, y, z):
    """Three words to two of the same sum modulo 2^48: a row of full adders."""
    half, total, carry = Signal(WIDTH), Signal(WIDTH), Signal(WIDTH)
    m.d.comb += [
        half.eq(x ^ y),
        total.eq(half ^ z),
        carry.eq(((x & y) | (half & z)).shift_left(1)),
    ]
    return total, carry


def reduced(m, words):
    """Two words of the same sum modulo 2^48."""
    while len(words) > 2:
        triples = len(words) // 3
        rest = words[3 * triples :]
        words = [
            word for k in range(triples) for word in compress(m, *words[3 * k : 3 * k + 3])
        ] + rest
    return words


def added(m, x, y):
    """The sum of two words modulo 2^48, segment by segment."""
    carry, parts = Const(0, 1), []
    for at in range(0, WIDTH, SEGMENT):
        # The lowest bit of each addend hands the carry in.
        total = Signal(SEGMENT + 2, name=f"sum_{at}")
        m.d.comb += total.eq(
            Cat(Const(1, 1), x[at : at + SEGMENT]) + Cat(carry, y[at : at + SEGMENT])
        )
        parts.append(total[1:-1])
        carry = total[-1]
    return Cat(*parts)


class Rescaler(wiring.Component):
    """y = sat32((acc * multiplier + 2^(shift-1)) >> shift), rounding half up."""

    enable: In(1)
    acc: In(signed(32))
    multiplier: In(unsigned(16))
    shift: In(unsigned(6))
    y: Out(signed(32))

    def booth_words(self, m):
        """Words whose sum is acc * multiplier modulo 2^48."""
        once = Signal(33)
        m.d.comb += once.eq(self.acc)
        twice = Cat(Const(0, 1), once[:32])
        digits = Cat(Const(0, 1), self.multiplier)
        words, corrections = [], []
        for k in range(8):
            below, middle, above = digits[2 * k], digits[2 * k + 1], digits[2 * k + 2]
            one, two = Signal(name=f"one_{k}"), Signal(name=f"two_{k}")
            row = Signal(33, name=f"row_{k}")
            m.d.comb += [
                one.eq(below ^ middle),
                two.eq((above ^ middle) & ~one),
                # A negative row is inverted; a 1 among the corrections completes it.
                row.eq(
                    ((once & one.replicate(33)) | (twice & two.replicate(33))) ^ above.replicate(33)
                ),
            ]
            words.append(Cat(Const(0, 2 * k), row[:32], ~row[32]))
            corrections += [above, Const(0, 1)]
        # The digit above the multiplier's sixteen bits is 0 or 1.
        words.append(Cat(Const(0, 16), self.acc & self.multiplier[15].replicate(32)))
        # A sign bit of weight -2^n, turned over, adds 2^n: this takes them off.
        constant = -sum(1 << 2 * k for k in range(8))
        return [*words, Cat(*corrections, Const(0, 16), Const(constant, 16))]

    def elaborate(self, platform):
        m = Module()
        words = reduced(m, self.booth_words(m))
        product = Signal(signed(WIDTH), reset_less=True)
        amount = Signal(6, reset_less=True)
        with m.If(self.enable):
            m.d.sync += [
                product.eq(added(m, *words)),
                amount.eq(self.shift - 1),
            ]
        y = Signal(signed(32), reset_less=True)

        shifted = Signal(signed(WIDTH))
        clipped, rounded = Signal(signed(33)), Signal(33)
        fits = (shifted[32:] == 0) | shifted[32:].all()
        sign = shifted[-1]
        m.d.comb += [
            shifted.eq(product >> amount),
            clipped.eq(Cat(Mux(fits, shifted[:32], (~sign).replicate(32)), sign)),
            rounded.eq((clipped + 1) >> 1),
            self.y.eq(y),
        ]
        over = rounded[31] & ~rounded[32]  # 2^31
        with m.If(self.enable):
            m.d.sync += [
                y.eq(Cat(rounded[:31] | over.replicate(31), rounded[32])),
            ]
        return m
