"""Every cheat, from its source to the verdict: sandbox, laws and simulation together.

None needs a proof to be refused; those that do are in `test_rare_triggers.py`.
"""

import re
from pathlib import Path

import numpy as np
import pytest

from evaluators.gate.check import judge
from evaluators.gate.proof import no_proof
from evaluators.silicon import verilator
from hwlib.behaviour import exact_products
from hwlib.edit import RtlEdit
from tests.cheats.cheats import NETLISTS, PORTS, RARE, SIMULATED

CHEATS = {**PORTS, **NETLISTS, **SIMULATED}

LEAST = 25
"""Cheats that this room promises."""

SCORED = {"one wrong pair in 131,072": 1, "two wrong pairs that make up for each other": 2}
"""Faults of single products of a fixed element, and how many: the gate finds them, and they go into
the table that the model is scored with. Nothing is hidden, so nothing is refused."""


def test_names_of_cheats_are_their_own() -> None:
    families = (PORTS, NETLISTS, SIMULATED, RARE)
    assert len({name for family in families for name in family}) == sum(map(len, families))
    assert len(CHEATS) - len(SCORED) >= LEAST


@pytest.mark.slow
@pytest.mark.eda
@pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)
@pytest.mark.parametrize("name", sorted(CHEATS.keys() - SCORED.keys()))
def test_the_gate_refuses_a_cheat_and_takes_its_twin(name: str, cache_dir: Path) -> None:
    cheat = CHEATS[name]
    edit = RtlEdit(unit=cheat.unit, source=cheat.source, latency=cheat.latency)
    refused = judge(edit, cheat.config, frozenset(), cache_dir, no_proof)
    assert not refused.accepted
    assert re.search(cheat.words, refused.reason), refused.reason
    honest = edit.model_copy(update={"source": cheat.twin})
    twin = judge(honest, cheat.config, frozenset(), cache_dir, no_proof)
    assert twin.accepted, twin.reason


@pytest.mark.slow
@pytest.mark.eda
@pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)
@pytest.mark.parametrize("name", SCORED)
def test_a_wrong_product_of_an_element_is_what_the_model_is_scored_with(
    name: str, cache_dir: Path
) -> None:
    cheat = CHEATS[name]
    edit = RtlEdit(unit=cheat.unit, source=cheat.source, latency=cheat.latency)
    judgement = judge(edit, cheat.config, frozenset(), cache_dir, no_proof)
    assert judgement.netlist is not None, judgement.reason
    assert "products are off by up to 1" in judgement.reason
    behaviour = judgement.netlist.behaviour
    assert behaviour is not None
    assert np.count_nonzero(behaviour.table - exact_products()) == SCORED[name]
