"""The last stage of a vector lane: results to the lane's 16 bits of a word."""

from enum import IntEnum

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Form(IntEnum):
    """What a lane gives. The first four are the words of a softmax's state, in their order."""

    MAXIMUM = 0
    TOTAL_LOW = 1
    TOTAL_HIGH = 2
    ALPHA = 3
    BYTES = 4  # two int8
    NIBBLES = 5  # four int4
    SUM = 6  # one int16


FORM_BITS = 3
"""Width of a choice of form."""


class LaneResults(wiring.Component):
    """Keeps results until their word is complete; `data` is the word in the form asked for.

    `result` comes with each `y` or, with `softmax`, each `probability`. With `even` it is kept as
    the low byte, apart from the other where `second` is high too: a rotation gives two words at
    once. With `alone` there is no other byte, and this one is the low one.

    Args:
        composable: Whether there are NIBBLES: the last three results and this one.
    """

    def __init__(self, composable: bool) -> None:
        self.composable = composable
        super().__init__(
            {
                "y": In(8),
                "probability": In(7),
                "sum16": In(16),
                "maximum": In(16),
                "total": In(32),
                "alpha": In(5),
                "softmax": In(1),
                "result": In(1),
                "even": In(1),
                "second": In(1),
                "alone": In(1),
                "form": In(FORM_BITS),
                "data": Out(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        byte = Signal(8)
        lows = [Signal(8, name=f"low_{i}") for i in range(2)]
        m.d.comb += byte.eq(Mux(self.softmax, self.probability, self.y))
        with m.If(self.result & self.even):
            with m.If(self.second):
                m.d.sync += lows[1].eq(byte)
            with m.Else():
                m.d.sync += lows[0].eq(byte)
        low = Mux(self.second, lows[1], lows[0])
        forms = [
            (Form.MAXIMUM, self.maximum),
            (Form.TOTAL_LOW, self.total[:16]),
            (Form.TOTAL_HIGH, self.total[16:]),
            (Form.ALPHA, self.alpha),
            (Form.BYTES, Mux(self.alone, Cat(byte, Const(0, 8)), Cat(low, byte))),
            (Form.SUM, self.sum16),
        ]
        if self.composable:
            kept = Signal(12)
            nibbles = Cat(kept, self.y[:4])
            with m.If(self.result):
                m.d.sync += kept.eq(nibbles[4:])
            forms.append((Form.NIBBLES, nibbles))
        with m.Switch(self.form):
            for form, data in forms:
                with m.Case(form):
                    m.d.comb += self.data.eq(data)
        return m
