"""One lane of the vector engine: the datapath of one token."""

from dataclasses import dataclass
from enum import IntEnum

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.cells import Cells
from hwlib.blocks.lane_results import FORM_BITS, LaneResults
from hwlib.reference.softmax import EMPTY
from hwlib.unit_latencies import UnitLatencies

LANE = "vector_lane"
"""Module name of a lane, which is elaborated once."""


class Left(IntEnum):
    """The left factor of the first product."""

    X = 0
    CENTRED = 1
    ACTIVATED = 2
    SECOND = 3
    ALIGNED = 4


class Right(IntEnum):
    """The right factor of the first product."""

    X = 0
    TWO = 1
    LANE = 2
    SECOND = 3
    COSINE = 4
    SINE = 5


class Fold(IntEnum):
    """What the first product is added to."""

    NOTHING = 0
    ADD = 1
    SUBTRACT = 2


CHOICE_BITS = 3
"""Width of a choice of factor."""

FOLD_BITS = 2
"""Width of a choice of fold."""

SUM_DELAY = 1
"""Cycles from the last operand of a sum to it."""


@dataclass(frozen=True)
class LaneDelays:
    """Cycles from `fire` or `score` to what follows, with units of some latencies.

    Attributes:
        extra: Of the operands before the first product, where the activation function takes more
            than a cycle.
        statistics: To what a channel adds to the sums of a norm.
        parameter: To the second product, when `multiplier` and `bias` must stand.
        out_shift: To the second shift, when `out_shift` must stand.
        result: To the int8 result.
        probability: From `score` to the probability.
    """

    extra: int
    statistics: int
    parameter: int
    out_shift: int
    result: int
    probability: int

    @classmethod
    def of(cls, units: UnitLatencies) -> "LaneDelays":
        """Those of a lane with units of these latencies."""
        extra = units.activation - 1
        return cls(extra, 3 + extra, 4 + extra, 5 + extra, 7 + extra, 1 + units.exponential)


