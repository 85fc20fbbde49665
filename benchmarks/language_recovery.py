"""What least squares and recovery win back of a compressed language model, and how long they take.

    python benchmarks/language_recovery.py [MODEL] [--windows 8] [--only TEXT]

Bits per byte of validation modules behind the prefix, with what each plan removed or rounded, by
what was made up for it (`compression.pruning.compensation`, `compression.quantization.rounding`)
and after how it was taught (`compression.recovery`: before its rounding or behind it); errors are
those of the mean over windows, paired with the float model behind the same prefix. Seconds of the
clock, of one thread, for all but the score. Weights and what was taught are kept in the store: a
second run shows what it takes to read them. Prints Markdown.
"""

import argparse
import platform
import time
from importlib.metadata import version

import torch

from evaluators.accuracy import paired
from evaluators.language_model import LanguageBench
from swopt.plan import CompressionPlan
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs
from swopt.techniques.recovery import RecoveryKnobs
from swopt.workloads import language_models


def compensated(
    bits: int = 8, mean_bits: float = 8.0, group: int | None = None
) -> QuantizationKnobs:
    """Weights that make up for each other's errors, and words in 8 bits."""
    shared = {"rounding": "compensated", "embedding_bits": 8}
    return QuantizationKnobs.model_validate(
        {"bits": bits, "mean_bits": mean_bits, "group": group, **shared}
    )


EIGHTH = PruningKnobs(decoder_mlp_keep=0.875)
SOLVED = EIGHTH.model_copy(update={"compensation": "least_squares"})

PLANS = {
    "w8a8": CompressionPlan(),
    "an eighth of the MLP channels less": CompressionPlan(pruning=EIGHTH),
    "the same, least squares": CompressionPlan(pruning=SOLVED),
    "7 bits in the mean": CompressionPlan(quantization=compensated(4, 7.0)),
    "6 bits in the mean": CompressionPlan(quantization=compensated(4, 6.0)),
    "4.5 bits in the mean": CompressionPlan(quantization=compensated(4, 4.5)),
    "4 bits in every layer": CompressionPlan(quantization=compensated(4)),
    **{
        f"4 bits in groups of {group}": CompressionPlan(quantization=compensated(4, group=group))
        for group in (128, 64, 32)
    },
    "4 bits in every layer, an eighth less, least squares": CompressionPlan(
        pruning=SOLVED, quantization=compensated(4)
    ),
}
"""By what is done. Bits in the mean are shared out by sensitivity."""

TAUGHT = {
    "": RecoveryKnobs(),
    "50 steps before": RecoveryKnobs(steps=50, rank=8),
    "50 steps behind": RecoveryKnobs(steps=50, rank=16, quantization_aware=True),
}
"""By when in respect of the rounding."""


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--windows", type=int, default=8, help="windows that are scored")
    parser.add_argument("--only", default="", help="plans whose names contain this")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    loaded = language_models.load(chosen.model)
    bench = LanguageBench(loaded, windows=chosen.windows)
    tools = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    print(f"{chosen.model}; {tools}; one thread of {platform.machine()}\n")
    whole = bench.score(bench.uncompressed())
    print(f"float32 behind the prefix: {whole.bits_per_byte:.4f} bits a byte\n")
    print("| plan | taught | bits a byte | of float | +- | weights, MB | made in, s |")
    print("|---|---|---|---|---|---|---|")
    for name, plan in PLANS.items():
        if chosen.only not in name:
            continue
        for how, recovery in TAUGHT.items():
            if how == "50 steps before" and plan.pruning == PruningKnobs():
                continue  # there is nothing to win back before the rounding
            begin = time.monotonic()
            made = bench.compress(plan.model_copy(update={"recovery": recovery}))
            took = time.monotonic() - begin
            score = bench.score(made)
            more, of = paired(score.bits, whole.bits), float(whole.bits.mean())
            print(
                f"| {name} | {how} | {score.bits_per_byte:.4f} | {more.mean / of:+.1%} | "
                f"{more.standard_error / of:.1%} | {made.model_bytes / 1e6:.1f} | {took:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
