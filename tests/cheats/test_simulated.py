"""A unit that is right for many operands, for a while, or for one core alone is refused."""

import re
from pathlib import Path

import pytest

from evaluators.silicon import verilator
from hwlib.unit_source import shipped_source, source_to_rtlil
from tests.cheats.bench import TWIN, mismatch
from tests.cheats.cheats import CORE, OPERANDS, PARAMETERS, SEQUENCES, SIMULATED, Cheat

needs_tools = pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)


def refused_and_twin_not(name: str, cheat: Cheat, cache_dir: Path) -> None:
    assert re.search(cheat.words, found := mismatch(name, cache_dir)), found
    assert not mismatch(name + TWIN, cache_dir)


@needs_tools
@pytest.mark.eda
@pytest.mark.parametrize("name", OPERANDS)
def test_a_unit_that_is_right_for_many_operands_is_refused(name: str, cache_dir: Path) -> None:
    refused_and_twin_not(name, OPERANDS[name], cache_dir)


@needs_tools
@pytest.mark.eda
@pytest.mark.parametrize("name", SEQUENCES)
def test_a_unit_that_is_right_for_a_while_is_refused(name: str, cache_dir: Path) -> None:
    refused_and_twin_not(name, SEQUENCES[name], cache_dir)


@needs_tools
@pytest.mark.eda
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_unit_that_is_right_for_the_default_core_is_refused(name: str, cache_dir: Path) -> None:
    cheat = PARAMETERS[name]
    shipped = source_to_rtlil(cheat.unit, shipped_source(cheat.unit), CORE)
    assert source_to_rtlil(cheat.unit, cheat.source, CORE) == shipped
    refused_and_twin_not(name, cheat, cache_dir)


ALONE = {
    " of the sweep over all operands": {
        "one wrong pair in 131,072",
        "two wrong pairs that make up for each other",
        "one wrong pair of an int8 and an int8",
    },
    " of the values that stay": {"right for the first 1,100 cycles"},
    " of many": {"a start value that no chip has", "right until the third reset"},
}
"""What each of the gate's own sequences finds that no other does; resets and power-ons together."""


@needs_tools
@pytest.mark.eda
@pytest.mark.parametrize("where", ALONE)
def test_each_sequence_finds_what_no_other_does(where: str, cache_dir: Path) -> None:
    assert {name for name in SIMULATED if not mismatch(name, cache_dir, unseen=where)} == ALONE[
        where
    ]
