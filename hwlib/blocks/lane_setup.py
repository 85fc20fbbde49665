"""What a vector command works out once for each lane, between its passes."""

from enum import IntEnum

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.cells import Cells
from hwlib.reference.softmax import ALPHA_MAX, EMPTY
from hwlib.unit_latencies import UnitLatencies


class Setup(IntEnum):
    """Which command it works for."""

    NORM = 0
    DIVIDE = 1
    SOFTMAX = 2


ALIGN = 12
"""Shift of an aligned sum is counted from this many bits up."""


class LaneSetup(wiring.Component):
    """Takes the lanes one by one through one multiplier, one normaliser and the two table units.

    `start` begins with the lane that stands at the inputs; `done` is high for one cycle when the
    results stand at the outputs, until the next `start`. With tables of a latency of 2 a norm
    takes 14 cycles a lane, a division 7, a softmax 6.

    Args:
        cells: Makes the inverse square root and the reciprocal.
        latencies: Of both.
    """

    def __init__(self, cells: Cells, latencies: UnitLatencies) -> None:
        self.cells = cells
        self.latencies = latencies
        super().__init__(
            {
                "start": In(1),
                "kind": In(2),
                # Of the command.
                "count": In(16),
                "multiplier": In(16),
                "mean_shift": In(6),
                "epsilon": In(32),
                "base": In(signed(6)),
                "centred": In(1),
                # Of the lane.
                "x_sum": In(signed(28)),
                "x_squares": In(42),
                "best": In(signed(16)),
                "seen": In(1),
                "maximum_now": In(signed(16)),
                "total_now": In(32),
                # Results.
                "done": Out(1),
                "mean": Out(signed(22)),
                "factor": Out(16),
                "own_shift": Out(6),
                "maximum": Out(signed(16)),
                "total": Out(32),
                "alpha": Out(5),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self.x_total, self.squares = Signal(signed(28)), Signal(42)
        self.sum_held, self.best_held = Signal(32), Signal(signed(16))
        self.seen_held, self.maximum_held = Signal(), Signal(signed(16))
        # A product takes three cycles, one may begin in each.
        self.a, self.b, self.product = Signal(signed(28)), Signal(signed(28)), Signal(signed(56))
        low, high = Signal(signed(43)), Signal(signed(42))
        m.d.sync += [
            low.eq(self.a * self.b[:14]),
            high.eq(self.a * self.b[14:].as_signed()),
            self.product.eq(low + (high << 14)),
        ]
        self.wide, self.mantissa, self.bits = Signal(signed(58)), Signal(16), Signal(6)
        root, inverse = Signal(16), Signal(16)
        m.submodules.root = self.cells("inverse_sqrt", {"v": self.mantissa}, {"r": root})
        m.submodules.inverse = self.cells("reciprocal", {"v": self.mantissa}, {"r": inverse})
        m.d.sync += self.bits.eq(_bit_length(self.wide))

        table_left = Signal(2)
        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [
                    self.x_total.eq(Mux(self.centred, self.x_sum, 0)),
                    self.squares.eq(self.x_squares),
                    self.wide.eq(self.total_now),
                    self.sum_held.eq(self.total_now),
                    self.best_held.eq(self.best),
                    self.seen_held.eq(self.seen),
                    self.maximum_held.eq(self.maximum_now),
                ]
                with m.Switch(self.kind):
                    with m.Case(Setup.NORM):
                        m.next = "MEAN"
                    with m.Case(Setup.DIVIDE):
                        m.next = "BITS"
                    with m.Case(Setup.SOFTMAX):
                        m.next = "OCTAVES"
            self._norm(m)
            with m.State("BITS"):
                m.next = "MANTISSA"
            with m.State("MANTISSA"):
                self._mantissa(m)
                tables = (self.latencies.inverse_sqrt, self.latencies.reciprocal)
                m.d.sync += table_left.eq(Mux(self.kind == Setup.NORM, tables[0], tables[1]) - 1)
                m.next = "TABLE"
            with m.State("TABLE"):
                m.d.sync += table_left.eq(table_left - 1)
                with m.If(table_left == 0):
                    m.next = "FACTOR"
            with m.State("FACTOR"):
                empty = self.sum_held == 0
                m.d.sync += self.factor.eq(
                    Mux(self.kind == Setup.NORM, root, Mux(empty, 0, inverse))
                )
                m.next = "DONE"
            self._softmax(m)
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
                m.next = "IDLE"
        return m

    def _norm(self, m: Module) -> None:
        """mean = round(x_sum * multiplier >> mean_shift); wide = the variance times count^2."""
        shifted = Signal(signed(56))
        steps: list[tuple[str, list[object]]] = [
            ("MEAN", [self.a.eq(self.x_total), self.b.eq(Cat(self.multiplier, Const(0, 1)))]),
            ("SQUARE", [self.a.eq(self.x_total), self.b.eq(self.x_total)]),
            ("LOW", [self.a.eq(self.count), self.b.eq(self.squares[:21])]),
            (
                "HIGH",
                [
                    self.b.eq(self.squares[21:]),
                    shifted.eq(self.product >> (self.mean_shift - 1)[:6]),
                ],
            ),
            (
                "LESS_SQUARE",
                [self.mean.eq((shifted + 1) >> 1), self.wide.eq(self.epsilon - self.product)],
            ),
            ("PLUS_LOW", [self.wide.eq(self.wide + self.product)]),
            ("PLUS_HIGH", [self.wide.eq(self.wide + (self.product << 21))]),
        ]
        following = [name for name, _ in steps[1:]] + ["BITS"]
        for (name, assignments), after in zip(steps, following, strict=True):
            with m.State(name):
                m.d.sync += assignments
                m.next = after

    def _mantissa(self, m: Module) -> None:
        """16 bits of `wide` from its top one, and the shift that goes with them.

        For a norm the mantissa has 15 or 16 bits, so that an even number of bits is left out.
        """
        norm = self.kind == Setup.NORM
        half_bits = Signal(6)
        m.d.comb += half_bits.eq((self.bits + 1) >> 1)
        top = Mux(norm, half_bits << 1, self.bits)
        # wide * 2^16 >> top, which is a shift to either side.
        m.d.sync += self.mantissa.eq((Cat(Const(0, 16), self.wide) >> top)[:16])
        shift, aligned = Signal(signed(8)), Signal(signed(8))
        m.d.comb += [shift.eq(self.base + half_bits), aligned.eq(self.bits - 16 + 3 + ALIGN)]
        m.d.sync += self.own_shift.eq(
            Mux(norm, Mux(shift < 1, 1, shift), Mux(aligned < 0, 0, aligned))
        )

    def _softmax(self, m: Module) -> None:
        """The new maximum, the shift for what came before it, and the total so shifted."""
        octaves, rise = Signal(signed(16)), Signal(signed(17))
        fresh = self.maximum_held == EMPTY
        with m.State("OCTAVES"):
            m.d.sync += octaves.eq((self.best_held + 31) >> 5)
            m.next = "MAXIMUM"
        with m.State("MAXIMUM"):
            higher = self.seen_held & (octaves > self.maximum_held)
            m.d.sync += [
                self.maximum.eq(Mux(higher, octaves, self.maximum_held)),
                rise.eq(Mux(higher, octaves - self.maximum_held, 0)),
            ]
            m.next = "ALPHA"
        with m.State("ALPHA"):
            m.d.sync += self.alpha.eq(Mux(fresh, 0, Mux(rise > ALPHA_MAX, ALPHA_MAX, rise)))
            m.next = "TOTAL"
        with m.State("TOTAL"):
            m.d.sync += self.total.eq(self.sum_held >> self.alpha)
            m.next = "DONE"


def _bit_length(value: Signal) -> Value:
    """Bits of a value that is not negative."""
    length: Value = Const(0, 6)
    for at in range(len(value) - 1):
        length = Mux(value[at], at + 1, length)
    return length
