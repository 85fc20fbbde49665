"""The element of a composable array: four 4-bit products that are one, two or four operands'."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class ComposableMac(wiring.Component):
    """Multiplies broadcast operands of 8 or 4 bits and adds the products to an accumulator.

    Brick k multiplies nibble k of `a` and nibble k of `w`, and shifts add the four up. `mode` comes
    with the operands:

    - 0, 8x8: `a` holds an int8 twice, `w` the low nibble of an int8 twice and then its high nibble
      twice; one product.
    - 1, 8x8: as 0, with a uint8 in `a`.
    - 2, 8x4: `a` holds two int8, `w` an int4 twice and then another twice; two products.
    - 3, 4x4: four int4 each; four products.

    Latency `stages`: with `capture` in cycle u the drain register takes the sum of all operands of
    cycles up to u - stages, and the accumulator goes on with those after them. While `shift` is
    high the drain registers of a row form a chain to the left. An `a` of 0 leaves the sum as it is.

    Args:
        bits: Of the accumulator, which wraps, and of the drain register; `drain_out` is
            sign-extended.
        stages: 2, or 3 with a register behind the products.
    """

    def __init__(self, bits=32, stages=2):
        self.bits = bits
        self.stages = stages
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
        w = Signal(16)
        mode = Signal(2)
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
        m.d["sync" if self.stages == 3 else "comb"] += product.eq(
            low + Mux(narrow_w, high, high << 4)
        )

        total = Signal(signed(self.bits))
        drained = Signal(signed(self.bits))
        m.d.sync += total.eq(total + product)
        m.d.comb += self.drain_out.eq(drained)
        with m.If(self.capture):
            m.d.sync += [drained.eq(total), total.eq(product)]
        with m.Elif(self.shift):
            m.d.sync += drained.eq(self.drain_in)
        return m
