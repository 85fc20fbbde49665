"""Table and chord in one cycle.

unit: inverse_sqrt
latency: 1
helps: area, cycles

The product of fall and fraction and the subtraction are much shorter than the core's clock period,
so the table's outputs need no registers: 40 flip-flops less, and each norm is a cycle shorter. No
register needs a reset, as no result is looked at before the first mantissa's.
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.reference import tables


class InverseSqrt(wiring.Component):
    """r = about 2^23 / sqrt(v) for v from 2^14 to 2^16 - 1, one value a cycle."""

    v: In(16)
    r: Out(16)

    def elaborate(self, platform):
        m = Module()
        start, fall = Signal(16), Signal(14)
        r = Signal(16, reset_less=True)
        starts, falls = tables.inverse_sqrt()
        first = (1 << 14) // tables.RSQRT_SEGMENT
        with m.Switch(self.v[10:]):
            for at, (begin, slope) in enumerate(zip(starts, falls, strict=True)):
                with m.Case(first + at):
                    m.d.comb += [start.eq(int(begin)), fall.eq(int(slope))]
        m.d.sync += r.eq(start - ((fall * self.v[:10]) >> 10))
        m.d.comb += self.r.eq(r)
        return m
