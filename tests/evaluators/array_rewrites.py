"""Rewrites of the whole array that keep its contract, and some that nearly do.

Each has the head of the shipped file, its own methods, and the shipped element, which some extend.
"""

from typing import NamedTuple

from hwlib.unit_source import shipped_source

_SHIPPED = shipped_source("array")
_HEAD = _SHIPPED[: _SHIPPED.index("    def elaborate")]
_ELEMENT = _SHIPPED[_SHIPPED.index("class Element") :]


class ArrayRewrite(NamedTuple):
    """One rewrite."""

    latency: int
    """Its latency, in cycles."""

    methods: str
    """Methods of `Array`."""

    elements: str = ""
    """What follows the shipped element."""

    @property
    def source(self) -> str:
        """The whole file."""
        return f"{_HEAD}{self.methods}\n\n{_ELEMENT}{self.elements}"


CARRY_SAVE = ArrayRewrite(
    4,
    """\
    def elaborate(self, platform):
        m = Module()
        taken, capture, shift = self.control(m)
        for row in range(self.rows):
            a = Signal.like(getattr(self, f"a_{row}"), name=f"activation_{row}")
            m.d.comb += a.eq(Mux(taken, getattr(self, f"a_{row}"), 0))
            right = (0, 0)
            for column in reversed(range(self.columns)):
                element = Redundant(self.composable, self.bits)
                m.submodules[f"element_{row}_{column}"] = element
                m.d.comb += [
                    element.a.eq(a),
                    element.w.eq(getattr(self, f"w_{column}")),
                    element.capture.eq(capture),
                    element.shift.eq(shift),
                    element.drain_in.eq(right[0]),
                    element.carries_in.eq(right[1]),
                ]
                if self.composable:
                    m.d.comb += element.mode.eq(self.mode)
                right = element.drain_out, element.carries_out
            # Redundant until here: one adder a row.
            whole = Signal(signed(self.bits), name=f"whole_{row}")
            m.d.comb += [
                whole.eq(right[0] + right[1]),
                getattr(self, f"sum_{row}").eq(whole),
            ]
        return m

"""
    + _SHIPPED[_SHIPPED.index("    def control") : _SHIPPED.index("\n\nclass Element")],
    '''

class Redundant(Element):
    """An element whose sum is two words that are never added up."""

    def __init__(self, composable, bits):
        super().__init__(composable, bits)
        self.carries_in = Signal(bits)
        self.carries_out = Signal(bits)

    def elaborate(self, platform):
        m = Module()
        a, w = Signal.like(self.a), Signal.like(self.w)
        product, word = Signal(signed(17)), Signal(signed(self.bits))
        m.d.sync += [a.eq(self.a), w.eq(self.w)]
        m.d.comb += [
            product.eq(self.composed(m, a, w) if self.composable else a * w),
            word.eq(product),
        ]
        total, carries = Signal(self.bits), Signal(self.bits)
        bits = word.as_unsigned()
        m.d.sync += [
            total.eq(total ^ carries ^ bits),
            carries.eq(((total & carries) | (total & bits) | (carries & bits)) << 1),
        ]
        with m.If(self.capture):
            m.d.sync += [
                self.drain_out.eq(total), self.carries_out.eq(carries),
                total.eq(bits), carries.eq(0),
            ]
        with m.Elif(self.shift):
            m.d.sync += [
                self.drain_out.eq(self.drain_in), self.carries_out.eq(self.carries_in),
            ]
        return m
''',
)

