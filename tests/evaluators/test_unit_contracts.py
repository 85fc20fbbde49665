"""The core's units keep their contracts, and the contracts notice units that do not."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from evaluators.gate.stimuli import PUBLIC_SEED, Stimulus
from evaluators.gate.vectors import first_mismatch
from evaluators.silicon import verilator
from hwlib import rtlil
from hwlib.contracts.contract import Port, UnitContract
from hwlib.contracts.table import CORE_UNITS, LOOSE_UNITS, CoreUnit
from hwlib.convert import convert
from hwlib.reference import tables
from hwlib.unit_latencies import UnitLatencies
from tests.hwlib.later_units import Later, component

needs_tools = pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)
UNITS: dict[str, CoreUnit] = {**CORE_UNITS, **LOOSE_UNITS}

each_unit = pytest.mark.parametrize("name", UNITS)

RESETS = 80
"""Sequences that a reset cuts short; half of them lose all state before it."""


@cache
def netlist(name: str) -> str:
    contract = UNITS[name].contract
    return convert(component(contract), contract.unit)


@each_unit
def test_a_shipped_unit_has_the_ports_of_its_contract(name: str) -> None:
    contract = UNITS[name].contract
    ports = {port.name: (port.direction, port.width) for port in contract.ports}
    found = rtlil.ports(rtlil.modules(netlist(name))[contract.unit])
    assert found == {**ports, "clk": ("input", 1), "rst": ("input", 1)}


def test_the_shipped_latencies_and_bounds_are_those_that_the_blocks_take() -> None:
    shipped = UnitLatencies().model_dump() | {"composable_mac": UnitLatencies().mac}
    for name, unit in CORE_UNITS.items():
        low, high = unit.contract.latency_bounds
        field = {"composable_mac": "mac"}.get(unit.contract.unit, unit.contract.unit)
        assert unit.latency == shipped[field], name
        for latency in (low, high):
            UnitLatencies(**{field: latency})
        for latency in (low - 1, high + 1):
            with pytest.raises(ValueError, match=field):
                UnitLatencies(**{field: latency})


@pytest.mark.parametrize(
    ("name", "every"),
    [
        ("exponential_16", {(f, o) for f in range(32) for o in range(16)}),
        ("activation", {(x, silu) for x in range(-(2**15), 2**15) for silu in (0, 1)}),
        ("inverse_sqrt", {(v,) for v in range(2**14, 2**16)}),
        ("reciprocal", {(v,) for v in range(2**15, 2**16)}),
        ("multiplier_8", {(a, b) for a in range(-128, 128) for b in range(-128, 128)}),
    ],
)
def test_small_units_are_compared_on_every_input(name: str, every: set[tuple[int, ...]]) -> None:
    contract = UNITS[name].contract
    for latency in range(contract.latency_bounds[0], contract.latency_bounds[1] + 1):
        inputs = contract.stimulus(latency, PUBLIC_SEED)
        compared = contract.expected(inputs, latency).checked[contract.outputs[0].name]
        taken = [inputs[port.name][:-latency][compared[latency:]] for port in contract.inputs]
        assert set(zip(*(values.tolist() for values in taken), strict=True)) == every


@needs_tools
@pytest.mark.eda
@each_unit
def test_a_shipped_unit_meets_its_contract_at_its_latency_alone(name: str, cache_dir: Path) -> None:
    contract, latency = UNITS[name].contract.exact, UNITS[name].latency
    low, high = contract.latency_bounds
    for claimed in range(low, high + 1):
        mismatch = first_mismatch(contract, netlist(name), claimed, cache_dir)
        assert bool(mismatch) == (claimed != latency), f"claimed {claimed}: {mismatch}"


@needs_tools
@pytest.mark.eda
@each_unit
def test_a_reset_in_any_cycle_leaves_nothing_behind(name: str, cache_dir: Path) -> None:
    contract, latency = UNITS[name].contract.exact, UNITS[name].latency
    rng = np.random.default_rng(5)
    lengths = rng.integers(8, 500, RESETS)
    stimuli = [
        Stimulus(
            {port: values[:length] for port, values in contract.stimulus(latency, seed).items()}
        )
        for seed, length in enumerate(lengths)
    ]
    assert not first_mismatch(contract, netlist(name), latency, cache_dir, stimuli)


@needs_tools
@pytest.mark.slow
@pytest.mark.eda
@pytest.mark.parametrize(
    "name",
    [
        "mac",
        "composable_mac",
        "rescaler",
        "exponential_16",
        "activation",
        "inverse_sqrt",
        "reciprocal",
        "multiplier_8",
        "dot_product_4",
    ],
)
def test_a_unit_with_one_more_register_has_one_more_cycle(name: str, cache_dir: Path) -> None:
    contract, latency = UNITS[name].contract.exact, UNITS[name].latency
    later = convert(Later(contract), contract.unit)
    assert not first_mismatch(contract, later, latency + 1, cache_dir)
    assert first_mismatch(contract, later, latency, cache_dir)


# Mutants: claim -> (RTLIL of the shipped unit, what it turns into).

Mutants = Mapping[str, tuple[str, str]]


def bits(width: int, value: int) -> str:
    """A constant in RTLIL."""
    return f"{width}'{value % (1 << width):0{width}b}"


def assigned(to: str, width: int, value: int) -> str:
    return f"assign {to} [{width - 1}:0] {bits(width, value)}\n"


BETWEEN_OPERANDS = """    end
  end
  cell $dff $9
    parameter \\WIDTH 9
    parameter \\CLK_POLARITY 1
    connect \\D $2 [8:0]
    connect \\CLK \\clk [0]
    connect \\Q \\a$9
  end
  process $10
    assign $3 [7:0] \\w [7:0]
    switch \\rst [0]
      case 1'1
        """
"""From the reset of a mac's one operand to that of the other; either alone makes no product."""

