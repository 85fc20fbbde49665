"""Energy of one inference of `tiny-vlm`, from the switching of the core's own gates.

    PYTHONPATH=. python benchmarks/inference_energy.py [--rows 8] [--columns 8] [--composable]
        [--seeds 6]

The core is mapped and timed, the first validation question of an image set runs on its RTL in
Verilator, ports and registers are recorded in windows that a seed draws, and the mapped netlist of
each module is evaluated under them, held to what the RTL did in every cycle. That is what the
search does for every design. Beside it stands the energy that is modelled where no RTL can be run.
Typical corner, before layout, no glitches, no clock tree.
"""

import argparse
import time
from dataclasses import replace
from importlib.metadata import version

import numpy as np

from evaluators import cache
from evaluators.energy import Energy, measured_energy, modelled_energy
from evaluators.latency import Programs, Ran, Rtl, dram_of, one_question_a_set
from evaluators.meter import PowerMeter
from evaluators.silicon.activity import CYCLES, WINDOWS
from evaluators.silicon.cost import map_core
from evaluators.silicon.liberty_power import load_power
from evaluators.target import Target
from evaluators.traffic import traffic
from hwlib.config import CoreConfig
from hwlib.cycles import CoreLatencies
from hwlib.elaborate import elaborate_core
from hwlib.timeline import timeline
from hwlib.unit_latencies import shipped_latencies
from swopt.compiler.integer_model import integer_model
from swopt.plan import CompressionPlan
from swopt.workloads.workload import load_workload


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--composable", action="store_true")
    parser.add_argument("--seeds", type=int, default=6, help="draws of windows")
    chosen = parser.parse_args()
    config = CoreConfig.model_validate(
        {"rows": chosen.rows, "columns": chosen.columns, "composable": chosen.composable}
    )
    print(f"pyosys {version('pyosys')}, verilator {version('verilator')}, torch {version('torch')}")
    store, target = cache.root(), Target()
    rtlil = elaborate_core(config, {})
    core = map_core(rtlil, store / "silicon")
    clock_hz = core.timing.clock_hz
    power = load_power(core.liberty, store / "silicon")

    workload = load_workload(None)
    model = integer_model(workload, CompressionPlan(), config.exponential_entries)
    inputs = model.host.inputs(one_question_a_set(workload))[0]
    program = Programs(model.network, config).of(inputs)
    dram = dram_of(target, config, clock_hz)
    latencies = CoreLatencies.of(shipped_latencies(config))
    predicted = timeline(program.commands, config, dram, latencies).total_cycles
    moved = traffic(program.commands, config)
    rtl = Rtl(rtlil, config, dram, store / "simulators")

    def run(seed: int) -> tuple[Ran, Energy, float]:
        meter = PowerMeter(core, power, config, clock_hz, seed)
        begin = time.process_time()
        ran = replace(rtl, meter=meter).run(program, predicted)
        seconds = time.process_time() - begin
        assert ran.power is not None
        latency_s = ran.cycles / clock_hz
        energy = measured_energy(
            ran.power, ran.cycles, clock_hz, latency_s, moved.dram_bytes, target
        )
        return ran, energy, seconds

    run(0)  # builds the simulator
    runs = [run(seed) for seed in range(chosen.seeds)]
    cycles = runs[0][0].cycles
    with_cells = sum(bool(module.cell_names) for module in core.synthesis.modules.values())
    print(
        f"{config.rows} x {config.columns}, {'composable' if config.composable else 'fixed'}; "
        f"{cycles:,} cycles at {clock_hz / 1e6:.0f} MHz; {WINDOWS} windows of {CYCLES} cycles; "
        f"{with_cells} modules do what the RTL does; simulation, gates and power "
        f"{np.median([seconds for *_, seconds in runs]):.1f} s of one processor\n"
    )
    modelled = modelled_energy(moved, config, target, cycles / clock_hz, core.synthesis.leakage_w)
    print("| part | measured, uJ, median | least .. most | modelled, uJ |\n|---|---|---|---|")
    for name in (*Energy.model_fields, "total_j"):
        micro = [1e6 * getattr(energy, name) for _, energy, _ in runs]
        print(
            f"| {name.removesuffix('_j')} | {np.median(micro):.3f} | {min(micro):.3f} .. "
            f"{max(micro):.3f} | {1e6 * getattr(modelled, name):.3f} |"
        )


if __name__ == "__main__":
    main()
