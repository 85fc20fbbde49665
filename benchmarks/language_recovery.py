"""What least squares and recovery win back of a pruned language model, and how long they take.

    python benchmarks/language_recovery.py [MODEL] [--windows 8]

Bits per byte of validation modules behind the prefix, w8a8, with what each pruning took, by what
was made up for it (`compression.pruning.compensation`) and after so many steps of teaching
(`compression.recovery`); errors are those of the mean over windows, paired with the float model
behind the same prefix. Seconds of the clock, of one thread, for all that is done before rounding.
Adapters are kept in the store: a second run shows what it takes to merge them. Prints Markdown.
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
from swopt.techniques.recovery import RecoveryKnobs
from swopt.workloads import language_models

CUTS = {
    "nothing": PruningKnobs(),
    "an eighth of the MLP channels": PruningKnobs(decoder_mlp_keep=0.875),
    "the same, least squares": PruningKnobs(decoder_mlp_keep=0.875, compensation="least_squares"),
}

STEPS = (0, 50)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--windows", type=int, default=8, help="windows that are scored")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    loaded = language_models.load(chosen.model)
    bench = LanguageBench(loaded, windows=chosen.windows)
    tools = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    print(f"{chosen.model}; {tools}; one thread of {platform.machine()}\n")
    whole = bench.score(bench.uncompressed())
    print(f"float32 behind the prefix: {whole.bits_per_byte:.4f} bits a byte\n")
    print("| removed | steps | bits a byte | of float | +- | weights, MB | prepared in, s |")
    print("|---|---|---|---|---|---|---|")
    for name, cut in CUTS.items():
        for steps in STEPS if cut != PruningKnobs() else STEPS[:1]:
            plan = CompressionPlan(pruning=cut, recovery=RecoveryKnobs(steps=steps))
            begin = time.monotonic()
            bench.prepared(plan)
            took = time.monotonic() - begin
            made = bench.compress(plan)
            score = bench.score(made)
            more, of = paired(score.bits, whole.bits), float(whole.bits.mean())
            print(
                f"| {name} | {steps} | {score.bits_per_byte:.4f} | {more.mean / of:+.1%} | "
                f"{more.standard_error / of:.1%} | "
                f"{made.model_bytes / 1e6:.1f} | {took:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
