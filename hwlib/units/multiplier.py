"""A signed multiplier; no core has it."""

from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Multiplier(wiring.Component):
    """The product of two operands, registered. Latency 1, one product a cycle.

    Args:
        bits: Of each operand.
    """

    def __init__(self, bits):
        super().__init__({"a": In(signed(bits)), "b": In(signed(bits)), "y": Out(signed(2 * bits))})

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.y.eq(self.a * self.b)
        return m
