"""What each playbook entry gains over the shipped unit, alone and in the default core.

    python benchmarks/playbook_gains.py > docs/playbook.md

Both sides are mapped with the same fixed recipe of `evaluators/silicon/synthesis.py`, so a gain is
the rewrite's and not that of other synthesis settings. Every entry is first simulated against its
contract.
"""

import argparse
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from amaranth.sim import Simulator

from evaluators.silicon.assembly import assemble
from evaluators.silicon.liberty import default_liberty_path, load_library
from evaluators.silicon.sta import Timing, analyze
from evaluators.silicon.synthesis import synthesize
from evaluators.silicon.yosys import yosys_version
from hwlib.config import AcceleratorConfig
from hwlib.contracts.table import CONTRACTS
from hwlib.edit import UnitName, UnitTiming
from hwlib.elaborate import UnitNetlist, elaborate, elaborate_unit, shipped_source


@dataclass(frozen=True)
class Cost:
    """Area and slowest path of a unit or a core."""

    area_um2: float
    timing: Timing


PLAYBOOK = Path(__file__).parents[1] / "agents" / "playbook"
SEED = 1


def header(source: str, name: str) -> str:
    """A line `name: value` of the entry's docstring."""
    match = re.search(rf"^{name}:\s*(\S+)\s*$", source, re.MULTILINE)
    if match is None:
        raise SystemExit(f"the docstring lacks a line `{name}:`")
    return match[1]


def mismatches(unit: UnitName, source: str, latency: int) -> int:
    """Wrong outputs over the contract's stimulus."""
    contract = CONTRACTS[unit]
    namespace: dict[str, object] = {"__name__": unit}
    exec(compile(source, unit, "exec"), namespace)
    dut = namespace[contract.class_name]()  # type: ignore[operator]
    stimulus = contract.stimulus(latency, SEED)
    expected = contract.expected(stimulus, latency)
    wrong = 0

    async def bench(context):  # type: ignore[no-untyped-def]
        nonlocal wrong
        for t in range(len(next(iter(stimulus.values())))):
            for port, values in stimulus.items():
                context.set(getattr(dut, port), int(values[t]))
            for port, values in expected.values.items():
                if expected.checked[port][t]:
                    wrong += context.get(getattr(dut, port)) != int(values[t])
            await context.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(bench)
    simulator.run()
    return wrong


def gain(new: float, old: float) -> str:
    return f"{new / old - 1:+.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache-dir", type=Path, default=Path.home() / ".cache/dovetail/silicon")
    arguments = parser.parse_args()

    liberty = default_liberty_path()
    library = load_library(liberty, arguments.cache_dir)

    def cost(rtlil: str, top: str) -> Cost:
        mapped = synthesize(rtlil, library, liberty, arguments.cache_dir, top)
        core = assemble(mapped, library)
        area_um2 = mapped.cell_area_um2 + core.buffer_area_um2 + core.macro_area_um2
        return Cost(area_um2, analyze(core))

    config = AcceleratorConfig()
    shipped_unit = {
        unit: cost(elaborate_unit(unit, shipped_source(unit)).rtlil, unit) for unit in CONTRACTS
    }
    shipped_core = cost(elaborate(config), "accelerator")
    rows = []
    netlists: dict[UnitName, list[tuple[str, UnitNetlist]]] = {unit: [] for unit in CONTRACTS}
    for path in sorted(PLAYBOOK.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        unit: UnitName = header(source, "unit")  # type: ignore[assignment]
        latency = int(header(source, "latency"))
        wrong = mismatches(unit, source, latency)
        if wrong:
            raise SystemExit(f"{path.name}: {wrong} outputs differ from the contract")
        netlist = elaborate_unit(unit, source, UnitTiming(latency=latency))
        alone, old = cost(netlist.rtlil, unit), shipped_unit[unit]
        core = cost(elaborate(config, {unit: netlist}), "accelerator")
        rows.append((path.stem, latency, alone, old, core))
        netlists[unit].append((path.stem, netlist))
    pairs = [
        (
            f"`{one}` + `{other}`",
            cost(elaborate(config, {"element": a, "requantizer": b}), "accelerator"),
        )
        for one, a in netlists["element"]
        for other, b in netlists["requantizer"]
    ]
    print_table(rows, shipped_unit, shipped_core, pairs)


def print_table(rows, shipped_unit, shipped_core, pairs) -> None:  # type: ignore[no-untyped-def]
    print(
        "# The playbook's gains\n\n"
        "Made by `python benchmarks/playbook_gains.py > docs/playbook.md` with pyosys "
        f"{yosys_version()} on {platform.machine()}, Nangate 45 nm, typical corner, before "
        "layout; every\nentry and every shipped unit mapped with the same fixed recipe. "
        "`unit`: the unit alone, ports\nincluded in its paths. `core`: the default 8 x 8 core "
        "with that one unit replaced, SRAM macros\nincluded in its area. Every entry was "
        f"simulated against its contract (seed {SEED}) without a\ndifference.\n"
    )
    print(
        "| entry | latency | unit area um2 | | unit path ns | | core area um2 | | core path ns | |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for unit, alone in shipped_unit.items():
        print(
            f"| shipped `{unit}` | | {alone.area_um2:,.0f} | | "
            f"{alone.timing.worst_path_s * 1e9:.3f} | | {shipped_core.area_um2:,.0f} | | "
            f"{shipped_core.timing.worst_path_s * 1e9:.3f} | |"
        )
    for name, latency, alone, old, core in rows:
        print(
            f"| `{name}` | {latency} | {alone.area_um2:,.0f} | "
            f"{gain(alone.area_um2, old.area_um2)} | {alone.timing.worst_path_s * 1e9:.3f} | "
            f"{gain(alone.timing.worst_path_s, old.timing.worst_path_s)} | "
            f"{core.area_um2:,.0f} | {gain(core.area_um2, shipped_core.area_um2)} | "
            f"{core.timing.worst_path_s * 1e9:.3f} | "
            f"{gain(core.timing.worst_path_s, shipped_core.timing.worst_path_s)} |"
        )
    for names, core in pairs:
        print(
            f"| {names} | | | | | | {core.area_um2:,.0f} | "
            f"{gain(core.area_um2, shipped_core.area_um2)} | "
            f"{core.timing.worst_path_s * 1e9:.3f} | "
            f"{gain(core.timing.worst_path_s, shipped_core.timing.worst_path_s)} |"
        )
    fastest = min((core for _, core in pairs), key=lambda core: core.timing.worst_path_s)
    print(
        "\nThe core's clock is that of its slowest path: one fast unit uncovers the next slowest. "
        f"The\nshipped core's slowest path ends in `{shipped_core.timing.end}`,\n"
        f"the fastest pair's in `{fastest.timing.end}`,\n"
        f"most of it in `{fastest.timing.slowest_module}`."
    )


if __name__ == "__main__":
    main()
