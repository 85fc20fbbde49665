"""Blocks of SmolLM2-135M and its head on the RTL: what is predicted and modelled, beside what is
measured.

    python benchmarks/language_blocks_on_rtl.py [MODEL] [--blocks 0 15] [--bits 8] [--head]

The core is the baseline's of a language model, 8 x 8. Of each block the first piece of a prompt (as
many tokens as go through the core at once) and the token after it, with keys and values in DRAM;
every tensor is held to the integer model. The text is a validation module. Prints Markdown.
"""

import argparse
from collections.abc import Sequence

import torch

from evaluators import cache
from evaluators.language_cost import Silicon, fitting, language_cost
from evaluators.language_model import LanguageBench
from evaluators.language_rtl import LanguageRtl, OnRtl
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
from swopt.workloads import code, language_models


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
    ids = code.windows(loaded.tokenizer, "val", 1).ids[0]
    network = fitting(made.network, ROOM)
    rtl, whole = on_rtl(network)
    print(f"{loaded.name}, {chosen.bits}-bit weights: {loaded.source}; a core of 8 x 8\n")
    print(
        "| what | cycles, RTL | predicted | values equal | energy, uJ | clock | modelled | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for index in chosen.blocks:
        show(rtl.block(f"decoder.{index}", made.words[ids[: whole + 1]], whole))
    if chosen.head:
        show([rtl.head(made.words[ids[:whole]])])


def on_rtl(network: Network) -> tuple[LanguageRtl, int]:
    """The model on its core, and how many tokens of a prompt go through at once."""
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
    latencies = CoreLatencies.shipped(ROOM)
    return LanguageRtl(network, rtl, latencies, target, silicon.cell_leakage_w), cost.chunk_tokens


def show(rows: Sequence[OnRtl]) -> None:
    """Rows of the table."""
    for row in rows:
        whole, model = row.energy.total_j, row.modelled.total_j
        print(
            f"| {row.what} | {row.cycles:,} | {row.predicted_cycles:,} | {row.compared_values:,} | "
            f"{1e6 * whole:.1f} | {row.energy.clock_j / whole:.0%} | {1e6 * model:.1f} | "
            f"{whole / model:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
