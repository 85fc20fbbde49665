"""The reciprocal of a softmax total: chords of a table."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.reference import tables


class Reciprocal(wiring.Component):
    """r = about 2^31 / v for v from 2^15 to 2^16 - 1. Latency 2, one value a cycle."""

    v: In(16)
    r: Out(16)

    def elaborate(self, platform):
        m = Module()
        start, fall, fraction = Signal(16), Signal(11), Signal(9)
        starts, falls = tables.reciprocal()
        first = (1 << 15) // tables.RECIPROCAL_SEGMENT
        with m.Switch(self.v[9:]):
            for at, (begin, slope) in enumerate(zip(starts, falls, strict=True)):
                with m.Case(first + at):
                    m.d.sync += [start.eq(int(begin)), fall.eq(int(slope))]
        m.d.sync += [
            fraction.eq(self.v[:9]),
            self.r.eq(start - ((fall * fraction) >> 9)),
        ]
        return m
