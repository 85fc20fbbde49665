"""`dovetail evaluate --target ecp5`: a design, or somebody's Verilog, on an FPGA."""

from collections.abc import Callable
from pathlib import Path

from dovetail.errors import BadInput, EvaluatorBroken, Missing
from dovetail.formatting import one_line
from dovetail.settings import Settings
from dovetail.shipped import pipeline
from evaluators import cache
from evaluators.design import DesignPoint
from evaluators.fpga import nextpnr
from evaluators.fpga.ecp5 import DoesNotFit, Ecp5Cost, NotOneClock, ecp5_cost
from evaluators.silicon import verilator
from evaluators.silicon.foreign import ForeignError, rtlil_of
from evaluators.silicon.yosys import YosysError, YosysTimeout
from hwlib.elaborate import TOP, elaborate_core

Stage = Callable[[str], None]
"""Told in words what begins."""

WORDS = 900
"""How much of a tool's complaint is told."""


def check_tools(design: DesignPoint | None = None) -> None:
    """Refuses before anything is measured.

    Raises:
        Missing: nextpnr is not installed, or what judges the edits of the design.
    """
    try:
        nextpnr.versions()
    except nextpnr.NextpnrMissing as error:
        raise Missing(str(error)) from None
    if design is not None and design.edits and (missing := verilator.available()):
        raise Missing(f"{missing}; without it no RTL edit can be judged")


def cost_of_design(design: DesignPoint, settings: Settings, on_stage: Stage) -> Ecp5Cost:
    """The core of a design, with its edits once the gate has accepted them.

    Raises:
        BadInput: The gate refuses an edit, or no device is large enough.
        EvaluatorBroken: A tool failed on the core, or was stopped.
    """
    try:
        if design.edits:
            on_stage("judging the edits")
        units = pipeline(cleared=frozenset(settings.cleared)).units(design)
        rtlil = elaborate_core(design.hardware, units)
    except ValueError as error:
        raise BadInput(f"the design: {error}") from None
    try:
        return _cost(rtlil, TOP, on_stage)
    except YosysError as error:
        raise EvaluatorBroken(_told("the core could not be mapped to ECP5", error)) from None


def cost_of_file(path: Path, top: str, on_stage: Stage) -> Ecp5Cost:
    """A Verilog file.

    Raises:
        BadInput: It cannot be read or mapped, has not one clock, or no device is large enough.
        EvaluatorBroken: A tool failed, or was stopped.
    """
    try:
        return _cost(rtlil_of(path, top), top, on_stage)
    except ForeignError as error:
        raise BadInput(one_line(str(error), WORDS)) from None
    except YosysTimeout as error:
        raise EvaluatorBroken(_told(f"{path.name}: a smaller module may do", error)) from None
    except YosysError as error:
        raise BadInput(_told(f"{path.name} cannot be mapped to ECP5", error)) from None


def _cost(rtlil: str, top: str, on_stage: Stage) -> Ecp5Cost:
    try:
        return ecp5_cost(rtlil, top, cache.root(), on_stage)
    except DoesNotFit as error:
        raise BadInput(f"{top} does not fit: {error}; make it smaller") from None
    except NotOneClock as error:
        raise BadInput(f"{top}: {error}") from None
    except nextpnr.NextpnrError as error:
        raise EvaluatorBroken(_told(f"{top} could not be placed and routed", error)) from None


def _told(what: str, error: Exception) -> str:
    """A tool's words on one line."""
    return f"{what}: {one_line(str(error), WORDS)}"
