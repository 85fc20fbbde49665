"""Bugs that are planted in the units: how they are made, and that the gate refuses them."""

import random
from pathlib import Path

import pytest

from benchmarks.equivalence import equivalence
from benchmarks.mutation import spread
from benchmarks.source_mutants import source_mutants
from benchmarks.unit_mutants import Original, chosen, fate, originals, stage
from evaluators.silicon import verilator
from hwlib.config import CoreConfig
from hwlib.contracts.table import contract_of
from hwlib.edit import UnitName
from hwlib.unit_source import shipped_source, source_to_rtlil

needs_tools = pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)

SHIPPED = {original.name: original for original in originals() if original.name == original.unit}

SMALL = """\
"A unit."
from amaranth.hdl import Cat, Module, Mux, Signal, signed
TOP = 4
class Unit:
    def __init__(self, bits=8):
        self.bits = bits
    def elaborate(self, platform):
        m = Module()
        total = Signal(signed(7), name=f"total_{3 + 1}")
        with m.If(self.go):
            m.d.sync += [total.eq(self.a[2:] << 1), self.y.eq(Cat(self.a, ~self.b))]
        m.d.comb += self.z.eq(Mux(total < 0, self.a.as_signed(), 5))
        return m
"""


def made(kind: str) -> set[str]:
    """Changed lines of `SMALL` by one kind of mutants, as they are afterwards."""
    after = [m.change.partition(" -> ")[2] for m in source_mutants(SMALL) if m.kind == kind]
    return {line.strip("`") for line in after}
