"""The whole array in one file: elements, their tiles one after the other, and columns of sums.

What a rewrite of the array begins with. It does, cycle by cycle, what the core's own array does, in
which each element stands as a unit of its own (`hwlib.blocks.outer_product`).
"""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Array(wiring.Component):
    """Takes pairs of operands, and gives the sums of each tile column by column.

    Latency 4. A tile's last operands wait until the columns of the tile before are taken.

    Args:
        rows: Rows of elements, each with an activation of its own.
        columns: Elements of a row, each with a weight of its own.
        composable: Whether elements multiply words of 8 or 4 bits, by `mode`, as `ComposableMac`.
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
        for row in range(self.rows):
            a = Signal.like(getattr(self, f"a_{row}"), name=f"activation_{row}")
            m.d.comb += a.eq(Mux(taken, getattr(self, f"a_{row}"), 0))
            right = 0
            for column in reversed(range(self.columns)):
                element = Element(self.composable, self.bits)
                m.submodules[f"element_{row}_{column}"] = element
                m.d.comb += [
                    element.a.eq(a),
                    element.w.eq(getattr(self, f"w_{column}")),
                    element.capture.eq(capture),
                    element.shift.eq(shift),
                    element.drain_in.eq(right),
                ]
                if self.composable:
                    m.d.comb += element.mode.eq(self.mode)
                right = element.drain_out
            m.d.comb += getattr(self, f"sum_{row}").eq(right)
        return m

    def control(self, m):
        """When operands are taken, sums are captured, and columns move on."""
        taken, ends, shift = Signal(), Signal(), Signal()
        under_way = Signal(2)  # of the elements' latency
        settled = Signal()
        next_left, left = Signal(6), Signal(6)
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
    """Adds the product of registered operands to a sum; `capture` moves it into the drain chain."""

    def __init__(self, composable, bits):
        self.composable = composable
        self.bits = bits
        super().__init__(
            {
                "a": In(16 if composable else signed(9)),
                "w": In(16 if composable else signed(8)),
                **({"mode": In(2)} if composable else {}),
                "capture": In(1),
                "shift": In(1),
                "drain_in": In(signed(bits)),
                "drain_out": Out(signed(bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        a, w = Signal.like(self.a), Signal.like(self.w)
        total, drained = Signal(signed(self.bits)), Signal(signed(self.bits))
        product = Signal(signed(17))
        m.d.sync += [a.eq(self.a), w.eq(self.w), total.eq(total + product)]
        m.d.comb += [
            product.eq(self.composed(m, a, w) if self.composable else a * w),
            self.drain_out.eq(drained),
        ]
        with m.If(self.capture):
            m.d.sync += [drained.eq(total), total.eq(product)]
        with m.Elif(self.shift):
            m.d.sync += drained.eq(self.drain_in)
        return m

    def composed(self, m, a, w):
        """One product of bytes, two of a byte and a nibble, or four of nibbles."""
        mode = Signal(2)
        m.d.sync += mode.eq(self.mode)
        narrow_a, narrow_w = mode == 3, mode[1]
        a_signed = [narrow_a, mode != 1, narrow_a, mode != 1]
        w_signed = [narrow_w, narrow_w, 1, 1]
        bricks = []
        for k in range(4):
            x, y = a.word_select(k, 4), w.word_select(k, 4)
            brick = Signal(signed(10), name=f"brick_{k}")
            m.d.comb += brick.eq(
                Cat(x, x[3] & a_signed[k]).as_signed() * Cat(y, y[3] & w_signed[k]).as_signed()
            )
            bricks.append(brick)
        low, high = Signal(signed(13)), Signal(signed(13))
        m.d.comb += [
            low.eq(bricks[0] + Mux(narrow_a, bricks[1], bricks[1] << 4)),
            high.eq(bricks[2] + Mux(narrow_a, bricks[3], bricks[3] << 4)),
        ]
        return low + Mux(narrow_w, high, high << 4)