MAC: Mutants = {
    "a product of unsigned operands": (
        "cell $mul $6\n    parameter \\A_SIGNED 1\n    parameter \\B_SIGNED 1",
        "cell $mul $6\n    parameter \\A_SIGNED 0\n    parameter \\B_SIGNED 0",
    ),
    "a product added without its sign": (
        "cell $add $7\n    parameter \\A_SIGNED 1\n    parameter \\B_SIGNED 1",
        "cell $add $7\n    parameter \\A_SIGNED 0\n    parameter \\B_SIGNED 0",
    ),
    "a sum that begins without its sign": (
        "{ " + "\\product [16] " * 15 + "\\product [16:0] }",
        f"{{ {bits(15, 0)} \\product [16:0] }}",
    ),
    "an activation of eight bits": (
        "connect \\A \\a$9 [8:0]",
        "connect \\A { \\a$9 [7] \\a$9 [7:0] }",
    ),
    "a sum of 31 bits": (
        "assign $4 [31:0] $1 [31:0]",
        "assign $4 [31:0] { $1 [30] $1 [30:0] }",
    ),
    "a sum that stops at the edge instead of wrapping": (
        "assign $4 [31:0] $1 [31:0]\n",
        "assign $4 [31:0] $1 [31:0]\n    switch { $1 [32] $1 [31] }\n      case 2'01 , 2'10\n"
        "        assign $4 [31:0] \\total [31:0]\n    end\n",
    ),
    "a capture that loses the product on its way": (
        "case 2'-1\n        assign $4 [31:0] { " + "\\product [16] " * 15 + "\\product [16:0] }",
        "case 2'-1\n        " + assigned("$4", 32, 0).rstrip(),
    ),
    "a capture that takes the next product too": (
        "assign $5 [31:0] \\total [31:0]",
        "assign $5 [31:0] $1 [31:0]",
    ),
    "a capture that does not begin a new sum": (
        "assign $4 [31:0] { " + "\\product [16] " * 15 + "\\product [16:0] }",
        "assign $4 [31:0] $1 [31:0]",
    ),
    "a chain that moves without shift": (
        "case 2'1-\n        assign $5",
        "case 2'--\n        assign $5",
    ),
    "a chain that does not move": (
        "assign $5 [31:0] \\drain_in [31:0]",
        "assign $5 [31:0] \\drain_out [31:0]",
    ),
    "a sum that a reset leaves": (
        assigned("$4", 32, 0),
        "assign $4 [31:0] $1 [31:0]\n",
    ),
    "operands that a reset lets in": (
        assigned("$2", 9, 0) + BETWEEN_OPERANDS + assigned("$3", 8, 0),
        "assign $2 [8:0] \\a [8:0]\n" + BETWEEN_OPERANDS + "assign $3 [7:0] \\w [7:0]\n",
    ),
}

