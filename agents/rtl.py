"""The RTL role: rewrites one unit of the core as a whole file, or leaves it."""

from typing import Any, Literal

from agents.brief import as_file, as_json, as_json_lines, common, messages
from agents.llm import Message
from agents.planner import Plan
from agents.proposer import Context
from agents.rewrites import Library
from agents.text import one_line
from agents.turn import reply_schema
from evaluators.design import DesignPoint
from evaluators.space import design_of_tree
from hwlib.edit import UnitName
from hwlib.frozen import Frozen

WORST_PATH_UNIT = "worst_path_unit"
"""The detail of an evaluation that names the unit of the worst path."""


class RtlReply(Frozen):
    """The RTL role's reply."""

    action: Literal["keep", "replace", "restore"]
    """`keep`: the parent's unit stands; `replace`: by `source`; `restore`: the shipped file."""

    unit: UnitName | None
    """The unit; null with `keep`."""

    source: str | None
    """The whole new file; null unless the action is `replace`."""

    latency: int | None
    """The file's latency in cycles, 1 to 8; null unless the action is `replace`."""

    why: str
    """Why, in at most two sentences."""


SCHEMA = reply_schema(RtlReply)


def ask(context: Context, library: Library, plan: Plan, parent: DesignPoint) -> list[Message]:
    """The RTL role's prompt: the unit on the parent's worst path, its contract, the playbook."""
    worst = worst_path_unit(context, plan)
    unit = library.unit(worst) or library.unit("element")
    direction = {"parent_trial": plan.parent_trial, "direction": one_line(plan.rtl)}
    paths = {"worst_path_unit": worst, "unit_shown": unit.unit if unit else None}
    own = [as_json("plan", direction), as_json("worst path", paths)]
    if unit is not None:
        own += [
            as_file(f"contract of {unit.unit}", unit.contract),
            as_file(f"shipped {unit.unit}", unit.source),
        ]
        own += [
            as_file(f"parent's {e.unit}", e.source) for e in parent.edits if e.unit == unit.unit
        ]
    entries = [r for r in library.rewrites if unit is not None and r.unit == unit.unit]
    own.append(as_json_lines("playbook", [_entry(r.model_dump(mode="json")) for r in entries]))
    own += [as_file(f"playbook {r.name}", r.source) for r in entries]
    return messages("rtl", [*common(context, library), *own], SCHEMA)


def worst_path_unit(context: Context, plan: Plan) -> str | None:
    """The unit of the parent's worst path; of the latest measured trial where it has no parent."""
    measured = [t for t in context.history if t.evaluation.details.get(WORST_PATH_UNIT)]
    own = [t for t in measured if t.index == plan.parent_trial]
    found = (own or measured)[-1:]
    return one_line(str(found[0].evaluation.details[WORST_PATH_UNIT]), 60) if found else None


def apply(reply: RtlReply, parent: DesignPoint) -> DesignPoint:
    """`parent` with the edit; edits of other units are inherited.

    Raises:
        ValueError: the reply's fields do not fit its action, or the edit breaks a law of `RtlEdit`.
    """
    if reply.action == "keep":
        return parent
    if reply.unit is None:
        raise ValueError(f"unit: null does not go with the action `{reply.action}`; name the unit")
    tree: dict[str, Any] = parent.model_dump(mode="json")
    edits = [edit for edit in tree["edits"] if edit["unit"] != reply.unit]
    if reply.action == "replace":
        if reply.source is None or reply.latency is None:
            raise ValueError("source and latency: both are needed with the action `replace`")
        edits.append({"unit": reply.unit, "source": reply.source, "latency": reply.latency})
    # One order, so that a design has one id whichever unit was edited first.
    tree["edits"] = sorted(edits, key=lambda edit: str(edit["unit"]))
    return design_of_tree(tree)


def _entry(rewrite: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rewrite.items() if name != "source"}
