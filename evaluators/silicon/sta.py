"""Clock: static timing of the assembled core by table look-up.

The clock is ideal (no tree, no skew, edge of zero transition). Inputs of the core arrive at the
clock edge, its outputs are due at the next. Transitions merge to the slowest at each net, delays
come from each edge's own transition and from the load of pins and wire (the library's default
wire-load model; its resistance, under 0.1 ps on a net within its driver's limit, is left out).
Typical corner, before layout.
"""

from dataclasses import dataclass

import numpy as np

from evaluators.silicon.assembly import Assembly
from evaluators.silicon.buffering import CONSTANT
from evaluators.silicon.tables import RISE, Floats, Ints
from hwlib.frozen import Frozen

INPUT_TRANSITION_S = 20e-12
"""Transition time at the core's input ports and behind an SRAM's sense amplifiers."""


class TimingError(ValueError):
    """A netlist that has no clock period: a combinational loop, or no path at all."""


class Step(Frozen):
    """One cell on a path."""

    instance: str
    """Hierarchical name of the instance; empty for the top module and for inserted buffers."""

    module: str
    """Its module."""

    cell: str
    """Type of the library cell or macro."""

    name: str
    """Name of the cell in its module."""

    edge: str
    """`rise` or `fall` of its output."""

    delay_s: float
    """Through the cell."""

    arrival_s: float
    """At its output, from the clock edge."""


class Timing(Frozen):
    """The slowest path of the core."""

    worst_path_s: float
    """Clock edge to clock edge, setup included; the shortest period of the core."""

    setup_s: float
    """Setup at the end of the path; 0 at a port."""

    start: str
    """Where it starts: a register, a macro or an input port."""

    end: str
    """Where it ends: a register, a macro or an output port."""

    slowest_module: str
    """The module in which the path spends most of its time."""

    delay_by_module_s: dict[str, float]
    """Time of the path by module, setup left out."""

    path: tuple[Step, ...]
    """Its cells in order."""

    @property
    def ends(self) -> str:
        """Where the path starts and ends, in words."""
        return f"{self.start} to {self.end}"

    @property
    def clock_hz(self) -> float:
        """Fastest clock."""
        return 1.0 / self.worst_path_s


def analyze(assembly: Assembly) -> Timing:
    """Times the assembled core.

    Raises:
        TimingError: there is a combinational loop, or no path at all.
    """
    timing, _ = analyze_nets(assembly)
    return timing


def analyze_nets(assembly: Assembly) -> tuple[Timing, Floats]:
    """Times the assembled core and all its nets.

    Returns:
        Its timing, and [nets, 2] the slowest transition of each edge of each net, s; 0 where
        nothing switches.

    Raises:
        TimingError: there is a combinational loop, or no path at all.
    """
    graph = _levelize(assembly)
    arrival, transition = _propagate(assembly, graph)
    return _worst(assembly, graph, arrival, transition), transition.reshape(-1, 2)


@dataclass(frozen=True)
class _Graph:
    """Edges sorted by level of their output, then by their output vertex."""

    source: Ints
    target: Ints
    table: Ints
    cell: Ints
    bounds: Ints
    """Where each level begins; the last entry is the number of edges."""


def _levelize(assembly: Assembly) -> _Graph:
    rows = assembly.delays
    source_net = assembly.pin_net[rows[:, 0]]
    rows = rows[source_net != CONSTANT]  # a constant never switches
    source_net = source_net[source_net != CONSTANT]
    target_net = rows[:, 2]
    level = _levels(source_net, target_net, assembly)
    source = 2 * source_net + rows[:, 1]
    target = 2 * target_net + rows[:, 3]
    # One key sorts faster than three, and a stable sort keeps equal ones in the netlist's order.
    order = np.argsort(level[target_net] * (2 * assembly.nets) + target, kind="stable")
    sorted_levels = level[target_net[order]]
    bounds = np.searchsorted(sorted_levels, np.arange(1, int(level.max(initial=0)) + 2))
    return _Graph(source[order], target[order], rows[order, 4], rows[order, 5], bounds)


