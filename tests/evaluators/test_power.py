"""Power: netlists of a few cells worked out by hand, and OpenSTA's figures where they are there."""

import importlib.util
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from evaluators.silicon.assembly import assemble
from evaluators.silicon.core_power import (
    CorePowerError,
    SramAccesses,
    core_power,
    signals,
)
from evaluators.silicon.gates import evaluate, integer_bits, stimulus
from evaluators.silicon.liberty import LibertyError, default_liberty_path, load_library
from evaluators.silicon.liberty_power import load_power, parse_power
from evaluators.silicon.linking import Port
from evaluators.silicon.memory import sram_macro
from evaluators.silicon.power import PowerModel, cell_powers
from evaluators.silicon.sta import analyze_nets
from evaluators.silicon.synthesis import MappedCell
from tests.evaluators.test_sta import cell, design, interpolate, module

near = partial(pytest.approx, rel=1e-9, abs=0)
FOLDER = "DOVETAIL_POWER_REFERENCE_DIR"


@pytest.fixture(scope="module")
def library(cache_dir):
    return load_library(default_liberty_path(), cache_dir / "silicon")


@pytest.fixture(scope="module")
def power(cache_dir):
    return load_power(default_liberty_path(), cache_dir / "silicon")


SLEW = np.array([[10e-12, 20e-12], [30e-12, 40e-12], [50e-12, 60e-12]])
"""Rise and fall of nets 2 to 4; net n stands at row n - 2."""

LOAD = np.array([[1e-15, 2e-15], [4e-15, 3e-15], [6e-15, 5e-15]])


def look_up(table, slew, load=0.0):
    """A table at a point, in plain Python; a constant has one point."""
    if len(table.x) == 1:
        return table.values[0][0]
    if len(table.y) == 1:
        column = table.model_copy(
            update={"y": (0.0, 1.0), "values": tuple((v[0], v[0]) for v in table.values)}
        )
        return interpolate(column, slew, 0.0)
    return interpolate(table, slew, load)


def energies(power, kind, pin, related="", when=None):
    return [
        e
        for e in power.cell(kind).energies
        if (e.pin, e.related_pin) == (pin, related) and when in (None, e.when)
    ]


def measured(library, power, flat, traces, run_in=0):
    """The cells' power and the activity, nets 2 to 4 as above."""
    activity = evaluate(flat, library, traces, run_in)
    rows = np.zeros((len(activity.toggles) - 2, 2))
    slew, load = rows.copy(), rows.copy()
    slew[2:5], load[2:5] = SLEW[: len(rows) - 2], LOAD[: len(rows) - 2]
    model = PowerModel(library, power, [group.type for group in flat.groups])
    return cell_powers(flat, model, activity, slew, load), activity


def bits(values):
    return np.array(values, dtype=bool)[:, None]


def test_an_inverter_and_a_nand_by_hand(library, power):
    flat = module(
        "m",
        {"a": [2], "b": [3]},
        {"y": [4]},
        [cell("g", "NAND2_X1", A1=2, A2=3, ZN=4)],
    )
    # b at 1 for the first half, where the output follows a; then at 0, where it stays at 1.
    a, b = [0, 1, 0, 1, 0, 1, 0, 1, 0], [1, 1, 1, 1, 1, 0, 0, 0, 0]
    cells, _ = measured(library, power, flat, {2: bits(a), 3: bits(b)})
    toggles = 4 / 8  # of the output, over eight steps
    # a switches 8 times, in states that the output follows in 5 of 9 cycles; b once, 4 of 9.
    by_a, by_b = 8 / 8 * 5 / 9, 1 / 8 * 4 / 9
    expected = 0.0
    for pin, share in (("A1", by_a), ("A2", by_b)):
        (energy,) = energies(power, "NAND2_X1", "ZN", pin)
        rise, fall = SLEW[0 if pin == "A1" else 1]
        # An inverting gate: the input's fall makes the output rise.
        pair = look_up(energy.rise, fall, 6e-15) + look_up(energy.fall, rise, 6e-15)
        expected += share / (by_a + by_b) * toggles / 2 * pair
    assert cells.internal_j[0] == near(expected)
    assert cells.switching_j[0] == near(0.5 * 6e-15 * 1.1**2 * toggles)
    leak = {x.when: x.power_w for x in power.cell("NAND2_X1").leakage}
    share = {"!A1 & !A2": 2, "!A1 & A2": 3, "A1 & !A2": 2, "A1 & A2": 2}
    assert cells.leakage_w[0] == near(sum(n / 9 * leak[when] for when, n in share.items()))
    assert not cells.clock_internal_j.any()
    assert not cells.clock_pins_j.any()


