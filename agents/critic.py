"""The critic: sees the three proposals, accepts, drops or changes each, and says why."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from agents import compression, hardware, rtl
from agents.brief import as_json, common, compact, messages
from agents.compression import CompressionReply
from agents.hardware import HardwareReply
from agents.llm import Message
from agents.planner import Plan
from agents.proposer import Context
from agents.rewrites import Library
from agents.rtl import RtlReply
from agents.text import one_line
from agents.turn import Change, reply_schema
from evaluators.design import DesignPoint, check
from hwlib.frozen import Frozen

Word = Literal["accept", "drop", "change"]


class KnobVerdict(Frozen):
    """Verdict on a proposal of knobs."""

    verdict: Word
    """`change`: the changes below take the place of the proposed ones."""

    changes: Annotated[tuple[Change, ...], Field(max_length=32)]
    """The changes, where the verdict is `change`; else empty."""


class Critique(Frozen):
    """The critic's reply."""

    take: Literal["proposals", "suggestion"]
    """`suggestion`: Optuna's design is measured as it is, and the verdicts do not count."""

    hardware: KnobVerdict
    """Verdict on the hardware proposal."""

    rtl: Literal["accept", "drop"]
    """Verdict on the RTL proposal; a dropped one leaves the parent's edits."""

    compression: KnobVerdict
    """Verdict on the compression proposal; `change` leaves the parent's overrides."""

    rationale: str
    """Why this design is worth measuring, in at most four sentences, for the journal's reader."""


class Proposals(Frozen):
    """What the three roles propose; `None` where a role has nothing that stands."""

    hardware: HardwareReply | None
    """The hardware role's reply."""

    rtl: RtlReply | None
    """The RTL role's reply."""

    compression: CompressionReply | None
    """The compression role's reply."""


def schema(layers: Sequence[str]) -> dict[str, Any]:
    """The schema of its reply, for a model with blocks and linear layers of these names."""
    return reply_schema(Critique, ("hardware", "compression"), layers)


def ask(
    context: Context, library: Library, plan: Plan, parent: DesignPoint, proposals: Proposals
) -> list[Message]:
    """The critic's prompt."""
    starting_point = {"parent_trial": plan.parent_trial, **compact(parent, library)}
    own = [
        as_json("plan", {"why": one_line(plan.why)}),
        as_json("parent", starting_point),
        as_json("proposals", _shown(proposals, library)),
        as_json("together", _together(context, library, parent, proposals)),
    ]
    return messages("critic", [*common(context, library), *own], schema(context.layers))


def assemble(
    critique: Critique, context: Context, parent: DesignPoint, proposals: Proposals
) -> DesignPoint:
    """The design that the critique makes of parent and proposals.

    Raises:
        ValueError: a changed proposal leaves the space, the whole breaks a law of the model, or the
            design was measured before or is under measurement now.
    """
    if critique.take == "suggestion":
        return context.suggestion
    design = _combined(critique, context, parent, proposals)
    check(design, context.layers)
    if where := _met_before(design, context):
        raise ValueError(f"{where}; change or drop a proposal, or take the suggestion")
    return design


def accept_all(rationale: str) -> Critique:
    """The critique where the critic gave none: the proposals as they stand."""
    accepted = KnobVerdict(verdict="accept", changes=())
    return Critique(
        take="proposals", hardware=accepted, rtl="accept", compression=accepted, rationale=rationale
    )


def _combined(
    critique: Critique, context: Context, parent: DesignPoint, proposals: Proposals
) -> DesignPoint:
    design = parent
    knobs, plan = _hardware(critique, proposals), _compression(critique, proposals)
    if knobs is not None:
        design = hardware.apply(knobs, design)
    if critique.rtl == "accept" and proposals.rtl is not None:
        design = rtl.apply(proposals.rtl, design)
    if plan is not None:
        design = compression.apply(plan, design, context.layers)
    return design


def _together(
    context: Context, library: Library, parent: DesignPoint, proposals: Proposals
) -> dict[str, Any]:
    """The design of all proposals, or the law that they break together.

    The roles work side by side, so that each may keep a law that the whole breaks: an edit of an
    element that the hardware proposal takes away.
    """
    try:
        return compact(_combined(accept_all(""), context, parent, proposals), library)
    except ValueError as error:
        return {"refused": one_line(str(error))}


def _met_before(design: DesignPoint, context: Context) -> str:
    """Where that very design stands already, in words; empty where it is new."""
    for trial in context.history:
        if trial.design.id == design.id:
            return f"trial {trial.index} measured this very design"
    if any(pending.id == design.id for pending in context.pending):
        return "this very design is under measurement now"
    return ""


def _hardware(critique: Critique, proposals: Proposals) -> HardwareReply | None:
    match critique.hardware.verdict:
        case "accept":
            return proposals.hardware
        case "change":
            return HardwareReply(changes=critique.hardware.changes, why="")
        case "drop":
            return None


def _compression(critique: Critique, proposals: Proposals) -> CompressionReply | None:
    match critique.compression.verdict:
        case "accept":
            return proposals.compression
        case "change":
            return CompressionReply(changes=critique.compression.changes, overrides=(), why="")
        case "drop":
            return None


def _shown(proposals: Proposals, library: Library) -> dict[str, Any]:
    """The proposals as the critic reads them: words cut short, a source by its name."""
    tree: dict[str, Any] = proposals.model_dump(mode="json")
    for proposal in tree.values():
        if proposal is not None:
            proposal["why"] = one_line(proposal["why"])
    if proposals.rtl is not None and proposals.rtl.source is not None:
        source = proposals.rtl.source
        tree["rtl"]["source"] = f"{len(source.splitlines())} lines"
        tree["rtl"]["rewrite"] = library.name_of(source) or "not of the playbook"
    return tree