PRODUCT = "{ " + "$18 [15] " * 16 + "$18 [15:0] }"


def multiplexer(cell: int, width: int, select: str) -> str:
    return f"cell $mux ${cell}\n    parameter \\WIDTH {width}\n    connect \\S {select}\n"


COMPOSABLE_MAC: Mutants = {
    "int4 activations without a sign": ("{ $2 [0] \\a$9 [3:0] }", "{ 1'0 \\a$9 [3:0] }"),
    "a low nibble of an int8 with a sign": ("{ $6 [0] \\a$9", "{ \\a$9 [11] \\a$9"),
    "a uint8 with a sign": ("{ $4 [0] \\a$9", "{ \\a$9 [7] \\a$9"),
    "a uint8 with a sign where it meets the weight's high nibble": (
        "{ $8 [0] \\a$9",
        "{ \\a$9 [15] \\a$9",
    ),
    "an int8 without a sign": ("{ $4 [0] \\a$9", "{ 1'0 \\a$9"),
    "int4 weights without a sign": ("{ $3 [0] \\w$10", "{ 1'0 \\w$10"),
    "a low nibble of an int8 weight with a sign": ("{ $5 [0] \\w$10", "{ \\w$10 [7] \\w$10"),
    "a high nibble of a weight without a sign": ("{ $9 [0] \\w$10", "{ 1'0 \\w$10"),
    "int4 activations that are shifted": (
        multiplexer(40, 17, "\\narrow_a [0]"),
        multiplexer(40, 17, "1'0"),
    ),
    "a high nibble that is not shifted": (
        multiplexer(43, 17, "\\narrow_a [0]"),
        multiplexer(43, 17, "1'1"),
    ),
    "weights of 8 bits at 8x4": (
        multiplexer(46, 20, "\\mode$11 [1]"),
        multiplexer(46, 20, "\\narrow_a [0]"),
    ),
    "weights of 4 bits at 8x8": (
        multiplexer(46, 20, "\\mode$11 [1]"),
        multiplexer(46, 20, "1'1"),
    ),
    "the mode of the operands after": (
        "connect \\A \\mode$11 [1:0]\n    connect \\B 2'11",
        "connect \\A \\mode [1:0]\n    connect \\B 2'11",
    ),
    "a third mode that is the fourth": (
        "connect \\A \\mode$11 [1:0]\n    connect \\B 2'11",
        "connect \\A \\mode$11 [1:0]\n    connect \\B 2'10",
    ),
    "a weight's second nibble in the place of the first": (
        "{ $3 [0] \\w$10 [3:0] }",
        "{ $3 [0] \\w$10 [7:4] }",
    ),
    "a product of 15 bits": ("connect \\B $18 [15:0]", "connect \\B { $18 [14] $18 [14:0] }"),
    "a sum of 31 bits": (
        "assign $22 [31:0] $1 [31:0]",
        "assign $22 [31:0] { $1 [30] $1 [30:0] }",
    ),
    "a capture that loses the product on its way": (
        f"case 2'-1\n        assign $22 [31:0] {PRODUCT}",
        "case 2'-1\n        " + assigned("$22", 32, 0).rstrip(),
    ),
    "a capture that takes the next product too": (
        "assign $23 [31:0] \\total [31:0]",
        "assign $23 [31:0] $1 [31:0]",
    ),
    "a capture that does not begin a new sum": (
        f"assign $22 [31:0] {PRODUCT}",
        "assign $22 [31:0] $1 [31:0]",
    ),
    "a chain that moves without shift": (
        "case 2'1-\n        assign $23",
        "case 2'--\n        assign $23",
    ),
    "a chain that does not move": (
        "assign $23 [31:0] \\drain_in [31:0]",
        "assign $23 [31:0] \\drain_out [31:0]",
    ),
    "a sum that a reset leaves": (
        assigned("$22", 32, 0),
        "assign $22 [31:0] $1 [31:0]\n",
    ),
}

