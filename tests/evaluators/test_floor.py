"""The physical floor: what is too good to be true is set aside, until a person clears it."""

from pathlib import Path

import pytest

from agents.rewrites import PLAYBOOK, read_playbook
from evaluators.design import DesignPoint
from evaluators.gate import floor
from evaluators.gate.check import source_sha256
from evaluators.pipeline import Pipeline
from evaluators.silicon import verilator
from evaluators.silicon.unit_cost import UnitCost, unit_cost
from hwlib.config import CoreConfig
from hwlib.contracts.table import CORE_UNITS
from hwlib.edit import RtlEdit
from hwlib.unit_source import shipped_source, source_to_rtlil

SHIPPED = UnitCost(
    area_um2=1000.0, worst_path_s=1e-9, energy_j=1e-12, logic_depth_cells=9, power_w=1e-3
)
(ENTRY,) = [entry for entry in read_playbook(PLAYBOOK) if entry.name == "exponential_truncated"]


@pytest.mark.parametrize(
    ("area_um2", "energy_j", "exact", "said"),
    [
        (301.0, 0.41e-12, True, ""),
        (299.0, 0.41e-12, True, "0.30 of the shipped unit's area"),
        (299.0, 0.41e-12, False, ""),
        (301.0, 0.39e-12, True, "0.39 of the shipped unit's energy a cycle"),
        (301.0, 0.39e-12, False, "0.39 of the shipped unit's energy a cycle"),
    ],
)
def test_area_counts_for_exact_units_and_energy_for_all(
    area_um2: float, energy_j: float, exact: bool, said: str
) -> None:
    found = SHIPPED.model_copy(update={"area_um2": area_um2, "energy_j": energy_j})
    few = floor.too_good(found, SHIPPED, exact)
    assert few.startswith(said) and bool(few) == bool(said)


@pytest.mark.eda
def test_a_unit_of_several_modules_costs_what_they_cost_together(cache_dir: Path) -> None:
    source = shipped_source("exponential")
    inner = source.replace("class Exponential", "class Inner") + (
        "\n\nclass Exponential(wiring.Component):\n"
        "    def __init__(self, entries):\n"
        "        self.entries = entries\n"
        '        super().__init__({"fraction": In(5), "octave": In(4), "value": Out(7)})\n\n'
        "    def elaborate(self, platform):\n"
        "        m = Module()\n"
        "        m.submodules.inner = inner = Inner(self.entries)\n"
        "        m.d.comb += [inner.fraction.eq(self.fraction), inner.octave.eq(self.octave)]\n"
        "        m.d.comb += self.value.eq(inner.value)\n"
        "        return m\n"
    )
    unit = CORE_UNITS["exponential_16"]
    store = cache_dir / "silicon"
    costs = [
        unit_cost(source_to_rtlil("exponential", text, CoreConfig()), unit.contract, 1, store)
        for text in (source, inner)
    ]
    assert costs[1].energy_j == pytest.approx(costs[0].energy_j, rel=0.2)
    assert costs[1].area_um2 == pytest.approx(costs[0].area_um2, rel=0.2)


@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "it is there")
def test_a_quarantined_unit_is_refused_until_it_is_cleared(
    fresh_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No honest unit is so good: here the floor is raised over one.
    monkeypatch.setattr(floor, "ENERGY_FLOOR", 0.9)
    edit = RtlEdit(unit=ENTRY.unit, source=ENTRY.source, latency=ENTRY.latency)
    design = DesignPoint(edits=(edit,))
    sha256 = source_sha256(ENTRY.source)
    (verdict,) = Pipeline(cache_dir=fresh_store).gate(design)
    assert not verdict.accepted
    assert verdict.reason.startswith("quarantined: 0.61 of") and sha256 in verdict.reason
    (cleared,) = Pipeline(cache_dir=fresh_store, cleared=frozenset({sha256})).gate(design)
    assert cleared.accepted
    monkeypatch.undo()
    (honest,) = Pipeline(cache_dir=fresh_store).gate(design)
    assert honest.accepted
