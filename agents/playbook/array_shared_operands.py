"""Operands registered and recoded once for each row and column, not once for each element.

unit: array
latency: 4
helps: area, energy, clock

The shipped elements hold their operands in registers of their own, the same ones all along a row or
a column. Here each row and column has one register, in front of all its elements. For bytes it
holds the weight as radix-4 Booth digits, so that an element only chooses among -2, -1, 0, 1 and 2
times the activation, four times; these and the lower 16 bits of the sum are one addition of six
words. For words of 8 or 4 bits it holds both operands as they are. In either case the upper bits of
a sum follow the lower ones a cycle later, counting what these carry up or down.

Row k of a Booth product is 10 bits, times 4^k. A negative row is inverted, and completed by a 1 in
the word of corrections. A sign bit of weight -2^n, turned over, adds 2^n: the constant in that word
takes these off and puts 2^16 on top, so that the whole is never negative.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

SEGMENT = 8
"""Bits of the counter that carry at once."""


class Array(wiring.Component):
    """Takes pairs of operands, and gives the sums of each tile column by column.

    Args:
        rows: Rows of elements, each with an activation of its own.
        columns: Elements of a row, each with a weight of its own.
        composable: Whether elements multiply words of 8 or 4 bits, by `mode`.
        bits: Of a sum, which wraps; `sum_0`.. are sign-extended.
    """

    def __init__(self, rows, columns, composable, bits):
        self.rows, self.columns = rows, columns
        self.composable = bool(composable)
        self.bits = bits
        activation, weight = (16, 16) if composable else (signed(9), signed(8))
        super().__init__(
            {
                **{f"a_{row}": In(activation) for row in range(rows)},
                **{f"w_{column}": In(weight) for column in range(columns)},
                **({"mode": In(2)} if composable else {}),
                "valid": In(1),
                "last": In(1),
                "wanted": In(6),
                "ready": Out(1),
                **{f"sum_{row}": Out(signed(32)) for row in range(rows)},
                "sums_valid": Out(1),
                "sums_ready": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        taken, capture, shift = self.control(m)
        late = Signal()  # the capture of the upper bits
        m.d.sync += late.eq(capture)
        weights = [self.weight(m, column) for column in range(self.columns)]
        mode = Signal(2, reset_less=True)
        if self.composable:
            m.d.sync += mode.eq(self.mode)
        for row in range(self.rows):
            port = getattr(self, f"a_{row}")
            a = Signal.like(port, name=f"activation_{row}")
            m.d.sync += a.eq(Mux(taken, port, 0))
            right = 0
            for column in reversed(range(self.columns)):
                element = (Bricks if self.composable else Booth)(self.bits)
                m.submodules[f"element_{row}_{column}"] = element
                m.d.comb += [
                    element.a.eq(a),
                    element.w.eq(weights[column]),
                    element.capture.eq(capture),
                    element.late.eq(late),
                    element.shift.eq(shift),
                    element.drain_in.eq(right),
                ]
                if self.composable:
                    m.d.comb += element.mode.eq(mode)
                right = element.drain_out
            m.d.comb += getattr(self, f"sum_{row}").eq(right)
        return m

    def weight(self, m, column):
        """A column's register: the weight, or its four digits as one, two and minus."""
        w = getattr(self, f"w_{column}")
        kept = Signal(16 if self.composable else 12, name=f"weight_{column}", reset_less=True)
        if self.composable:
            m.d.sync += kept.eq(w)
            return kept
        bits = Cat(Const(0, 1), w)
        digits = []
        for k in range(4):
            below, middle, above = bits[2 * k], bits[2 * k + 1], bits[2 * k + 2]
            one = below ^ middle
            digits += [one, (above ^ middle) & ~one, above]
        m.d.sync += kept.eq(Cat(*digits))
        return kept

    def control(self, m):
        """When operands are taken, sums are captured, and columns move on."""
        taken, ends, shift = Signal(), Signal(), Signal()
        under_way = Signal(2)
        settled = Signal()
        next_left, left = Signal(6, reset_less=True), Signal(6)
        m.d.comb += [
            self.ready.eq(~self.last | ~(under_way.any() | settled | left.any())),
            taken.eq(self.valid & self.ready),
            ends.eq(taken & self.last),
            self.sums_valid.eq(left.any()),
            shift.eq(self.sums_valid & self.sums_ready),
        ]
        m.d.sync += [under_way.eq(Cat(ends, under_way[0])), settled.eq(under_way[1])]
        with m.If(ends):
            m.d.sync += next_left.eq(self.wanted)
        with m.If(settled):
            m.d.sync += left.eq(next_left)
        with m.Elif(shift):
            m.d.sync += left.eq(left - 1)
        return taken, under_way[1], shift


