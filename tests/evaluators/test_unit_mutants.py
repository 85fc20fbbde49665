"""Bugs that are planted in the units: how they are made, and that the gate refuses them."""

import random
import re
from pathlib import Path

import pytest

from benchmarks.equivalence import equivalence
from benchmarks.mutation import spread
from benchmarks.source_mutants import source_mutants
from benchmarks.unit_mutants import chosen, fate, originals
from evaluators.silicon import verilator
from hwlib.config import CoreConfig
from hwlib.contracts.table import contract_of
from hwlib.edit import UnitName
from hwlib.unit_source import shipped_source, source_to_rtlil

needs_tools = pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)

UNITS = {
    original.name: original
    for original in originals()
    # Most mutants of the whole array are of its composable elements, which this core has not.
    if original.name == original.unit and original.unit != "array"
}

SEED = 323
"""Draws two mutants of every unit, none of which is equivalent to its unit, of nine kinds."""

SMALL = """\
"A unit."
from amaranth.hdl import Cat, Module, Mux, Signal, signed
TOP = 4
class Unit:
    def __init__(self, bits=8):
        self.bits = bits
    def elaborate(self, platform):
        m = Module()
        sum = Signal(signed(7), name=f"sum_{3 + 1}")
        with m.If(self.go):
            m.d.sync += [sum.eq(self.a[2:] << 1), self.y.eq(Cat(self.a, ~self.b))]
        m.d.comb += self.z.eq(Mux(sum < 0, self.a.as_signed(), 5))
        return m
"""

CHANGES = {
    "constant": {
        "TOP = 5", "TOP = 3", "signed(8)", "signed(6)", "<< 2", "<< 0", "sum < 1", "sum < -1",
        "(), 6)", "(), 4)",
    },
    "reset": {'name=f"sum_{3 + 1}", reset_less=True)'},
    "sign": {"Signal(7", "self.a, 5)"},
    "inversion": {"m.If(~self.go)", "Cat(self.a, self.b)"},
    "assignment": {"+= [[], self.y", "<< 1), []]", "m.d.comb += []"},
    "register": {"m.d.comb += sum.eq", "m.d.comb += self.y.eq", "m.d.sync += self.z.eq"},
    "operator": {"(self.a[2:] >> 1)"},
    "operands": {"(1 << self.a[2:])", "Cat(~self.b, self.a)", "5, self.a.as_signed())"},
    "slice": {"self.a[3:]", "self.a[1:]"},
    "comparison": {"sum <= 0", "sum >= 0"},
}  # fmt: skip
"""What the mutants of `SMALL` have that it has not, by kind."""


def test_every_kind_of_mutant_is_made_once_at_every_place() -> None:
    made = source_mutants(SMALL)
    assert {mutant.kind for mutant in made} == CHANGES.keys()
    for kind, changes in CHANGES.items():
        own = [mutant for mutant in made if mutant.kind == kind]
        assert len(own) == len(changes), kind
        for change in changes:
            assert change not in SMALL
            assert sum(change in mutant.source for mutant in own) == 1, change


def test_a_mutant_differs_in_the_lines_that_it_names_and_its_ports_are_the_same() -> None:
    for mutant in source_mutants(UNITS["mac"].source):
        before, after = UNITS["mac"].source.splitlines(), mutant.source.splitlines()
        assert before[: mutant.line - 1] == after[: mutant.line - 1]
        assert before[mutant.line - 1] != after[mutant.line - 1]
        assert before[mutant.line - 1].strip() in mutant.change
        assert after[mutant.line - 1].strip() in mutant.change
        head = re.compile(r"def __init__.*?def elaborate", re.DOTALL)
        assert head.findall(mutant.source) == head.findall(UNITS["mac"].source)


def test_mutants_are_spread_over_kinds_and_none_is_taken_twice() -> None:
    found = {"many": {"here": list(range(9)), "there": [9]}, "few": {"here": [10]}}
    for seed in range(20):
        taken = spread(found, 6, random.Random(seed), lambda mutant: mutant)
        assert len(set(taken)) == 6
        assert taken[1] == 10 and 10 not in (taken[0], *taken[2:])
    with pytest.raises(ValueError, match="11 different mutants, fewer than 12"):
        spread(found, 12, random.Random(1), lambda mutant: mutant)


@needs_tools
@pytest.mark.eda
@pytest.mark.parametrize("name", UNITS)
def test_the_gate_refuses_a_sample_of_mutants(name: str, cache_dir: Path) -> None:
    chance = random.Random(SEED)
    drawn = {unit: chosen(original, 2, chance) for unit, original in UNITS.items()}
    for mutant in drawn[name]:
        assert fate(UNITS[name], mutant, cache_dir).refused_by, mutant.change


def shown(unit: UnitName, old: str, new: str) -> str:
    """How a change of a shipped unit is shown to be equivalent."""
    config = CoreConfig(composable=unit == "composable_mac")
    source = shipped_source(unit)
    assert source.count(old) == 1
    shipped, changed = (
        source_to_rtlil(unit, text, config) for text in (source, source.replace(old, new))
    )
    return equivalence(contract_of(unit, config), UNITS[unit].latency, shipped, changed)


PRODUCT = "product = Signal(signed(17))"
STICKY = """seen = Signal()
        m.d.sync += seen.eq(seen | ((self.fraction == 3) & (self.octave == 2)))
        m.d.sync += self.value.eq("""


@pytest.mark.eda
@pytest.mark.parametrize(
    ("unit", "old", "new", "how"),
    [
        ("mac", PRODUCT, f"unused = Signal(4); {PRODUCT}", "same netlist"),
        ("mac", PRODUCT, "product = Signal(signed(18))", "proved"),
        ("mac", "a = Signal(signed(9))", "a = Signal(signed(9), reset_less=True)", "proved"),
        ("rescaler", "(shifts[1] - 1)[:6]", "(shifts[1] - 1)[:7]", "proved"),
        ("activation", "value > 32767,", "value >= 32767,", "proved"),
    ],
    ids=str,
)
def test_equivalence_is_shown(unit: UnitName, old: str, new: str, how: str) -> None:
    assert shown(unit, old, new) == how


@pytest.mark.eda
@pytest.mark.parametrize(
    ("unit", "old", "new"),
    [
        ("mac", ".eq(a * w)", ".eq(a * w + ((a == -200) & (w == 77)))"),
        (
            "mac",
            "total = Signal(signed(self.bits))",
            "total = Signal(signed(self.bits), reset_less=True)",
        ),
        ("mac", "drained.eq(self.drain_in)", "drained.eq(self.drain_in[:31].as_signed())"),
        ("rescaler", "rounded.eq((shifted", "rounded.eq(((shifts[1] == 47) + shifted"),
        ("composable_mac", "high_signed.eq(mode != 1)", "high_signed.eq(mode != 2)"),
        ("reciprocal", "self.v[:9]),", "self.v[:9] | (self.v == 40000)),"),
        ("exponential", "m.d.sync += self.value.eq(", f"{STICKY}seen ^ "),
    ],
    ids=str,
)
def test_equivalence_is_not_shown_where_there_is_a_difference(
    unit: UnitName, old: str, new: str
) -> None:
    assert shown(unit, old, new) == ""