def test_an_exclusive_or_takes_the_table_of_the_other_pins_state(library, power):
    flat = module("m", {"a": [2], "b": [3]}, {"y": [4]}, [cell("g", "XOR2_X1", A=2, B=3, Z=4)])
    for level, when, inverting in ((0, "!B", False), (1, "B", True)):
        a, b = [0, 1] * 8, [level] * 16
        cells, _ = measured(library, power, flat, {2: bits(a), 3: bits(b)})
        (energy,) = energies(power, "XOR2_X1", "Z", "A", when)
        rise, fall = SLEW[0][::-1] if inverting else SLEW[0]
        pair = look_up(energy.rise, rise, 6e-15) + look_up(energy.fall, fall, 6e-15)
        assert cells.internal_j[0] == near(pair / 2)


def flop(**outputs):
    """A flip-flop whose data is net 2; net 9 is the clock."""
    register = cell("r", "DFF_X1", D=2, CK=9, **outputs)
    return module("m", {"d": [2], "clk": [9]}, {"q": list(outputs.values())}, [register])


@pytest.mark.parametrize("level", [0, 1])
def test_a_flip_flop_at_rest_draws_both_clock_edges(library, power, level):
    cells, _ = measured(library, power, flop(Q=3, QN=4), {2: bits([level] * 9)}, run_in=1)
    when = "D & Q & !QN" if level else "!D & !Q & QN"
    (energy,) = energies(power, "DFF_X1", "CK", when=when)
    assert cells.clock_internal_j[0] == near(look_up(energy.rise, 0) + look_up(energy.fall, 0))
    assert cells.internal_j[0] == 0
    assert cells.switching_j[0] == 0
    pin = library.cell("DFF_X1").pins["CK"]
    assert cells.clock_pins_j[0] == near(pin.rise_capacitance_f * 1.1**2)
    leak = {x.when: x.power_w for x in power.cell("DFF_X1").leakage}
    assert cells.leakage_w[0] == near((leak[f"CK & {when}"] + leak[f"!CK & {when}"]) / 2)


def test_a_flip_flop_that_switches_in_every_cycle(library, power):
    data = [0, 1] * 8  # D differs from Q all the time
    cells, _ = measured(library, power, flop(Q=3, QN=4), {2: bits(data)}, run_in=1)
    cycles = np.array(data[1:])  # 15 counted, D = 1 in the first
    rise = fall = 0.0
    for d, when in ((0, "!D & Q & !QN"), (1, "D & !Q & QN")):
        (energy,) = energies(power, "DFF_X1", "CK", when=when)
        share = (cycles == d).mean()
        rise += share * look_up(energy.rise, 0)
        fall += share * look_up(energy.fall, 0)
    assert rise == 0  # the library puts it into the outputs
    assert cells.clock_internal_j[0] == near(fall)
    expected = 0.0
    for pin, load in (("Q", 4e-15), ("QN", 6e-15)):
        (energy,) = energies(power, "DFF_X1", pin, "CK")
        expected += (look_up(energy.rise, 0, load) + look_up(energy.fall, 0, load)) / 2
    for q, when in ((0, "CK & !Q & QN"), (1, "CK & Q & !QN")):
        (energy,) = energies(power, "DFF_X1", "D", when=when)
        pair = look_up(energy.rise, 10e-12) + look_up(energy.fall, 20e-12)
        expected += (cycles == 1 - q).mean() * pair / 2
    assert cells.internal_j[0] == near(expected)
    assert cells.switching_j[0] == near(0.5 * (4e-15 + 6e-15) * 1.1**2)


