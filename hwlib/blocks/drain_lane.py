"""One lane of the drain: from a sum of the array to the lane's 16 bits of a word."""

from enum import IntEnum

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.cells import Cells
from hwlib.config import ENTRY_BITS

DRAIN_LANE = "drain_lane"
"""Module name of a lane, which is elaborated once."""

FORM_BITS = 3
"""Width of a choice of form."""


class Form(IntEnum):
    """What the lane gives of its result."""

    BYTES = 0  # this column's int8 and, in an odd column, the one before it
    SHORT = 1  # int16
    SUM = 2  # int16 on top of the word that was there
    LOW = 3  # low half of an int32
    HIGH = 4  # high half of an int32
    INDEX = 5  # of the greatest value


class DrainLane(wiring.Component):
    """Bias adder and rescaler, and what becomes of their result.

    `sum` and `entry` enter with `advance`, which moves the whole path by a cycle. With `by_lane`
    the entry is the one taken with `keep`; with `accumulate` there is none, and the sum stays as it
    is. The result at the other end stands in `data` in the form that is asked for:

    - BYTES, SHORT: with `zero` added, saturated; `set_byte` keeps an even column's byte,
    - SUM: on top of the int16 taken from `word` with `set_low`,
    - LOW, HIGH: the result or, with `accumulate`, its sum with the int32 taken with `set_low` and
      `set_high`, shifted down by what `set_alpha` took; with `first` without that,
    - INDEX: the `index` at which the greatest result since `restart` was first seen. Results are
      looked at where `compare` is high.

    Args:
        cells: Makes the rescaler.
    """

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        super().__init__(
            {
                "advance": In(1),
                "sum": In(signed(32)),
                "entry": In(ENTRY_BITS),
                "keep": In(1),
                "by_lane": In(1),
                "accumulate": In(1),
                "zero": In(signed(8)),
                "first": In(1),
                "word": In(16),
                "set_alpha": In(1),
                "set_low": In(1),
                "set_high": In(1),
                "set_byte": In(1),
                "compare": In(1),
                "restart": In(1),
                "index": In(16),
                "odd": In(1),
                "form": In(FORM_BITS),
                "data": Out(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        scaled = self._scaled(m)
        moved = Signal(signed(33))
        m.d.comb += moved.eq(scaled + self.zero)
        byte, low_byte = Signal(8), Signal(8)
        m.d.comb += byte.eq(_saturated(moved, 8))
        with m.If(self.set_byte):
            m.d.sync += low_byte.eq(byte)

        before = Signal(signed(32))  # what is in memory
        alpha = Signal(5)
        with m.If(self.set_low):
            m.d.sync += before[:16].eq(self.word)
        with m.If(self.set_high):
            m.d.sync += before[16:].eq(self.word)
        with m.If(self.set_alpha):
            m.d.sync += alpha.eq(self.word[:5])
        alone, added = Signal(signed(16)), Signal(signed(18))
        total, wide = Signal(32), Signal(32)
        m.d.comb += [
            alone.eq(_saturated(scaled, 16)),
            added.eq(before[:16].as_signed() + alone),
            total.eq(Mux(self.first, scaled, (before >> alpha) + scaled)),
            wide.eq(Mux(self.accumulate, total, scaled)),
        ]

        best, best_index = Signal(signed(32)), Signal(16)
        with m.If(self.compare & (self.restart | (scaled > best))):
            m.d.sync += [best.eq(scaled), best_index.eq(self.index)]

        with m.Switch(self.form):
            for form, data in (
                (Form.BYTES, Cat(Mux(self.odd, low_byte, byte), byte)),
                (Form.SHORT, _saturated(moved, 16)),
                (Form.SUM, _saturated(added, 16)),
                (Form.LOW, wide[:16]),
                (Form.HIGH, wide[16:]),
                (Form.INDEX, best_index),
            ):
                with m.Case(form):
                    m.d.comb += self.data.eq(data)
        return m

    def _scaled(self, m: Module) -> Signal:
        """The sum through bias adder and rescaler, int32."""
        kept, entry = Signal(ENTRY_BITS), Signal(ENTRY_BITS)
        with m.If(self.keep):
            m.d.sync += kept.eq(self.entry)
        nothing = Const(2 << 32 | 1 << 48, ENTRY_BITS)  # (2 sum + 1) >> 1 is the sum itself
        m.d.comb += entry.eq(Mux(self.accumulate, nothing, Mux(self.by_lane, kept, self.entry)))
        biased, factor = Signal(signed(32)), Signal(22)
        with m.If(self.advance):
            m.d.sync += [biased.eq(self.sum + entry[:32]), factor.eq(entry[32:54])]
        scaled = Signal(signed(32))
        m.submodules.rescaler = self.cells(
            "rescaler",
            {
                "enable": self.advance,
                "acc": biased,
                "multiplier": factor[:16],
                "shift": factor[16:],
            },
            {"y": scaled},
        )
        return scaled


def _saturated(value: Signal, bits: int) -> Signal:
    """`value` clipped to two's complement of `bits` bits, unsigned."""
    sign = value[-1]
    fits = (value[bits - 1 :] == 0) | value[bits - 1 :].all()
    return Mux(fits, value[:bits], Cat((~sign).replicate(bits - 1), sign))
