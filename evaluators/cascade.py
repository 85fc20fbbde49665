"""What a small-to-large cascade costs and how well it answers, beside its controls.

Both stages run on one core, that of the design. A question costs what the small stage's passes
cost, and, where it is escalated, what the large stage costs besides: one after the other, so
latencies add up as energies do. Weights are streamed from DRAM for every question anyway, so
changing the model costs nothing more. Preparing a view is the host's work and is not counted, as no
host work is.

Temperatures and the threshold come from validation questions. Figures are means of the image sets'
means, each set alike, with standard errors from the spread within the sets; the questions of two
cascades are paired.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from evaluators.accuracy import Answered, Paired, answer
from evaluators.design import DesignPoint
from evaluators.metrics import ENERGY_FIGURES
from evaluators.pipeline import Pipeline
from evaluators.target import Target
from hwlib.frozen import Frozen
from swopt.compiler.integer_model import IntegerModel
from swopt.techniques import cascade
from swopt.techniques.cascade import CascadeKnobs, Views
from swopt.workloads.vqa import Labels
from swopt.workloads.workload import Workload

Array = NDArray[np.float64]

ONE_SIDED_95 = 1.645
"""Standard errors above the mean that a margin is held at."""

THRESHOLDS = 41
"""Most thresholds of a curve: quantiles of the signal."""


class StageCost(Frozen):
    """One question through one stage, the mean of those that the pipeline ran."""

    energy_j: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Energy, DRAM included."""

    latency_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Latency."""

    origin: str
    """How both were found: the engine that ran the program, and whether energy was measured."""


@dataclass(frozen=True)
class Asked:
    """What both stages say to the questions of one split.

    Attributes:
        large: The large stage's log-probabilities, `[n, answers]`.
        small: The small stage's by the kind of view, `[passes, n, answers]`; pass 0 is the same.
        labels: The true answers.
        sets: The image set of each question.
    """

    large: Array
    small: Mapping[Views, Array]
    labels: Labels
    sets: tuple[str, ...]

    def passes(self, knobs: CascadeKnobs) -> Array:
        """The small stage's log-probabilities in the passes that `knobs` name.

        Raises:
            ValueError: Fewer were asked.
        """
        asked = self.small[knobs.views]
        if len(asked) < knobs.passes:
            raise ValueError(
                f"the small stage was asked {len(asked)} times by {knobs.views}, too few for "
                f"{knobs.passes} passes; ask it as often"
            )
        return asked[: knobs.passes]


@dataclass(frozen=True)
class Cascaded:
    """What each question of a split costs and how it is answered; of a control, the expectation.

    Attributes:
        right: 1 where the likeliest of all answers is the true one, `[n]`.
        nll_nats: Negative log-likelihood of the true answer, `[n]`.
        energy_j: `[n]`.
        latency_s: `[n]`.
        escalated: 1 where the large stage was asked, `[n]`.
        sets: The image set of each question.
    """

    right: Array
    nll_nats: Array
    energy_j: Array
    latency_s: Array
    escalated: Array
    sets: tuple[str, ...]

    def of(self, name: str) -> "Cascaded":
        """The questions of one image set."""
        here = np.array(self.sets) == name
        return Cascaded(
            self.right[here],
            self.nll_nats[here],
            self.energy_j[here],
            self.latency_s[here],
            self.escalated[here],
            (name,) * int(here.sum()),
        )


@dataclass(frozen=True)
class Figures:
    """Means over image sets with their standard errors; differences are from always-large.

    Attributes:
        escalated: Share of questions that go to the large stage.
        energy_j: Of a question, expected.
        latency_s: Of a question, expected.
        accuracy: Strict, among all answers.
        nll_nats: Of the true answer.
        accuracy_difference: Paired.
        nll_difference_nats: Paired.
    """

    escalated: Paired
    energy_j: Paired
    latency_s: Paired
    accuracy: Paired
    nll_nats: Paired
    accuracy_difference: Paired
    nll_difference_nats: Paired


def stage_cost(pipeline: Pipeline, design: DesignPoint, target: Target) -> StageCost:
    """Measures one stage on the core of its design.

    Raises:
        ValueError: The design has no figures; the message has the reason.
    """
    seen = pipeline.evaluate(design, target, lambda stage: None)
    if seen.status != "ok":
        raise ValueError(
            f"a stage of the cascade cannot be measured ({seen.status}): {seen.reason}"
        )
    return StageCost(
        energy_j=seen.metrics["energy_j"],
        latency_s=seen.metrics["latency_s"],
        origin=f"{seen.details['rtl_engine']}, energy {seen.details[ENERGY_FIGURES]}",
    )


def ask(
    workload: Workload,
    small: IntegerModel,
    large: IntegerModel,
    split: Literal["val", "test"],
    passes: Mapping[Views, int],
) -> Asked:
    """Asks both stages every question of a split, the small one in every view.

    Raises:
        ValueError: There are not so many views of a question.
    """
    questions = workload.test() if split == "test" else workload.validation()
    theirs = answer(workload, large, split)
    first = small.score(questions).double().numpy()
    seen: dict[Views, Array] = {}
    for kind, count in passes.items():
        others = cascade.views(questions, CascadeKnobs(views=kind, passes=count))[1:]
        seen[kind] = np.stack([first, *(small.score(each).double().numpy() for each in others)])
    return Asked(theirs.log_probabilities, seen, theirs.labels, theirs.sets)


def calibrate(asked: Asked, knobs: CascadeKnobs) -> CascadeKnobs:
    """The knobs with the temperature that validation questions give to these passes.

    Raises:
        ValueError: They give none.
    """
    found = cascade.fit_temperature(asked.passes(knobs), asked.labels.answers)
    return knobs.model_copy(update={"temperature": found})


def calibrate_large(asked: Asked) -> float:
    """The large stage's own temperature. Without it a cascade would gain by calibration alone.

    Raises:
        ValueError: Validation questions give none.
    """
    return cascade.fit_temperature(asked.large[None], asked.labels.answers)


def at_temperature(asked: Asked, large_temperature: float) -> Asked:
    """The same with the large stage calibrated."""
    return replace(asked, large=cascade.calibrated(asked.large, large_temperature))


def run(asked: Asked, cost: tuple[StageCost, StageCost], knobs: CascadeKnobs) -> Cascaded:
    """The cascade of `knobs` over the questions.

    Args:
        asked: What the stages say.
        cost: Of one pass of the small stage and of the large one.
        knobs: The self-test, its temperature and threshold; `small` must be named.

    Raises:
        ValueError: The knobs name no small stage or more passes than were asked.
    """
    outcome = cascade.outcome(asked.passes(knobs), asked.large, knobs)
    answered = Answered(outcome.log_probabilities, asked.labels, asked.sets)
    escalated = outcome.escalated.astype(np.float64)
    small, large = cost
    return Cascaded(
        answered.right(),
        answered.nll_nats(),
        outcome.small_passes * small.energy_j + escalated * large.energy_j,
        outcome.small_passes * small.latency_s + escalated * large.latency_s,
        escalated,
        asked.sets,
    )


def always_large(asked: Asked, large: StageCost) -> Cascaded:
    """The large stage alone."""
    return one_stage(Answered(asked.large, asked.labels, asked.sets), large)


def one_stage(answered: Answered, cost: StageCost) -> Cascaded:
    """One model alone, which needs no self-test."""
    n = len(answered.sets)
    return Cascaded(
        answered.right(),
        answered.nll_nats(),
        np.full(n, cost.energy_j),
        np.full(n, cost.latency_s),
        np.zeros(n),
        answered.sets,
    )


def random_escalation(small: Cascaded, large: Cascaded, share: float) -> Cascaded:
    """The control: each question is escalated with one chance, after a pass of the small stage.

    Args:
        small: The small stage alone, `one_stage`.
        large: The large stage alone.
        share: The chance, 0 to 1.
    """
    n = len(small.sets)
    return Cascaded(
        (1 - share) * small.right + share * large.right,
        (1 - share) * small.nll_nats + share * large.nll_nats,
        small.energy_j + share * large.energy_j,
        small.latency_s + share * large.latency_s,
        np.full(n, share),
        small.sets,
    )


def figures(ours: Cascaded, large: Cascaded) -> Figures:
    """Figures of a cascade beside always-large on the same questions."""
    return Figures(
        macro(ours.escalated, ours.sets),
        macro(ours.energy_j, ours.sets),
        macro(ours.latency_s, ours.sets),
        macro(ours.right, ours.sets),
        macro(ours.nll_nats, ours.sets),
        macro(ours.right - large.right, ours.sets),
        macro(ours.nll_nats - large.nll_nats, ours.sets),
    )


def macro(values: Array, sets: tuple[str, ...]) -> Paired:
    """Mean of the sets' means, with its standard error from the spread within each set."""
    named = np.array(sets)
    parts = [values[named == name] for name in dict.fromkeys(sets)]
    variances = [part.var(ddof=1) / len(part) if len(part) > 1 else 0.0 for part in parts]
    mean = float(np.mean([part.mean() for part in parts]))
    return Paired(mean, math.sqrt(sum(variances)) / len(parts))