class VectorLane(wiring.Component):
    """Latches for four operands, a product, a rounding shift, a second product and a second shift.

    `word` is latched where `latch_x` (x, g, x1, low half), `latch_second` (up, x2, high half),
    `latch_cosine` or `latch_sine` is high. `fire` starts what the latches hold: left * right,
    folded into the product before, then (P + 2^(shift-1)) >> shift saturated to int16, times
    `multiplier` plus `bias`, shifted by `out_shift` with `zero` added, saturated to int8, or with
    `narrow` to int4. Nothing stalls; `shift`, `lane_shift`, `zero` and `narrow` stand still during
    a command.

    For a norm `statistics` adds x and x^2 up. For a softmax `compare` and `score` take x as a
    score: the first keeps the maximum, the second gives a probability and adds it to the total.

    What a command needs once a lane comes with `set_up`: mean, factor and shift or, with `softmax`,
    maximum, total and alpha. `clear` empties these three and the statistics, and `load_maximum`,
    `load_low` and `load_high` take a saved state from `word`.

    Results and state leave by `data` (`hwlib.blocks.lane_results`).

    Args:
        composable: Whether there is `narrow`.
        cells: Makes the activation function and the exponential.
        latencies: Of both.
    """

    def __init__(self, composable: bool, cells: Cells, latencies: UnitLatencies) -> None:
        self.composable = composable
        self.cells = cells
        self.delays = LaneDelays.of(latencies)
        super().__init__(
            {
                "word": In(16),
                "latch_x": In(1),
                "latch_second": In(1),
                "latch_cosine": In(1),
                "latch_sine": In(1),
                "silu": In(1),
                "fire": In(1),
                "left": In(CHOICE_BITS),
                "right": In(CHOICE_BITS),
                "fold": In(FOLD_BITS),
                "lane_shift": In(1),
                "shift": In(6),
                "multiplier": In(signed(17)),
                "bias": In(signed(32)),
                "out_shift": In(6),
                "zero": In(signed(8)),
                **({"narrow": In(1)} if composable else {}),
                "clear": In(1),
                "statistics": In(1),
                "compare": In(1),
                "score": In(1),
                "sees": In(1),
                "softmax": In(1),
                "set_up": In(1),
                "load_maximum": In(1),
                "load_low": In(1),
                "load_high": In(1),
                "mean": In(signed(22)),
                "factor": In(16),
                "own_shift": In(6),
                "maximum": In(signed(16)),
                "total": In(32),
                "alpha": In(5),
                "result": In(1),
                "even": In(1),
                "second": In(1),
                "alone": In(1),
                "form": In(FORM_BITS),
                "x_sum": Out(signed(28)),
                "x_squares": Out(42),
                "best": Out(signed(16)),
                "seen": Out(1),
                "maximum_now": Out(signed(16)),
                "total_now": Out(32),
                "data": Out(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        x, second = Signal(signed(16)), Signal(signed(16))
        cosine, sine = Signal(signed(16)), Signal(signed(16))
        for latch, enable in (
            (x, self.latch_x),
            (second, self.latch_second),
            (cosine, self.latch_cosine),
            (sine, self.latch_sine),
        ):
            with m.If(enable):
                m.d.sync += latch.eq(self.word)
        m.submodules.results = self.results = LaneResults(self.composable)
        self._products(m, x, second, cosine, sine)
        self._softmax(m, x)
        self._state(m)
        # Sum of two int16.
        total, sum16 = Signal(signed(17)), Signal(signed(16))
        m.d.comb += total.eq(x + second)
        m.d.sync += sum16.eq(_clipped(total, 16))
        m.d.comb += [
            self.results.sum16.eq(sum16),
            self.results.maximum.eq(self.maximum_now),
            self.results.total.eq(self.total_now),
            self.results.softmax.eq(self.softmax),
            self.results.result.eq(self.result),
            self.results.even.eq(self.even),
            self.results.second.eq(self.second),
            self.results.alone.eq(self.alone),
            self.results.form.eq(self.form),
            self.data.eq(self.results.data),
        ]
        return m

    def _products(self, m: Module, x: Signal, second: Signal, cosine: Signal, sine: Signal) -> None:
        """From the latches to the result of the second shift."""
        activated = Signal(signed(16))
        m.submodules.activation = self.cells(
            "activation", {"x": x, "silu": self.silu}, {"y": activated}
        )
        # What goes beside the activation function waits for it.
        extra = self.delays.extra
        x, second = _later(m, x, extra, "x"), _later(m, second, extra, "second")
        cosine, sine = _later(m, cosine, extra, "cosine"), _later(m, sine, extra, "sine")
        choices = Cat(self.fire, self.left, self.right, self.fold)
        late_choices = _later(m, choices, extra, "choices")
        fire = late_choices[0]
        left_choice = late_choices[1 : 1 + CHOICE_BITS]
        right_choice = late_choices[1 + CHOICE_BITS : 1 + 2 * CHOICE_BITS]
        fold_choice = late_choices[1 + 2 * CHOICE_BITS :]
        mean, factor, own_shift = Signal(signed(22)), Signal(16), Signal(6)
        with m.If(self.set_up & ~self.softmax):
            m.d.sync += [mean.eq(self.mean), factor.eq(self.factor), own_shift.eq(self.own_shift)]

        # An int32 over a total: 12 bits up and then down by the lane's shift, 0 to 31.
        wide, aligned = Signal(signed(44)), Signal(signed(44))
        clipped = Signal(signed(23))
        m.d.comb += [
            wide.eq(Cat(x, second).as_signed() << 12),
            aligned.eq(wide >> own_shift[:5]),
            clipped.eq(_clipped(aligned, 23)),
        ]
        left, right = Signal(signed(23)), Signal(signed(17))
        fold = Signal(FOLD_BITS)
        with m.If(fire):
            m.d.sync += fold.eq(fold_choice)
            with m.Switch(left_choice):
                for choice, value in (
                    (Left.X, x),
                    (Left.CENTRED, (x << 4) - mean),
                    (Left.ACTIVATED, activated),
                    (Left.SECOND, second),
                    (Left.ALIGNED, clipped),
                ):
                    with m.Case(choice):
                        m.d.sync += left.eq(value)
            with m.Switch(right_choice):
                for factor_choice, value in (
                    (Right.X, x),
                    (Right.TWO, 2),
                    (Right.LANE, factor),
                    (Right.SECOND, second),
                    (Right.COSINE, cosine),
                    (Right.SINE, sine),
                ):
                    with m.Case(factor_choice):
                        m.d.sync += right.eq(value)

        product, folded = Signal(signed(40)), Signal(signed(41))
        m.d.comb += product.eq(left * right)
        with m.Switch(fold):
            with m.Case(Fold.NOTHING):
                m.d.sync += folded.eq(product)
            with m.Case(Fold.ADD):
                m.d.sync += folded.eq(folded + product)
            with m.Case(Fold.SUBTRACT):
                m.d.sync += folded.eq(folded - product)

        # Statistics of a norm: x and its square, two cycles after `fire`.
        counted = Signal(2)
        m.d.sync += counted.eq(Cat(fire & self.statistics, counted[0]))
        with m.If(self.clear):
            m.d.sync += [self.x_sum.eq(0), self.x_squares.eq(0)]
        with m.Else():
            with m.If(counted[0]):
                m.d.sync += self.x_sum.eq(self.x_sum + left)
            with m.If(counted[1]):
                m.d.sync += self.x_squares.eq(self.x_squares + folded[:32])

        amount = Signal(6)
        shifted, rounded = Signal(signed(41)), Signal(signed(41))
        z = Signal(signed(16))
        m.d.comb += rounded.eq((shifted + 1) >> 1)
        m.d.sync += [
            amount.eq(Mux(self.lane_shift, own_shift, self.shift) - 1),
            shifted.eq(folded >> amount),
            z.eq(_clipped(rounded, 16)),
        ]

        scaled, narrowed, result = Signal(signed(34)), Signal(signed(34)), Signal(signed(34))
        m.d.comb += result.eq(((narrowed + 1) >> 1) + self.zero)
        m.d.sync += [
            scaled.eq(z * self.multiplier + self.bias),
            narrowed.eq(scaled >> (self.out_shift - 1)[:6]),
        ]
        y, clipped8 = Signal(8), _clipped(result, 8)
        m.d.sync += y.eq(
            Mux(self.narrow, _clipped(result, 4), clipped8) if self.composable else clipped8
        )
        m.d.comb += self.results.y.eq(y)

    def _softmax(self, m: Module, x: Signal) -> None:
        """The greatest score seen, and the probability of a score."""
        with m.If(self.clear):
            m.d.sync += self.seen.eq(0)
        with m.Elif(self.compare & self.sees):
            m.d.sync += self.seen.eq(1)
            with m.If(~self.seen | (x > self.best)):
                m.d.sync += self.best.eq(x)

        distance = Signal(signed(22))
        fraction, octave = Signal(5), Signal(4)
        visible = Signal(self.delays.probability)
        value = Signal(7)
        m.d.comb += distance.eq((self.maximum_now << 5) - x)
        m.d.sync += [
            fraction.eq(distance[:5]),
            octave.eq(Mux(distance[9:].any(), 15, distance[5:9])),
            visible.eq(Cat(self.sees, visible[:-1])),
        ]
        m.submodules.exponential = self.cells(
            "exponential", {"fraction": fraction, "octave": octave}, {"value": value}
        )
        m.d.comb += self.results.probability.eq(Mux(visible[-1], value, 0))

    def _state(self, m: Module) -> None:
        """A softmax's state: running maximum, running total, and the last alpha."""
        scored = Signal(self.delays.probability)
        m.d.sync += scored.eq(Cat(self.score, scored[:-1]))
        with m.If(self.clear):
            m.d.sync += [self.maximum_now.eq(EMPTY), self.total_now.eq(0)]
        with m.Elif(self.set_up & self.softmax):
            m.d.sync += [self.maximum_now.eq(self.maximum), self.total_now.eq(self.total)]
        with m.Elif(scored[-1]):
            m.d.sync += self.total_now.eq(self.total_now + self.results.probability)
        for load, target in (
            (self.load_maximum, self.maximum_now),
            (self.load_low, self.total_now[:16]),
            (self.load_high, self.total_now[16:]),
        ):
            with m.If(load):
                m.d.sync += target.eq(self.word)
        alpha = Signal(5)
        with m.If(self.set_up):
            m.d.sync += alpha.eq(self.alpha)
        m.d.comb += self.results.alpha.eq(alpha)


def _later(m: Module, value: Value, cycles: int, name: str) -> Value:
    """`value` after so many cycles."""
    for stage in range(cycles):
        shape = signed(len(value)) if value.shape().signed else len(value)
        register = Signal(shape, name=f"{name}_later_{stage}")
        m.d.sync += register.eq(value)
        value = register
    return value


def _clipped(value: Signal, bits: int) -> Signal:
    """`value` saturated to two's complement of `bits` bits, signed."""
    sign = value[-1]
    fits = (value[bits - 1 :] == 0) | value[bits - 1 :].all()
    return Mux(fits, value[:bits], Cat((~sign).replicate(bits - 1), sign)).as_signed()
