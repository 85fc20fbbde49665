"""Energy of one inference of `tiny-vlm`, from the switching of the core's own gates.

    PYTHONPATH=. python benchmarks/inference_energy.py [--rows 8] [--columns 8] [--composable]
        [--seeds 3]

The core is mapped and timed, the first validation question of an image set runs on its RTL in
Verilator, ports and registers are recorded in windows that a seed draws, and the mapped netlist of
each module is evaluated under them; every output port has to give what the RTL gave, cycle by
cycle. Beside it stands the energy that the search models. Typical corner, before layout, no
glitches, no clock tree.
"""

import argparse
import time
from importlib.metadata import version

import numpy as np

from evaluators import cache
from evaluators.energy import modelled_energy
from evaluators.latency import Programs, dram_of, one_question_a_set
from evaluators.pipeline import Pipeline
from evaluators.silicon.activity import CYCLES, WINDOWS, activities, watch
from evaluators.silicon.assembly import assemble
from evaluators.silicon.core_power import CorePower, SramAccesses, core_power
from evaluators.silicon.liberty import default_liberty_path, load_library
from evaluators.silicon.liberty_power import load_power
from evaluators.silicon.simulation import CoreRun, simulate_core
from evaluators.silicon.sta import analyze_nets
from evaluators.silicon.synthesis import synthesize
from evaluators.target import Target
from evaluators.traffic import Traffic, traffic
from hwlib.config import Banks, CoreConfig
from hwlib.cycles import CoreLatencies
from hwlib.elaborate import elaborate_core
from hwlib.timeline import timeline
from hwlib.unit_latencies import shipped_latencies
from swopt.compiler.integer_model import integer_model
from swopt.plan import CompressionPlan


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--composable", action="store_true")
    parser.add_argument("--seeds", type=int, default=3, help="draws of windows")
    chosen = parser.parse_args()
    config = CoreConfig.model_validate(
        {"rows": chosen.rows, "columns": chosen.columns, "composable": chosen.composable}
    )
    print(f"pyosys {version('pyosys')}, verilator {version('verilator')}, torch {version('torch')}")
    store, target, liberty = cache.root(), Target(), default_liberty_path()
    rtlil = elaborate_core(config, {})
    library = load_library(liberty, store / "silicon")
    power = load_power(liberty, store / "silicon")
    mapped = synthesize(rtlil, library, liberty, store / "silicon")
    assembled = assemble(mapped, library)
    timing, transition_s = analyze_nets(assembled)
    clock_hz = timing.clock_hz

    workload = Pipeline()._workload()
    model = integer_model(workload, CompressionPlan(), config.exponential_entries)
    inputs = model.host.inputs(one_question_a_set(workload))[0]
    program = Programs(model.network, config).of(inputs)
    dram = dram_of(target, config, clock_hz)
    latencies = CoreLatencies.of(shipped_latencies(config))
    predicted = timeline(program.commands, config, dram, latencies).total_cycles
    moved = traffic(program.commands, config)

    def run(seed: int) -> tuple[CoreRun, CorePower, float]:
        watched = watch(mapped, assembled, predicted, np.random.default_rng(seed))
        done = simulate_core(
            rtlil, program.commands, program.dram, config, store / "simulators", dram,
            recording=watched.recording,
        )  # fmt: skip
        begin = time.process_time()
        found = activities(watched, done, mapped, library)
        accesses = sram_accesses(moved, config, done.total_cycles)
        parts = core_power(
            mapped, assembled, transition_s, library, power, found, accesses, clock_hz
        )
        return done, parts, time.process_time() - begin

    runs = [run(seed) for seed in range(chosen.seeds)]
    cycles = runs[0][0].total_cycles
    latency_s = cycles / clock_hz
    with_cells = sum(bool(module.cell_names) for module in mapped.modules.values())
    print(
        f"{config.rows} x {config.columns}, {'composable' if config.composable else 'fixed'}; "
        f"{cycles:,} cycles at {clock_hz / 1e6:.0f} MHz; {WINDOWS} windows of {CYCLES} cycles; "
        f"{with_cells} modules reproduce the RTL's ports; gates and power "
        f"{np.median([seconds for *_, seconds in runs]):.1f} s of one processor\n"
    )
    print("| part | measured on the netlist, uJ | seeds, least .. most |\n|---|---|---|")
    rows = {name: [getattr(parts, name) for _, parts, _ in runs] for name in PARTS}
    rows["total_w"] = [parts.total_w for _, parts, _ in runs]
    for name, watts in rows.items():
        micro = [1e6 * latency_s * w for w in watts]
        print(
            f"| {name.removesuffix('_w')} | {np.median(micro):.3f} | {min(micro):.3f} .. "
            f"{max(micro):.3f} |"
        )
    dram_j = moved.dram_bytes * target.dram_energy_j_per_byte
    print(f"| DRAM (bytes x cited energy) | {1e6 * dram_j:.3f} | |")
    modelled = modelled_energy(moved, config, target, latency_s, mapped.leakage_w)
    print("\n| part | modelled by the search, uJ |\n|---|---|")
    for name, joules in {**modelled.model_dump(), "total_j": modelled.total_j}.items():
        print(f"| {name.removesuffix('_j')} | {1e6 * joules:.3f} |")


PARTS = ("logic_w", "clock_w", "sram_w", "logic_leakage_w", "sram_leakage_w")


def sram_accesses(moved: Traffic, config: CoreConfig, cycles: int) -> dict[str, SramAccesses]:
    """Mean accesses a cycle of each macro, of all its instances together."""
    counted: list[tuple[Banks, int, int]] = [
        (config.activation_memory, moved.activation_reads, moved.activation_writes),
        (config.weight_memory, moved.weight_reads, moved.weight_writes),
        (config.channel_tables, moved.channel_reads, moved.channel_writes),
    ]
    found: dict[str, SramAccesses] = {}
    for memory, reads, writes in counted:
        name = f"sram_{memory.words}x{memory.bits}"
        before = found.get(name, SramAccesses(reads=0, writes=0))
        found[name] = SramAccesses(
            reads=before.reads + reads / cycles, writes=before.writes + writes / cycles
        )
    return found


if __name__ == "__main__":
    main()
