"""Power and worst path beside a current OpenSTA's, part by part, with real switching activity.

    python benchmarks/power_vs_opensta.py FOLDER [--cells] [--bounds]

FOLDER holds two mapped modules, their stimuli and OpenSTA's figures: `reference.json`, `mac.v`,
`dot8.v` and `<module>_<activity>.hex`. Three things are set as the reference has them: no wire load
(its notes say otherwise, but each net's load there is that of its pins, and its worst path comes
out to four digits without wire), no load on ports, no buffers.

"independent" counts the pins of a cell as independent of each other, as OpenSTA does; "joint"
counts them as they were simulated, which is what the project uses. `--cells` adds both by cell
type where a cell-by-cell file is there; `--bounds` ends with an error where "independent" is off by
more than 5 % in total or 10 % in a part, or the path by more than 2 %.
"""

import argparse
import csv
import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluators.silicon.assembly import Assembly, assemble
from evaluators.silicon.gates import (
    Activity,
    evaluate,
    integer_bits,
    stimulus,
    uniform_activity,
)
from evaluators.silicon.liberty import (
    Library,
    WireLoad,
    default_liberty_path,
    load_library,
)
from evaluators.silicon.liberty_power import PowerLibrary, load_power
from evaluators.silicon.mapped import read_mapped
from evaluators.silicon.power import CellPowers, PowerModel, cell_powers
from evaluators.silicon.sta import analyze_nets
from evaluators.silicon.synthesis import MappedModule

PORTS = {"mac": (("a", 8), ("b", 8), ("clr", 1)), "dot8": (("a", 64), ("b", 64))}
"""Ports of each module in the order of its stimulus, the highest bits first."""

RESET_CYCLES = 4
"""Cycles in reset before the stimulus, its inputs at 0."""

GLOBAL_TOGGLES, GLOBAL_DUTY = 0.2, 0.5
"""The reference's `global` activity, of every net."""

PARTS = ("internal_w", "switching_w", "leakage_w", "total_w")
BOUNDS = {"internal_w": 0.10, "switching_w": 0.10, "leakage_w": 0.10, "total_w": 0.05}
PATH_BOUND = 0.02


class Row(NamedTuple):
    """One line of the table."""

    module: str
    activity: str
    pins: str
    """`independent` or `joint`."""
    cells: str
    """`sequential`, `combinational` or `total`."""
    part: str
    ours: float
    reference: float

    @property
    def error(self) -> float:
        """Relative departure."""
        return self.ours / self.reference - 1


class Netlist(NamedTuple):
    """A reference module as the reference has it, and its libraries."""

    module: MappedModule
    assembly: Assembly
    library: Library
    power: PowerLibrary


def read(folder: Path, name: str, cache_dir: Path) -> Netlist:
    """A module of the reference: no wire, no load on ports, no buffers."""
    liberty = default_liberty_path()
    library = load_library(liberty, cache_dir)
    wireless = library.model_copy(
        update={"wire_load": WireLoad(capacitance_f_per_length=0.0, lengths=(0.0,), slope=0.0)}
    )
    text = (folder / f"{name}.v").read_text()
    synthesis = read_mapped(text, name, library, liberty, cache_dir)
    assembly = assemble(synthesis, wireless, port_load_f=0.0, buffered=False)
    return Netlist(synthesis.modules[name], assembly, library, load_power(liberty, cache_dir))


def activity_of(netlist: Netlist, folder: Path, activity: str) -> Activity:
    """The activity of a stimulus of the reference, or its `global` one."""
    module = netlist.module
    if activity == "global":
        return uniform_activity(module, GLOBAL_TOGGLES, GLOBAL_DUTY)
    lines = (folder / f"{module.name}_{activity}.hex").read_text().split()
    words = [0] * RESET_CYCLES + [int(line, 16) for line in lines]
    ports, below = {}, 0
    for port, width in reversed(PORTS[module.name]):
        ports[port] = integer_bits([word >> below for word in words], width)
        below += width
    ports["rst"] = integer_bits([int(t < RESET_CYCLES) for t in range(len(words))], 1)
    return evaluate(module, netlist.library, stimulus(module, ports), RESET_CYCLES)


def powers(netlist: Netlist, activity: Activity) -> CellPowers:
    """Power of each cell."""
    module, assembly = netlist.module, netlist.assembly
    model = PowerModel(netlist.library, netlist.power, [group.type for group in module.groups])
    nets = assembly.instance_nets[0]
    _, transition_s = analyze_nets(assembly)
    return cell_powers(module, model, activity, transition_s[nets], assembly.load_f[nets])


