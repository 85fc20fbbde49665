"""`dovetail gate`: one RTL edit alone, judged and costed, for a person's own rewrite of a unit."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

from pydantic import TypeAdapter

from dovetail.errors import BadInput, EvaluatorBroken
from evaluators.metrics import Shown
from evaluators.pipeline import Pipeline
from evaluators.silicon.unit_cost import UnitCost
from hwlib.config import CoreConfig
from hwlib.contracts.table import contract_of
from hwlib.edit import AnyEdit, Language, UnitName
from hwlib.frozen import Frozen

_EDIT: TypeAdapter[AnyEdit] = TypeAdapter(AnyEdit)

SOURCE_LIMIT_BYTES = 65_536
"""Longest source, as `RtlEdit` has it."""


class GateReport(Frozen):
    """What the gate says of an edit, and what the unit costs before and after."""

    unit: UnitName
    """The unit that it replaces."""

    accepted: bool
    """Whether it may stand in the core."""

    reason: str
    """Why, or why not."""

    shown: Shown | None = None
    """How far it was shown to be right; None unless accepted."""

    latency: int | None = None
    """Its latency in cycles; None unless accepted."""

    cost: UnitCost | None = None
    """The unit with the edit; None unless accepted."""

    shipped: UnitCost | None = None
    """The shipped unit, mapped alike; None unless accepted."""


def unit_named(name: str) -> UnitName:
    """The unit of that name.

    Raises:
        BadInput: There is none.
    """
    units: tuple[UnitName, ...] = get_args(UnitName)
    for unit in units:
        if unit == name:
            return unit
    raise BadInput(f"there is no unit {name[:40]!r}; the units are {', '.join(units)}")


LANGUAGES: dict[str, Language] = {".py": "amaranth", ".v": "verilog", ".sv": "verilog"}
"""What a file is written in, by the ending of its name."""


def language_of(path: Path) -> Language:
    """What a file is written in.

    Raises:
        BadInput: Its name does not say.
    """
    if (language := LANGUAGES.get(path.suffix.lower())) is None:
        raise BadInput(
            f"the name of {path} does not say what it is written in; end it with .py for Amaranth, "
            "with .v or .sv for Verilog"
        )
    return language


def report(
    unit: UnitName,
    source: str,
    language: Language,
    latency: int | None,
    config: CoreConfig,
    pipeline: Pipeline,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> GateReport:
    """Takes an edit through the gate; where it passes, maps it beside the shipped unit.

    Args:
        unit: The unit that it replaces.
        source: The whole file.
        language: What it is written in.
        latency: Its latency in cycles; None finds it out.
        config: The core that it is for.
        pipeline: Its gate and its store.
        on_stage: Told what begins.

    Raises:
        BadInput: The core has no such unit, or the edit is none.
    """
    if not source.strip():
        raise BadInput("the edit is empty; it must be a whole file that defines the unit")
    try:
        claimed = latency or contract_of(unit, config).latency_bounds[0]
        given = {"unit": unit, "source": source, "latency": claimed, "language": language}
        edit: AnyEdit = _EDIT.validate_python(given)
        on_stage(f"judging the {unit}; a proof may take minutes")
        verdict = pipeline.judgement(edit, config)
        if latency is None and verdict.latency is not None:
            edit = edit.model_copy(update={"latency": verdict.latency})
            verdict = pipeline.judgement(edit, config)
        if not verdict.final:
            raise EvaluatorBroken(f"{verdict.reason}; run it again")
        if verdict.netlist is None:
            return GateReport(unit=unit, accepted=False, reason=verdict.reason)
        on_stage("mapping it beside the shipped one")
        cost, shipped = pipeline.unit_costs(edit, config, verdict.netlist)
    except ValueError as error:
        raise BadInput(f"the edit: {error}") from None
    return GateReport(
        unit=unit,
        accepted=True,
        reason=verdict.reason,
        shown=verdict.shown,
        latency=edit.latency,
        cost=cost,
        shipped=shipped,
    )
