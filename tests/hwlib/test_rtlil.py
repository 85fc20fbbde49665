"""Names in RTLIL text that a reader of netlists asks for."""

from amaranth.back import rtlil
from amaranth.hdl import Cat, Module, Signal

from hwlib.rtlil import modules, ports, registers


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
    body = modules(rtlil.convert(m, ports=[x, go, y], name="m", emit_src=False))["m"]
    assert ports(body) == {
        "x": ("input", 8),
        "go": ("input", 1),
        "y": ("output", 4),
        "clk": ("input", 1),
        "rst": ("input", 1),
    }
    found = set(registers(body))
    assert {"whole", "parts", "once", "twice"} <= found
    assert not found & {"plain", "x", "go", "y"}
