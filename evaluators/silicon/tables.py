"""The library's timing tables as arrays, for many look-ups at once.

A cell's arcs are unfolded into edges: (input pin, rise or fall) -> (output pin, rise or fall), each
with one pair of tables, delay and transition. Arcs under different conditions (`when`) stay edges
of their own.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.silicon.liberty import Arc, Cell, LibertyError, Library, Table

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RISE, FALL = 0, 1
"""Edges of a signal; the second index of every pair of figures."""


@dataclass(frozen=True)
class CellTiming:
    """Edges of one cell type. Pins are numbered in the order of the library."""

    inputs: tuple[str, ...]
    """Input pins, clocks included."""

    outputs: tuple[str, ...]
    """Output pins."""

    capacitance_f: Floats
    """[inputs, 2] load of each input, by edge."""

    limit_f: Floats
    """[outputs] largest load; infinite where the library sets none."""

    delays: Ints
    """[edges, 5]: input, its edge, output, its edge, table."""

    launches: Ints
    """[edges, 3]: output, its edge, table; from the rising clock."""

    setups: Ints
    """[checks, 3]: input, its edge, table; before the rising clock."""

    clocks: frozenset[str]
    """Clock pins."""


@dataclass(frozen=True)
class Tables:
    """All tables of a library, on one grid shape."""

    x: Floats
    """[tables, A] first axis."""

    y: Floats
    """[tables, B] second axis."""

    values: Floats
    """[tables, A, B, 2]: delay or setup, and transition, s."""

    cells: dict[str, CellTiming]
    """Edges by cell type."""

    def look_up(self, table: Ints, x: Floats, y: Floats) -> Floats:
        """Bilinear interpolation, linear beyond the ends: [n] tables and points to [n, 2]."""
        axis_x, axis_y = self.x[table], self.y[table]
        i = (x[:, None] >= axis_x[:, 1:-1]).sum(axis=1)
        j = (y[:, None] >= axis_y[:, 1:-1]).sum(axis=1)
        n = np.arange(len(table))
        x0, y0 = axis_x[n, i], axis_y[n, j]
        u = ((x - x0) / (axis_x[n, i + 1] - x0))[:, None]
        v = ((y - y0) / (axis_y[n, j + 1] - y0))[:, None]
        low = self.values[table, i, j] * (1 - v) + self.values[table, i, j + 1] * v
        high = self.values[table, i + 1, j] * (1 - v) + self.values[table, i + 1, j + 1] * v
        result: Floats = low * (1 - u) + high * u
        return result


def compile_tables(library: Library, cells: Iterable[str]) -> Tables:
    """The tables of the cells named.

    Raises:
        LibertyError: delay and transition of an arc have different axes.
    """
    stack = TableStack()
    timing = {name: _cell(library.cell(name), stack) for name in sorted(set(cells))}
    return Tables(*stack.arrays(), cells=timing)


class TableStack:
    """Collects tables, or pairs over the same axes; equal ones share a number."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[Table, Table | None], int] = {}

    def add(self, first: Table, second: Table | None = None) -> int:
        """The number of a table or pair."""
        if second is not None and (first.x, first.y) != (second.x, second.y):
            raise LibertyError("delay and transition of an arc are given over different axes")
        return self.numbers.setdefault((first, second), len(self.numbers))

    def tables(self) -> Tables:
        """All that was added, for look-ups; without cells."""
        return Tables(*self.arrays(), cells={})

    def arrays(self) -> tuple[Floats, Floats, Floats]:
        pairs = [_padded(first, second) for first, second in self.numbers]
        rows = max(2, *(len(x) for x, _, _ in pairs))
        columns = max(2, *(len(y) for _, y, _ in pairs))
        grown = [_grow(_grow(pair, 0, rows), 1, columns) for pair in pairs]
        return (
            np.stack([x for x, _, _ in grown]),
            np.stack([y for _, y, _ in grown]),
            np.stack([values for _, _, values in grown]),
        )


def _padded(first: Table, second: Table | None) -> tuple[Floats, Floats, Floats]:
    values = np.stack(
        [np.array(first.values), np.array((second or first).values)], axis=-1
    )  # [A, B, 2]
    return np.array(first.x), np.array(first.y), values


def _grow(
    pair: tuple[Floats, Floats, Floats], axis: int, length: int
) -> tuple[Floats, Floats, Floats]:
    """The same piecewise function with more points: they lie on the continued last piece."""
    axes, values = [pair[0], pair[1]], pair[2]
    while len(axes[axis]) < length:
        points = axes[axis]
        last = np.take(values, [-1], axis=axis)
        if len(points) == 1:  # a constant
            new, appended = points[-1:] + 1e-12, last
        else:
            new = 2 * points[-1:] - points[-2:-1]
            appended = 2 * last - np.take(values, [-2], axis=axis)
        axes[axis] = np.concatenate([points, new])
        values = np.concatenate([values, appended], axis=axis)
    return axes[0], axes[1], values


def _cell(cell: Cell, stack: TableStack) -> CellTiming:
    inputs = tuple(name for name, pin in cell.pins.items() if pin.direction == "input")
    outputs = tuple(name for name, pin in cell.pins.items() if pin.direction == "output")
    delays, launches, setups = [], [], []
    for key, alternatives in _alternatives(cell.arcs).items():
        kind, related, pin, edge_in, edge_out = key
        for first, second in dict.fromkeys(alternatives):
            number = stack.add(first, second)
            if kind == "combinational":
                delays.append(
                    (inputs.index(related), edge_in, outputs.index(pin), edge_out, number)
                )
            elif kind == "clock_to_output":
                launches.append((outputs.index(pin), edge_out, number))
            else:
                setups.append((inputs.index(pin), edge_out, number))
    limits = [cell.pins[name].max_capacitance_f for name in outputs]
    return CellTiming(
        inputs=inputs,
        outputs=outputs,
        capacitance_f=np.array(
            [[cell.pins[n].rise_capacitance_f, cell.pins[n].fall_capacitance_f] for n in inputs]
        ).reshape(-1, 2),
        limit_f=np.array([np.inf if limit is None else limit for limit in limits]),
        delays=np.array(delays, dtype=np.int64).reshape(-1, 5),
        launches=np.array(launches, dtype=np.int64).reshape(-1, 3),
        setups=np.array(setups, dtype=np.int64).reshape(-1, 3),
        clocks=frozenset(name for name in inputs if cell.pins[name].clock),
    )


_Key = tuple[str, str, str, int, int]
_Pair = tuple[Table, Table | None]


def _alternatives(arcs: tuple[Arc, ...]) -> dict[_Key, list[_Pair]]:
    """Pairs of tables by (kind, input, output, edge of the input, edge of the output)."""
    found: dict[_Key, list[_Pair]] = {}
    for arc in arcs:
        for edge_out, pair in (
            (RISE, (arc.rise, arc.rise_transition)),
            (FALL, (arc.fall, arc.fall_transition)),
        ):
            edges_in = {
                "positive_unate": (edge_out,),
                "negative_unate": (1 - edge_out,),
                "non_unate": (RISE, FALL),
            }[arc.sense]
            if arc.kind != "combinational":
                edges_in = (RISE,)  # the clock
            for edge_in in edges_in:
                key = (arc.kind, arc.related_pin, arc.pin, edge_in, edge_out)
                found.setdefault(key, []).append(pair)
    return found
