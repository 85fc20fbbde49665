"""What SmolLM2-135M in integers costs on cores: a prompt of 256 tokens and 64 tokens after it.

    python benchmarks/language_model_cost.py [MODEL] [--bits 8] [--generated 64]

Cores of 8 x 8 elements: the default one with entries for 576 channels, and one whose memories fill
a square millimetre. Each is synthesised for its area, clock and leakage; cycles are predicted and
energy is modelled (`evaluators.language_cost`). Prints Markdown.
"""

import argparse
import time

import torch

from evaluators import cache
from evaluators.language_cost import LanguageCost, Silicon, language_cost
from evaluators.language_model import LanguageBench
from evaluators.silicon.cost import SiliconCost, map_core, silicon_cost
from evaluators.target import Target
from hwlib.config import CoreConfig
from hwlib.elaborate import elaborate_core
from swopt.compiler.head_groups import split_heads
from swopt.compiler.lowering import LoweringError
from swopt.compiler.network import Network
from swopt.plan import CompressionPlan
from swopt.techniques.quantization import QuantizationKnobs
from swopt.workloads import language_models

CORES = {
    "64 KiB": CoreConfig(channel_entries=1024),
    "128 KiB": CoreConfig(activation_bytes=131072, channel_entries=1024, dma_bytes=16),
}
"""By their activation memory."""


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2-135m", help="name or folder")
    parser.add_argument("--bits", type=int, default=8, choices=range(2, 9))
    parser.add_argument("--generated", type=int, default=64, help="tokens after the first new one")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    loaded = language_models.load(chosen.model)
    print(f"{loaded.name}: {loaded.source}; SHA-256 {loaded.sha256[:12]}\n")
    plan = CompressionPlan(quantization=QuantizationKnobs(bits=chosen.bits))
    made = LanguageBench(loaded).compress(plan)
    print(
        "| core | area, mm2 | heads | tokens at once | prompt, cycles | a token, cycles | prompt, "
        "s | tokens a second | DRAM, MB | energy, J | CPU-seconds |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    bytes_of = None
    for name, config in CORES.items():
        silicon = silicon_cost(map_core(elaborate_core(config), cache.root() / "silicon"))
        for heads, network in (("all", made.network), ("in turn", split_heads(made.network))):
            cost = row(
                f"{name} | {silicon.area_um2 / 1e6:.3f} | {heads}",
                network,
                config,
                silicon,
                chosen.generated,
            )
            bytes_of = cost.bytes if cost else bytes_of
    if bytes_of is not None:
        print(f"\n{bytes_of}")


def row(
    name: str, network: Network, config: CoreConfig, silicon: SiliconCost, generated: int
) -> LanguageCost | None:
    """One core's figures, or why there are none."""
    began = time.process_time()
    of_core = Silicon(clock_hz=1 / silicon.worst_path_s, cell_leakage_w=silicon.cell_leakage_w)
    try:
        cost = language_cost(network, config, Target(), of_core, generated_tokens=generated)
    except LoweringError as error:
        print(f"| {name} | {error} |", flush=True)
        return None
    steps = sum(cost.step_cycles) / len(cost.step_cycles)
    print(
        f"| {name} | {cost.chunk_tokens} | {cost.prefill_cycles:,} | {steps:,.0f} | "
        f"{cost.prefill_s:.3f} | {cost.tokens_per_s:.1f} | {cost.dram_bytes / 1e6:,.0f} | "
        f"{cost.energy_j:.3f} | {time.process_time() - began:.0f} |",
        flush=True,
    )
    return cost


if __name__ == "__main__":
    main()