def test_an_open_output_of_a_flip_flop_still_switches_inside(library, power):
    data = {2: bits([0, 1] * 8)}
    both, _ = measured(library, power, flop(Q=3, QN=4), data, run_in=1)
    one, _ = measured(library, power, flop(Q=3), data, run_in=1)
    (energy,) = energies(power, "DFF_X1", "QN", "CK")
    pairs = [look_up(energy.rise, 0, c) + look_up(energy.fall, 0, c) for c in (6e-15, 0.0)]
    assert both.internal_j[0] - one.internal_j[0] == pytest.approx((pairs[0] - pairs[1]) / 2)
    assert one.clock_internal_j[0] == both.clock_internal_j[0]


def test_independent_pins_of_a_flip_flop_lose_half_of_the_clocks_energy(library, power):
    """What OpenSTA does: states in which Q equals QN get half of the probability."""
    flat = flop(Q=3, QN=4)
    rng = np.random.default_rng(0)
    joint, activity = measured(library, power, flat, {2: bits(rng.random(4000) < 0.5)}, 1)
    model = PowerModel(library, power, ["DFF_X1"])
    rows = np.zeros((len(activity.toggles) - 2, 2))
    apart = cell_powers(flat, model, activity.of_nets(), rows, rows)
    assert apart.clock_internal_j[0] == pytest.approx(joint.clock_internal_j[0] / 2, rel=0.02)


def test_a_table_with_a_wrong_sign_is_refused(library, power):
    nand = power.cell("NAND2_X1")
    first = nand.energies[0]
    turned = first.rise.model_copy(
        update={"values": tuple(tuple(-v for v in row) for row in first.rise.values)}
    )
    changed = (first.model_copy(update={"rise": turned}), *nand.energies[1:])
    broken = power.model_copy(
        update={"cells": {"NAND2_X1": nand.model_copy(update={"energies": changed})}}
    )
    with pytest.raises(LibertyError, match="NAND2_X1: a rise and a fall of ZN give energy back"):
        PowerModel(library, broken, ["NAND2_X1"])


def test_every_combinational_cell_and_flip_flop_of_the_library_is_supported(library, power):
    refused = set()
    for name in library.cells:
        try:
            PowerModel(library, power, [name])
        except LibertyError:
            refused.add(name.split("_")[0])
    stateful = {"CLKGATE", "CLKGATETST", "DLH", "DLL", "TLAT"}
    three_state = {"TBUF", "TINV"}
    without_figures = {"FILLCELL", "LOGIC0", "LOGIC1", "WELLTAP"}
    assert refused == stateful | three_state | without_figures


SMALL = """
library (small) {
  time_unit : "1ps"; leakage_power_unit : "1uW"; capacitive_load_unit (10, ff);
  voltage_unit : "100mV"; nom_voltage : 9.0;
  power_lut_template (p) {
    variable_1 : total_output_net_capacitance; variable_2 : input_transition_time;
    index_1 ("1, 2"); index_2 ("10, 20, 30");
  }
  power_lut_template (odd) { variable_1 : equal_or_opposite_output_net_capacitance; }
  cell (INV) {
    leakage_power () { when : "A"; value : 3; }
    leakage_power () { value : 4; }
    pin (A) { direction : input; }
    pin (Y) {
      direction : output; function : "!A";
      internal_power () { related_pin : "A";
        rise_power (p) { values ("1, 2, 3, 4, 5, 6"); } FALL }
    }
  }
}
"""


def test_power_is_read_in_si_units():
    library = parse_power(SMALL.replace("FALL", 'fall_power (scalar) { values ("7"); }'))
    cell = library.cell("INV")
    assert cell.mean_leakage_w == near(4e-6)
    assert cell.leakage[0].power_w == near(3e-6)
    (energy,) = cell.energies
    unit = 10e-15 * 0.1**2  # capacitance times voltage squared
    assert energy.rise.x == near((10e-12, 20e-12, 30e-12))
    assert energy.rise.y == near((10e-15, 20e-15))
    assert energy.rise.values[2] == near((3 * unit, 6 * unit))
    assert energy.fall.values == ((near(7 * unit),),)
    assert library.voltage_v == 9.0


