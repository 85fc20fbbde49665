"""An edit of the accelerator's RTL: the full replacement of one unit."""

from typing import Annotated, Literal

from pydantic import Field

from hwlib.frozen import Frozen

UnitName = Literal[
    "array",
    "mac",
    "composable_mac",
    "rescaler",
    "activation",
    "exponential",
    "inverse_sqrt",
    "reciprocal",
]
"""The units that an edit may replace: files of `hwlib/units/`. A core has one of the two elements,
or an array that brings its own."""


class UnitTiming(Frozen):
    """What the rest of the core must know of a unit's schedule."""

    latency: Annotated[int, Field(ge=1, le=8)]
    """Cycles from an operand at the unit's ports to its effect on the unit's result."""


Language = Literal["amaranth", "verilog"]


class RtlEdit(Frozen):
    """A full replacement of one file of `hwlib/units/`."""

    unit: UnitName
    """The unit that is replaced."""

    source: Annotated[str, Field(min_length=1, max_length=65536)]
    """The new file. In Amaranth a Python module that defines the class which the unit's contract
    names, with the arguments of the shipped one; in Verilog a module of the unit's name with the
    contract's ports, `clk` and `rst`, for the core that it is proposed for."""

    latency: Annotated[int, Field(ge=1, le=8)]
    """The latency in cycles that the author claims; the gate holds the netlist to it."""

    language: Language = "amaranth"
    """What the file is written in."""
