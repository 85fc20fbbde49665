"""A shift that does not round.

unit: exponential
latency: 1
helps: area, clock

Not exact: what is shifted out of a table's entry is dropped, so that a probability is up to 1 of
127 less. The model is scored with what this gives. There is neither the half that rounding adds,
shifted to its place, nor the sum.
"""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.reference import tables


class Exponential(wiring.Component):
    """value = table[fraction] >> octave: a probability before division, 0..127.

    One value a cycle.

    Args:
        entries: Of the table: 4, 8, 16 or 32.
    """

    def __init__(self, entries):
        self.entries = entries
        super().__init__({"fraction": In(5), "octave": In(4), "value": Out(7)})

    def elaborate(self, platform):
        m = Module()
        entry = Signal(7)
        with m.Switch(self.fraction[5 - (self.entries - 1).bit_length() :]):
            for at, value in enumerate(tables.exponential(self.entries)):
                with m.Case(at):
                    m.d.comb += entry.eq(int(value))
        value = Signal(7, reset_less=True)
        m.d.sync += value.eq(entry >> self.octave)
        m.d.comb += self.value.eq(value)
        return m
