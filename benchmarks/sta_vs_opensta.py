"""Worst path of our static timing beside OpenSTA's, on the same mapped netlists.

    python benchmarks/sta_vs_opensta.py MODULE.il[:TOP] ...     (apt-get install opensta)

The whole design is written as one flat Verilog netlist, buffers of global nets included, so both
tools see the same cells and nets. OpenSTA gets the Liberty file, the default wire load, an ideal
clock, and the input transition, port loads and delays that `evaluators/silicon/sta.py` states.
SRAM macros are not written: designs with macros are refused.
"""

import argparse
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from evaluators.silicon.assembly import PORT_LOAD_F, Assembly, assemble
from evaluators.silicon.liberty import Library, default_liberty_path, load_library
from evaluators.silicon.sta import INPUT_TRANSITION_S, analyze
from evaluators.silicon.synthesis import Synthesis, synthesize

PERIOD_NS = 10.0


def flat_verilog(synthesis: Synthesis, assembly: Assembly, library: Library) -> str:
    """The assembled core as Verilog: a wire a net, plain identifiers, no `signed`."""
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
    buffer = assembly.tables.cells[assembly.buffer_cell]
    for k in range(assembly.buffers):
        net = outputs[-1 - k][buffer.outputs[0]]
        source = pins[len(pins) - assembly.buffers + k]
        lines.append(
            f"{assembly.buffer_cell} b{k} "
            f"(.{buffer.inputs[0]}(n{source}), .{buffer.outputs[0]}(n{net}));"
        )
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
        name = assembly.buffer_cell if cell < 0 else assembly.type_names[assembly.cell_type[cell]]
        outputs = assembly.tables.cells[name].outputs
        assert len(outputs) == 1, f"{name} has several outputs"
        found.setdefault(cell, {})[outputs[0]] = net
    return found


def opensta(verilog: str, library: Library, liberty: Path) -> tuple[float, str]:
    """OpenSTA's worst path in seconds, clock edge to clock edge, and its report."""
    with tempfile.TemporaryDirectory() as folder:
        netlist = Path(folder) / "top.v"
        netlist.write_text(verilog)
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
report_checks -path_delay max -fields {{slew cap}} -digits 6
exit
"""
        )
        done = subprocess.run(
            ["sta", "-exit", str(script)], capture_output=True, text=True, timeout=600, check=False
        )
    report = done.stdout + done.stderr
    slack = re.findall(r"^\s*(-?\d+\.\d+)\s+slack", report, re.MULTILINE)
    if re.search(r"\bError\b", report) or len(slack) != 1:
        raise SystemExit(f"OpenSTA failed:\n{report[-2000:]}")
    return (PERIOD_NS - float(slack[0])) * 1e-9, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("designs", nargs="+", help="RTLIL file, then :TOP if not `accelerator`")
    parser.add_argument("--cache-dir", type=Path, default=Path.home() / ".cache/dovetail/silicon")
    parser.add_argument("--report", action="store_true", help="print both paths")
    arguments = parser.parse_args()
    if shutil.which("sta") is None:
        raise SystemExit("OpenSTA is missing: apt-get install opensta")
    liberty = default_liberty_path()
    library = load_library(liberty, arguments.cache_dir)
    print(f"{'design':36} {'cells':>8} {'ours / ns':>10} {'OpenSTA / ns':>13} {'difference':>11}")
    for design in arguments.designs:
        file, _, top = design.partition(":")
        synthesis = synthesize(
            Path(file).read_text(), library, liberty, arguments.cache_dir, top or "accelerator"
        )
        if synthesis.macros:
            raise SystemExit(f"{file} has SRAM macros, which OpenSTA is not told about")
        assembly = assemble(synthesis, library)
        timing = analyze(assembly)
        theirs_s, report = opensta(flat_verilog(synthesis, assembly, library), library, liberty)
        difference = timing.worst_path_s / theirs_s - 1
        label = f"{Path(file).stem} {synthesis.top}"
        print(
            f"{label:36} {len(assembly.cell_type):8} {timing.worst_path_s * 1e9:10.4f} "
            f"{theirs_s * 1e9:13.4f} {difference:11.2%}",
            flush=True,
        )
        if arguments.report:
            print(report)
            for step in timing.path:
                print(f"{step.name:24} {step.cell:10} {step.edge:5} {step.delay_s * 1e9:.6f}")


if __name__ == "__main__":
    main()
