"""The exponential of the online softmax: a table over one octave and a shift."""

from amaranth.hdl import Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.reference import tables


class Exponential(wiring.Component):
    """value = round(table[fraction] >> octave): a probability before division, 0..127.

    Latency 1, one value a cycle.

    Args:
        entries: Of the table: 4, 8, 16 or 32.
    """

    def __init__(self, entries):
        self.entries = entries
        super().__init__({"fraction": In(5), "octave": In(4), "value": Out(7)})

    def elaborate(self, platform):
        m = Module()
        entry = Signal(7)
        index = self.fraction[5 - (self.entries - 1).bit_length() :]
        with m.Switch(index):
            for at, value in enumerate(tables.exponential(self.entries)):
                with m.Case(at):
                    m.d.comb += entry.eq(int(value))
        half = Signal(15)
        m.d.comb += half.eq((Const(1, 16) << self.octave)[1:])
        m.d.sync += self.value.eq((entry + half) >> self.octave)
        return m
