"""The output-stationary systolic array with its skew registers."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.cells import Cells
from hwlib.config import AcceleratorConfig

ROW = "systolic_row"
"""Module name of a row, which is elaborated once and instantiated for each row."""


class SystolicArray(wiring.Component):
    """Rows times columns of elements; activations go right, weights and sums go down.

    A pair of words with `valid` high enters in one cycle; without it zeros enter, which leaves
    every sum as it is. Word k reaches the element in row r and column c after 1 + r + c cycles.
    While `shift` is high the sums move down one row a cycle, the bottom row is at `sums`, and
    zeros follow from the top. No back-pressure: the sequencer keeps the schedule.

    Args:
        config: The core's knobs.
        cells: Makes the rows.
    """

    def __init__(self, config: AcceleratorConfig, cells: Cells) -> None:
        self.rows = config.array.rows
        self.columns = config.array.columns
        self.cells = cells
        super().__init__(
            {
                "valid": In(1),
                "activations": In(8 * self.rows),
                "weights": In(8 * self.columns),
                "shift": In(1),
                "sums": Out(32 * self.columns),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        weights: Value = Cat(
            self._skewed(m, f"weight_{column}", self.weights.word_select(column, 8), 1 + column)
            for column in range(self.columns)
        )
        sums: Value = Const(0, 32 * self.columns)
        for row in range(self.rows):
            activation = self.activations.word_select(row, 8)
            w_out = Signal(8 * self.columns, name=f"w_{row}")
            acc_out = Signal(32 * self.columns, name=f"acc_{row}")
            m.submodules[f"row_{row}"] = self.cells(
                ROW,
                {
                    "a_in": self._skewed(m, f"activation_{row}", activation, 1 + row),
                    "w_in": weights,
                    "acc_in": sums,
                    "shift": self.shift,
                },
                {"w_out": w_out, "acc_out": acc_out},
            )
            weights, sums = w_out, acc_out
        m.d.comb += self.sums.eq(sums)
        return m

    def _skewed(self, m: Module, name: str, value: Value, delay: int) -> Value:
        """`value` where valid, else 0, after `delay` cycles."""
        stage: Value = Mux(self.valid, value, 0)
        for index in range(delay):
            register = Signal(8, name=f"{name}_{index}")
            m.d.sync += register.eq(stage)
            stage = register
        return stage


class SystolicRow(wiring.Component):
    """One row of elements.

    The operand of activations goes through from left to right; operands of weights and sums, one
    a column, come from the row above and go to the row below.

    Args:
        columns: Elements of the row.
        cells: Makes the elements.
    """

    def __init__(self, columns: int, cells: Cells) -> None:
        self.columns = columns
        self.cells = cells
        super().__init__(
            {
                "a_in": In(8),
                "w_in": In(8 * columns),
                "acc_in": In(32 * columns),
                "shift": In(1),
                "w_out": Out(8 * columns),
                "acc_out": Out(32 * columns),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        passing: Value = self.a_in
        for column in range(self.columns):
            a_out = Signal(signed(8), name=f"a_{column}")
            m.submodules[f"element_{column}"] = self.cells(
                "element",
                {
                    "a_in": passing,
                    "w_in": self.w_in.word_select(column, 8),
                    "acc_in": self.acc_in.word_select(column, 32),
                    "shift": self.shift,
                },
                {
                    "a_out": a_out,
                    "w_out": self.w_out.word_select(column, 8),
                    "acc_out": self.acc_out.word_select(column, 32),
                },
            )
            passing = a_out
        return m
