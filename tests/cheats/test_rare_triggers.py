"""Units with one wrong state among so many that no vectors find it: only a proof can."""

from pathlib import Path

import pytest

from evaluators.gate.check import judge
from evaluators.silicon import verilator
from hwlib.edit import RtlEdit
from tests.cheats.cheats import RARE

QUICK = "wrong after 2^20 cycles"


@pytest.mark.eda
@pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)
@pytest.mark.xfail(
    raises=AssertionError,
    strict=True,
    reason="vectors cannot find it; the remedy is a proof that the netlist equals its reference",
)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == QUICK else pytest.mark.slow) for name in RARE]
)
def test_a_rare_trigger_is_refused(name: str, cache_dir: Path) -> None:
    cheat = RARE[name]
    edit = RtlEdit(unit=cheat.unit, source=cheat.source, latency=cheat.latency)
    assert not judge(edit, cheat.config, frozenset(), cache_dir).accepted
