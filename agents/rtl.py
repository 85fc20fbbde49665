"""The RTL role: rewrites one unit of the core as a whole file, or leaves it."""

from collections.abc import Mapping
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
from hwlib.edit import CoreUnitName
from hwlib.frozen import Frozen

WORST_PATH_UNIT = "worst_path_unit"
"""The detail of an evaluation that names the module of the worst path."""

AREA_OF = "area_um2_of_"
"""What the names of details begin with that give the area of all instances of a unit."""

Details = Mapping[str, str | float | int]
"""An evaluation's details by name."""


class RtlReply(Frozen):
    """The RTL role's reply."""

    action: Literal["keep", "replace", "restore"]
    """`keep`: the parent's unit stands; `replace`: by `source`; `restore`: the shipped file."""

    unit: CoreUnitName | None
    """The unit; null with `keep`."""

    source: str | None
    """The whole new file; null unless the action is `replace`."""

    latency: int | None
    """The file's latency in cycles, 1 to 8; null unless the action is `replace`."""

    why: str
    """Why, in at most two sentences."""


SCHEMA = reply_schema(RtlReply)


def ask(context: Context, library: Library, plan: Plan, parent: DesignPoint) -> list[Message]:
    """The RTL role's prompt: one unit, its contract, and the playbook's rewrites of it."""
    details = _details(context, plan)
    worst = worst_path_unit(details)
    unit = library.unit(unit_shown(details, library, parent))
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


def worst_path_unit(details: Details) -> str | None:
    """The module of the worst path, which need not be one that an edit can replace."""
    found = details.get(WORST_PATH_UNIT)
    return one_line(str(found), 60) if found else None


def unit_shown(details: Details, library: Library, parent: DesignPoint) -> str | None:
    """The unit that an edit should be of: on the worst path if it can, else of the largest area.

    Units of which the playbook has a rewrite that the parent lacks come before all others. An array
    that was rewritten has no element to rewrite.
    """
    absent = {parent.hardware.absent_element}
    if any(edit.unit == "array" for edit in parent.edits):
        absent.add(parent.hardware.element)
    areas = {
        unit.unit: float(details.get(f"{AREA_OF}{unit.unit}", 0.0))
        for unit in library.units
        if unit.unit not in absent
    }
    had = {edit.source for edit in parent.edits}
    open_units = {r.unit for r in library.rewrites if r.source not in had}
    worst = details.get(WORST_PATH_UNIT)
    return max(areas, key=lambda u: (u in open_units, u == worst, areas[u]), default=None)


def _details(context: Context, plan: Plan) -> Details:
    """What the parent's measurement told; the latest trial's where the parent is not measured."""
    measured = [t for t in context.history if t.evaluation.details.get(WORST_PATH_UNIT)]
    own = [t for t in measured if t.index == plan.parent_trial]
    found = (own or measured)[-1:]
    return found[0].evaluation.details if found else {}


def apply(reply: RtlReply, parent: DesignPoint) -> DesignPoint:
    """`parent` with the edit; edits of other units are inherited.

    But for elements under a new array, which brings its own, and an array above a new element.

    Raises:
        ValueError: the reply's fields do not fit its action, or the edit breaks a law of `RtlEdit`.
    """
    if reply.action == "keep":
        return parent
    if reply.unit is None:
        raise ValueError(f"unit: null does not go with the action `{reply.action}`; name the unit")
    tree: dict[str, Any] = parent.model_dump(mode="json")
    element = parent.hardware.element
    displaced = {"array": element, element: "array"}.get(reply.unit)
    gone = {reply.unit, displaced} if reply.action == "replace" else {reply.unit}
    edits = [edit for edit in tree["edits"] if edit["unit"] not in gone]
    if reply.action == "replace":
        if reply.source is None or reply.latency is None:
            raise ValueError("source and latency: both are needed with the action `replace`")
        edits.append({"unit": reply.unit, "source": reply.source, "latency": reply.latency})
    # One order, so that a design has one id whichever unit was edited first.
    tree["edits"] = sorted(edits, key=lambda edit: str(edit["unit"]))
    return design_of_tree(tree)


def _entry(rewrite: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rewrite.items() if name != "source"}
