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
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from evaluators import cache
from evaluators.energy import Energy, measured_energy, modelled_energy
from evaluators.latency import Programs, Rtl, dram_of, one_question_a_set
from evaluators.meter import PowerMeter
from evaluators.silicon.activity import CYCLES, WINDOWS
from evaluators.silicon.cost import MappedCore, map_core
from evaluators.silicon.liberty_power import load_power
from evaluators.target import Target
from evaluators.traffic import Traffic, traffic
from hwlib.behaviour import built_of
from hwlib.config import CoreConfig
from hwlib.cycles import CoreLatencies
from hwlib.edit import CoreUnitName
from hwlib.elaborate import UnitNetlist, elaborate_core, latencies_of
from hwlib.timeline import timeline
from swopt.compiler.integer_model import integer_model
from swopt.compiler.program import Program
from swopt.plan import CompressionPlan
from swopt.workloads.workload import load_workload


@dataclass(frozen=True)
class Run:
    """One inference on the RTL, metered in one draw of windows."""

    cycles: int
    latency_s: float
    energy: Energy
    seconds: float
    """Of one processor: simulation, gates and power."""


@dataclass(frozen=True)
class Inference:
    """The first validation question of an image set on a mapped core."""

    config: CoreConfig
    rtlil: str
    core: MappedCore
    program: Program
    predicted_cycles: int
    moved: Traffic

    @classmethod
    def of(cls, config: CoreConfig, units: Mapping[CoreUnitName, UnitNetlist]) -> "Inference":
        """Maps a core, with some units replaced, and lowers w8a8 `tiny-vlm` onto it."""
        workload = load_workload(None)
        model = integer_model(
            workload, CompressionPlan(), config.exponential_entries, built_of(units)
        )
        rtlil = elaborate_core(config, units)
        core = map_core(rtlil, cache.root() / "silicon")
        inputs = model.host.inputs(one_question_a_set(workload))[0]
        program = Programs(model.network, config).of(inputs)
        latencies = CoreLatencies.of(latencies_of(config, units))
        dram = dram_of(Target(), config, core.timing.clock_hz)
        predicted = timeline(program.commands, config, dram, latencies).total_cycles
        return cls(config, rtlil, core, program, predicted, traffic(program.commands, config))

    def run(self, seed: int) -> Run:
        """Metered in windows that the seed draws."""
        clock_hz = self.core.timing.clock_hz
        power = load_power(self.core.liberty, cache.root() / "silicon")
        meter = PowerMeter(self.core, power, self.config, clock_hz, seed)
        dram = dram_of(Target(), self.config, clock_hz)
        rtl = Rtl(self.rtlil, self.config, dram, cache.root() / "simulators", meter=meter)
        begin = time.process_time()
        ran = rtl.run(self.program, self.predicted_cycles)
        seconds = time.process_time() - begin
        assert ran.power is not None
        latency_s = ran.cycles / clock_hz
        moved = self.moved.dram_bytes
        energy = measured_energy(ran.power, ran.cycles, clock_hz, latency_s, moved, Target())
        return Run(ran.cycles, latency_s, energy, seconds)


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
    inference = Inference.of(config, {})
    inference.run(0)  # builds the simulator
    runs = [inference.run(seed) for seed in range(chosen.seeds)]
    core, cycles = inference.core, runs[0].cycles
    with_cells = sum(bool(module.cell_names) for module in core.synthesis.modules.values())
    print(
        f"{config.rows} x {config.columns}, {'composable' if config.composable else 'fixed'}; "
        f"{cycles:,} cycles at {core.timing.clock_hz / 1e6:.0f} MHz; {WINDOWS} windows of {CYCLES} "
        f"cycles; {with_cells} modules do what the RTL does; simulation, gates and power "
        f"{np.median([run.seconds for run in runs]):.1f} s of one processor\n"
    )
    latency_s, leakage_w = runs[0].latency_s, core.synthesis.leakage_w
    modelled = modelled_energy(inference.moved, config, Target(), latency_s, leakage_w)
    print("| part | measured, uJ, median | least .. most | modelled, uJ |\n|---|---|---|---|")
    for name in (*Energy.model_fields, "total_j"):
        micro = [1e6 * getattr(run.energy, name) for run in runs]
        print(
            f"| {name.removesuffix('_j')} | {np.median(micro):.3f} | {min(micro):.3f} .. "
            f"{max(micro):.3f} | {1e6 * getattr(modelled, name):.3f} |"
        )


if __name__ == "__main__":
    main()
