"""The compression role: changes knobs of the compression plan, and bits of single layers."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from agents.brief import as_json, common, knob_table, messages
from agents.llm import Message
from agents.planner import Plan
from agents.proposer import Context
from agents.rewrites import Library
from agents.text import one_line
from agents.turn import Change, changes_of, reply_schema
from evaluators import space
from evaluators.design import DesignPoint, check
from hwlib.frozen import Frozen
from swopt.techniques.quantization import WeightBits

OVERRIDES = "compression.quantization.overrides"
"""The knob that holds bits by layer name."""


class Override(Frozen):
    """Bits of one block or linear layer."""

    name: str
    """The block or layer, as the list of layers writes it."""

    bits: WeightBits | None
    """Its bits; null takes an override away."""


class CompressionReply(Frozen):
    """The compression role's reply."""

    changes: Annotated[tuple[Change, ...], Field(max_length=32)]
    """Knobs to change in the parent; empty to keep it as it is."""

    overrides: Annotated[tuple[Override, ...], Field(max_length=32)]
    """Bits of single blocks or layers, on top of the parent's; empty to keep those."""

    why: str
    """Why, in at most two sentences."""


def schema(layers: Sequence[str]) -> dict[str, Any]:
    """The schema of its reply, for a model with blocks and linear layers of these names."""
    return reply_schema(CompressionReply, ("compression",), layers)


def ask(context: Context, library: Library, plan: Plan, parent: DesignPoint) -> list[Message]:
    """The compression role's prompt."""
    direction = {"parent_trial": plan.parent_trial, "direction": one_line(plan.compression)}
    own = [
        as_json("plan", direction),
        knob_table("compression", parent, context.layers),
        as_json("layers", [one_line(name, 80) for name in context.layers]),
    ]
    return messages("compression", [*common(context, library), *own], schema(context.layers))


def apply(reply: CompressionReply, parent: DesignPoint, layers: tuple[str, ...]) -> DesignPoint:
    """`parent` with the changes and overrides.

    Raises:
        ValueError: a change leaves the space, a name is no block or layer of the model, or a tower
            is emptied.
    """
    changes = changes_of(reply.changes, "compression")
    if OVERRIDES in changes:
        raise ValueError(f"{OVERRIDES} is set through the reply's `overrides`, not as a knob")
    if reply.overrides:
        changes[OVERRIDES] = _merged(reply.overrides, parent, layers)
    design = space.with_changes(parent, changes)
    check(design, layers)
    return design


def _merged(
    overrides: tuple[Override, ...], parent: DesignPoint, layers: tuple[str, ...]
) -> dict[str, Any]:
    merged: dict[str, Any] = dict(parent.compression.quantization.overrides)
    for override in overrides:
        if override.name not in layers:
            raise ValueError(f"overrides: `{one_line(override.name, 60)}` is no block or layer")
        if override.bits is None:
            merged.pop(override.name, None)
        else:
            merged[override.name] = override.bits
    return merged
