"""The events of a run: what the journal holds, one line each."""

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, TypeAdapter

from agents.proposer import ModelCall, Proposal, Rejection
from evaluators.design import DesignPoint
from evaluators.metrics import Evaluation, Verdict
from hwlib.frozen import Frozen

SCHEMA_VERSION: Literal[1] = 1

RUN_LEVEL = 1 << 30
"""Stands for the trial of what comes after all trials, in an event's key."""


class _Event(Frozen):
    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of the journal's format."""

    sequence: int = 0
    """Number of the line, from 0; the journal sets it."""

    time_s: float = 0.0
    """Seconds since the epoch; the journal sets it; left out when journals are compared."""


class RunStarted(_Event):
    """The first line: everything that a replay needs to know."""

    event: Literal["run_started"] = "run_started"
    settings: dict[str, JsonValue]
    """The run file as it was resolved, without keys."""
    data: str
    """What the run measures on, in words; synthetic data is called synthetic."""
    data_sha256: dict[str, str]
    """SHA-256 of each data set and of the checkpoint."""
    layers: tuple[str, ...]
    """Names of blocks and linear layers that overrides may name."""
    versions: dict[str, str]
    """Versions of Dovetail and of the packages that shape a number."""


class Asked(_Event):
    """Optuna's suggestion for a trial."""

    event: Literal["asked"] = "asked"
    trial: int
    suggestion: DesignPoint
    params: dict[str, JsonValue]
    """The raw parameters, by knob path."""


class ModelCalled(_Event):
    """A reply of the chat model, written when it returned."""

    event: Literal["model_called"] = "model_called"
    trial: int
    call: ModelCall
    reply_sha256: str
    """SHA-256 of the reply: an edited reply shows at its own line."""
    maybe_repeated: bool = False
    """An earlier process died while this trial was being proposed, so the server may have been
    asked the same twice; left out when journals are compared."""


class Rejected(_Event):
    """A role's proposal that was refused."""

    event: Literal["rejected"] = "rejected"
    trial: int
    rejection: Rejection


class Proposed(_Event):
    """The design that goes on to be measured."""

    event: Literal["proposed"] = "proposed"
    trial: int
    proposal: Proposal
    """Without its rejections, which have events of their own."""
    replies_sha256: str
    """SHA-256 over the trial's replies: an edited reply shows here at the latest."""


class Gated(_Event):
    """The gate's verdict on one RTL edit."""

    event: Literal["gated"] = "gated"
    trial: int
    verdict: Verdict


class Evaluated(_Event):
    """The verdict on a trial's design (cached or fresh: it is the same)."""

    event: Literal["evaluated"] = "evaluated"
    trial: int
    evaluation: Evaluation


class Told(_Event):
    """What Optuna was told."""

    event: Literal["told"] = "told"
    trial: int
    values: dict[str, float] | None
    """Objectives by name, or `None` where the design has no valid measurement."""
    violation: float
    """How far the area exceeds its limit, as a share of the limit; at most 0 is feasible."""


class Tested(_Event):
    """The test figures: of the design that the run file's rule picked, and of the baseline."""

    event: Literal["tested"] = "tested"
    trial: int
    rule: str
    """The rule that picked the design, fixed in the run file."""
    design_id: str
    results: dict[str, dict[str, float]]
    """Per data set: accuracies, balanced accuracies, AUCs, their paired difference and its SE."""


class RunStopped(_Event):
    """The last line of a finished run. An interrupted run has none."""

    event: Literal["run_stopped"] = "run_stopped"
    reason: str


RunEvent = Annotated[
    RunStarted
    | Asked
    | ModelCalled
    | Rejected
    | Proposed
    | Gated
    | Evaluated
    | Told
    | Tested
    | RunStopped,
    Field(discriminator="event"),
]

EVENT: TypeAdapter[RunEvent] = TypeAdapter(RunEvent)
"""Reads and writes one event."""

STEPS = (
    "run_started",
    "asked",
    "model_called",
    "rejected",
    "proposed",
    "gated",
    "evaluated",
    "told",
    "tested",
    "run_stopped",
)
"""The steps in the order in which one trial goes through them."""

Key = tuple[int, int, str, int]
"""Trial, step, role (or unit), call: what orders two journals of the same run alike."""

TIMES = frozenset({"sequence", "time_s", "elapsed_s", "maybe_repeated"})
"""Fields that tell of the process rather than of the run; comparisons leave them out."""


def key(event: RunEvent) -> Key:
    """The event's place among all events of its run, whatever order they arrived in."""
    step = STEPS.index(event.event)
    match event:
        case RunStarted():
            return (-1, step, "", 0)
        case ModelCalled():
            return (event.trial, step, event.call.role, event.call.call)
        case Rejected():
            return (event.trial, step, event.rejection.role, event.rejection.call)
        case Gated():
            return (event.trial, step, event.verdict.unit, 0)
        case Tested() | RunStopped():
            return (RUN_LEVEL, step, "", 0)
        case _:
            return (event.trial, step, "", 0)


def timeless(event: RunEvent) -> Any:
    """The event as JSON values, without `TIMES` at any depth and without the number of workers.

    That number is a setting, but it never changes what a run finds.
    """
    plain = _timeless(event.model_dump(mode="json"))
    if isinstance(event, RunStarted):
        plain["settings"].pop("workers", None)
    return plain


def title(event: RunEvent) -> str:
    """The event in a few words, e.g. `trial 3 model_called planner 0`."""
    trial, _, role, call = key(event)
    where = f"trial {trial} " if 0 <= trial < RUN_LEVEL else ""
    which = f" {role}" if role else ""
    return f"{where}{event.event}{which}" + (f" {call}" if isinstance(event, ModelCalled) else "")


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(below) for name, below in value.items() if name not in TIMES}
    if isinstance(value, list):
        return [_timeless(below) for below in value]
    return value