def thresholds(signal: Array) -> list[float]:
    """Thresholds from never to always: values of the signal, or quantiles of many, ascending."""
    values = np.unique(signal)
    if len(values) > THRESHOLDS - 2:
        steps = np.linspace(0, 1, THRESHOLDS - 2)
        values = np.unique(np.quantile(signal, steps, method="inverted_cdf"))
    return [0.0, *(float(value) for value in values if value > 0), cascade.ALWAYS]


def curve(asked: Asked, cost: tuple[StageCost, StageCost], knobs: CascadeKnobs) -> list[Figures]:
    """Figures at every threshold, from never escalating to always."""
    large = always_large(asked, cost[1])
    signal = cascade.signals(asked.passes(knobs), knobs)
    tried = [knobs.model_copy(update={"threshold": each}) for each in thresholds(signal)]
    return [figures(run(asked, cost, each), large) for each in tried]


def within(seen: Figures, margin_nats: float) -> bool:
    """Whether the NLL is shown to lie no more than a margin above that of always-large.

    The one-sided 95 % bound of the paired difference has to be within it. A bound and not the mean:
    few questions then ask for more escalation and not for less.
    """
    difference = seen.nll_difference_nats
    return difference.mean + ONE_SIDED_95 * difference.standard_error <= margin_nats