PING_PONG = ArrayRewrite(
    2,
    """\
    def elaborate(self, platform):
        m = Module()
        # One sum of each element adds up while the columns of the other one leave.
        fills, drains, first = Signal(), Signal(), Signal(init=1)
        held, shown = Signal(2), Signal(2)
        wanted = [Signal(6, name=f"wanted_{k}") for k in range(2)]
        column = Signal(6)
        taken, ends, gone = Signal(), Signal(), Signal()
        m.d.comb += [
            self.ready.eq(~held.bit_select(fills, 1)),
            taken.eq(self.valid & self.ready),
            ends.eq(taken & self.last),
            self.sums_valid.eq((held & shown).bit_select(drains, 1)),
            gone.eq(self.sums_valid & self.sums_ready),
        ]
        m.d.sync += shown.eq(held)
        with m.If(taken):
            m.d.sync += first.eq(self.last)
        with m.If(gone):
            m.d.sync += column.eq(column + 1)
        for k in range(2):
            last = (drains == k) & gone & (column + 1 == wanted[k])
            with m.If(ends & (fills == k)):
                m.d.sync += [held[k].eq(1), wanted[k].eq(self.wanted), fills.eq(1 - k)]
            with m.If(last):
                m.d.sync += [held[k].eq(0), column.eq(0), drains.eq(1 - k)]
        begins, into = Signal(), Signal()
        m.d.sync += [begins.eq(taken & first), into.eq(fills)]
        for row in range(self.rows):
            a = Signal.like(getattr(self, f"a_{row}"), name=f"activation_{row}")
            m.d.comb += a.eq(Mux(taken, getattr(self, f"a_{row}"), 0))
            sums = []
            for at in range(self.columns):
                element = Pair(self.composable, self.bits)
                m.submodules[f"element_{row}_{at}"] = element
                m.d.comb += [
                    element.a.eq(a),
                    element.w.eq(getattr(self, f"w_{at}")),
                    element.begins.eq(begins),
                    element.into.eq(into),
                    element.shown.eq(drains),
                ]
                if self.composable:
                    m.d.comb += element.mode.eq(self.mode)
                sums.append(element.drain_out)
            chosen = Cat(*sums).word_select(column, self.bits)
            m.d.comb += getattr(self, f"sum_{row}").eq(chosen.as_signed())
        return m
""",
    '''

class Pair(Element):
    """An element of two sums."""

    def __init__(self, composable, bits):
        super().__init__(composable, bits)
        self.begins, self.into, self.shown = Signal(), Signal(), Signal()

    def elaborate(self, platform):
        m = Module()
        a, w = Signal.like(self.a), Signal.like(self.w)
        product = Signal(signed(17))
        totals = [Signal(signed(self.bits), name=f"total_{k}") for k in range(2)]
        m.d.sync += [a.eq(self.a), w.eq(self.w)]
        m.d.comb += product.eq(self.composed(m, a, w) if self.composable else a * w)
        for k, total in enumerate(totals):
            with m.If(self.into == k):
                m.d.sync += total.eq(Mux(self.begins, 0, total) + product)
        m.d.comb += self.drain_out.eq(Mux(self.shown, totals[1], totals[0]))
        return m
''',
)

BY_TURNS = ArrayRewrite(
    5,
    """\
    def elaborate(self, platform):
        m = Module()
        # Columns leave through a register, one in two cycles, from a copy of the sums.
        taken, ends = Signal(), Signal()
        under_way = Signal(3)
        next_left, left, column = Signal(6), Signal(6), Signal(6)
        full = Signal()
        m.d.comb += [
            self.ready.eq(~self.last | ~(under_way.any() | left.any() | full)),
            taken.eq(self.valid & self.ready),
            ends.eq(taken & self.last),
            self.sums_valid.eq(full),
        ]
        m.d.sync += under_way.eq(Cat(ends, under_way[:-1]))
        with m.If(ends):
            m.d.sync += next_left.eq(self.wanted)
        with m.If(under_way[2]):
            m.d.sync += [left.eq(next_left), column.eq(0)]
        moves = Signal()
        m.d.comb += moves.eq(left.any() & ~full)
        with m.If(moves):
            m.d.sync += [full.eq(1), left.eq(left - 1), column.eq(column + 1)]
        with m.Elif(self.sums_ready):
            m.d.sync += full.eq(0)
        for row in range(self.rows):
            a = Signal.like(getattr(self, f"a_{row}"), name=f"activation_{row}")
            m.d.comb += a.eq(Mux(taken, getattr(self, f"a_{row}"), 0))
            sums = []
            for at in range(self.columns):
                element = Element(self.composable, self.bits)
                m.submodules[f"element_{row}_{at}"] = element
                m.d.comb += [
                    element.a.eq(a),
                    element.w.eq(getattr(self, f"w_{at}")),
                    element.capture.eq(under_way[1]),
                ]
                if self.composable:
                    m.d.comb += element.mode.eq(self.mode)
                sums.append(element.drain_out)
            leaving = Signal(signed(self.bits), name=f"leaving_{row}")
            with m.If(moves):
                m.d.sync += leaving.eq(Cat(*sums).word_select(column, self.bits).as_signed())
            m.d.comb += getattr(self, f"sum_{row}").eq(leaving)
        return m
""",
)

ARRAYS = {
    "sums in carry-save that are added up as they leave": CARRY_SAVE,
    "two sums an element that take turns": PING_PONG,
    "a column in two cycles, through a register": BY_TURNS,
}
"""What the gate must accept."""
