"""The element of the outer-product array: multiply, accumulate, and hand the sum to the drain."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Mac(wiring.Component):
    """Multiplies two broadcast operands and adds the product to an accumulator, wrapping.

    Latency `stages`: with `capture` in cycle u the drain register takes the sum of all operands of
    cycles up to u - stages, and the accumulator goes on with those after them. While `shift` is
    high the drain registers of a row form a chain to the left. Operands of 0 leave the sum as it
    is.

    Args:
        bits: Of the accumulator and of the drain register; `drain_out` is sign-extended.
        stages: 2, or 3 with a register behind the product.
    """

    def __init__(self, bits=32, stages=2):
        self.bits = bits
        self.stages = stages
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
        a = Signal(signed(9))
        w = Signal(signed(8))
        total = Signal(signed(self.bits))
        drained = Signal(signed(self.bits))
        product = Signal(signed(17))
        m.d["sync" if self.stages == 3 else "comb"] += product.eq(a * w)
        m.d.sync += [a.eq(self.a), w.eq(self.w), total.eq(total + product)]
        m.d.comb += self.drain_out.eq(drained)
        with m.If(self.capture):
            m.d.sync += [drained.eq(total), total.eq(product)]
        with m.Elif(self.shift):
            m.d.sync += drained.eq(self.drain_in)
        return m
