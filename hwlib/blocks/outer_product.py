"""The array: every element takes one operand of its row and one of its column in each cycle."""

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.cells import Cells
from hwlib.config import CoreConfig

MODE_BITS = 2
"""Width of a composable element's mode."""

GRID_ROW = "grid_row"
"""Module name of a row, which is elaborated once and instantiated for each row."""


def operand_bits(composable: bool) -> tuple[int, int]:
    """Bits of an activation and of a weight as they come to an element."""
    return (16, 16) if composable else (9, 8)


class OuterProductArray(wiring.Component):
    """Rows times columns of elements that all work in step.

    Operands are broadcast along rows and columns and registered in the elements, so nothing is
    skewed: a tile of depth K takes K cycles whatever its size, its sums leave one column a cycle,
    and the next tile's products go on meanwhile. (A systolic array pays skew registers at its
    edges, de-skew at its end and a fill of rows + columns cycles for wires that are shorter.)

    Composable elements (`hwlib.units.composable_mac`) take a `mode` with the operands.

    With `capture` the sums of everything so far go to the drain registers; with `shift` these move
    one column to the left. `sums` is column 0.

    Args:
        config: The core's knobs.
        cells: Makes the rows.
    """

    def __init__(self, config: CoreConfig, cells: Cells) -> None:
        self.rows = config.rows
        self.composable = config.composable
        self.cells = cells
        self.activation_bits, self.weight_bits = operand_bits(config.composable)
        super().__init__(
            {
                "activations": In(self.activation_bits * config.rows),
                "weights": In(self.weight_bits * config.columns),
                **({"mode": In(MODE_BITS)} if config.composable else {}),
                "capture": In(1),
                "shift": In(1),
                "sums": Out(32 * config.rows),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for row in range(self.rows):
            m.submodules[f"row_{row}"] = self.cells(
                GRID_ROW,
                {
                    "activation": self.activations.word_select(row, self.activation_bits),
                    "weights": self.weights,
                    **({"mode": self.mode} if self.composable else {}),
                    "capture": self.capture,
                    "shift": self.shift,
                },
                {"total": self.sums.word_select(row, 32)},
            )
        return m


class GridRow(wiring.Component):
    """One row of elements: an activation for all, a weight for each, sums out at the left.

    Args:
        columns: Elements of the row.
        composable: Whether they are `composable_mac`; else `mac`.
        cells: Makes the elements.
    """

    def __init__(self, columns: int, composable: bool, cells: Cells) -> None:
        self.columns = columns
        self.composable = composable
        self.cells = cells
        activation_bits, self.weight_bits = operand_bits(composable)
        super().__init__(
            {
                "activation": In(activation_bits),
                "weights": In(self.weight_bits * columns),
                **({"mode": In(MODE_BITS)} if composable else {}),
                "capture": In(1),
                "shift": In(1),
                "total": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        element = "composable_mac" if self.composable else "mac"
        totals = [Signal(signed(32), name=f"total_{c}") for c in range(self.columns)]
        for column, total in enumerate(totals):
            right: Value = totals[column + 1] if column + 1 < self.columns else Signal(32)
            m.submodules[f"mac_{column}"] = self.cells(
                element,
                {
                    "a": self.activation,
                    "w": self.weights.word_select(column, self.weight_bits),
                    **({"mode": self.mode} if self.composable else {}),
                    "capture": self.capture,
                    "shift": self.shift,
                    "drain_in": right,
                },
                {"drain_out": total},
            )
        m.d.comb += self.total.eq(totals[0])
        return m
