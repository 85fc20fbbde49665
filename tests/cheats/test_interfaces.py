"""A unit with other ports than its contract's, or with more than synchronous logic, is refused."""

import re
import warnings

import pytest

from evaluators.gate.loops import check_loops
from tests.cheats.bench import netlist
from tests.cheats.cheats import NETLISTS, PORTS

CHEATS = {**PORTS, **NETLISTS}


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_refused_and_its_twin_is_not(name: str) -> None:
    cheat = CHEATS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Amaranth warns of what a refused source left unused
        with pytest.raises(Exception) as refused:
            netlist(cheat, cheat.source)
    assert re.search(cheat.words, str(refused.value))
    check_loops(cheat.unit, netlist(cheat, cheat.twin))
