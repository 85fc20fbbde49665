"""What a proposer sees and what it returns."""

from typing import Literal, Protocol

from evaluators.design import DesignPoint
from evaluators.metrics import Evaluation
from evaluators.target import Target
from hwlib.frozen import Frozen

Role = Literal["planner", "hardware", "rtl", "compression", "critic"]


class ModelCall(Frozen):
    """One call of a chat model, as it went over the wire."""

    role: Role
    """The agent that asked."""

    call: int
    """Index of the call within this role's turn on this trial, from 0 (mends count up)."""

    model: str
    """The model's name as the server knows it."""

    request_sha256: str
    """SHA-256 of the canonical request; replay finds the reply by it."""

    messages: tuple[dict[str, str], ...]
    """The prompt: role and content of each message."""

    reply: str
    """The reply's text; empty when the call failed."""

    error: str = ""
    """One sentence, where the call failed."""

    input_tokens: int = 0
    """Tokens of the prompt, as the server counted."""

    output_tokens: int = 0
    """Tokens of the reply, as the server counted."""

    elapsed_s: float = 0.0
    """Time the call took."""


class Trial(Frozen):
    """A past design with its verdict, as agents may see it: validation figures only."""

    index: int
    """Index of the trial in the run."""

    design: DesignPoint
    """What was measured."""

    evaluation: Evaluation
    """The verdict."""

    feasible: bool
    """Whether it keeps the target's limits."""

    on_front: bool
    """Whether it is on the Pareto front so far."""


class Context(Frozen):
    """Everything a proposer may see; nothing else reaches it. Never a test figure."""

    trial: int
    """Index of the trial that is asked for."""

    suggestion: DesignPoint
    """What Optuna suggests."""

    history: tuple[Trial, ...]
    """Told trials that this one may know, in trial order."""

    pending: tuple[DesignPoint, ...]
    """Designs that are proposed and whose figures this trial may not know yet, in trial order."""

    target: Target
    """Technology and limits."""

    workload: str
    """What the model is measured on, in words."""

    layers: tuple[str, ...]
    """Names of blocks and linear layers that overrides may name."""

    seed: int
    """The run's seed."""


class Rejection(Frozen):
    """A proposal that was refused, and why."""

    role: Role
    """Who proposed it."""

    call: int
    """The call whose reply was refused."""

    reason: str
    """One sentence, given back to the author once to be mended."""


class Proposal(Frozen):
    """A design that somebody stands behind."""

    parent_trial: int | None
    """The trial whose design it grew from; `None` for a fresh one."""

    design: DesignPoint
    """The design to measure."""

    author: str
    """`agents`, or `optuna` where the suggestion was taken as it is."""

    rationale: str
    """Why, in the author's words (data, never markup)."""

    rejections: tuple[Rejection, ...] = ()
    """What was refused on the way."""


class Proposer(Protocol):
    """Turns what is known into the next design. Samplers, agent graphs and replayed logs fit."""

    def propose(self, context: Context) -> Proposal:
        """Returns the next design; falls back to the suggestion rather than raise."""
        ...
