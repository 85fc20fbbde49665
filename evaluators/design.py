"""A design: hardware, compression and RTL edits together, and the laws between them."""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Self

from pydantic import Field, model_validator

from hwlib.config import CoreConfig
from hwlib.edit import RtlEdit
from hwlib.frozen import Frozen
from swopt import plan
from swopt.plan import CompressionPlan
from swopt.techniques.resolution import image_tokens


class DesignPoint(Frozen):
    """One point of the joint space."""

    hardware: CoreConfig = CoreConfig()
    """The core's knobs."""

    compression: CompressionPlan = CompressionPlan()
    """What is done to the model."""

    edits: Annotated[tuple[RtlEdit, ...], Field(max_length=6)] = ()
    """RTL edits, at most one a unit."""

    @model_validator(mode="after")
    def _one_edit_a_unit(self) -> Self:
        units = [edit.unit for edit in self.edits]
        if len(set(units)) != len(units):
            raise ValueError(f"edits name a unit twice: {', '.join(units)}; send one edit a unit")
        return self

    @model_validator(mode="after")
    def _elements_can(self) -> Self:
        composable = json.dumps(self.hardware.composable)
        other = self.hardware.absent_element
        if any(edit.unit == other for edit in self.edits):
            raise ValueError(
                f"an edit of `{other}` does not go with hardware.composable {composable}; "
                "drop the edit, or change hardware.composable"
            )
        units = {edit.unit for edit in self.edits}
        if {"array", self.hardware.element} <= units:
            raise ValueError(
                f"an edit of `array` brings elements of its own and does not go with one of "
                f"`{self.hardware.element}`; drop either"
            )
        if self.compression.quantization.activation_bits == 4 and not self.hardware.composable:
            raise ValueError(
                "compression.quantization.activation_bits 4 takes elements of 4-bit products; "
                "use 8, or set hardware.composable to true"
            )
        if self.compression.quantization.group is not None and not self.hardware.grouped_weights:
            raise ValueError(
                "compression.quantization.group takes a core that scales groups of weights; leave "
                "it out, or set hardware.grouped_weights to true"
            )
        return self

    def canonical_json(self) -> str:
        """The design as JSON with sorted keys and defaults left out.

        A knob that a later version adds with a neutral default leaves this text as it is.
        """
        return json.dumps(
            self.model_dump(mode="json", exclude_defaults=True),
            sort_keys=True,
            separators=(",", ":"),
        )

    @cached_property
    def id(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:16]


def check(design: DesignPoint, layers: Sequence[str]) -> None:
    """Holds a design to a model.

    Args:
        design: The design.
        layers: Names of the model's blocks and linear layers.

    Raises:
        ValueError: The plan breaks a law of the model, or the tokens of an image do not fill the
            core's rows.
    """
    plan.check(design.compression, layers)
    if not plan.reads_images(layers):
        return
    tokens, rows = image_tokens(design.compression.resolution), design.hardware.rows
    if tokens % rows:
        raise ValueError(
            f"an image of {tokens} tokens does not fill the core's {rows} rows evenly; use fewer "
            "hardware.rows, or more pixels (compression.resolution)"
        )
