"""The planner: reads the history, picks the parent and one direction for each of the others."""

from agents.brief import common, messages
from agents.llm import Message
from agents.proposer import Context
from agents.rewrites import Library
from agents.turn import reply_schema
from evaluators.design import DesignPoint
from hwlib.frozen import Frozen


class Plan(Frozen):
    """The planner's reply."""

    parent_trial: int | None
    """Trial whose design the next one grows from; null for Optuna's suggestion."""

    hardware: str
    """What the hardware role should try, in one sentence."""

    rtl: str
    """What the RTL role should try, in one sentence."""

    compression: str
    """What the compression role should try, in one sentence."""

    why: str
    """Why, in at most three sentences."""


SCHEMA = reply_schema(Plan)


def ask(context: Context, library: Library) -> list[Message]:
    """The planner's prompt."""
    return messages("planner", common(context, library), SCHEMA)


def parent_of(plan: Plan, context: Context) -> DesignPoint:
    """The design that the plan starts from.

    Raises:
        ValueError: the plan names a trial that is not in the history.
    """
    if plan.parent_trial is None:
        return context.suggestion
    for trial in context.history:
        if trial.index == plan.parent_trial:
            return trial.design
    raise ValueError(f"parent_trial: there is no trial {plan.parent_trial} in the history")


def without_plan() -> Plan:
    """The plan where the planner gave none: from the suggestion, by everyone's own judgement."""
    own = "The planner gave no direction; use your own judgement."
    return Plan(parent_trial=None, hardware=own, rtl=own, compression=own, why="no plan")
