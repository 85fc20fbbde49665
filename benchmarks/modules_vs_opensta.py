"""Worst path and power at uniform activity of every module of two cores, beside OpenSTA's of 2019.

    PYTHONPATH=. python benchmarks/modules_vs_opensta.py [--bounds]      (apt-get install opensta)

The modules are those of the default core with fixed and with composable elements that hold no SRAM,
each with all that stands in it, mapped as for a measurement. Both tools get the same flat Verilog
netlist, the Liberty file, its default wire load, an ideal clock, and the input transition, port
loads and delays that `evaluators/silicon/sta.py` states; every net toggles .2 times a cycle and is
high half of the time, pins independent of each other. Capacitance of clock pins is in neither's
power.

Debian's OpenSTA takes the internal energies of a rise and of a fall together for each toggle, which
is one of them, and where a cell has several tables it adds up more than one for a toggle. So
internal power is compared where a cell has one table alone, inverters, buffers and flip-flops, and
with half of what OpenSTA says; `benchmarks/power_vs_opensta.py` compares all of it with a current
version, which does neither. `--bounds` ends with an error where a path is off by more than 2 %, or
a part of power by more than 10 %. Prints Markdown.
"""

import argparse
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.power_vs_opensta import GLOBAL_DUTY, GLOBAL_TOGGLES, parts
from evaluators.silicon.assembly import PORT_LOAD_F, Assembly, assemble
from evaluators.silicon.flattening import flattened
from evaluators.silicon.gates import uniform_activity
from evaluators.silicon.liberty import Library, default_liberty_path, load_library
from evaluators.silicon.liberty_power import load_power
from evaluators.silicon.linking import link
from evaluators.silicon.memory import is_sram
from evaluators.silicon.power import PowerModel, cell_powers
from evaluators.silicon.sta import INPUT_TRANSITION_S, analyze_nets
from evaluators.silicon.synthesis import Synthesis, synthesize
from hwlib.config import CoreConfig
from hwlib.elaborate import TOP, elaborate_core

PERIOD_NS = 10.0
BOUNDS = {"path_s": 0.02, "switching_w": 0.10, "leakage_w": 0.10, "internal_w": 0.10}
"""How far each figure may depart from OpenSTA's."""

ONE_TABLE = re.compile(r"(INV|BUF|CLKBUF|DFF)_X\d+")
"""Cells whose toggles have one table of internal energy each."""


class Figures(NamedTuple):
    """What a tool says of a module."""

    path_s: float
    """Worst path, clock edge to clock edge."""

    switching_w: float
    """Of all cells."""

    leakage_w: float
    """Of all cells."""

    internal_w: float
    """Of the cells with one table; OpenSTA's halved."""

    whole_internal_w: float
    """Of all cells, as the tool says it."""


def flat_verilog(assembly: Assembly) -> str:
    """A laid-out netlist as Verilog: a wire a net, plain identifiers, no `signed`."""
    lines = [f"wire n{net};" for net in range(1, assembly.nets)]
    lines.append("wire n0; assign n0 = 1'b0;")
    outputs = _outputs(assembly)
    pins = assembly.pin_net.tolist()
    pin = 0
    for k, kind in enumerate(assembly.cell_type.tolist()):
        name = assembly.type_names[kind]
        timing = assembly.tables.cells[name]
        connections = []
        for input_name in timing.inputs:
            net = "clk" if input_name in timing.clocks else f"n{pins[pin]}"
            connections.append(f".{input_name}({net})")
            pin += 1
        connections += [f".{o}(n{net})" for o, net in outputs.get(k, {}).items()]
        lines.append(f"{name} c{k} ({', '.join(connections)});")
    ports = ["input clk;"]
    ports += [f"input i{k}; assign n{n} = i{k};" for k, n in enumerate(assembly.inputs.tolist())]
    ports += [f"output o{k}; assign o{k} = n{n};" for k, n in enumerate(assembly.outputs.tolist())]
    names = ["clk", *(f"i{k}" for k in range(len(assembly.inputs)))]
    names += [f"o{k}" for k in range(len(assembly.outputs))]
    return "\n".join([f"module top ({', '.join(names)});", *ports, *lines, "endmodule", ""])


def _outputs(assembly: Assembly) -> dict[int, dict[str, int]]:
    """Nets of each cell's output pins, read off its timing edges."""
    found: dict[int, dict[str, int]] = {}
    tables = {}
    for name, timing in assembly.tables.cells.items():
        for pin, *_, table in timing.launches.tolist():
            tables[name, "launch", table] = timing.outputs[pin]
    for net, _, table, cell in assembly.launches.tolist():
        name = assembly.type_names[assembly.cell_type[cell]]
        found.setdefault(cell, {}).setdefault(tables[name, "launch", table], net)
    for _, _, net, _, _, cell in assembly.delays.tolist():
        outputs = assembly.tables.cells[assembly.type_names[assembly.cell_type[cell]]].outputs
        assert len(outputs) == 1, f"{assembly.type_names[assembly.cell_type[cell]]}: {outputs}"
        found.setdefault(cell, {})[outputs[0]] = net
    return found


