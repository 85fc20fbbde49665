"""A small-to-large cascade: the small stage answers, tests itself, and escalates what it doubts.

The small stage sees a question once or in several views, rephrased or slightly changed, each of
which is a pass that has to be paid for. What the passes say gives a signal between 0 and 1;
questions whose signal is below a threshold go to the large stage. Escalating by a score of the
small stage is FrugalGPT's cascade (Chen et al. 2023, arXiv 2305.05176); that the score comes from
a test which the model makes of itself is Chen et al., "Model Cascading for Code", 2024
(arXiv 2405.15842). There generated assertions are run; here views of a question have to agree.
Confidence is calibrated by one temperature (Guo et al., ICML 2017).

Probabilities are those over the workload's fixed answer set. Which of these answers a question
allows is not known to the model, so neither an answer nor a signal is narrowed down to them.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hwlib.frozen import Frozen
from swopt.plan import CompressionPlan
from swopt.workloads.vqa import TASKS, Questions

Array = NDArray[np.float64]

Signal = Literal["confidence", "agreement"]
Views = Literal["rephrasings", "augmentations", "both"]

ALWAYS = 1.5
"""A threshold that no signal reaches: every question is escalated."""

TEMPERATURES = (0.05, 20.0)
"""Range in which a temperature is looked for."""


class View(NamedTuple):
    """A change of an image that no answer depends on."""

    right: int
    """Pixels that it moves to the right; the border is repeated."""
    down: int
    """Pixels that it moves down."""
    light: float
    """What its bytes are multiplied by."""


AUGMENTATIONS = (
    View(0, 0, 1.0),
    View(1, 1, 1.1),
    View(-1, -1, 0.9),
    View(1, -1, 0.9),
    View(-1, 1, 1.1),
)
"""One a pass, the image as it is first. No mirror and no turn is among them: the synthetic set asks
for left and right, wide and tall. A pixel leaves the sides, sizes and counts of all sets alone."""


class CascadeKnobs(Frozen):
    """How a small stage answers before the design's own model; the default has no small stage."""

    small: CompressionPlan | None = None
    """What is done to the model for the small stage; `None`: every question goes to the large."""

    signal: Signal = "confidence"
    """`confidence`: the calibrated probability of the answer, in the mean of the passes.
    `agreement`: the share of passes whose likeliest answer is the answer."""

    views: Views = "rephrasings"
    """What differs between passes: the question's phrasing, the image, or both at once."""

    passes: Annotated[int, Field(ge=1, le=len(AUGMENTATIONS))] = 1
    """Views that the small stage sees of each question; the first is the question as asked."""

    threshold: Annotated[float, Field(ge=0.0, le=ALWAYS)] = 0.0
    """Questions with a signal below it are escalated: none at 0, all above 1."""

    temperature: Annotated[float, Field(ge=TEMPERATURES[0], le=TEMPERATURES[1])] = 1.0
    """What the small stage's log-probabilities are divided by."""


@dataclass(frozen=True)
class Outcome:
    """What a cascade answers.

    Attributes:
        log_probabilities: Over the fixed answer set, `[n, answers]`: the small stage's calibrated
            ones, or the large stage's where the question was escalated.
        escalated: Which questions went to the large stage, bool `[n]`.
        small_passes: Passes of the small stage, which every question takes.
    """

    log_probabilities: Array
    escalated: NDArray[np.bool_]
    small_passes: int


def views(questions: Questions, knobs: CascadeKnobs) -> tuple[Questions, ...]:
    """What the small stage is asked in each pass: as many batches of questions, the first as asked.

    A view is made from the question's image, text and set alone. Rephrasings are the next ones in
    the table of `swopt.workloads.vqa`, in turn.

    Raises:
        ValueError: A question has fewer phrasings than there are passes, or is in no table.
    """
    texts = [questions.texts] * knobs.passes
    images = [questions.images] * knobs.passes
    if knobs.views != "augmentations":
        texts = _rephrased(questions, knobs.passes)
    if knobs.views != "rephrasings":
        images = [augment(questions.images, view) for view in AUGMENTATIONS[: knobs.passes]]
    return tuple(Questions(i, t, questions.sets) for i, t in zip(images, texts, strict=True))