def test_power_that_is_not_understood_is_refused():
    with pytest.raises(LibertyError, match=r"INV\.Y: internal_power has 0 fall_power tables"):
        parse_power(SMALL.replace("FALL", ""))
    with pytest.raises(LibertyError, match=r"INV\.Y: unknown axis equal_or_opposite"):
        parse_power(SMALL.replace("FALL", 'fall_power (odd) { values ("7"); }'))
    silent = SMALL.replace("FALL", 'fall_power (scalar) { values ("7"); }')
    silent = silent.replace('leakage_power () { when : "A"; value : 3; }', "")
    with pytest.raises(LibertyError, match="no leakage of cell INV"):
        parse_power(silent.replace("leakage_power () { value : 4; }", "")).cell("INV")


# ---- a whole core ----


def small_core(children=2):
    """Children with a flip-flop and an inverter each, behind a memory with one address bit."""
    child = module(
        "child",
        {"clk": [2], "d": [3]},
        {"q": [5]},
        [cell("g", "INV_X1", A=3, ZN=4), cell("r", "DFF_X1", D=4, CK=2, Q=5)],
    )
    sram = MappedCell(name="memory", type="sram_256x8", connections={"addr": (3,), "q": (4,)})
    instances = [
        MappedCell(name=f"u{k}", type="child", connections={"clk": (2,), "d": (4,), "q": (10 + k,)})
        for k in range(children)
    ]
    top = module(
        "core",
        {"clk": [2], "a": [3]},
        {"y": [10 + k for k in range(children)]},
        [],
        [*instances, sram],
    )
    ports = tuple(
        Port(name=name, direction=direction, width=1, index=k)
        for k, (name, direction) in enumerate([("\\addr", "input"), ("\\q", "output")])
    )
    synthesis = design(child, top, macros={"sram_256x8": ports})
    return synthesis.model_copy(update={"counts": {"child": children, "core": 1, "sram_256x8": 1}})


def core_activities(library, synthesis):
    child = synthesis.modules["child"]
    d = integer_bits([0, 1, 1, 0] * 8, 1)
    return {"child": evaluate(child, library, stimulus(child, {"d": d}), 2)}


def test_a_core_is_the_sum_of_its_instances_and_memories(library, power):
    synthesis = small_core()
    assembly = assemble(synthesis, library)
    activities = core_activities(library, synthesis)
    accesses = {"sram_256x8": SramAccesses(reads=0.5, writes=0.25)}
    _, slew = analyze_nets(assembly)
    found = core_power(synthesis, assembly, slew, library, power, activities, accesses, 1e9)
    model = PowerModel(library, power, ["INV_X1", "DFF_X1"])
    child, activity = synthesis.modules["child"], activities["child"]
    one = [
        cell_powers(child, model, activity, slew[nets], assembly.load_f[nets]).at(1e9)
        for nets, (_, name) in zip(assembly.instance_nets, assembly.names.instances, strict=True)
        if name == "child"
    ]
    assert len(one) == 2
    close = partial(pytest.approx, rel=1e-3)  # two loads that differ a little, tables that bend
    assert found.logic_w == close(sum(p.internal_w + p.switching_w for p in one))
    assert found.clock_w == close(sum(p.clock_internal_w + p.clock_pins_w for p in one))
    assert found.logic_leakage_w == close(sum(p.leakage_w for p in one))
    macro = sram_macro("sram_256x8")
    dynamic = 0.5 * macro.read_energy_j + 0.25 * macro.write_energy_j
    assert found.sram_w == near(1e9 * dynamic)
    assert found.sram_leakage_w == near(macro.leakage_w)
    parts = (found.logic_w, found.clock_w, found.sram_w)
    assert found.total_w == near(sum(parts) + found.logic_leakage_w + found.sram_leakage_w)
    assert sum(found.by_module_w.values()) == near(
        found.total_w - found.sram_w - found.sram_leakage_w
    )


