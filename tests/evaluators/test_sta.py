"""Static timing: against a second, plain implementation, and where paths cross modules."""

import random
from functools import partial

import pytest

from evaluators.silicon.assembly import PORT_LOAD_F, AssemblyError, assemble
from evaluators.silicon.liberty import default_liberty_path, load_library
from evaluators.silicon.linking import Port
from evaluators.silicon.sta import INPUT_TRANSITION_S, TimingError, analyze
from evaluators.silicon.synthesis import (
    MappedCell,
    MappedModule,
    MappedPort,
    Synthesis,
    grouped,
)

# approx has a floor of 1e-12 of its own, which is larger than many a figure in SI units
near = partial(pytest.approx, rel=1e-9, abs=0)


@pytest.fixture(scope="module")
def library(cache_dir):
    return load_library(default_liberty_path(), cache_dir / "silicon")


def cell(name, kind, **pins):
    return MappedCell(name=name, type=kind, connections={p: (n,) for p, n in pins.items()})


def module(name, inputs, outputs, cells, instances=()):
    ports = [MappedPort(name=n, direction="input", bits=tuple(b)) for n, b in inputs.items()]
    ports += [MappedPort(name=n, direction="output", bits=tuple(b)) for n, b in outputs.items()]
    return MappedModule(
        name=name,
        ports=tuple(ports),
        cell_names=tuple(c.name for c in cells),
        groups=grouped((c.type, c.connections) for c in cells),
        instances=tuple(instances),
        area_um2=0.0,
        leakage_w=0.0,
    )


def design(*modules, macros=None):
    counts = {m.name: 1 for m in modules} | dict.fromkeys(macros or {}, 1)
    return Synthesis(
        top=modules[-1].name,
        modules={m.name: m for m in modules},
        macros=macros or {},
        counts=counts,
        area_by_module_um2={},
        cell_area_um2=0.0,
        leakage_w=0.0,
    )


def interpolate(table, x, y):
    """One bilinear look-up in plain Python: the piece that holds the point, or the last one."""

    def piece(axis, at):
        k = max(i for i in range(len(axis) - 1) if i == 0 or axis[i] <= at)
        return k, (at - axis[k]) / (axis[k + 1] - axis[k])

    (i, u), (j, v) = piece(table.x, x), piece(table.y, y)
    t = table.values
    low = t[i][j] + v * (t[i][j + 1] - t[i][j])
    high = t[i + 1][j] + v * (t[i + 1][j + 1] - t[i + 1][j])
    return low + u * (high - low)


class PlainTiming:
    """Timing of one flat module by recursion over dicts, straight from the Liberty model."""

    def __init__(self, library, flat):
        self.library, self.flat = library, flat
        self.driver = {}
        self.sinks = {}
        for c in flat.cells:
            pins = library.cell(c.type).pins
            for pin, (net,) in c.connections.items():
                if pins[pin].direction == "output":
                    self.driver[net] = (c, pin)
                elif not pins[pin].clock:
                    self.sinks.setdefault(net, []).append((c, pin))
        self.outputs = [b for p in flat.ports if p.direction == "output" for b in p.bits]
        self.known = {}

    def load(self, net, edge):
        pins = [self.library.cell(c.type).pins[p] for c, p in self.sinks.get(net, [])]
        total = sum(getattr(pin, f"{edge}_capacitance_f") for pin in pins)
        ports = self.outputs.count(net)
        wire = self.library.wire_load.capacitance_f(len(pins) + ports)
        return total + ports * PORT_LOAD_F + wire

    def at(self, net, edge):
        """Arrival and transition of an edge of a net, or None where nothing switches."""
        if (net, edge) not in self.known:
            self.known[net, edge] = self._at(net, edge)
        return self.known[net, edge]

    def _at(self, net, edge):
        if isinstance(net, str):
            return None
        if net not in self.driver:
            return 0.0, INPUT_TRANSITION_S
        c, out = self.driver[net]
        found = []
        for arc in self.library.cell(c.type).arcs:
            if arc.pin != out or arc.kind == "setup":
                continue
            delay, slew = getattr(arc, edge), getattr(arc, f"{edge}_transition")
            if arc.kind == "clock_to_output":
                causes = [(0.0, 0.0)]
            else:
                other = {"rise": "fall", "fall": "rise"}[edge]
                edges = {"positive_unate": [edge], "negative_unate": [other]}
                (source,) = c.connections[arc.related_pin]
                wanted = edges.get(arc.sense, ["rise", "fall"])
                causes = [x for x in (self.at(source, e) for e in wanted) if x is not None]
            for arrival, transition in causes:
                load = self.load(net, edge)
                found.append(
                    (
                        arrival + interpolate(delay, transition, load),
                        interpolate(slew, transition, load),
                    )
                )
        return (max(a for a, _ in found), max(t for _, t in found)) if found else None

    def worst(self):
        ends = [x[0] for n in self.outputs for e in ("rise", "fall") if (x := self.at(n, e))]
        for c in self.flat.cells:
            for arc in self.library.cell(c.type).arcs:
                if arc.kind == "setup":
                    for edge in ("rise", "fall"):
                        if x := self.at(c.connections[arc.pin][0], edge):
                            ends.append(x[0] + interpolate(getattr(arc, edge), x[1], 0.0))
        return max(ends)


