"""Names in RTLIL text that a reader of netlists asks for."""

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Cat, Module, Signal

from hwlib.rtlil import registers


def test_registers_are_found_whole_in_parts_and_by_other_names():
    m = Module()
    x, go, y = Signal(8, name="x"), Signal(name="go"), Signal(4, name="y")
    whole, parts, plain = (Signal(8, name=n) for n in ("whole", "parts", "plain"))
    once, twice = Signal(4, name="once"), Signal(4, name="twice")
    m.d.sync += whole.eq(x)
    with m.If(go):
        m.d.sync += parts[:3].eq(x[:3])
    m.d.sync += parts[3:].eq(x[3:])
    m.d.comb += [plain.eq(x + 1), once.eq(whole[2:6]), twice.eq(Cat(once[:2], plain[:2]))]
    m.d.comb += y.eq(twice ^ parts[4:])
    text = rtlil.convert(m, ports=[x, go, y], name="m", emit_src=False)
    found = set(registers(text, "m"))
    assert {"whole", "parts", "once", "twice"} <= found
    assert not found & {"plain", "x", "go", "y"}
    with pytest.raises(ValueError, match="no module n"):
        registers(text, "n")
