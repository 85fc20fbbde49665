"""Switching activity: against a plain simulation cell by cell, and against integer references."""

import itertools
import random

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from evaluators.silicon.gates import (
    GatesError,
    evaluate,
    evaluate_traced,
    integer_bits,
    places,
    register_bits,
    stimulus,
    uniform_activity,
    variables,
)
from evaluators.silicon.liberty import default_liberty_path, load_library
from evaluators.silicon.synthesis import MappedCell, synthesize
from hwlib.contracts.table import CORE_UNITS
from hwlib.convert import convert
from tests.evaluators.test_sta import cell, module
from tests.hwlib.later_units import component


@pytest.fixture(scope="module")
def library(cache_dir):
    return load_library(default_liberty_path(), cache_dir / "silicon")


def random_module(seed, gates=60, registers=9):
    """Random gates over random registers: feedback, constants, open outputs."""
    rng = random.Random(seed)
    nets = list(range(2, 7))  # a port of 5 bits; net 7 is the clock, net 8 the reset
    free = iter(range(9, 1000))
    states = [next(free) for _ in range(registers)]
    nets += states
    cells = []
    kinds = {
        "INV_X1": "A",
        "NAND2_X1": ("A1", "A2"),
        "XOR2_X1": "AB",
        "AOI21_X1": ("A", "B1", "B2"),
        "MUX2_X1": "ABS",
        "OAI33_X1": ("A1", "A2", "A3", "B1", "B2", "B3"),
    }
    outputs = {"XOR2_X1": "Z", "MUX2_X1": "Z"}
    for k in range(gates):
        kind = rng.choice(sorted(kinds))
        pins = {pin: rng.choice([*nets, "0", "1"]) for pin in kinds[kind]}
        out = next(free)
        cells.append(cell(f"g{k:03}", kind, **pins, **{outputs.get(kind, "ZN"): out}))
        nets.append(out)
    for k, state in enumerate(states):
        data = next(free)  # cleared by reset
        cells.append(cell(f"h{k:03}", "NOR2_X1", A1=rng.choice(nets), A2=8, ZN=data))
        outs = {"Q": state} if k % 3 else {"QN": state}
        if k % 3 == 1:
            outs["QN"] = next(free)
        cells.append(cell(f"r{k:03}", "DFF_X1", D=data, CK=7, **outs))
    cells.sort(key=lambda c: c.name)
    return module("m", {"x": range(2, 7), "clk": [7], "rst": [8]}, {"y": nets[-3:]}, cells)


def plain_run(flat, library, values):
    """Value of every net in every cycle, one gate at a time, from registers at 0."""
    cells = [(c, library.cell(c.type)) for c in flat.cells]
    state = {c.name: 0 for c, kind in cells if kind.sequential}
    run = []
    for row in values:
        net = {"0": 0, "1": 1, **row}
        for c, kind in cells:
            if kind.sequential:
                for pin, (n,) in c.connections.items():
                    if pin in ("Q", "QN"):
                        net[n] = state[c.name] ^ (pin == "QN")
        waiting = [(c, kind) for c, kind in cells if not kind.sequential]
        while waiting:
            c, kind = waiting.pop(0)
            ins = {p: n for p, (n,) in c.connections.items() if kind.pins[p].direction == "input"}
            if not set(ins.values()) <= set(net):
                waiting.append((c, kind))
                continue
            for pin, (n,) in c.connections.items():
                if pin not in ins:
                    text = kind.pins[pin].function.replace("!", " not ").replace("&", " and ")
                    text = text.replace("|", " or ").replace("^", "!=")
                    scope = {p: bool(net[n]) for p, n in ins.items()}
                    net[n] = int(eval(text, {}, scope))
        run.append(net)
        state = {c.name: net[c.connections["D"][0]] for c, k in cells if k.sequential}
    return run


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_a_plain_simulation(library, seed):
    flat = random_module(seed)
    cycles, lanes, run_in = 150, 3, 2
    rng = np.random.default_rng(seed)
    x = rng.random((cycles, lanes, 5)) < 0.4
    rst = np.zeros((cycles, lanes, 1), dtype=bool)
    rst[0] = True
    activity = evaluate(flat, library, stimulus(flat, {"x": x, "rst": rst}), run_in)
    runs = [
        plain_run(
            flat,
            library,
            [
                {**{2 + k: int(x[t, lane, k]) for k in range(5)}, 8: int(rst[t, lane, 0])}
                for t in range(cycles)
            ],
        )[run_in:]
        for lane in range(lanes)
    ]
    every = {n for c in flat.cells for (n,) in c.connections.values() if n != 7}
    counted = cycles - run_in
    for net in every:
        values = [[row[net] for row in run] for run in runs]
        toggles = sum(a != b for run in values for a, b in itertools.pairwise(run))
        at = int(places([net])[0])
        assert activity.toggles[at] == pytest.approx(toggles / ((counted - 1) * lanes), abs=1e-12)
        assert activity.duty[at] == pytest.approx(sum(map(sum, values)) / (counted * lanes))
    for group, states in zip(flat.groups, activity.states, strict=True):
        names = variables(library.cell(group.type))
        for k, at in enumerate(group.at):
            nets = {pin: group.nets[pin][k] for pin in group.nets}
            if "IQ" in names:
                nets["IQ"] = nets.get("Q", nets.get("QN"))
            inverted = "IQ" in names and "Q" not in nets
            expected = np.zeros(2 ** len(names))
            for run in runs:
                for row in run:
                    bits = [row[nets[n]] ^ (n == "IQ" and inverted) for n in names]
                    expected[sum(bit << i for i, bit in enumerate(bits))] += 1
            assert states[k] == pytest.approx(expected / expected.sum()), flat.cell_names[at]