def _levels(source: Ints, target: Ints, assembly: Assembly) -> Ints:
    """Longest distance of each net from a register, macro or port, in cells (Kahn's order)."""
    pairs = np.sort(source * assembly.nets + target)
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    source, target = pairs // assembly.nets, pairs % assembly.nets  # sorted by source
    first = np.searchsorted(source, np.arange(assembly.nets + 1))
    waiting = np.bincount(target, minlength=assembly.nets)
    level = np.zeros(assembly.nets, dtype=np.int64)
    front = np.flatnonzero(waiting == 0)
    depth = 0
    while len(front):
        depth += 1
        counts = first[front + 1] - first[front]
        offsets = np.repeat(first[front] - np.cumsum(counts) + counts, counts)
        reached = target[offsets + np.arange(int(counts.sum()))]
        hits = np.bincount(reached, minlength=assembly.nets)
        waiting -= hits
        front = np.flatnonzero((waiting == 0) & (hits > 0))
        level[front] = depth
    if (waiting > 0).any():
        net = int(np.flatnonzero(waiting > 0)[0])
        cell = int(assembly.delays[assembly.delays[:, 2] == net][0, 5])
        instance, module, name = assembly.names.of(cell)
        raise TimingError(f"combinational loop through {name} of {instance or module} ({module})")
    return level


def _propagate(assembly: Assembly, graph: _Graph) -> tuple[Floats, Floats]:
    """Latest arrival and slowest transition at each vertex; -inf where nothing switches."""
    tables = assembly.tables
    load = assembly.load_f.reshape(-1)
    arrival = np.full(2 * assembly.nets, -np.inf)
    transition = np.zeros(2 * assembly.nets)
    for vertex, delay in _starts(assembly):
        np.maximum.at(arrival, vertex, delay[:, 0])
        np.maximum.at(transition, vertex, delay[:, 1])
    for low, high in zip(graph.bounds[:-1], graph.bounds[1:], strict=True):
        source, target = graph.source[low:high], graph.target[low:high]
        result = tables.look_up(graph.table[low:high], transition[source], load[target])
        switching = arrival[source] > -np.inf
        late = arrival[source] + result[:, 0]
        slow = np.where(switching, result[:, 1], 0.0)
        first = np.flatnonzero(np.diff(target, prepend=-1))
        arrival[target[first]] = np.maximum.reduceat(late, first)
        transition[target[first]] = np.maximum.reduceat(slow, first)
    return arrival, transition


def _starts(assembly: Assembly) -> list[tuple[Ints, Floats]]:
    """Vertices at which paths start, with their arrival and transition."""
    tables, load = assembly.tables, assembly.load_f.reshape(-1)
    vertex = 2 * assembly.launches[:, 0] + assembly.launches[:, 1]
    registers = tables.look_up(assembly.launches[:, 2], np.zeros(len(vertex)), load[vertex])
    starts = [(vertex, registers)]
    for edge in (0, 1):
        ports = 2 * assembly.inputs + edge
        at_edge = np.tile([0.0, INPUT_TRANSITION_S], (len(ports), 1))
        starts.append((ports, at_edge))
        macros = 2 * assembly.macro_launches[:, 0] + edge
        delays = tables.cells[assembly.buffer_cell].delays.tolist()
        driver = next(row for row in delays if row[3] == edge)
        behind = tables.look_up(
            np.full(len(macros), driver[4]), np.full(len(macros), INPUT_TRANSITION_S), load[macros]
        )
        starts.append((macros, behind + np.array([1.0, 0.0]) * assembly.macro_access_s[:, None]))
    return starts


