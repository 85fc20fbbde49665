"""The assembled core: a mapped design with every instance laid out flat, global nets buffered.

Each distinct module is turned into arrays once; its instances are copies with other net numbers.
So the cost of a 16 x 16 array is that of copying, and paths that cross module boundaries are there
as they are. A net whose load is more than its driver may drive (the library's `max_capacitance`)
gets a balanced tree of buffers, as any placer would insert; their area counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from evaluators.silicon.buffering import CONSTANT, BufferTrees
from evaluators.silicon.liberty import Library
from evaluators.silicon.memory import DEFAULT_FLAVOUR, SramFlavour, SramMacro, sram_macro
from evaluators.silicon.synthesis import Bit, CellGroup, MappedModule, Synthesis
from evaluators.silicon.tables import Floats, Ints, Tables, compile_tables

PORT_LOAD_F = 10e-15
"""Load on each output port of the core."""

OPEN = -1
"""In place of a net: an output pin that is not connected."""


class AssemblyError(ValueError):
    """A netlist that is not a circuit: two drivers on a net, or an instance without a port."""


@dataclass(frozen=True)
class Assembly:
    """A flat netlist. `pins` are inputs of cells; a vertex is 2 * net + edge (0 rise, 1 fall)."""

    tables: Tables
    """Timing tables of the cells used."""

    nets: int
    """Number of nets; net 0 is every constant."""

    cell_type: Ints
    """[cells] index into `type_names`."""

    type_names: tuple[str, ...]
    """Cell types: library cells and macros."""

    pin_net: Ints
    """[pins] net that drives it."""

    load_f: Floats
    """[nets, 2] load by edge of the net: pins and wire."""

    fanout: Ints
    """[nets] number of loads."""

    delays: Ints
    """[n, 6]: pin, its edge, net, its edge, table, cell."""

    launches: Ints
    """[n, 4]: net, edge, table, cell; from the rising clock."""

    setups: Ints
    """[n, 4]: pin, edge, table, cell; before the rising clock."""

    macro_launches: Ints
    """[n, 2]: net, cell; outputs of SRAM macros."""

    macro_access_s: Floats
    """[n] access time behind each of `macro_launches`."""

    inputs: Ints
    """Nets of the input ports, clocks left out."""

    outputs: Ints
    """Nets of the output ports."""

    names: "Names"
    """Where each cell stands."""

    instance_nets: tuple[Ints, ...]
    """For each of `names.instances`, [nets of its module]: the net here, by its number there."""

    buffer_cell: str
    """The library's cell that is inserted on overloaded nets, and taken to drive what macros
    give."""

    buffers: int
    """How many were inserted."""

    buffer_area_um2: float
    """Their area."""

    macros: dict[str, SramMacro]
    """SRAM macros by module name."""

    macro_area_um2: float
    """Area of all macros."""


@dataclass(frozen=True)
class Names:
    """Names of cells, spelt out only where someone asks."""

    starts: list[int]
    """First cell of each instance, ascending."""

    instances: list[tuple[str, str]]
    """Hierarchical name and module of each instance."""

    local: dict[str, tuple[str, ...]]
    """Names of the cells of each module."""

    def of(self, cell: int) -> tuple[str, str, str]:
        """Instance, module and name of a cell; `("", "buffers", ...)` for an inserted buffer."""
        if cell < 0:
            return "", "buffers", f"buffer {-cell}"
        k = int(np.searchsorted(self.starts, cell, side="right")) - 1
        instance, module = self.instances[k]
        return instance, module, self.local[module][cell - self.starts[k]]


def assemble(
    synthesis: Synthesis,
    library: Library,
    flavour: SramFlavour = DEFAULT_FLAVOUR,
    port_load_f: float = PORT_LOAD_F,
    buffered: bool = True,
) -> Assembly:
    """Lays the design out flat and buffers its overloaded nets.

    Args:
        synthesis: the mapped design.
        library: its cells.
        flavour: device flavour of its SRAM macros.
        port_load_f: load on each output port.
        buffered: whether overloaded nets get buffers; without, the netlist stays as it is given,
            to be compared with another tool.

    Raises:
        AssemblyError: a net has two drivers, or an instance lacks a port.
        SramError: a macro is larger than the table's largest.
    """
    return _Builder(synthesis, library, flavour).build(port_load_f, buffered)


@dataclass
class _Template:
    """One distinct module as arrays of its own net numbers; 0 is the constant."""

    nets: int
    ports: dict[str, Ints]
    pin_net: Ints
    pin_load: Floats
    drivers: Ints  # [n]: net
    limits: Floats  # [n]
    cell_type: Ints
    delays: Ints
    launches: Ints
    setups: Ints
    instances: list[tuple[str, str, dict[str, Ints]]] = field(default_factory=list)


def _rows(*columns: Ints) -> Ints:
    """Columns that broadcast to [cells, edges], as rows [cells * edges, columns]."""
    return np.stack([part.ravel() for part in np.broadcast_arrays(*columns)], axis=1)


def _numbers(bits: Sequence[Bit]) -> Ints:
    """Nets by number; every constant is net 0."""
    return np.array([CONSTANT if isinstance(bit, str) else bit for bit in bits], dtype=np.int64)


class _Builder:
    def __init__(self, synthesis: Synthesis, library: Library, flavour: SramFlavour) -> None:
        self.synthesis = synthesis
        self.library = library
        used = {group.type for m in synthesis.modules.values() for group in m.groups}
        roles = self.roles = library.roles
        self.tables = compile_tables(library, used | {roles.buffer, roles.driver, roles.flip_flop})
        self.macros = {name: sram_macro(name, flavour) for name in sorted(synthesis.macros)}
        self.types = [*self.tables.cells, *self.macros]
        self.type_index = {name: k for k, name in enumerate(self.types)}
        self.templates = {name: self._template(m) for name, m in synthesis.modules.items()}
        self.templates |= {name: self._macro_template(name) for name in self.macros}
        self.starts: list[int] = []
        self.instances: list[tuple[str, str]] = []
        self.parts: list[tuple[_Template, Ints, int, int]] = []
        self.aliases: list[tuple[int, int]] = []
        self.macro_outputs: list[tuple[Ints, int, str]] = []
        self.nets = 1
        self.pins = 0
        self.cells = 0

    # ---- templates ----

    def _template(self, module: MappedModule) -> _Template:
        ports = {port.name: _numbers(port.bits) for port in module.ports}
        instances = [
            (cell.name, cell.type, {pin: _numbers(b) for pin, b in cell.connections.items()})
            for cell in module.instances
        ]
        columns = [
            {pin: _numbers(nets) for pin, nets in group.nets.items()} for group in module.groups
        ]
        inputs = np.zeros(len(module.cell_names), dtype=np.int64)
        for group, nets in zip(module.groups, columns, strict=True):
            timing = self.tables.cells[group.type]
            inputs[list(group.at)] = len(timing.inputs)
            if missing := set(timing.inputs) - set(nets):
                name = module.cell_names[group.at[0]]
                raise AssemblyError(f"{module.name}: pin {min(missing)} of {name} is open")
        pins = int(inputs.sum())
        used = [ports, *columns, *(connections for _, _, connections in instances)]
        highest = [nets.max(initial=0) for named in used for nets in named.values()]
        template = _Template(
            nets=int(max(highest, default=0)) + 1,
            ports=ports,
            pin_net=np.zeros(pins, dtype=np.int64),
            pin_load=np.zeros((pins, 2)),
            drivers=np.zeros(0, dtype=np.int64),
            limits=np.zeros(0),
            cell_type=np.zeros(len(module.cell_names), dtype=np.int64),
            delays=np.zeros((0, 6), dtype=np.int64),
            launches=np.zeros((0, 4), dtype=np.int64),
            setups=np.zeros((0, 4), dtype=np.int64),
            instances=instances,
        )
        self._fill(template, module.groups, columns, np.cumsum(inputs) - inputs)
        return template

    def _fill(
        self,
        template: _Template,
        groups: tuple[CellGroup, ...],
        columns: list[dict[str, Ints]],
        first_pin: Ints,
    ) -> None:
        """Unfolds the edges of all cells, group by group."""
        drivers, limits = [template.drivers], [template.limits]
        delays, launches, setups = [template.delays], [template.launches], [template.setups]
        for group, nets in zip(groups, columns, strict=True):
            timing = self.tables.cells[group.type]
            cell = np.array(group.at)[:, None]
            first = first_pin[cell]
            open_pin = np.full(len(cell), OPEN)
            outputs = np.stack([nets.get(name, open_pin) for name in timing.outputs], axis=1)
            template.cell_type[cell[:, 0]] = self.type_index[group.type]
            for k, name in enumerate(timing.inputs):
                template.pin_net[first[:, 0] + k] = nets[name]
                # The clock is ideal: it has no load, no delay and no place in the netlist.
                if name not in timing.clocks:
                    template.pin_load[first[:, 0] + k] = timing.capacitance_f[k]
            for k, limit in enumerate(timing.limit_f):
                drivers.append(outputs[:, k][outputs[:, k] != OPEN])
                limits.append(np.full(len(drivers[-1]), limit))
            pin, edge_in, out, edge_out, table = timing.delays.T
            delays.append(_rows(first + pin, edge_in, outputs[:, out], edge_out, table, cell))
            out, edge, table = timing.launches.T
            launches.append(_rows(outputs[:, out], edge, table, cell))
            pin, edge, table = timing.setups.T
            setups.append(_rows(first + pin, edge, table, cell))
        template.drivers, template.limits = np.concatenate(drivers), np.concatenate(limits)
        template.delays = np.concatenate(delays)
        template.delays = template.delays[template.delays[:, 2] != OPEN]
        template.launches = np.concatenate(launches)
        template.launches = template.launches[template.launches[:, 0] != OPEN]
        template.setups = np.concatenate(setups)

    def _macro_template(self, name: str) -> _Template:
        """An SRAM macro: registered inputs like those of a flip-flop, outputs behind a buffer."""
        register = self.tables.cells[self.roles.flip_flop]
        data = int(register.setups[0, 0])
        ports, nets, inputs, drivers = {}, 1, [], []
        for port in self.synthesis.macros[name]:
            bits = np.arange(nets, nets + port.width, dtype=np.int64)
            nets += port.width
            ports[port.name.removeprefix("\\")] = bits
            if port.direction == "output":
                drivers += bits.tolist()
            elif not is_clock(port.name):
                inputs += bits.tolist()
        setups = [
            (pin, edge, table, 0)
            for pin in range(len(inputs))
            for which, edge, table in register.setups
            if which == data
        ]
        return _Template(
            nets=nets,
            ports=ports,
            pin_net=np.array(inputs, dtype=np.int64),
            pin_load=np.tile(register.capacitance_f[data], (len(inputs), 1)),
            drivers=np.array(drivers, dtype=np.int64),
            limits=np.full(len(drivers), self.tables.cells[self.roles.buffer].limit_f[0]),
            cell_type=np.array([self.type_index[name]], dtype=np.int64),
            delays=np.zeros((0, 6), dtype=np.int64),
            launches=np.zeros((0, 4), dtype=np.int64),
            setups=np.array(setups, dtype=np.int64).reshape(-1, 4),
        )

    # ---- instances ----

    def _place(self, name: str, module: str, outer: dict[str, Ints]) -> Ints:
        """Places an instance; `outer` gives the nets at its ports. Returns the net numbers."""
        template = self.templates[module]
        net = np.full(template.nets, -1, dtype=np.int64)
        net[CONSTANT] = CONSTANT
        for port, given in outer.items():
            if port not in template.ports:
                raise AssemblyError(f"{name} has no port {port}: {module} does not declare it")
            own = template.ports[port]
            fresh = net[own] < 0
            net[own[fresh]] = given[fresh]
            # Two port bits on one net inside, or a constant: the outer nets are one.
            different = net[own] != given
            self.aliases += zip(
                net[own][different].tolist(), given[different].tolist(), strict=True
            )
        inner = net < 0
        net[inner] = np.arange(self.nets, self.nets + int(inner.sum()))
        self.nets += int(inner.sum())
        self.starts.append(self.cells)
        self.instances.append((name, module))
        self.parts.append((template, net, self.pins, self.cells))
        if module in self.macros:
            self.macro_outputs.append((net[template.drivers], self.cells, module))
        self.pins += len(template.pin_net)
        self.cells += len(template.cell_type)
        for child, kind, connections in template.instances:
            path = f"{name}.{child}" if name else child
            self._place(path, kind, {pin: net[bits] for pin, bits in connections.items()})
        return net

    def build(self, port_load_f: float, buffered: bool) -> Assembly:
        top = self.synthesis.modules[self.synthesis.top]
        net = self._place("", top.name, {})
        root = self._roots()
        pin_net = root[np.concatenate([n[t.pin_net] for t, n, _, _ in self.parts])]
        pin_load = np.concatenate([t.pin_load for t, _, _, _ in self.parts])
        drivers = root[np.concatenate([n[t.drivers] for t, n, _, _ in self.parts])]
        limit = np.full(self.nets, np.inf)
        limit[drivers] = np.concatenate([t.limits for t, _, _, _ in self.parts])
        ports = {p.name: root[net[self.templates[top.name].ports[p.name]]] for p in top.ports}
        inputs = [p.name for p in top.ports if p.direction == "input" and not is_clock(p.name)]
        outputs = [p.name for p in top.ports if p.direction == "output"]
        input_nets = np.concatenate([ports[n] for n in inputs] or [np.zeros(0, dtype=np.int64)])
        output_nets = np.concatenate([ports[n] for n in outputs] or [np.zeros(0, dtype=np.int64)])
        limit[input_nets] = self.tables.cells[self.roles.driver].limit_f[0]
        self._check_drivers(np.concatenate([drivers, input_nets]))
        # Output ports are pins without a cell.
        pin_net = np.concatenate([pin_net, output_nets])
        pin_load = np.concatenate([pin_load, np.full((len(output_nets), 2), port_load_f)])
        tree = BufferTrees(self.library, self.tables, pin_net, pin_load, limit, self.nets)
        if buffered:
            tree.grow()
        else:
            tree.weigh()
        launched = [(root[nets], cell, name) for nets, cell, name in self.macro_outputs]
        return Assembly(
            tables=self.tables,
            nets=tree.nets,
            cell_type=np.concatenate([t.cell_type for t, _, _, _ in self.parts]),
            type_names=tuple(self.types),
            pin_net=tree.pin_net,
            load_f=tree.load_f,
            fanout=tree.fanout,
            delays=np.concatenate([self._moved("delays", root, 0, 2, 5), tree.delays()]),
            launches=self._moved("launches", root, None, 0, 3),
            setups=self._moved("setups", root, 0, None, 3),
            macro_launches=np.array(
                [(n, cell) for nets, cell, _ in launched for n in nets.tolist()], dtype=np.int64
            ).reshape(-1, 2),
            macro_access_s=np.array(
                [self.macros[name].access_time_s for nets, _, name in launched for _ in nets]
            ),
            inputs=input_nets,
            outputs=tree.pin_net[len(tree.pin_net) - tree.added - len(output_nets) :][
                : len(output_nets)
            ],
            names=Names(
                self.starts,
                self.instances,
                {name: module.cell_names for name, module in self.synthesis.modules.items()}
                | dict.fromkeys(self.macros, ("macro",)),
            ),
            instance_nets=tuple(root[nets] for _, nets, _, _ in self.parts),
            buffers=tree.added,
            buffer_cell=self.roles.buffer,
            buffer_area_um2=tree.added * self.library.cell(self.roles.buffer).area_um2,
            macros=self.macros,
            macro_area_um2=sum(
                self.synthesis.counts[name] * macro.area_um2 for name, macro in self.macros.items()
            ),
        )

    def _moved(self, name: str, root: Ints, pin: int | None, net: int | None, cell: int) -> Ints:
        """Rows of all instances, their pin, net and cell columns in global numbers."""
        moved = []
        for template, nets, first_pin, first_cell in self.parts:
            rows = getattr(template, name).copy()
            if pin is not None:
                rows[:, pin] += first_pin
            if net is not None:
                rows[:, net] = root[nets[rows[:, net]]]
            rows[:, cell] += first_cell
            moved.append(rows)
        return np.concatenate(moved)

    def _roots(self) -> Ints:
        """For each net the net that it is one with."""
        root = np.arange(self.nets)

        def find(n: int) -> int:
            while root[n] != n:
                root[n] = root[root[n]]
                n = int(root[n])
            return n

        for a, b in self.aliases:
            low, high = sorted((find(a), find(b)))
            root[high] = low
        for n in {n for pair in self.aliases for n in pair}:
            root[n] = find(n)
        return root

    def _check_drivers(self, drivers: Ints) -> None:
        counts = np.bincount(drivers[drivers != CONSTANT], minlength=1)
        if counts.max() > 1:
            raise AssemblyError(f"{int((counts > 1).sum())} nets have more than one driver")


def is_clock(port: str) -> bool:
    """Whether a port of this name is a clock: `clk`, `clock`, or ends in `_clk` or `_clock`."""
    return port.removeprefix("\\").split("_")[-1] in ("clk", "clock")
