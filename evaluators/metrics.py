"""Metrics, and the verdict that an evaluator gives on a design."""

from collections.abc import Callable, Iterable
from typing import Annotated, Literal, Protocol

from pydantic import Field

from evaluators.design import DesignPoint
from evaluators.target import Target
from hwlib.frozen import Frozen

Status = Literal["ok", "invalid", "failed", "timeout"]

Shown = Literal["exhaustive", "proved", "tested"]
"""How far an RTL edit was shown to be right: on every input, by a proof of equivalence to the
shipped unit, or on the gate's vectors alone."""


class Metric(Frozen):
    """What a number means."""

    name: str
    """Name with the unit as its suffix."""

    direction: Literal["minimize", "maximize", "none"]
    """Which way is better; `none` for what only informs."""

    doc: str
    """One sentence for the tables."""

    tolerance: float = 0.0
    """Relative difference that a second measurement of the same design may show."""

    least_tolerance: float = 0.0
    """Absolute difference that is allowed whatever the value."""


METRICS: tuple[Metric, ...] = (
    Metric(
        name="nll_nats",
        direction="minimize",
        doc="mean negative log-likelihood of the true answer over the fixed answer set, or of "
        "a text's next token, validation",
        tolerance=1e-3,
    ),
    Metric(
        name="nll_increase_nats",
        direction="none",
        doc="paired mean of the NLL less that of the uncompressed float model, validation",
        tolerance=1e-3,
        least_tolerance=1e-3,
    ),
    Metric(
        name="nll_increase_se_nats",
        direction="none",
        doc="standard error of the paired mean",
        tolerance=1e-3,
        least_tolerance=1e-3,
    ),
    Metric(
        name="accuracy",
        direction="none",
        doc="share of right answers, or of next tokens that were the likeliest, validation",
        least_tolerance=0.02,
    ),
    Metric(name="model_bytes", direction="none", doc="bytes of the packed linear weights"),
    Metric(
        name="memory_bytes",
        direction="none",
        doc="bytes of all that is kept of the model: weights, scales, norms, embeddings",
    ),
    Metric(
        name="cycles",
        direction="none",
        doc="cycles of one question's whole inference; of a language model, a prompt and its "
        "continuation, predicted",
    ),
    Metric(
        name="clock_hz",
        direction="none",
        doc="the netlist's fastest clock, or the target's; before layout, at its library's corner",
    ),
    Metric(
        name="latency_s",
        direction="minimize",
        doc="the cycles over the clock; no less than DRAM takes",
    ),
    Metric(name="area_um2", direction="none", doc="area of logic cells and SRAM macros"),
    Metric(
        name="energy_j",
        direction="minimize",
        doc="energy of a question: gates as they switch in its RTL run, SRAM and DRAM by accesses; "
        "no glitches, no clock tree; of a language model, modelled",
    ),
)

ENERGY_FIGURES, MEASURED = "energy_figures", "measured on the gates"
"""The detail that says where an evaluation's energy comes from, and what it says if it is so."""

OBJECTIVES: tuple[str, ...] = ("latency_s", "energy_j", "nll_nats")
"""What the search minimizes."""


class Provenance(Frozen):
    """Where a number comes from."""

    evaluator: str
    """Name of the evaluator that measured it."""

    versions: dict[str, str]
    """Versions of the tools it used."""

    command: str
    """What a person types to measure it again."""

    inputs: dict[str, str]
    """SHA-256 of each input, by name."""


class Evaluation(Frozen):
    """One evaluator's verdict on one design. A bad design is a status, never an exception."""

    design_id: str
    """The design's id."""

    evaluator: str
    """Who measured."""

    status: Status
    """`invalid`: the design breaks a law; `failed`: a tool failed on it; `timeout`: out of time."""

    metrics: dict[str, float] = {}
    """Numbers by metric name; empty unless the status is `ok`."""

    details: dict[str, str | float | int] = {}
    """Further facts for reader and agents, such as the unit of the worst path."""

    reason: str = ""
    """One sentence, where the status is not `ok`."""

    provenance: tuple[Provenance, ...] = ()
    """One for each stage that gave a number."""

    elapsed_s: Annotated[float, Field(ge=0)] = 0.0
    """Time it took, on the monotonic clock."""

    @property
    def energy_is_modelled(self) -> bool:
        """Whether the energy comes from documented figures per operation, not from the netlist."""
        return self.details.get(ENERGY_FIGURES) != MEASURED


NO_VERDICT = "no verdict"
"""What the reason of a verdict begins with where a tool failed, so that nothing is known."""


class Verdict(Frozen):
    """The gate's verdict on one RTL edit."""

    unit: str
    """The unit that the edit replaces."""

    accepted: bool
    """Whether the edit may be built into the core."""

    reason: str
    """One sentence: what was shown, or why it was refused."""

    shown: Shown | None = None
    """How far; None where it was refused, or in a journal that is older than proofs."""


def refusal(design_id: str, verdicts: Iterable[Verdict]) -> Evaluation | None:
    """What a design gets whose edits the gate did not accept; None where it accepted all.

    `failed` where nothing is known of one, since its gate broke or ran out of time.
    """
    refused = [verdict for verdict in verdicts if not verdict.accepted]
    if not refused:
        return None
    unknown = any(verdict.reason.startswith(NO_VERDICT) for verdict in refused)
    return Evaluation(
        design_id=design_id,
        evaluator="gate",
        status="failed" if unknown else "invalid",
        reason="; ".join(f"edit of {each.unit} refused: {each.reason}" for each in refused),
    )


Stage = Callable[[str], None]
"""Told the name of each stage as it begins, for progress."""


class Evaluator(Protocol):
    """Judges and measures designs. Pure: equal arguments give equal answers within tolerance.

    Each method runs in a process of its own, so an evaluator is picklable.
    """

    @property
    def name(self) -> str:
        """Who measures, in evaluations."""
        ...

    def gate(self, design: DesignPoint) -> tuple[Verdict, ...]:
        """Judges the design's RTL edits, in their order; empty where there is none."""
        ...

    def evaluate(self, design: DesignPoint, target: Target, on_stage: Stage) -> Evaluation:
        """Measures `design` on validation data; never raises for a bad design."""
        ...

    def test(self, design: DesignPoint) -> dict[str, dict[str, float]]:
        """Scores `design` and the baseline on test images: data set -> figure -> value."""
        ...