def test_inserted_buffers_switch_as_the_net_that_they_carry(library, power):
    driver = module("driver", {"a": [2]}, {"y": [3]}, [cell("g", "INV_X1", A=2, ZN=3)])
    loads = [cell(f"l{k:03}", "INV_X1", A=2, ZN=3 + k) for k in range(150)]
    sinks = module("sinks", {"a": [2]}, {"y": [3 + k for k in range(150)]}, loads)
    top = module(
        "core",
        {"a": [2]},
        {"y": [4 + k for k in range(150)]},
        [],
        [
            MappedCell(name="d", type="driver", connections={"a": (2,), "y": (3,)}),
            MappedCell(
                name="s",
                type="sinks",
                connections={"a": (3,), "y": tuple(range(4, 154))},
            ),
        ],
    )
    synthesis = design(driver, sinks, top)
    assembly = assemble(synthesis, library)
    assert assembly.buffers > 1
    _, slew = analyze_nets(assembly)
    for toggling in (True, False):
        a = integer_bits([0, int(toggling)] * 8, 1)
        activities = {
            m.name: evaluate(m, library, stimulus(m, {"a": a}), 0) for m in (driver, sinks)
        }
        found = core_power(synthesis, assembly, slew, library, power, activities, {}, 1e9)
        nets = assembly.delays[assembly.delays[:, 5] < 0][:, 2]
        loads_f = assembly.load_f[np.unique(nets)].max(axis=1)
        switching_w = 0.5 * loads_f.sum() * 1.1**2 * 1e9
        if toggling:  # in every cycle; the buffers' own energy comes on top
            assert switching_w < found.by_module_w["buffers"] < 3 * switching_w
        else:
            leak = [x.power_w for x in power.cell("BUF_X8").leakage]
            assert found.by_module_w["buffers"] <= assembly.buffers * max(leak) * (1 + 1e-9)
            assert found.logic_w == 0


def test_nothing_of_a_core_is_left_out_in_silence(library, power):
    synthesis = small_core()
    assembly = assemble(synthesis, library)
    activities = core_activities(library, synthesis)
    slew = np.zeros((assembly.nets, 2))
    with pytest.raises(CorePowerError, match="how module child switches"):
        core_power(synthesis, assembly, slew, library, power, {}, {}, 1e9)
    with pytest.raises(CorePowerError, match="how often memory sram_256x8 is read"):
        core_power(synthesis, assembly, slew, library, power, activities, {}, 1e9)


def test_what_a_simulation_must_record_is_said():
    synthesis = small_core()
    top = signals(synthesis, "core")
    assert top.ports == {"a": 1}
    assert top.instances == {"u0": {"q": 1}, "u1": {"q": 1}, "memory": {"q": 1}}
    assert top.outputs == {"y": 2}
    assert signals(synthesis, "child").ports == {"d": 1}


# ---- against OpenSTA ----


@pytest.mark.eda
@pytest.mark.skipif(FOLDER not in os.environ, reason=f"{FOLDER} is not set")
def test_a_current_opensta_agrees_on_power_and_paths(cache):
    path = Path(__file__).parents[2] / "benchmarks" / "power_vs_opensta.py"
    spec = importlib.util.spec_from_file_location("power_vs_opensta", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    folder = Path(os.environ[FOLDER])
    for name, ours, theirs in benchmark.path_rows(folder, cache):
        assert ours == pytest.approx(theirs, rel=0.001), name
    rows = list(benchmark.power_rows(folder, cache))
    totals = [r for r in rows if (r.pins, r.cells) == ("independent", "total")]
    assert len(totals) == 2 * 3 * 4
    for row in totals:
        assert abs(row.error) < 0.01, row  # the project asks for 5 % in total, 10 % in a part
    # With the pins together only the energy inside flip-flops departs, and upwards.
    joint = [r for r in rows if r.pins == "joint" and r.cells != "total"]
    assert len(joint) == 2 * 2 * 2 * 4
    for row in joint:
        if row.cells == "sequential" and row.part in ("internal_w", "total_w"):
            assert 0.2 < row.error < 0.5, row
        else:
            assert abs(row.error) < 0.02, row
