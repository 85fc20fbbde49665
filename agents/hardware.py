"""The hardware role: changes knobs of the accelerator."""

from typing import Annotated

from pydantic import Field

from agents.brief import as_json, common, knob_table, messages
from agents.llm import Message
from agents.planner import Plan
from agents.proposer import Context
from agents.rewrites import Library
from agents.text import one_line
from agents.turn import Change, changes_of, reply_schema
from evaluators import space
from evaluators.design import DesignPoint
from hwlib.frozen import Frozen


class HardwareReply(Frozen):
    """The hardware role's reply."""

    changes: Annotated[tuple[Change, ...], Field(max_length=32)]
    """Knobs to change in the parent; empty to keep it as it is."""

    why: str
    """Why, in at most two sentences."""


SCHEMA = reply_schema(HardwareReply, ("hardware",))


def ask(context: Context, library: Library, plan: Plan, parent: DesignPoint) -> list[Message]:
    """The hardware role's prompt."""
    direction = {"parent_trial": plan.parent_trial, "direction": one_line(plan.hardware)}
    own = [as_json("plan", direction), knob_table("hardware", parent, context.layers)]
    return messages("hardware", [*common(context, library), *own], SCHEMA)


def apply(reply: HardwareReply, parent: DesignPoint) -> DesignPoint:
    """`parent` with the changes; an edit of an element that the array then lacks is dropped.

    Raises:
        ValueError: a change leaves the space, or the whole breaks a law.
    """
    bare = parent.model_copy(update={"edits": ()})
    changed = space.with_changes(bare, changes_of(reply.changes, "hardware"))
    absent = changed.hardware.absent_element
    kept = tuple(edit for edit in parent.edits if edit.unit != absent)
    return changed.model_copy(update={"edits": kept})