GATES = ("NAND2_X1", "NOR2_X2", "XOR2_X1", "AOI21_X1", "INV_X1", "MUX2_X1", "OAI22_X1", "BUF_X2")


def random_module(seed, library, size=60):
    """A random acyclic netlist of gates and flip-flops; net 1 is the clock."""
    rng = random.Random(seed)
    nets, cells = [2, 3, 4, 5], []
    for k in range(size):
        out = 10 + k
        kind = rng.choice((*GATES, "DFF_X1"))
        pins = library.cell(kind).pins
        names = [p for p, pin in pins.items() if pin.direction == "input" and not pin.clock]
        # A small window keeps paths long; a constant now and then.
        chosen = {
            p: rng.choice(["0", *nets[-8:]]) if rng.random() < 0.1 else rng.choice(nets[-8:])
            for p in names
        }
        chosen |= {p: 1 for p, pin in pins.items() if pin.clock}
        output = "Q" if kind == "DFF_X1" else next(p for p in pins if pins[p].function)
        cells.append(cell(f"c{k:03}", kind, **chosen, **{output: out}))
        nets.append(out)
    return module("top", {"clk": [1], "a": [2, 3, 4, 5]}, {"y": nets[-3:]}, cells)


@pytest.mark.parametrize("seed", range(8))
def test_worst_path_equals_that_of_a_plain_recursion(seed, library):
    flat = random_module(seed, library)
    assembly = assemble(design(flat), library)
    assert assembly.buffers == 0
    timing = analyze(assembly)
    assert timing.worst_path_s == near(PlainTiming(library, flat).worst())
    assert timing.path[-1].arrival_s + timing.setup_s == near(timing.worst_path_s)
    assert sum(step.delay_s for step in timing.path) == near(timing.path[-1].arrival_s)


def split_chain():
    """The same chain flat, and cut in two modules with a feed-through and a tied-off port."""
    flip = partial(cell, kind="DFF_X1", CK=1)
    flat = module(
        "flat",
        {"clk": [1], "d": [2]},
        {"q": [9]},
        [
            flip("r0", D=2, Q=3),
            cell("g0", "INV_X1", A=3, ZN=4),
            cell("g1", "NAND2_X1", A1=4, A2=3, ZN=5),
            cell("g2", "NAND2_X1", A1=5, A2="1", ZN=6),
            flip("r1", D=6, Q=9),
        ],
    )
    inner = module(
        "inner",
        {"clk": [1], "x": [2], "y": [3]},
        {"z": [4], "same": [2], "one": ["1"]},
        [cell("g1", "NAND2_X1", A1=3, A2=2, ZN=4)],
    )
    outer = module(
        "outer",
        {"clk": [1], "d": [2]},
        {"q": [9]},
        [
            flip("r0", D=2, Q=3),
            cell("g0", "INV_X1", A=7, ZN=4),  # through the feed-through
            cell("g2", "NAND2_X1", A1=5, A2=8, ZN=6),
            flip("r1", D=6, Q=9),
        ],
        [
            MappedCell(
                name="u",
                type="inner",
                connections={
                    "clk": (1,), "x": (3,), "y": (4,), "z": (5,), "same": (7,), "one": (8,)
                },
            )
        ],
    )  # fmt: skip
    return design(flat), design(inner, outer)


