"""An edit of the accelerator's RTL: the full replacement of one unit."""

from typing import Annotated, Literal

from pydantic import Field

from hwlib.frozen import Frozen

CoreUnitName = Literal[
    "array",
    "mac",
    "composable_mac",
    "rescaler",
    "activation",
    "exponential",
    "inverse_sqrt",
    "reciprocal",
]
"""The units that an edit of a design may replace. A core has one of the two elements, or an array
that brings its own."""

LooseUnitName = Literal[
    "multiplier_4",
    "multiplier_8",
    "multiplier_16",
    "dot_product_2",
    "dot_product_4",
    "dot_product_8",
    "lif_8",
    "lif_12",
    "lif_16",
]
"""Units that no core has, each of three sizes: the gate judges rewrites of them alone."""

UnitName = Literal[CoreUnitName, LooseUnitName]
"""The units that have a contract; a file of `hwlib/units/` has all sizes of one."""


class UnitTiming(Frozen):
    """What the rest of the core must know of a unit's schedule."""

    latency: Annotated[int, Field(ge=1, le=8)]
    """Cycles from an operand at the unit's ports to its effect on the unit's result."""


Language = Literal["amaranth", "verilog"]


class Edit(Frozen):
    """A full replacement of some unit."""

    source: Annotated[str, Field(min_length=1, max_length=65536)]
    """The new file. In Amaranth a Python module that defines the class which the unit's contract
    names, with the arguments of the shipped one; in Verilog a module of the unit's name with the
    contract's ports, `clk` and `rst`, for the core that it is proposed for."""

    latency: Annotated[int, Field(ge=1, le=8)]
    """The latency in cycles that the author claims; the gate holds the netlist to it."""

    language: Language = "amaranth"
    """What the file is written in."""


class RtlEdit(Edit):
    """A full replacement of one unit of a design's core."""

    unit: CoreUnitName
    """The unit that is replaced."""


class LooseEdit(Edit):
    """A full replacement of a unit that no core has."""

    unit: LooseUnitName
    """The unit that is replaced."""


AnyEdit = RtlEdit | LooseEdit
