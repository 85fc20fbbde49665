"""Chords of 16 segments, their slopes taken by 4 bits.

unit: reciprocal
latency: 1
helps: area, cycles

Not exact: 16 chords stand where the shipped unit has 64, and the fraction along a chord has 6 bits,
so that a result is off by up to 0.2 %. The model is scored with what this gives. Table and product
fit one cycle, so that the table's outputs need no registers.
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

LOW, SEGMENT, FRACTION_BITS = 1 << 15, 2048, 6


def chords():
    """Start and fall of 2^31 / v in each segment, lowered by half of the largest error."""
    rows = []
    for edge in range(LOW, 2 * LOW, SEGMENT):
        begin, end = 2**31 / edge, 2**31 / (edge + SEGMENT)
        sag = (begin + end) / 2 - 2**31 / (edge + SEGMENT / 2)
        rows.append((min(round(begin - sag / 2), 65535), round(begin - end)))
    return rows


class Reciprocal(wiring.Component):
    """r = about 2^31 / v for v from 2^15 to 2^16 - 1, one value a cycle."""

    v: In(16)
    r: Out(16)

    def elaborate(self, platform):
        m = Module()
        start, fall, r = Signal(16), Signal(13), Signal(16, reset_less=True)
        with m.Switch(self.v[11:15]):
            for at, (begin, slope) in enumerate(chords()):
                with m.Case(at):
                    m.d.comb += [start.eq(begin), fall.eq(slope)]
        fraction = self.v[11 - FRACTION_BITS : 11]
        m.d.sync += r.eq(start - ((fall * fraction) >> FRACTION_BITS))
        m.d.comb += self.r.eq(r)
        return m
