"""Units with one wrong state among so many that no vectors find it: only a proof can."""

from pathlib import Path

import pytest

from evaluators.gate.check import judge
from evaluators.silicon import verilator
from hwlib.edit import RtlEdit
from tests.cheats.cheats import RARE

QUICK = "wrong after 2^20 cycles"

FOUND = {
    "one sum of the neighbour's",
    "three pairs in a row",
    "one factor in 2^54",
    "one pair of words of four int4",
}
"""Those that are refused; of the others it is only known that they are not proved."""


@pytest.mark.eda
@pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == QUICK else pytest.mark.slow) for name in RARE]
)
def test_a_rare_trigger_is_refused_or_said_to_be_no_more_than_tested(
    name: str, cache_dir: Path
) -> None:
    cheat = RARE[name]
    edit = RtlEdit(unit=cheat.unit, source=cheat.source, latency=cheat.latency)
    judgement = judge(edit, cheat.config, frozenset(), cache_dir)
    if judgement.accepted:
        assert judgement.shown == "tested"
        assert name not in FOUND
    else:
        assert "still differs from the reference" in judgement.reason