class Element(wiring.Component):
    """Adds up words that come with registered operands; `capture` moves the sum into a chain."""

    def __init__(self, bits, low, a, w, mode):
        self.bits, self.low = bits, low
        super().__init__(
            {
                "a": In(a),
                "w": In(w),
                **({"mode": In(2)} if mode else {}),
                "capture": In(1),
                "late": In(1),
                "shift": In(1),
                "drain_in": In(signed(bits)),
                "drain_out": Out(signed(bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        low, raised, product = Signal(self.low), Signal(self.low + 2), Signal(self.low + 2)
        first, *others = self.words(m)
        m.d.comb += [
            product.eq(sum(others, first)),  # with 2^low on top
            raised.eq(product + Mux(self.capture, 0, low)),
        ]
        m.d.sync += low.eq(raised[: self.low])
        self.drain(m, low, self.upper(m, raised[self.low :]))
        return m

    def upper(self, m, carried):
        """The upper bits, which change by `carried` - 1 a cycle later."""
        width = self.bits - self.low
        step = Signal(2, init=1)
        high, kept, turned = Signal(width), Signal(width), Signal(width)
        down = Signal()
        m.d.sync += step.eq(carried)
        # Counting down is counting up between two inversions.
        m.d.comb += [
            down.eq(step == 0),
            kept.eq(Mux(self.late, 0, high)),
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
        return high

    def drain(self, m, low, high):
        """The drain register, whose upper bits are captured a cycle later."""
        drained_low = Signal(self.low, reset_less=True)
        drained_high = Signal(self.bits - self.low, reset_less=True)
        m.d.comb += self.drain_out.eq(Cat(drained_low, drained_high))
        with m.If(self.capture):
            m.d.sync += drained_low.eq(low)
        with m.Elif(self.shift):
            m.d.sync += drained_low.eq(self.drain_in[: self.low])
        with m.If(self.late):
            m.d.sync += drained_high.eq(high)
        with m.Elif(self.shift):
            m.d.sync += drained_high.eq(self.drain_in[self.low :])


class Booth(Element):
    """Multiplies an activation and the digits of a weight."""

    def __init__(self, bits):
        super().__init__(bits, 16, signed(9), 12, mode=False)

    def words(self, m):
        once, twice = Cat(self.a, self.a[8]), Cat(Const(0, 1), self.a)
        words, corrections = [], []
        for k in range(4):
            one, two, minus = self.w[3 * k], self.w[3 * k + 1], self.w[3 * k + 2]
            row = Signal(10, name=f"row_{k}")
            chosen = (once & one.replicate(10)) | (twice & two.replicate(10))
            m.d.comb += row.eq(chosen ^ minus.replicate(10))
            words.append(Cat(Const(0, 2 * k), row[:9], ~row[9]))
            corrections += [minus, Const(0, 1)]
        constant = (1 << 16) - sum(1 << 9 + 2 * k for k in range(4))  # bit 9 is its lowest
        return [*words, Cat(*corrections, Const(0, 1), Const(constant >> 9, 9))]


class Bricks(Element):
    """One product of bytes, two of a byte and a nibble, or four of nibbles."""

    def __init__(self, bits):
        super().__init__(bits, 15, 16, 16, mode=True)

    def words(self, m):
        narrow_a, narrow_w = self.mode == 3, self.mode[1]
        a_signed = [narrow_a, self.mode != 1, narrow_a, self.mode != 1]
        w_signed = [narrow_w, narrow_w, 1, 1]
        bricks = []
        for k in range(4):
            x, y = self.a.word_select(k, 4), self.w.word_select(k, 4)
            brick = Signal(signed(10), name=f"brick_{k}")
            m.d.comb += brick.eq(
                Cat(x, x[3] & a_signed[k]).as_signed() * Cat(y, y[3] & w_signed[k]).as_signed()
            )
            bricks.append(brick)
        low, high = Signal(signed(13)), Signal(signed(13))
        product = Signal(16)
        m.d.comb += [
            low.eq(bricks[0] + Mux(narrow_a, bricks[1], bricks[1] << 4)),
            high.eq(bricks[2] + Mux(narrow_a, bricks[3], bricks[3] << 4)),
            product.eq(low + Mux(narrow_w, high, high << 4)),
        ]
        # A sign bit of weight -2^15, turned over, is the product with 2^15 on top.
        return [Cat(product[:15], ~product[15])]