def test_paths_run_across_modules_as_if_there_were_none(library):
    flat, split = split_chain()
    one, two = analyze(assemble(flat, library)), analyze(assemble(split, library))
    assert one.worst_path_s == near(PlainTiming(library, flat.modules["flat"]).worst())
    assert two.worst_path_s == near(one.worst_path_s)
    assert (two.start, two.end) == ("r0", "r1")
    assert [step.cell for step in two.path] == ["DFF_X1", "INV_X1", "NAND2_X1", "NAND2_X1"]
    assert set(two.delay_by_module_s) == {"outer", "inner"}


def fan(count):
    """One flip-flop that drives many."""
    cells = [cell("source", "DFF_X1", CK=1, D=2, Q=3)]
    cells += [cell(f"sink{k:04}", "DFF_X1", CK=1, D=3, Q=10 + k) for k in range(count)]
    return design(module("top", {"clk": [1], "d": [2]}, {}, cells))


def test_a_net_beyond_its_drivers_limit_gets_a_tree_within_every_limit(library):
    few = assemble(fan(8), library)
    assert few.buffers == 0
    many = assemble(fan(3000), library)
    assert many.buffer_area_um2 == near(many.buffers * library.cell(many.buffer_cell).area_um2)
    limit_f = library.cell(many.buffer_cell).pins["Z"].max_capacitance_f
    source = int(many.launches[many.launches[:, 3] == 0][0, 0])
    assert many.load_f.max() <= limit_f
    assert many.load_f[source].max() <= library.cell("DFF_X1").pins["Q"].max_capacitance_f
    assert (many.fanout.sum() - many.buffers) == 3000 + 1  # the sinks, and the source's own D
    assert analyze(many).worst_path_s > 1.5 * analyze(few).worst_path_s


def test_an_sram_starts_and_ends_paths(library):
    ports = (
        Port(name="\\clk", direction="input", width=1, index=0),
        Port(name="\\address", direction="input", width=1, index=1),
        Port(name="\\read_data", direction="output", width=1, index=2),
    )
    bank = MappedCell(
        name="bank",
        type="sram_2048x64",
        connections={"clk": (1,), "address": (3,), "read_data": (4,)},
    )
    cells = [cell("r", "DFF_X1", CK=1, D=4, Q=5), cell("s", "DFF_X1", CK=1, D=2, Q=3)]
    top = module("top", {"clk": [1], "d": [2]}, {"q": [5]}, cells, [bank])
    assembly = assemble(design(top, macros={"sram_2048x64": ports}), library)
    timing = analyze(assembly)
    assert assembly.macro_area_um2 == near(50755.817640000006)
    assert (timing.start, timing.end) == ("bank.macro", "r")
    # 705 ps of CACTI, then an output buffer and the setup of `r`: tens of ps.
    assert 0.73e-9 < timing.worst_path_s < 0.80e-9
    assert timing.slowest_module == "sram_2048x64"


def test_loops_shorts_and_open_pins_are_refused(library):
    loop = module(
        "top", {}, {"y": [3]}, [cell("a", "INV_X1", A=3, ZN=2), cell("b", "INV_X1", A=2, ZN=3)]
    )
    with pytest.raises(TimingError, match="combinational loop through"):
        analyze(assemble(design(loop), library))
    short = module("top", {"x": [1]}, {"y": [1]}, [cell("a", "INV_X1", A=2, ZN=1)])
    with pytest.raises(AssemblyError, match="more than one driver"):
        assemble(design(short), library)
    open_pin = module("top", {"x": [1]}, {"y": [2]}, [cell("a", "NAND2_X1", A1=1, ZN=2)])
    with pytest.raises(AssemblyError, match="pin A2 of a is open"):
        assemble(design(open_pin), library)
