"""Units with one wrong state among so many that no vectors find it: only a proof can."""

from pathlib import Path

import pytest

from evaluators.gate.check import judge
from evaluators.silicon import verilator
from hwlib.edit import RtlEdit
from tests.cheats.cheats import RARE

QUICK = "wrong after 2^20 cycles"

FOUND = "still differs from the reference"

REFUSED = {
    "wrong after 2^20 cycles": "is a function of its operands, which is not shown of the edit",
    "one sum of the neighbour's": FOUND,
    "three pairs in a row": FOUND,
    "one factor in 2^54": FOUND,
    "one pair of words of four int4": FOUND,
}
"""In which words; of the others it is only known that they are not proved."""


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
    if name in REFUSED:
        assert not judgement.accepted and REFUSED[name] in judgement.reason
    else:
        assert judgement.shown in ("tested", None)