@pytest.mark.eda
def test_the_mapped_element_sums_as_numpy_does(library, cache_dir):
    contract = CORE_UNITS["mac"].contract
    text = convert(component(contract), "mac")
    store = cache_dir / "silicon"
    mapped = synthesize(text, library, default_liberty_path(), store, "mac").modules["mac"]
    rng = np.random.default_rng(1)
    latency, depth, tiles = CORE_UNITS["mac"].latency, 7, 40
    a = rng.integers(-256, 256, depth * tiles)
    w = rng.integers(-128, 128, depth * tiles)
    capture = np.zeros(len(a), dtype=np.int64)
    capture[depth - 1 + latency :: depth] = 1
    reset = 3
    ports = {"a": a, "w": w, "capture": capture, "shift": 0 * a, "drain_in": 0 * a}
    ports = {n: np.concatenate([np.zeros(reset, dtype=np.int64), v]) for n, v in ports.items()}
    ports["rst"] = (np.arange(len(a) + reset) < reset).astype(np.int64)
    widths = {port.name: port.width for port in contract.ports} | {"rst": 1}
    given = {n: integer_bits(v.tolist(), widths[n]) for n, v in ports.items()}
    # The sum of a tile stands at the drain from the cycle after its capture on.
    sums = (a * w).reshape(tiles, depth).sum(axis=1)
    at = reset + np.flatnonzero(capture) + 1
    drained = np.zeros(len(a) + reset, dtype=np.int64)
    for tile, cycle in enumerate(at):
        drained[cycle:] = sums[tile]
    wanted = stimulus(mapped, {"drain_out": integer_bits(drained.tolist(), 32)})
    inputs = stimulus(mapped, given)
    activity = evaluate(mapped, library, inputs, reset + 1, expected=wanted)
    assert activity.unsettled == 0
    out = places([bit for p in mapped.ports if p.name == "drain_out" for bit in p.bits])
    counted = integer_bits(drained.tolist(), 32)[reset + 1 :, 0]
    toggles = (counted[1:] != counted[:-1]).mean(axis=0)
    assert activity.toggles[out] == pytest.approx(toggles)
    # The same from the registers' values in the source.
    total = np.zeros(len(drained), dtype=np.int64)
    for t in range(reset, len(total) - 1):
        product = int(ports["a"][t - 1] * ports["w"][t - 1])
        total[t + 1] = product if ports["capture"][t] else total[t] + product
    values = {"total": total, "drain_out": drained, "drained": drained}
    operands = mapped.registers.keys() - values.keys()  # named after the ports: a$9, w$10
    assert sorted(name[0] for name in operands) == ["a", "w"]
    values |= {name: np.roll(ports[name[0]], 1) for name in operands}
    cut = slice(reset + 2, None)
    traces = {
        name: integer_bits(row.tolist(), len(mapped.registers[name]))[cut]
        for name, row in values.items()
    }
    later, outputs = ({net: bits[cut] for net, bits in given.items()} for given in (inputs, wanted))
    traced = evaluate_traced(mapped, library, later, register_bits(mapped, traces), outputs)
    assert traced.toggles[out] == pytest.approx((counted[2:] != counted[1:-1]).mean(axis=0))
    traces["total"][70] ^= True
    with pytest.raises(GatesError, match=r"32 of 81 DFF_X1 another value than their traces"):
        evaluate_traced(mapped, library, later, register_bits(mapped, traces), outputs)
    drained[at[3] :] += 1
    wrong = stimulus(mapped, {"drain_out": integer_bits(drained.tolist(), 32)})
    with pytest.raises(GatesError, match="of 32 nets differ"):
        evaluate(mapped, library, inputs, reset + 1, expected=wrong)


