"""Every cheat, from its source to the verdict: sandbox, laws and simulation together.

None needs a proof to be refused; those that do are in `test_rare_triggers.py`.
"""

import re
from pathlib import Path

import pytest

from evaluators.gate.check import judge
from evaluators.gate.proof import no_proof
from evaluators.silicon import verilator
from hwlib.edit import RtlEdit
from tests.cheats.cheats import NETLISTS, PORTS, RARE, SIMULATED

CHEATS = {**PORTS, **NETLISTS, **SIMULATED}

LEAST = 25
"""Cheats that this room promises."""


def test_names_of_cheats_are_their_own() -> None:
    families = (PORTS, NETLISTS, SIMULATED, RARE)
    assert len({name for family in families for name in family}) == sum(map(len, families))
    assert len(CHEATS) >= LEAST


@pytest.mark.slow
@pytest.mark.eda
@pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)
@pytest.mark.parametrize("name", CHEATS)
def test_the_gate_refuses_a_cheat_and_takes_its_twin(name: str, cache_dir: Path) -> None:
    cheat = CHEATS[name]
    edit = RtlEdit(unit=cheat.unit, source=cheat.source, latency=cheat.latency)
    refused = judge(edit, cheat.config, frozenset(), cache_dir, no_proof)
    assert not refused.accepted
    assert re.search(cheat.words, refused.reason), refused.reason
    honest = edit.model_copy(update={"source": cheat.twin})
    twin = judge(honest, cheat.config, frozenset(), cache_dir, no_proof)
    assert twin.accepted, twin.reason