def opensta(assembly: Assembly, library: Library, liberty: Path) -> Figures:
    """OpenSTA's figures."""
    with tempfile.TemporaryDirectory() as folder:
        netlist = Path(folder) / "top.v"
        netlist.write_text(flat_verilog(assembly))
        script = Path(folder) / "run.tcl"
        script.write_text(
            f"""read_liberty {liberty}
read_verilog {netlist}
link_design top
create_clock -name clk -period {PERIOD_NS} [get_ports clk]
set_wire_load_model -name {library.wire_load_name}
set_input_transition {INPUT_TRANSITION_S * 1e9} [all_inputs]
set_input_delay 0 -clock clk [all_inputs]
set_output_delay 0 -clock clk [all_outputs]
set_load {PORT_LOAD_F * 1e15} [all_outputs]
set_power_activity -global -activity {GLOBAL_TOGGLES} -duty {GLOBAL_DUTY}
report_checks -path_delay max -digits 6
report_power -instances [get_cells *] -digits 6
exit
"""
        )
        done = subprocess.run(
            ["sta", "-exit", str(script)], capture_output=True, text=True, timeout=600, check=False
        )
    report = done.stdout + done.stderr
    slack = re.findall(r"^\s*(-?\d+\.\d+)\s+slack", report, re.MULTILINE)
    rows = re.findall(r"^\s*(\S+)\s+(\S+)\s+(\S+)\s+\S+\s+c(\d+)\s*$", report, re.MULTILINE)
    kinds = assembly.cell_type.tolist()
    if re.search(r"\bError\b", report) or len(slack) != 1 or len(rows) != len(kinds):
        raise SystemExit(f"OpenSTA failed:\n{report[-2000:]}")
    internal, switching, leakage = (np.array([float(row[k]) for row in rows]) for k in range(3))
    of = [assembly.type_names[kinds[int(row[3])]] for row in rows]
    one = np.array([bool(ONE_TABLE.fullmatch(kind)) for kind in of])
    return Figures(
        path_s=(PERIOD_NS - float(slack[0])) * 1e-9,
        switching_w=float(switching.sum()),
        leakage_w=float(leakage.sum()),
        internal_w=float(internal[one].sum()) / 2,
        whole_internal_w=float(internal.sum()),
    )


def ours(synthesis: Synthesis, assembly: Assembly, library: Library, cache_dir: Path) -> Figures:
    """The project's figures."""
    timing, transition_s = analyze_nets(assembly)
    module, nets = flattened(synthesis, assembly)
    power = load_power(default_liberty_path(), cache_dir)
    model = PowerModel(library, power, [group.type for group in module.groups])
    activity = uniform_activity(module, GLOBAL_TOGGLES, GLOBAL_DUTY)
    cells = cell_powers(module, model, activity, transition_s[nets], assembly.load_f[nets])
    clock_hz = 1e9 / PERIOD_NS
    one = np.zeros(len(module.cell_names), np.int64)
    for group in module.groups:
        one[list(group.at)] = bool(ONE_TABLE.fullmatch(group.type))
    whole, part = parts(cells, clock_hz, None), parts(cells, clock_hz, one)
    return Figures(
        path_s=timing.worst_path_s,
        switching_w=whole["switching_w"],
        leakage_w=whole["leakage_w"],
        internal_w=part["internal_w"],
        whole_internal_w=whole["internal_w"],
    )


def modules(cache_dir: Path) -> Iterator[tuple[str, Synthesis]]:
    """Every module of both cores that holds no SRAM, mapped; equal ones once."""
    liberty = default_liberty_path()
    library = load_library(liberty, cache_dir)
    seen: set[str] = set()
    for kind in ("fixed", "composable"):
        rtlil = elaborate_core(CoreConfig(composable=kind == "composable"))
        rtlil = rtlil.replace("attribute \\top 1\n", "")
        for raw in link(rtlil, TOP).modules:
            name = raw.removeprefix("\\")
            below = link(rtlil, name).modules
            whole = "".join(module.body for module in below.values())
            if whole in seen or any(map(is_sram, (each.removeprefix("\\") for each in below))):
                continue
            seen.add(whole)
            yield f"{kind}, `{name}`", synthesize(rtlil, library, liberty, cache_dir, name)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bounds", action="store_true", help="fail where bounds are not kept")
    chosen = parser.parse_args()
    if shutil.which("sta") is None:
        raise SystemExit("OpenSTA is missing: apt-get install opensta")
    liberty = default_liberty_path()
    print("| module | cells | path, ns | | switching, µW | | leakage, µW | | ", end="")
    print("internal of cells with one table, µW | | of all cells, µW |")
    print("|---" * 11 + "|")
    out: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        cache_dir = Path(folder)
        library = load_library(liberty, cache_dir)
        for name, synthesis in modules(cache_dir):
            assembly = assemble(synthesis, library, buffered=False)
            mine = ours(synthesis, assembly, library, cache_dir)
            theirs = opensta(assembly, library, liberty)
            print(f"| {name} | {len(assembly.cell_type):,} | {beside(mine, theirs)} |", flush=True)
            out += [f"{name}: {what}" for what in beyond(mine, theirs)]
    for line in out:
        print(f"\nout of bounds: {line}")
    if chosen.bounds and out:
        raise SystemExit(1)


def beside(mine: Figures, theirs: Figures) -> str:
    """The cells of a row: our figure, OpenSTA's, and the departure."""
    cells = []
    for name, bound in BOUNDS.items():
        scale, digits = (1e9, 4) if name == "path_s" else (1e6, 1)
        one, other = getattr(mine, name) * scale, getattr(theirs, name) * scale
        off = f"{one / other - 1:+.{2 if bound < 0.1 else 1}%}" if other else ""
        cells += [f"{one:,.{digits}f} / {other:,.{digits}f}", off]
    whole = f"{mine.whole_internal_w * 1e6:,.1f} / {theirs.whole_internal_w * 1e6:,.1f}"
    return " | ".join([*cells, whole])


def beyond(mine: Figures, theirs: Figures) -> list[str]:
    """What departs further than its bound."""
    return [
        name
        for name, bound in BOUNDS.items()
        if abs(getattr(mine, name) - getattr(theirs, name)) > bound * getattr(theirs, name)
    ]


if __name__ == "__main__":
    main()
