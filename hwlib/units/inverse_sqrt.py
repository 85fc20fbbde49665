"""The inverse square root of a norm: chords of a table."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.reference import tables


class InverseSqrt(wiring.Component):
    """r = about 2^23 / sqrt(v) for v from 2^14 to 2^16 - 1. Latency 2, one value a cycle."""

    v: In(16)
    r: Out(16)

    def elaborate(self, platform):
        m = Module()
        start, fall, fraction = Signal(16), Signal(14), Signal(10)
        starts, falls = tables.inverse_sqrt()
        first = (1 << 14) // tables.RSQRT_SEGMENT
        with m.Switch(self.v[10:]):
            for at, (begin, slope) in enumerate(zip(starts, falls, strict=True)):
                with m.Case(first + at):
                    m.d.sync += [start.eq(int(begin)), fall.eq(int(slope))]
        m.d.sync += [
            fraction.eq(self.v[:10]),
            self.r.eq(start - ((fall * fraction) >> 10)),
        ]
        return m
