"""Prints the tables of docs/workload.md: `python -m evaluators.workload_report [--test]`.

Without `--test` the compressions are measured on validation questions. With it, the uncompressed
model and the w8a8 baseline see the test questions, as MedMNIST's published models do.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch

from evaluators.accuracy import Answered, answer, figures, validation_metrics
from swopt.compiler.integer_model import integer_model, measure_sensitivities
from swopt.plan import CompressionPlan
from swopt.techniques.pruning import Compensation, PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs, Rounding
from swopt.techniques.recovery import RecoveryKnobs
from swopt.techniques.resolution import ResolutionKnobs
from swopt.techniques.sensitivity import Sensitivities
from swopt.workloads.tiny_vlm import blocks
from swopt.workloads.workload import Workload, load_workload

RESNET18 = {"breastmnist": (0.863, 0.901), "retinamnist": (0.524, 0.717)}
"""ACC and AUC of ResNet-18 at 28 px: Yang et al., MedMNIST v2, Scientific Data 2023, table 3."""


def plans(workload: Workload) -> dict[str, CompressionPlan]:
    """The plans of the table: bit widths, blocks, heads, channels, resolutions, and recovery."""
    table: dict[str, CompressionPlan] = {}
    for bits in (8, 6, 5, 4, 3, 2):
        table[f"W{bits}"] = CompressionPlan(quantization=QuantizationKnobs(bits=bits))
    for bits in (4, 3, 2):
        table[f"W{bits}, compensated"] = CompressionPlan(
            quantization=QuantizationKnobs(bits=bits, rounding="compensated")
        )
    count = {tower: len(part) for tower, part in blocks(workload.vlm.model).items()}
    for index in range(count["vision"]):
        knobs = PruningKnobs(vision_blocks=(index,))
        table[f"without vision block {index}"] = CompressionPlan(pruning=knobs)
    for index in range(count["decoder"]):
        knobs = PruningKnobs(decoder_blocks=(index,))
        table[f"without decoder block {index}"] = CompressionPlan(pruning=knobs)
    for by, words in COMPENSATIONS.items():
        for keep in (0.75, 0.5, 0.25, 0.125):
            knobs = PruningKnobs(vision_mlp_keep=keep, decoder_mlp_keep=keep, compensation=by)
            table[f"{100 * keep:g}% of MLP channels{words}"] = CompressionPlan(pruning=knobs)
        for keep in (0.75, 0.5):
            knobs = PruningKnobs(vision_heads_keep=keep, decoder_heads_keep=keep, compensation=by)
            table[f"{100 * keep:g}% of attention heads{words}"] = CompressionPlan(pruning=knobs)
    for name, read in READ.items():
        table[name] = CompressionPlan(resolution=read)
    for name, cut, read in (
        ("much pruned", MUCH_PRUNED, ResolutionKnobs()),
        ("32 x 16 pixels, shortest wording", PruningKnobs(), HALVED),
    ):
        for steps in (0, 50, 100, 200):
            taught = RecoveryKnobs(steps=steps)
            table[f"{name}, {steps} steps of recovery"] = CompressionPlan(
                resolution=read, pruning=cut, recovery=taught
            )
    return table | taught_at_few_bits()


def taught_at_few_bits() -> dict[str, CompressionPlan]:
    """Few bits with compensated rounding, by how long the model was taught and when."""
    table: dict[str, CompressionPlan] = {}
    for bits, activation_bits, name in ((2, 8, "W2"), (2, 4, "W2A4"), (3, 4, "W3A4")):
        knobs = QuantizationKnobs.model_validate(
            {"bits": bits, "activation_bits": activation_bits, "rounding": "compensated"}
        )
        for steps, behind in ((0, False), (100, False), (50, True), (100, True), (200, True)):
            when = "behind" if behind else "before"
            recovery = RecoveryKnobs.model_validate({"steps": steps, "quantization_aware": behind})
            table[f"{name}, compensated, {steps} steps {when} the rounding"] = CompressionPlan(
                quantization=knobs, recovery=recovery
            )
    return table


COMPENSATIONS: dict[Compensation, str] = {"mean": "", "least_squares": ", least squares"}

READ = {
    "24 x 32 pixels": ResolutionKnobs(image_height=24),
    "32 x 24 pixels": ResolutionKnobs(image_width=24),
    "16 x 32 pixels": ResolutionKnobs(image_height=16),
    "32 x 16 pixels": ResolutionKnobs(image_width=16),
    "16 x 16 pixels": ResolutionKnobs(image_height=16, image_width=16),
    "2 x 4 patches joined": ResolutionKnobs(joined_columns=4),
    "4 x 4 patches joined": ResolutionKnobs(joined_rows=4, joined_columns=4),
    "shortest wording": ResolutionKnobs(wording="shortest"),
}
"""What is read of a question; height by width."""

HALVED = ResolutionKnobs(image_width=16, wording="shortest")

MUCH_PRUNED = PruningKnobs(vision_blocks=(2, 3), vision_mlp_keep=0.25, decoder_mlp_keep=0.25)
"""Half of the vision blocks and three quarters of all MLP channels are gone."""


CONTROLS = 5
"""Draws of shuffled sensitivities."""

MEANS = (4.0, 3.0, 2.5, 2.25)
"""Mean bits that are shared out."""


def shared(mean_bits: float, rounding: Rounding = "nearest") -> CompressionPlan:
    """Bits shared out by sensitivity."""
    return CompressionPlan(quantization=QuantizationKnobs(mean_bits=mean_bits, rounding=rounding))


def shuffled(found: Sensitivities, seed: int) -> Sensitivities:
    """A control: each layer with the sensitivity of another one, drawn at random."""
    names = list(found.kl_nats)
    order = np.random.default_rng(seed).permutation(len(names))
    drawn = {name: found.kl_nats[names[at]] for name, at in zip(names, order, strict=True)}
    return Sensitivities(kl_nats=drawn)


def sensitivity_rows(found: Sensitivities) -> list[str]:
    """Sensitivities down the hierarchy: towers, blocks, kinds of layers."""
    rows = ["| level | 2 bits, KL in nats | 4 bits |", "|---|---|---|"]
    indices = {
        t: sorted({n.split(".")[1] for n in found.kl_nats if n.startswith(f"{t}.")})
        for t in ("vision", "decoder")
    }
    levels = ["vision", *(f"vision.{i}" for i in indices["vision"]), "connector"]
    levels += ["decoder", *(f"decoder.{i}" for i in indices["decoder"]), "head"]
    rows += [
        f"| {level} | {found.of(level, 2):.5f} | {found.of(level, 4):.6f} |" for level in levels
    ]
    for kind in ("attention", "mlp"):
        own = [each for name, each in found.kl_nats.items() if f".{kind}." in name]
        sums = [sum(each[bits] for each in own) for bits in (2, 4)]
        rows.append(f"| {kind} of all blocks | {sums[0]:.5f} | {sums[1]:.6f} |")
    return rows


def look_at_validation(workload: Workload) -> list[str]:
    """One row a plan, paired with the uncompressed model."""
    uncompressed = answer(workload, None, "val")
    rows = [
        f"uncompressed: NLL {uncompressed.nll_nats().mean():.4f} nats, "
        f"accuracy {uncompressed.right().mean():.3f}, {len(uncompressed.sets)} questions",
        "",
        "| plan | weights, bytes | NLL increase, nats | accuracy |",
        "|---|---|---|---|",
    ]
    found = measure_sensitivities(workload)
    named = [(name, plan, found) for name, plan in plans(workload).items()]
    for mean in MEANS:
        named.append((f"{mean:g} bits in the mean", shared(mean), found))
        compensated = shared(mean, "compensated")
        named.append((f"{mean:g} bits in the mean, compensated", compensated, found))
    for seed in range(CONTROLS):
        name = f"2.5 bits, sensitivities shuffled ({seed + 1})"
        named.append((name, shared(2.5), shuffled(found, seed)))
    for name, plan, sensitivities in named:
        model = integer_model(
            workload, plan, sensitivities=partial(lambda kept: kept, sensitivities)
        )
        seen = validation_metrics(answer(workload, model, "val"), uncompressed)
        rows.append(
            f"| {name} | {model.model_bytes} | {seen['nll_increase_nats']:+.4f} ± "
            f"{seen['nll_increase_se_nats']:.4f} | {seen['accuracy']:.3f} |"
        )
    return [*rows, "", *sensitivity_rows(found)]


def look_at_test(workload: Workload) -> list[str]:
    """Figures of the uncompressed model and of the baseline on each set's test questions."""
    baseline = integer_model(workload, CompressionPlan())
    models = {
        "float32": answer(workload, None, "test"),
        "w8a8 integers": answer(workload, baseline, "test"),
    }
    rows = [
        "| set | model | questions | majority | accuracy | balanced | AUC | NLL, nats |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in workload.sets:
        rows += [_test_row(name, label, part.of(name)) for label, part in models.items()]
        if name in RESNET18:
            accuracy, area = RESNET18[name]
            rows.append(f"| {name} | ResNet-18, published | | | {accuracy:.3f} | | {area:.3f} | |")
    return rows


def _test_row(name: str, label: str, part: Answered) -> str:
    seen = figures(part)

    def shown(figure: str) -> str:
        return f"{seen[figure]:.3f}" if figure in seen else ""

    return (
        f"| {name} | {label} | {len(part.sets)} | {shown('majority')} | "
        f"{seen['accuracy']:.3f} ± {seen['accuracy_se']:.3f} | {shown('balanced_accuracy')} | "
        f"{shown('auc')} | {seen['nll_nats']:.3f} |"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m evaluators.workload_report")
    parser.add_argument("--data-dir", type=Path, help="folder of the MedMNIST .npz files")
    parser.add_argument("--checkpoint", type=Path, help="another checkpoint than the shipped one")
    parser.add_argument("--test", action="store_true", help="look at test questions")
    given = parser.parse_args()
    torch.set_num_threads(1)
    workload = load_workload(given.data_dir, given.checkpoint)
    print(workload.describe())
    print("\n".join(look_at_test(workload) if given.test else look_at_validation(workload)))


if __name__ == "__main__":
    main()