def augment(images: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """Moves and lights images uint8 `[n, height, width, 3]`; bytes are rounded and end at 255."""
    down, right = abs(view.down), abs(view.right)
    wide = np.pad(images, ((0, 0), (down, down), (right, right), (0, 0)), mode="edge")
    height, width = images.shape[1:3]
    top, left = down - view.down, right - view.right
    moved = wide[:, top : top + height, left : left + width]
    return np.asarray(np.rint(np.clip(moved * view.light, 0, 255)), np.uint8)


def fit_temperature(log_probabilities: Array, answers: NDArray[np.int64]) -> float:
    """The temperature under which the true answers are likeliest (Guo et al., section 4.2).

    With several passes it is that of the mean of their probabilities, which is what is used.

    Args:
        log_probabilities: Of validation questions, `[passes, n, answers]`.
        answers: Their true answers, `[n]`.

    Raises:
        ValueError: No temperature in `TEMPERATURES` is likeliest, as where every answer is right.
    """
    rows = np.arange(len(answers))
    low, high = TEMPERATURES
    for _ in range(4):  # each time the finest step becomes the range: 33 points, 16 times finer
        grid = np.geomspace(low, high, 33)
        nll = [-mean_answer(log_probabilities, float(t))[rows, answers].mean() for t in grid]
        best = int(np.argmin(nll))
        if grid[best] in TEMPERATURES:
            raise ValueError(
                f"no temperature from {TEMPERATURES[0]} to {TEMPERATURES[1]} is the likeliest for "
                f"these {len(answers)} questions; use more of them, or keep the temperature at 1"
            )
        low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, 32)])
    return float(grid[best])


def calibrated(log_probabilities: Array, temperature: float) -> Array:
    """Log-probabilities at a temperature, `[..., answers]` -> the same shape."""
    scaled = log_probabilities / temperature
    largest = scaled.max(-1, keepdims=True)
    total: Array = np.log(np.exp(scaled - largest).sum(-1, keepdims=True))
    return np.asarray(scaled - largest - total, np.float64)


def mean_answer(log_probabilities: Array, temperature: float) -> Array:
    """Log of the mean over passes of the calibrated probabilities, `[passes, n, answers]` ->
    `[n, answers]`."""
    each = calibrated(log_probabilities, temperature)
    largest = each.max(0)
    return np.asarray(largest + np.log(np.exp(each - largest).mean(0)), np.float64)


def signals(log_probabilities: Array, knobs: CascadeKnobs) -> Array:
    """The self-test's signal of each question, 0 to 1, `[passes, n, answers]` -> `[n]`.

    Raises:
        ValueError: The passes are not as many as `knobs` name.
    """
    if log_probabilities.ndim != 3 or len(log_probabilities) != knobs.passes:
        raise ValueError(
            f"a self-test of {knobs.passes} passes needs log-probabilities [passes, questions, "
            f"answers] of as many, not {list(log_probabilities.shape)}"
        )
    answer = mean_answer(log_probabilities, knobs.temperature)
    if knobs.signal == "confidence":
        return np.asarray(np.minimum(np.exp(answer.max(-1)), 1.0), np.float64)
    return np.asarray((log_probabilities.argmax(-1) == answer.argmax(-1)).mean(0), np.float64)


def outcome(small: Array | None, large: Array, knobs: CascadeKnobs) -> Outcome:
    """What the cascade answers.

    Args:
        small: The small stage's log-probabilities by pass, `[passes, n, answers]`; `None` where
            `knobs` have no small stage.
        large: The large stage's, `[n, answers]`; rows that are not escalated are not looked at.
        knobs: Whether, and when, to escalate.

    Raises:
        ValueError: The stages do not belong together, or the passes not to `knobs`.
    """
    if (small is None) != (knobs.small is None):
        given, named = ("no", "one") if small is None else ("a", "none")
        raise ValueError(f"{given} small stage was given, but the knobs name {named}")
    if small is None:
        return Outcome(large, np.ones(len(large), np.bool_), 0)
    if small.shape[1:] != large.shape:
        raise ValueError(
            f"the stages answer other questions: {list(small.shape)} and {list(large.shape)}"
        )
    escalated = signals(small, knobs) < knobs.threshold
    answer = np.where(escalated[:, None], large, mean_answer(small, knobs.temperature))
    return Outcome(answer, escalated, knobs.passes)


def _rephrased(questions: Questions, passes: int) -> list[tuple[str, ...]]:
    """The texts of each pass."""
    asked: list[tuple[str, ...]] = []
    for text, name in zip(questions.texts, questions.sets, strict=True):
        phrasings = next((t.phrasings for t in TASKS.get(name, ()) if text in t.phrasings), ())
        if len(phrasings) < passes:
            raise ValueError(
                f"{text!r} of {name} has {len(phrasings)} phrasings, too few for {passes} passes; "
                "ask for fewer passes, or for views by augmentations"
            )
        first = phrasings.index(text)
        asked.append(tuple(phrasings[(first + i) % len(phrasings)] for i in range(passes)))
    return [tuple(each) for each in zip(*asked, strict=True)]