def parts(cells: CellPowers, clock_hz: float, which: np.ndarray | None) -> dict[str, float]:
    """The reference's parts; capacitance of clock pins is in none of them."""
    power = cells.at(clock_hz, which)
    found = {
        "internal_w": power.internal_w + power.clock_internal_w,
        "switching_w": power.switching_w,
        "leakage_w": power.leakage_w,
    }
    return found | {"total_w": sum(found.values())}


def power_rows(folder: Path, cache_dir: Path) -> Iterator[Row]:
    """Power of all modules and activities."""
    reference = json.loads((folder / "reference.json").read_text())
    clock_hz = 1e9 / reference["meta"]["clock_period_ns"]
    for name in PORTS:
        netlist = read(folder, name, cache_dir)
        for activity in reference["meta"]["activity"]:
            found = activity_of(netlist, folder, activity)
            for pins, used in (("independent", found.of_nets()), ("joint", found)):
                if used.states is None and pins == "joint":
                    continue  # nothing was simulated
                cells = powers(netlist, used)
                for group, which in (
                    ("sequential", cells.sequential),
                    ("combinational", 1 - cells.sequential),
                    ("total", None),
                ):
                    theirs = reference["modules"][name][activity]["power"][group]
                    for part, ours in parts(cells, clock_hz, which).items():
                        yield Row(name, activity, pins, group, part, ours, theirs[part])


def path_rows(folder: Path, cache_dir: Path) -> Iterator[tuple[str, float, float]]:
    """Module, our worst path and the reference's, ns."""
    reference = json.loads((folder / "reference.json").read_text())
    for name in PORTS:
        timing = reference["modules"][name]["timing"]
        worst_path_s = analyze_nets(read(folder, name, cache_dir).assembly)[0].worst_path_s
        yield name, worst_path_s * 1e9, timing["arrival_ns"] + timing["setup_ns"]


def cell_rows(folder: Path, cache_dir: Path) -> Iterator[Row]:
    """Power by cell type, of the modules that have a file of cells."""
    clock_hz = 1e9 / json.loads((folder / "reference.json").read_text())["meta"]["clock_period_ns"]
    for file in sorted(folder.glob("*_cells.csv")):
        name, activity, _ = file.stem.split("_")
        netlist = read(folder, name, cache_dir)
        theirs = {row["instance"]: row for row in csv.DictReader(file.read_text().splitlines())}
        module = netlist.module
        found = activity_of(netlist, folder, activity)
        for pins, used in (("independent", found.of_nets()), ("joint", found)):
            cells = powers(netlist, used)
            for kind in sorted({group.type for group in module.groups}):
                at = [k for group in module.groups if group.type == kind for k in group.at]
                which = np.zeros(len(module.cell_names), dtype=np.int64)
                which[at] = 1
                for part, ours in parts(cells, clock_hz, which).items():
                    reference = sum(float(theirs[module.cell_names[k]][part]) for k in at)
                    yield Row(name, activity, pins, kind, part, ours, reference)


def within(row: Row) -> bool:
    """Whether a row that is held to bounds keeps them."""
    held = row.pins == "independent" and row.cells == "total"
    return not held or abs(row.error) <= BOUNDS[row.part]


def show(rows: Iterable[Row]) -> list[Row]:
    """Prints a table, our uW before OpenSTA's, and returns what is out of bounds."""
    print(
        f"| module | activity | pins | cells | {' | '.join(p.removesuffix('_w') for p in PARTS)} |"
    )
    print("|---" * (4 + len(PARTS)) + "|")
    out = []
    for key, group in itertools.groupby(rows, key=lambda row: row[:4]):
        own = list(group)
        figures = [f"{r.ours * 1e6:.2f} / {r.reference * 1e6:.2f} {r.error:+.2%}" for r in own]
        print(f"| {' | '.join([*key, *figures])} |", flush=True)
        out += [row for row in own if not within(row)]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the reference's files")
    parser.add_argument("--cache-dir", type=Path, help="where parsed libraries are kept")
    parser.add_argument("--cells", action="store_true", help="add a table by cell type")
    parser.add_argument("--bounds", action="store_true", help="fail where bounds are not kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        cache_dir = arguments.cache_dir or Path(temporary)
        print("| module | worst path, ours / ns | OpenSTA / ns | departure |\n|---|---|---|---|")
        late = []
        for name, ours, theirs in path_rows(arguments.folder, cache_dir):
            print(f"| {name} | {ours:.4f} | {theirs:.4f} | {ours / theirs - 1:+.2%} |")
            if abs(ours / theirs - 1) > PATH_BOUND:
                late.append(name)
        print()
        out = show(power_rows(arguments.folder, cache_dir))
        if arguments.cells:
            print()
            show(cell_rows(arguments.folder, cache_dir))
    if arguments.bounds and (out or late):
        raise SystemExit(f"out of bounds: {len(out)} of power, {len(late)} of paths")


if __name__ == "__main__":
    main()