def counter(reset=True):
    """q = not (q or rst), or without reset."""
    gate = cell("g", "NOR2_X1", A1=4, A2=3, ZN=5) if reset else cell("g", "INV_X1", A=4, ZN=5)
    flop = cell("r", "DFF_X1", D=5, CK=2, Q=4)
    return module("m", {"clk": [2], "rst": [3]}, {"q": [4]}, [gate, flop])


def test_a_register_that_the_run_in_does_not_settle_is_refused_or_counted_half(library):
    zeros = {3: np.zeros((12, 1), dtype=bool)}
    reset = {3: np.arange(12)[:, None] < 2}
    assert evaluate(counter(), library, reset, 2).toggles[places([4])] == 1.0
    with pytest.raises(GatesError, match="1 registers depend on the unknown start"):
        evaluate(counter(), library, zeros, 2)
    free = evaluate(counter(), library, zeros, 2, unsettled=1)
    assert free.unsettled == 1
    assert free.toggles[places([4])] == 1.0
    assert free.duty[places([4])] == 0.5


@pytest.mark.parametrize("pin", ["Q", "QN"])
def test_traced_registers_need_no_run_in(library, pin):
    flat = module(
        "m",
        {"clk": [2], "rst": [3]},
        {"q": [4]},
        [
            cell("g", "BUF_X1", A=4, Z=5) if pin == "QN" else cell("g", "INV_X1", A=4, ZN=5),
            cell("r", "DFF_X1", D=5, CK=2, **{pin: 4}),
        ],
    ).model_copy(update={"registers": {"count": ("x", 4)}})
    bit = np.array([[(t + first) % 2 for first in (1, 0, 1)] for t in range(6)], dtype=bool)
    trace = register_bits(flat, {"count": np.stack([bit, bit], axis=2)})
    assert trace.keys() == {4}
    zeros = {3: np.zeros((6, 3), dtype=bool)}
    activity = evaluate_traced(flat, library, zeros, trace, {4: bit})
    assert activity.toggles[places([4])] == 1.0
    with pytest.raises(GatesError, match="1 of 1 DFF_X1 another value than their traces"):
        stuck = {4: np.where(np.arange(6)[:, None] < 4, bit, False)}
        evaluate_traced(flat, library, zeros, stuck, {})
    with pytest.raises(GatesError, match="nothing traces the register of net 4"):
        evaluate_traced(flat, library, zeros, {}, {})
    with pytest.raises(GatesError, match="needs two cycles, not 1"):
        evaluate_traced(flat, library, {3: zeros[3][:1]}, trace, {})
    with pytest.raises(GatesError, match="no register total"):
        register_bits(flat, {"total": np.zeros((1, 1, 1), dtype=bool)})
    with pytest.raises(GatesError, match="count has 2 bits, not 1"):
        register_bits(flat, {"count": np.zeros((1, 1, 1), dtype=bool)})


@pytest.mark.parametrize(
    ("kind", "pins", "expected"),
    [
        ("DFFR_X1", {"RN": 4}, lambda d, rn, sn: d and rn),
        ("DFFS_X1", {"SN": 5}, lambda d, rn, sn: d or not sn),
        ("DFFRS_X1", {"RN": 4, "SN": 5}, lambda d, rn, sn: (d or not sn) and rn),
        ("SDFF_X1", {"SE": 4, "SI": 5}, lambda d, se, si: si if se else d),
    ],
)
def test_each_kind_of_flip_flop_takes_over_what_the_library_says(library, kind, pins, expected):
    register = cell("r", kind, D=3, CK=2, Q=6, QN=7, **pins)
    flat = module("m", {"clk": [2], "d": [3], "x": [4, 5]}, {"q": [6, 7]}, [register])
    rng = np.random.default_rng(0)
    trace = {net: rng.random((50, 2)) < 0.5 for net in (3, *pins.values())}
    zeros = np.zeros((50, 2), dtype=bool)
    values = [trace.get(net, zeros) for net in (3, 4, 5)]
    q = np.zeros((50, 2), dtype=bool)
    for t in range(1, 50):
        for lane in range(2):
            q[t, lane] = expected(*(bool(v[t - 1, lane]) for v in values))
    evaluate(flat, library, trace, 1, expected={6: q, 7: ~q})


def machine(go, y):
    """Six states in a row, each left at `go`, and a count of the rounds; `y` tells both apart."""
    m = Module()
    rounds = Signal(4)
    with m.FSM() as states:
        for k in range(6):
            with m.State(f"{k}"):
                m.d.comb += y.eq(rounds ^ (5 * k))
                with m.If(go):
                    m.next = f"{(k + 1) % 6}"
                    if k == 5:
                        m.d.sync += rounds.eq(rounds + 1)
    return m, states, rounds


