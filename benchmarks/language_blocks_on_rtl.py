"""Blocks of SmolLM2-135M and its head on the RTL: what is predicted and modelled, beside what is
measured.

    python benchmarks/language_blocks_on_rtl.py [MODEL] [--blocks 0 15] [--bits 8] [--head]

The core is the baseline's of a language model, 8 x 8. Of each block the first piece of a prompt (as
many tokens as go through the core at once) and the token after it, with keys and values in DRAM;
every tensor is held to the integer model. The text is a validation module. Prints Markdown.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from evaluators import cache
from evaluators.energy import measured_energy, modelled_energy
from evaluators.language_cost import LanguageCost, Silicon, fitting, language_cost
from evaluators.language_energy import PartOnRtl
from evaluators.language_model import LanguageBench
from evaluators.language_rtl import HEAD_WORDS, LanguageRtl
from evaluators.latency import Rtl, dram_of
from evaluators.meter import PowerMeter, seed_of
from evaluators.silicon.cost import map_core, silicon_cost
from evaluators.silicon.liberty_power import load_power
from evaluators.target import Target
from evaluators.workloads import ROOM
from hwlib.cycles import CoreLatencies
from hwlib.elaborate import elaborate_core
from swopt.compiler.network import Network
from swopt.plan import CompressionPlan
from swopt.techniques.quantization import QuantizationKnobs
from swopt.workloads import language_models


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2-135m", help="name or folder")
    parser.add_argument("--blocks", type=int, nargs="*", default=[0, 15], help="which blocks")
    parser.add_argument("--bits", type=int, default=8, choices=range(2, 9), help="of weights")
    parser.add_argument("--head", action="store_true", help="the head, too (minutes)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    loaded = language_models.load(chosen.model)
    bench = LanguageBench(loaded)
    made = bench.compress(CompressionPlan(quantization=QuantizationKnobs(bits=chosen.bits)))
    network = fitting(made.network, ROOM)
    core = on_core(network)
    words, piece = made.words[bench.text("val")], core.cost.chunk_tokens
    print(f"{loaded.name}, {chosen.bits}-bit weights: {loaded.source}; a core of 8 x 8\n")
    print(
        "| what | cycles, RTL | predicted | values equal | energy, uJ | clock | modelled | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for index in chosen.blocks:
        core.show(core.rtl.block(f"decoder.{index}", words[: piece + 1], piece))
    if chosen.head:
        for count in (HEAD_WORDS, len(made.words)):
            core.show([core.rtl.head(words[:piece], count)])


@dataclass(frozen=True)
class OnCore:
    """The model on its core."""

    rtl: LanguageRtl
    cost: LanguageCost
    silicon: Silicon

    def show(self, rows: Sequence[PartOnRtl]) -> None:
        """Rows of the table."""
        for row in rows:
            run_s = row.cycles / self.silicon.clock_hz
            dram_s = row.traffic.dram_bytes / Target().dram_figures.bytes_per_s
            latency_s = max(run_s, dram_s)
            measured = measured_energy(
                row.power,
                row.cycles,
                self.silicon.clock_hz,
                latency_s,
                row.traffic.dram_bytes,
                Target(),
            )
            modelled = modelled_energy(
                row.traffic, ROOM, Target(), latency_s, self.silicon.cell_leakage_w
            )
            whole, model = measured.total_j, modelled.total_j
            print(
                f"| {row.part}, {row.phase} | {row.cycles:,} | {row.predicted_cycles:,} | "
                f"{row.compared_values:,} | {1e6 * whole:.1f} | {measured.clock_j / whole:.0%} | "
                f"{1e6 * model:.1f} | {whole / model:.2f} |",
                flush=True,
            )


def on_core(network: Network) -> OnCore:
    """The model on its core, with what the whole of it costs."""
    rtlil, target, store = elaborate_core(ROOM), Target(), cache.root()
    core = map_core(rtlil, store / "silicon")
    silicon = silicon_cost(core)
    clock_hz = 1 / silicon.worst_path_s
    of_core = Silicon(clock_hz=clock_hz, cell_leakage_w=silicon.cell_leakage_w)
    cost = language_cost(network, ROOM, target, of_core)
    power = load_power(core.liberty, store / "silicon")
    meter = PowerMeter(core, power, ROOM, clock_hz, seed_of(rtlil))
    dram = dram_of(target, ROOM, clock_hz)
    rtl = Rtl(rtlil, ROOM, dram, store / "simulators", meter)
    return OnCore(LanguageRtl(network, rtl, CoreLatencies.shipped(ROOM)), cost, of_core)


if __name__ == "__main__":
    main()
