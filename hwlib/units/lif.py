"""A step of a leaky integrate-and-fire neuron; no core has it."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Lif(wiring.Component):
    """Leak, add, fire, and take the threshold off. Latency 1, one step a cycle.

    Args:
        bits: Of potential and current.
    """

    def __init__(self, bits):
        self.bits = bits
        super().__init__(
            {
                "v": In(signed(bits)),
                "current": In(signed(bits)),
                "leak": In(3),
                "threshold": In(bits - 1),
                "next_v": Out(signed(bits)),
                "spike": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        half = 1 << (self.bits - 1)
        total = Signal(signed(self.bits + 2))
        reached = Signal(signed(self.bits))
        fires = Signal()
        m.d.comb += [
            total.eq(self.v - (self.v >> self.leak) + self.current),
            reached.eq(Mux(total > half - 1, half - 1, Mux(total < -half, -half, total))),
            fires.eq(reached >= self.threshold),
        ]
        m.d.sync += [
            self.next_v.eq(reached - Mux(fires, self.threshold, 0)),
            self.spike.eq(fires),
        ]
        return m