@pytest.mark.eda
def test_a_state_machine_with_other_codes_starts_from_its_state_in_the_source(library, tmp_path):
    go, y = Signal(name="go"), Signal(6, name="y")
    m, _, _ = machine(go, y)
    text = rtlil.convert(m, ports=[go, y], name="m", emit_src=False)
    mapped = synthesize(text, library, default_liberty_path(), tmp_path, "m").modules["m"]
    assert len(mapped.registers["fsm_state"]) == 6  # one bit a state
    trace = []

    async def run(ctx):
        rng = random.Random(3)
        for _ in range(90):
            ctx.set(go, rng.random() < 0.7)
            trace.append([ctx.get(s) for s in (go, y, states.state, rounds)])
            await ctx.tick()

    m, states, rounds = machine(go, y)
    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(run)
    simulator.run()
    values = {"go": 1, "y": 6, "fsm_state": 3, "rounds": 4}
    bits = {
        name: integer_bits([row[k] for row in trace], width)
        for k, (name, width) in enumerate(values.items())
    }
    inputs = stimulus(mapped, {"go": bits["go"], "rst": np.zeros_like(bits["go"])})
    outputs = stimulus(mapped, {"y": bits["y"]})
    states = {name: bits[name] for name in ("fsm_state", "rounds")}
    evaluate_traced(mapped, library, inputs, register_bits(mapped, states), outputs)
    states["fsm_state"] = np.roll(bits["fsm_state"], 1, axis=0)
    with pytest.raises(GatesError, match=r"than their traces|differ from their traces"):
        evaluate_traced(mapped, library, inputs, register_bits(mapped, states), outputs)
    with pytest.raises(GatesError, match="fsm_state is a state machine that has no state 111"):
        register_bits(mapped, {"fsm_state": np.ones((1, 1, 3), dtype=bool)})


def test_a_stuck_input_switches_nothing(library):
    flat = random_module(7, registers=0)
    x = np.ones((64, 1, 5), dtype=bool)
    rst = np.zeros((64, 1, 1), dtype=bool)
    activity = evaluate(flat, library, stimulus(flat, {"x": x, "rst": rst}), 1)
    assert not activity.toggles.any()
    assert set(activity.duty.tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([cell("g", "INV_X1", A=4, ZN=5), cell("h", "INV_X1", A=5, ZN=4)], "combinational loop"),
        ([cell("g", "INV_X1", ZN=5)], "open input A"),
        ([cell("g", "INV_X1", A=9, ZN=5)], "nothing gives net 9"),
        ([cell("g", "DLH_X1", D=3, G=2, Q=5)], "no flip-flop"),
        (
            [cell("g", "INV_X1", A=3, ZN=4), cell("r", "DFF_X1", D=3, CK=4, Q=5)],
            "clock net 4 comes from a cell",
        ),
        ([cell("g", "INV_X1", A=2, ZN=3)], "net 3 has a cell that drives it"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(library, cells, message):
    flat = module("m", {"clk": [2], "x": [3]}, {"y": [5]}, cells)
    with pytest.raises(GatesError, match=message):
        evaluate(flat, library, {3: np.zeros((8, 1), dtype=bool)}, 0)


def test_traces_that_do_not_fit_are_refused(library):
    flat = counter()
    with pytest.raises(GatesError, match="no port clear"):
        stimulus(flat, {"clear": np.zeros((8, 1, 1), dtype=bool)})
    with pytest.raises(GatesError, match="rst has 1 bits, not 2"):
        stimulus(flat, {"rst": np.zeros((8, 1, 2), dtype=bool)})
    with pytest.raises(GatesError, match="leave nothing to count"):
        evaluate(flat, library, {3: np.zeros((4, 1), dtype=bool)}, 3)


def test_outputs_of_instances_are_inputs(library):
    child = MappedCell(name="u", type="child", connections={"q": (4, 5)})
    flat = module("m", {}, {"y": [6]}, [cell("g", "NAND2_X1", A1=4, A2=5, ZN=6)], [child])
    q = integer_bits([0, 3, 0, 3, 2, -1], 2)
    activity = evaluate(flat, library, stimulus(flat, {}, {"u": {"q": q}}), 0)
    assert activity.toggles[places([6])] == 1.0


def test_uniform_activity_leaves_constants_alone():
    activity = uniform_activity(counter(), 0.2, 0.4)
    assert activity.toggles[places(["0", "1", 4])].tolist() == [0.0, 0.0, 0.2]
    assert activity.duty[places(["0", "1", 4])].tolist() == [0.0, 1.0, 0.4]