RESCALER: Mutants = {
    "no rounding": ("connect \\B 2'01", "connect \\B 2'00"),
    "a shift without its sign": (
        "cell $sshr $58\n    parameter \\A_SIGNED 1",
        "cell $sshr $58\n    parameter \\A_SIGNED 0",
    ),
    "a shift by one too much": (
        "connect \\A \\shift_1 [5:0]\n    connect \\B 1'1",
        "connect \\A \\shift_1 [5:0]\n    connect \\B 1'0",
    ),
    "a signed low half": (
        "cell $mul $54\n    parameter \\A_SIGNED 0\n    parameter \\B_SIGNED 0",
        "cell $mul $54\n    parameter \\A_SIGNED 1\n    parameter \\B_SIGNED 1",
    ),
    "an unsigned high half": (
        "cell $mul $55\n    parameter \\A_SIGNED 1\n    parameter \\B_SIGNED 1",
        "cell $mul $55\n    parameter \\A_SIGNED 0\n    parameter \\B_SIGNED 0",
    ),
    "swapped halves": ("connect \\A \\acc [15:0]", "connect \\A \\acc [31:16]"),
    "a multiplier of 15 bits in the high half": (
        "connect \\B { 1'0 \\multiplier [15:0] }",
        "connect \\B { 2'00 \\multiplier [14:0] }",
    ),
    "a product of 47 bits": (
        "assign $45 [47:0] $7 [47:0]",
        "assign $45 [47:0] { $7 [46] $7 [46:0] }",
    ),
    "the shift of the sum after": (
        "assign $46 [5:0] \\shift_0 [5:0]",
        "assign $46 [5:0] \\shift [5:0]",
    ),
    "a first stage that takes sums without enable": (
        "assign $42 [31:0] \\low [31:0]",
        "assign $42 [31:0] $5 [31:0]",
    ),
    "a result that goes on without enable": (
        "assign $48 [31:0] \\y [31:0]",
        "assign $48 [31:0] $41 [31:0]",
    ),
    "a result of 33 bits taken as it is": (
        "cell $eq $51\n    parameter \\A_SIGNED 0\n    parameter \\B_SIGNED 0\n"
        "    parameter \\A_WIDTH 17\n    parameter \\B_WIDTH 0\n    parameter \\Y_WIDTH 1\n"
        "    connect \\A $2 [47:31]",
        "cell $eq $51\n    parameter \\A_SIGNED 0\n    parameter \\B_SIGNED 0\n"
        "    parameter \\A_WIDTH 16\n    parameter \\B_WIDTH 0\n    parameter \\Y_WIDTH 1\n"
        "    connect \\A $2 [47:32]",
    ),
    "edges of saturation one short": ("$11 [0] $10 [0] }", "$11 [0] $2 [47] }"),
}

EXPONENTIAL: Mutants = {
    "a first entry of one less": (
        assigned("\\entry", 7, int(tables.exponential(16)[0])),
        assigned("\\entry", 7, int(tables.exponential(16)[0]) - 1),
    ),
    "a last entry of one more": (
        assigned("\\entry", 7, int(tables.exponential(16)[15])),
        assigned("\\entry", 7, int(tables.exponential(16)[15]) + 1),
    ),
    "an entry that is missing": (f"case {bits(4, 9)}\n", f"case {bits(4, 8)}\n"),
    "no rounding": ("connect \\B $1 [15:1]", f"connect \\B {bits(15, 0)}"),
    "a whole unit for a half": ("connect \\B $1 [15:1]", "connect \\B $1 [14:0]"),
    "the low bits of the fraction": ("switch \\fraction [4:1]", "switch \\fraction [3:0]"),
    "a shift of three bits": (
        "connect \\A $2 [15:0]\n    connect \\B \\octave [3:0]",
        "connect \\A $2 [15:0]\n    connect \\B { 1'0 \\octave [2:0] }",
    ),
    "a register that holds far from the maximum": (
        "assign $4 [6:0] $3 [6:0]\n",
        "assign $4 [6:0] \\value [6:0]\n    switch \\octave [3]\n      case 1'0\n"
        "        assign $4 [6:0] $3 [6:0]\n    end\n",
    ),
}