def choose(
    asked: Asked, cost: tuple[StageCost, StageCost], knobs: CascadeKnobs, margin_nats: float
) -> CascadeKnobs:
    """The knobs with the lowest threshold whose figures are `within` the margin.

    The lowest escalates least, so it is the cheapest of one self-test. Escalating everything is
    within any margin, so there always is one; it costs more than no cascade.

    Args:
        asked: Validation questions, the large stage calibrated.
        cost: Of the two stages.
        knobs: The self-test, calibrated.
        margin_nats: How far the NLL may lie above always-large, 0 or more.

    Raises:
        ValueError: The margin is negative.
    """
    if not margin_nats >= 0:
        raise ValueError(f"the margin must be 0 nats or more, not {margin_nats}")
    large = always_large(asked, cost[1])
    signal = cascade.signals(asked.passes(knobs), knobs)
    tried = (knobs.model_copy(update={"threshold": each}) for each in thresholds(signal))
    return next(
        each for each in tried if within(figures(run(asked, cost, each), large), margin_nats)
    )


@dataclass(frozen=True)
class Shuffled:
    """A cascade beside itself with the signals dealt to other questions of the same set.

    Attributes:
        accuracy: Mean over draws.
        nll_nats: Mean over draws.
        accuracy_as_good: Share of draws at least as accurate, the true signals counted among them.
        nll_as_good: Share of draws with an NLL as low.
    """

    accuracy: float
    nll_nats: float
    accuracy_as_good: float
    nll_as_good: float


def shuffled(asked: Asked, knobs: CascadeKnobs, draws: int, seed: int) -> Shuffled:
    """The control of a signal: as many questions of each set are escalated, but others.

    Raises:
        ValueError: There is no draw.
    """
    if draws < 1:
        raise ValueError(f"a control needs 1 draw or more, not {draws}")
    rng = np.random.default_rng(seed)
    passes = asked.passes(knobs)
    small = Answered(cascade.mean_answer(passes, knobs.temperature), asked.labels, asked.sets)
    large = Answered(asked.large, asked.labels, asked.sets)
    right = np.stack([small.right(), large.right()])
    nll = np.stack([small.nll_nats(), large.nll_nats()])
    escalated = (cascade.signals(passes, knobs) < knobs.threshold).astype(np.int64)
    named, rows = np.array(asked.sets), np.arange(len(asked.sets))

    def scored(stage: NDArray[np.int64]) -> tuple[float, float]:
        accuracy, nats = (macro(each[stage, rows], asked.sets).mean for each in (right, nll))
        return accuracy, nats

    true = scored(escalated)
    found = np.empty((draws, 2))
    for draw in range(draws):
        dealt = escalated.copy()
        for name in dict.fromkeys(asked.sets):
            here = named == name
            dealt[here] = rng.permutation(dealt[here])
        found[draw] = scored(dealt)
    slack = 1e-12  # equal sums in another order
    return Shuffled(
        float(found[:, 0].mean()),
        float(found[:, 1].mean()),
        float((1 + np.sum(found[:, 0] >= true[0] - slack)) / (1 + draws)),
        float((1 + np.sum(found[:, 1] <= true[1] + slack)) / (1 + draws)),
    )
