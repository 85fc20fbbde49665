"""A unit with other ports than its contract's, or with more than synchronous logic, is refused."""

import gc
import re
import warnings
from functools import cache

import pytest

from evaluators.gate.loops import check_loops
from hwlib.edit import UnitName
from tests.cheats.bench import netlist
from tests.cheats.cheats import NETLISTS, PORTS, Cheat

CHEATS = {**PORTS, **NETLISTS}


def reason(cheat: Cheat) -> str:
    """Why a cheat is refused, by Amaranth or by the laws of netlists; empty where it is not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Amaranth warns of what a refused unit leaves unused
        try:
            netlist(cheat.unit, cheat.config, cheat.source)
        except Exception as error:
            said = str(error)
        else:
            said = ""
        gc.collect()
    return said


@cache
def has_no_loop(unit: UnitName, text: str) -> bool:
    check_loops(unit, text)
    return True


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_refused_and_its_twin_is_not(name: str) -> None:
    cheat = CHEATS[name]
    assert re.search(cheat.words, reason(cheat))
    assert has_no_loop(cheat.unit, netlist(cheat.unit, cheat.config, cheat.twin))