def _worst(assembly: Assembly, graph: _Graph, arrival: Floats, transition: Floats) -> Timing:
    setups = assembly.setups
    vertex = 2 * assembly.pin_net[setups[:, 0]] + setups[:, 1]
    # The clock's transition is 0, so it is the second axis of the setup tables that is 0.
    setup = assembly.tables.look_up(setups[:, 2], transition[vertex], np.zeros(len(vertex)))[:, 0]
    ports = np.concatenate([2 * assembly.outputs, 2 * assembly.outputs + 1])
    ends = np.concatenate([vertex, ports])
    margins = np.concatenate([setup, np.zeros(len(ports))])
    period = arrival[ends] + margins
    if not len(period) or period.max() == -np.inf:
        raise TimingError("the netlist has no path that ends at a register, a macro or a port")
    if period.max() <= 0:
        raise TimingError("no path has a cell on it, so there is nothing to time")
    k = int(period.argmax())
    cycle_s = max((macro.cycle_time_s for macro in assembly.macros.values()), default=0.0)
    if cycle_s > period[k]:
        name = max(assembly.macros, key=lambda name: assembly.macros[name].cycle_time_s)
        return Timing(
            worst_path_s=cycle_s,
            setup_s=0.0,
            start=name,
            end=name,
            slowest_module=name,
            delay_by_module_s={name: cycle_s},
            path=(),
        )
    steps = _trace(assembly, graph, arrival, transition, int(ends[k]))
    by_module: dict[str, float] = {}
    for step in steps:
        by_module[step.module] = by_module.get(step.module, 0.0) + step.delay_s
    return Timing(
        worst_path_s=float(period[k]),
        setup_s=float(margins[k]),
        start=_name(assembly, steps[0]) if steps and steps[0].module else "input port",
        end=_end(assembly, int(setups[k, 3])) if k < len(setups) else "output port",
        slowest_module=max(by_module, key=lambda name: by_module[name]) if by_module else "",
        delay_by_module_s=by_module,
        path=tuple(steps),
    )


def _trace(
    assembly: Assembly, graph: _Graph, arrival: Floats, transition: Floats, vertex: int
) -> list[Step]:
    """The cells of the latest path to `vertex`, first to last."""
    load = assembly.load_f.reshape(-1)
    by_target = np.argsort(graph.target, kind="stable")
    targets = graph.target[by_target]
    steps: list[Step] = []
    while True:
        low, high = np.searchsorted(targets, [vertex, vertex + 1])
        if low == high:
            break
        edges = by_target[low:high]
        source = graph.source[edges]
        delay = assembly.tables.look_up(
            graph.table[edges], transition[source], np.full(len(edges), load[vertex])
        )[:, 0]
        k = int((arrival[source] + delay).argmax())
        cell = int(graph.cell[edges[k]])
        steps.append(_step(assembly, cell, vertex, float(delay[k]), arrival))
        vertex = int(source[k])
    for rows in (assembly.launches[:, [0, 3]], assembly.macro_launches):
        hits = rows[rows[:, 0] == vertex // 2]
        if len(hits):
            steps.append(_step(assembly, int(hits[0, 1]), vertex, float(arrival[vertex]), arrival))
    return steps[::-1]


def _step(assembly: Assembly, cell: int, vertex: int, delay_s: float, arrival: Floats) -> Step:
    instance, module, name = assembly.names.of(cell)
    kind = assembly.buffer_cell if cell < 0 else assembly.type_names[int(assembly.cell_type[cell])]
    return Step(
        instance=instance,
        module=module,
        cell=kind,
        name=name,
        edge="rise" if vertex % 2 == RISE else "fall",
        delay_s=delay_s,
        arrival_s=float(arrival[vertex]),
    )


def _name(assembly: Assembly, step: Step) -> str:
    return ".".join(part for part in (step.instance, step.name) if part)


def _end(assembly: Assembly, cell: int) -> str:
    instance, _, name = assembly.names.of(cell)
    return ".".join(part for part in (instance, name) if part)
