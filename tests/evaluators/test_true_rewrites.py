"""The gate accepts what is right, however it is built."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluators.gate.check import judge
from evaluators.gate.proof import no_proof, prove
from evaluators.silicon import verilator
from hwlib.config import CoreConfig
from hwlib.contracts.table import CORE_UNITS, contract_of
from hwlib.edit import RtlEdit, UnitName
from tests.evaluators.true_rewrites import REWRITES

QUICK = (
    "exponential: rounding behind the shift",
    "reciprocal: a curve from the end of its segment on",
    "rescaler: the whole product in one cycle",
    "mac: a sum in carry-save that is added up as it is drained",
)
"""Judged in every run of the tests."""

OTHER_PARAMETERS: dict[UnitName, tuple[dict[str, int], ...]] = {
    "mac": ({"accumulator_bits": 20, "mac_stages": 3},),
    "composable_mac": ({"accumulator_bits": 20, "mac_stages": 3},),
    "exponential": tuple({"exponential_entries": entries} for entries in (4, 8, 32)),
}
"""Knobs of a core that change a unit's parameters."""

needs_tools = pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)


AT_OTHER_PARAMETERS = 3
"""Rewrites of each unit that are also judged for those cores."""


def judged_at() -> Iterator[object]:
    """Every rewrite with the knobs of each core that it is judged for."""
    seen = Counter[UnitName]()
    for name, rewrite in REWRITES.items():
        seen[rewrite.unit] += 1
        others = OTHER_PARAMETERS.get(rewrite.unit, ())
        for knobs in ({}, *(others if seen[rewrite.unit] <= AT_OTHER_PARAMETERS else ())):
            quick = name in QUICK and not knobs
            marks = () if quick else pytest.mark.slow
            yield pytest.param(name, knobs, id=f"{name} {knobs or ''}", marks=marks)


def test_there_are_several_different_rewrites_of_every_unit() -> None:
    units = [rewrite.unit for rewrite in REWRITES.values()]
    assert len(units) >= 20
    assert all(units.count(unit.contract.unit) >= 3 for unit in CORE_UNITS.values())
    assert len({rewrite.methods for rewrite in REWRITES.values()}) == len(units)


@needs_tools
@pytest.mark.eda
@pytest.mark.parametrize(("name", "knobs"), list(judged_at()))
def test_a_true_rewrite_is_accepted(name: str, knobs: dict[str, int], cache_dir: Path) -> None:
    rewrite = REWRITES[name]
    config = CoreConfig(composable=rewrite.unit == "composable_mac").model_copy(update=knobs)
    edit = RtlEdit(unit=rewrite.unit, source=rewrite.source, latency=rewrite.latency)
    # Functions must be shown to be such. Whether other units are also proved is another question
    # (`test_proof.py`), and takes longer.
    prover = prove if contract_of(rewrite.unit, config).approximation else no_proof
    judgement = judge(edit, config, frozenset(), cache_dir, prover)
    assert judgement.accepted, judgement.reason