ACTIVATION: Mutants = {
    "a first entry of one more": (
        f"case {bits(9, 1)}\n        " + assigned("\\gelu", 7, int(tables.activation("gelu")[1])),
        f"case {bits(9, 1)}\n        "
        + assigned("\\gelu", 7, int(tables.activation("gelu")[1]) + 1),
    ),
    "a last entry of one less": (
        f"case {bits(9, 511)}\n        "
        + assigned("\\silu$8", 7, int(tables.activation("silu")[511])),
        f"case {bits(9, 511)}\n        "
        + assigned("\\silu$8", 7, int(tables.activation("silu")[511]) - 1),
    ),
    "swapped functions": (
        "connect \\A \\gelu [6:0]\n    connect \\B \\silu$8 [6:0]",
        "connect \\A \\silu$8 [6:0]\n    connect \\B \\gelu [6:0]",
    ),
    "a table of one entry less": (
        f"connect \\B {bits(10, 512)}",
        f"connect \\B {bits(10, 511)}",
    ),
    "a table that comes again": (
        f"connect \\A $3 [15:0]\n    connect \\B {bits(10, 512)}",
        f"connect \\A {{ {bits(6, 0)} $3 [9:0] }}\n    connect \\B {bits(10, 512)}",
    ),
    "a rectifier that lets negatives through": (
        f"connect \\B {bits(16, 0)}",
        "connect \\B \\x [15:0]",
    ),
    "no saturation": ("connect \\S $10 [0]", "connect \\S 1'0"),
    "a saturation at one less": (
        f"connect \\B {bits(18, 32767)}",
        f"connect \\B {bits(18, 32766)}",
    ),
    "a saturation of negatives": (
        "cell $gt $23\n    parameter \\A_SIGNED 1\n    parameter \\B_SIGNED 1",
        "cell $gt $23\n    parameter \\A_SIGNED 0\n    parameter \\B_SIGNED 0",
    ),
    "a register that holds for the other function": (
        "assign $12 [15:0] $11 [15:0]\n",
        "assign $12 [15:0] \\y [15:0]\n    switch \\silu [0]\n      case 1'1\n"
        "        assign $12 [15:0] $11 [15:0]\n    end\n",
    ),
}


