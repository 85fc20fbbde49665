"""Buffer trees on overloaded nets.

A net whose load is more than its driver may drive (the library's `max_capacitance`) gets a balanced
tree of one kind of buffer, as any placer would insert. Loads that are neighbours in the netlist
share a buffer. The same netlist always gets the same trees.
"""

import itertools

import numpy as np

from evaluators.silicon.liberty import Library
from evaluators.silicon.tables import CellTiming, Floats, Ints, Tables

CONSTANT = 0
"""The net of every constant: it never switches."""


class BufferTrees:
    """Trees of buffers on the nets that are loaded beyond their drivers' limit."""

    def __init__(
        self,
        library: Library,
        tables: Tables,
        pin_net: Ints,
        pin_load: Floats,
        limit: Floats,
        nets: int,
    ) -> None:
        self.buffer: CellTiming = tables.cells[library.roles.buffer]
        self.buffer_load_f = library.roles.buffer_load_f
        self.wire = library.wire_load
        self.pin_net = pin_net
        self.pin_load = pin_load
        self.limit = limit
        self.nets = nets
        self.added = 0
        self.rows: list[tuple[int, int]] = []
        self.moves: list[tuple[int, int]] = []

    def grow(self) -> None:
        self.weigh()
        over = np.flatnonzero(self.load_f.max(axis=1) > self.limit)
        over = over[over != CONSTANT]
        if len(over):
            order = np.argsort(self.pin_net, kind="stable")
            bounds = np.searchsorted(self.pin_net[order], np.stack([over, over + 1]))
            own = self.buffer.capacitance_f.max()
            for net, low, high in zip(over.tolist(), *bounds.tolist(), strict=True):
                pins = order[low:high].tolist()
                weights = self.pin_load[pins].max(axis=1).tolist()
                while self._total(weights) > self.limit[net] and len(pins) > 1:
                    groups = self._groups(weights)
                    if len(groups) == len(pins):
                        break  # each load alone fills a buffer: nothing to gain
                    pins = [self._buffer(net, [pins[k] for k in group]) for group in groups]
                    weights = [own] * len(pins)
            self._commit()
            self.weigh()

    def _total(self, weights: list[float]) -> float:
        return sum(weights) + self.wire.capacitance_f(len(weights))

    def _groups(self, weights: list[float]) -> list[list[int]]:
        """Neighbours in the netlist share a buffer, as far as its load goes; equal shares."""
        count = max(2, int(np.ceil(self._total(weights) / self.buffer_load_f)))
        count = min(count, len(weights))
        bounds = np.linspace(0, len(weights), count + 1).round().astype(int)
        return [list(range(a, b)) for a, b in itertools.pairwise(bounds) if b > a]

    def _buffer(self, net: int, pins: list[int]) -> int:
        """Adds a buffer between `net` and `pins`; returns its input pin."""
        for pin in pins:
            self.moves.append((pin, self.nets))
        pin = len(self.pin_net) + self.added
        self.moves.append((pin, net))
        self.rows.append((pin, self.nets))
        self.nets += 1
        self.added += 1
        return pin

    def _commit(self) -> None:
        grown = np.zeros(self.added, dtype=np.int64)
        self.pin_net = np.concatenate([self.pin_net, grown])
        self.pin_load = np.concatenate(
            [self.pin_load, np.tile(self.buffer.capacitance_f[0], (self.added, 1))]
        )
        for pin, net in self.moves:  # in order: a later move of a pin is the one that counts
            self.pin_net[pin] = net

    def weigh(self) -> None:
        """Adds up the load of each net: its pins, and wire by their number."""
        self.fanout = np.bincount(self.pin_net[self.pin_load.max(axis=1) > 0], minlength=self.nets)
        wire = np.array(
            [self.wire.capacitance_f(n) for n in range(int(self.fanout.max(initial=0)) + 1)]
        )
        self.load_f = np.stack(
            [
                np.bincount(self.pin_net, weights=self.pin_load[:, edge], minlength=self.nets)
                + wire[self.fanout]
                for edge in (0, 1)
            ],
            axis=1,
        )

    def delays(self) -> Ints:
        """Edges of the buffers, as rows of `Assembly.delays`; their cells are numbered -1, -2."""
        rows = [
            (pin, edge_in, net, edge_out, table, -1 - k)
            for k, (pin, net) in enumerate(self.rows)
            for _, edge_in, _, edge_out, table in self.buffer.delays.tolist()
        ]
        return np.array(rows, dtype=np.int64).reshape(-1, 6)
