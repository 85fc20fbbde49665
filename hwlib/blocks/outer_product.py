"""The array: every element takes one operand of its row and one of its column in each cycle."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwlib.blocks.cells import Cells

MODE_BITS = 2
"""Width of a composable element's mode."""

COUNT_BITS = 6
"""Width of a number of columns."""

ARRAY = "array"
"""Module name of the array, which a unit of that name can replace as a whole."""

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

    Ports and protocol are those of `hwlib.contracts.array`. A tile's last operands wait until the
    columns of the tile before are taken. The sums then go to the drain registers, and a cycle
    later, when an element must have them whole, the first column is there.

    Args:
        rows: Rows of elements.
        columns: Elements of a row.
        composable: Whether they are `composable_mac`; else `mac`.
        element_latency: Cycles from an element's operands to its sum.
        cells: Makes the rows.
    """

    def __init__(
        self, rows: int, columns: int, composable: bool, element_latency: int, cells: Cells
    ) -> None:
        self.rows = rows
        self.columns = columns
        self.composable = composable
        self.cells = cells
        self.element_latency = element_latency
        activation_bits, weight_bits = operand_bits(composable)
        super().__init__(
            {
                **{f"a_{row}": In(activation_bits) for row in range(rows)},
                **{f"w_{column}": In(weight_bits) for column in range(columns)},
                **({"mode": In(MODE_BITS)} if composable else {}),
                "valid": In(1),
                "last": In(1),
                "wanted": In(COUNT_BITS),
                "ready": Out(1),
                **{f"sum_{row}": Out(signed(32)) for row in range(rows)},
                "sums_valid": Out(1),
                "sums_ready": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        taken, ends, capture, settled, shift = (Signal() for _ in range(5))
        under_way = Signal(self.element_latency)
        next_left, left = Signal(COUNT_BITS), Signal(COUNT_BITS)
        m.d.comb += [
            self.ready.eq(~self.last | ~(under_way.any() | settled | left.any())),
            taken.eq(self.valid & self.ready),
            ends.eq(taken & self.last),
            capture.eq(under_way[-1]),
            self.sums_valid.eq(left.any()),
            shift.eq(self.sums_valid & self.sums_ready),
        ]
        m.d.sync += [under_way.eq(Cat(ends, under_way[:-1])), settled.eq(capture)]
        with m.If(ends):
            m.d.sync += next_left.eq(self.wanted)
        with m.If(settled):
            m.d.sync += left.eq(next_left)
        with m.Elif(shift):
            m.d.sync += left.eq(left - 1)
        weights = Cat(*(getattr(self, f"w_{column}") for column in range(self.columns)))
        for row in range(self.rows):
            m.submodules[f"row_{row}"] = self.cells(
                GRID_ROW,
                {
                    # Zeros leave every sum as it is.
                    "activation": Mux(taken, getattr(self, f"a_{row}"), 0),
                    "weights": weights,
                    **({"mode": self.mode} if self.composable else {}),
                    "capture": capture,
                    "shift": shift,
                },
                {"total": getattr(self, f"sum_{row}")},
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