def chords(
    start_table: tables.Table, fall_table: tables.Table, fraction: int, fall: int
) -> Mutants:
    """Mutants of a unit that holds a curve as chords.

    Args:
        start_table: Its starts.
        fall_table: Its falls.
        fraction: Bits of a mantissa within a segment.
        fall: Bits of the register of falls.
    """
    last = len(start_table) - 1
    index = 16 - fraction
    first_case = (1 << index) - len(start_table)

    def start(at: int, more: int = 0, case: int | None = None) -> str:
        label = bits(index, first_case + (at if case is None else case))
        value = assigned("$4", 16, int(start_table[at]) + more)
        return f"case {label}\n        {value}"

    def slope(at: int, more: int = 0) -> str:
        label = bits(index, first_case + at)
        return f"case {label}\n        {assigned('$5', fall, int(fall_table[at]) + more)}"

    top = int(fall_table.max()).bit_length() - 1  # the highest bit of a fall that is ever set
    fall_register = "\\$signal$5"
    return {
        "a first start of one less": (start(0), start(0, -1)),
        "a last start of one more": (start(last), start(last, 1)),
        "a fall of one more": (slope(last // 2), slope(last // 2, 1)),
        "a last fall of one less": (slope(last), slope(last, -1)),
        "a segment that is missing": (start(last), start(last, case=0)),
        "a fall without its highest bit": (
            f"connect \\A {fall_register} [{fall - 1}:0]",
            f"connect \\A {{ {bits(fall - top, 0)} {fall_register} [{top - 1}:0] }}",
        ),
        "a fraction without its highest bit": (
            f"assign $6 [{fraction - 1}:0] \\v [{fraction - 1}:0]",
            f"assign $6 [{fraction - 1}:0] {{ 1'0 \\v [{fraction - 2}:0] }}",
        ),
        "the fraction of the mantissa after": (
            f"connect \\B \\fraction [{fraction - 1}:0]",
            f"connect \\B \\v [{fraction - 1}:0]",
        ),
        "a shift by one too little": (
            f"connect \\B {bits(4, fraction)}",
            f"connect \\B {bits(4, fraction - 1)}",
        ),
        "a curve that rises": ("cell $sub $10", "cell $add $10"),
        "a register that holds after an odd mantissa": (
            "assign $7 [15:0] $3 [15:0]\n",
            "assign $7 [15:0] \\r [15:0]\n    switch \\fraction [0]\n      case 1'0\n"
            "        assign $7 [15:0] $3 [15:0]\n    end\n",
        ),
    }


MUTANTS: dict[str, Mutants] = {
    "mac": MAC,
    "composable_mac": COMPOSABLE_MAC,
    "rescaler": RESCALER,
    "exponential_16": EXPONENTIAL,
    "activation": ACTIVATION,
    "inverse_sqrt": chords(*tables.inverse_sqrt(), fraction=10, fall=14),
    "reciprocal": chords(*tables.reciprocal(), fraction=9, fall=11),
}


def test_every_unit_has_mutants() -> None:
    units = {unit.contract.unit for unit in CORE_UNITS.values()}
    assert {UNITS[name].contract.unit for name in MUTANTS} == units


@needs_tools
@pytest.mark.slow
@pytest.mark.eda
@pytest.mark.parametrize("name", MUTANTS)
def test_a_contract_notices_every_mutant(name: str, cache_dir: Path) -> None:
    contract, latency = UNITS[name].contract.exact, UNITS[name].latency
    shipped = netlist(name)
    texts = [shipped]
    for claim, (old, new) in MUTANTS[name].items():
        assert shipped.count(old) == 1, f"{claim}: {shipped.count(old)} places to change"
        texts.append(shipped.replace(old, new))
    among, text = side_by_side(contract, texts)
    vectors = [contract.stimulus(latency, seed) for seed in (PUBLIC_SEED, PUBLIC_SEED + 1)]

    def mismatch(at: int) -> str:
        stimuli = [
            Stimulus({**inputs, "chosen": np.full(len(inputs[contract.inputs[0].name]), at)})
            for inputs in vectors
        ]
        return first_mismatch(among, text, latency, cache_dir, stimuli)

    assert not mismatch(0), "the shipped unit among its mutants differs from the reference"
    missed = [claim for at, claim in enumerate(MUTANTS[name], start=1) if not mismatch(at)]
    assert not missed


def side_by_side(contract: UnitContract, texts: list[str]) -> tuple[UnitContract, str]:
    """One netlist of several units of one contract, so that a single build serves them all.

    All get the same inputs; one more input, `chosen`, says whose output is seen.
    """
    unit = contract.unit
    (output,) = contract.outputs
    among = replace(contract, ports=(Port("chosen", "input", 8), *contract.ports))
    inputs = [*((port.name, port.width) for port in among.inputs), ("clk", 1), ("rst", 1)]
    lines = [f"module \\{unit}"]
    lines += [f"  wire width {width} input {i} \\{name}" for i, (name, width) in enumerate(inputs)]
    lines += [f"  wire width {output.width} output {len(inputs)} \\{output.name}"]
    for at in range(len(texts)):
        lines += [
            f"  wire width {output.width} \\{output.name}_{at}",
            f"  cell \\{unit}_{at} \\unit_{at}",
            *(f"    connect \\{name} \\{name}" for name, _ in inputs[1:]),
            f"    connect \\{output.name} \\{output.name}_{at}",
            "  end",
        ]
    lines += ["  process $1", f"    assign \\{output.name} \\{output.name}_0"]
    lines += ["    switch \\chosen"]
    for at in range(1, len(texts)):
        lines += [
            f"      case {bits(8, at)}",
            f"        assign \\{output.name} \\{output.name}_{at}",
        ]
    lines += ["    end", "  end", "end"]
    renamed = [
        text.replace(f"module \\{unit}\n", f"module \\{unit}_{at}\n")
        for at, text in enumerate(texts)
    ]
    return among, "\n".join(["attribute \\top 1", *lines, *renamed])
