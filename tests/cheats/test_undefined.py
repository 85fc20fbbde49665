"""What the simulator and the gates would read differently is refused: units whose text looks right.

A simulator gives an undefined value a number, and a synthesiser takes whatever makes the unit
small: a unit could be simulated as the right one and mapped as nothing at all.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from evaluators.gate.netlist import KINDS, check_laws, check_netlist, without_start_values
from evaluators.gate.stimuli import Stimulus
from evaluators.gate.vectors import first_mismatch, simulate, simulator
from evaluators.silicon import verilator
from evaluators.silicon.liberty import default_liberty_path, load_library
from evaluators.silicon.synthesis import synthesize
from evaluators.silicon.yosys import run_yosys
from hwlib.contracts.contract import Port
from hwlib.contracts.table import contract_of
from hwlib.unit_source import source_to_rtlil
from tests.cheats.cheats import CORE, RIGHT_VALUE, VALUE, edited

needs_tools = pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)

CHOSEN = """never = Signal(4)
        m.d.comb += never.eq(self.octave & ~self.octave)
        m.d.sync += self.value.eq(Mux({chosen}, 0, {right}))"""
"""The right value, unless something is chosen that never is."""


def choosing(chosen: str) -> str:
    return edited("exponential", ((VALUE, CHOSEN.format(chosen=chosen, right=RIGHT_VALUE)),))


MUX_OF_A_QUOTIENT = r"(cell \$mux \$\d+\n.*\n    connect \\S )\$\d+(\n.*\n    connect \\B \$\d+\n)"
OPERANDS_OF_OR = r"(cell \$or \$\d+\n)(?:    parameter.*\n)+    connect \\A .*\n"
NO_OPERAND = r"""\1    parameter \\A_SIGNED 1
    parameter \\B_SIGNED 1
    parameter \\A_WIDTH 0
    parameter \\B_WIDTH 4
    parameter \\Y_WIDTH 4
    connect \\A {  }
"""

CHEATS = {
    "a quotient by 0 that is not dropped": (
        choosing("(self.octave // never)[0]"),
        (MUX_OF_A_QUOTIENT, r"\g<1>1'1\2"),
        "for a divisor of 0 is not dropped",
    ),
    "an operand of no bits that has a sign": (
        choosing("(never | never)[0]"),
        (OPERANDS_OF_OR, NO_OPERAND),
        "operand A of a cell .or is signed and has no bit",
    ),
}
"""The twin's source, what is changed in its text, and a pattern of the reason."""


@cache
def texts(name: str) -> tuple[str, str]:
    """The twin's netlist and the cheat's."""
    source, (pattern, put), _ = CHEATS[name]
    twin = source_to_rtlil("exponential", source, CORE)
    cheat, changes = re.subn(pattern, put, twin)
    assert changes == 1
    return twin, cheat


@pytest.mark.parametrize("name", CHEATS)
def test_a_choice_by_what_is_undefined_is_refused(name: str) -> None:
    twin, cheat = texts(name)
    check_netlist("exponential", CORE, twin)
    with pytest.raises(ValueError, match=CHEATS[name][2]):
        check_netlist("exponential", CORE, cheat)


@needs_tools
@pytest.mark.slow
@pytest.mark.eda
@pytest.mark.parametrize("name", CHEATS)
def test_such_a_unit_would_pass_all_vectors_and_be_mapped_to_next_to_nothing(
    name: str, cache_dir: Path
) -> None:
    twin, cheat = texts(name)
    contract = contract_of("exponential", CORE).exact
    assert not first_mismatch(contract, without_start_values(cheat), 1, cache_dir)
    liberty = default_liberty_path()
    library = load_library(liberty, cache_dir)
    area_um2, of_cheat_um2 = (
        synthesize(text, library, liberty, cache_dir, "exponential").cell_area_um2
        for text in (twin, cheat)
    )
    assert of_cheat_um2 < 0.2 * area_um2


WIDTHS = {"A": (0, 1, 3), "B": (0, 1, 2), "Y": (1, 4)}
"""Of the pins of cells that are compared."""

QUOTIENT = """  wire width {width} \\q{at}
  wire width 1 \\n{at}
  cell $reduce_bool $1{at}
    parameter \\A_SIGNED 0
    parameter \\A_WIDTH {divisor}
    parameter \\Y_WIDTH 1
    connect \\A {b}
    connect \\Y \\n{at}
  end
  cell $mux $2{at}
    parameter \\WIDTH {width}
    connect \\S \\n{at}
    connect \\A {width}'{zeros}
    connect \\B \\q{at}
    connect \\Y \\y{at}
  end
"""
"""Drops a quotient by 0, as Amaranth does."""


def each_cell() -> Iterator[dict[str, int | str]]:
    """Every kind of cell of logic with narrow pins of each sign, as its parameters and its kind."""
    for kind, (pins, _) in KINDS.items():
        if kind in ("$dff", "$mux"):
            continue
        operands = [pin for pin in pins if pin != "Y"]
        signs = itertools.product((0, 1), repeat=len(operands))
        widths = itertools.product(*(WIDTHS[pin] for pin in pins))
        for signed, wide in itertools.product(signs, list(widths)):
            yield {
                "kind": kind,
                **{f"{pin}_SIGNED": sign for pin, sign in zip(operands, signed, strict=True)},
                **{f"{pin}_WIDTH": width for pin, width in zip(pins, wide, strict=True)},
            }


def module(cells: list[dict[str, int | str]]) -> str:
    """A module `cells` with each cell's result at an output of its own, `y0` and so on."""
    lines = ["module \\cells", "  wire width 3 input 0  \\a", "  wire width 2 input 1  \\b"]
    lines += ["  wire width 1 input 2  \\clk", "  wire width 1 input 3  \\rst"]
    lines += [
        f"  wire width {cell['Y_WIDTH']} output {at + 4}  \\y{at}" for at, cell in enumerate(cells)
    ]
    for at, cell in enumerate(cells):
        a, b = (
            f"\\{pin.lower()} [{int(cell[f'{pin}_WIDTH']) - 1}:0]" if cell[f"{pin}_WIDTH"] else "{}"
            for pin in ("A", "B" if "B_WIDTH" in cell else "A")
        )
        width, quotient = cell["Y_WIDTH"], cell["kind"] in ("$divfloor", "$modfloor")
        if quotient:
            zeros, divisor = "0" * int(width), cell["B_WIDTH"]
            lines += [
                QUOTIENT.format(at=at, b=b, width=width, zeros=zeros, divisor=divisor).rstrip()
            ]
        lines += [f"  cell {cell['kind']} ${at}"]
        lines += [f"    parameter \\{name} {cell[name]}" for name in cell if name != "kind"]
        lines += [f"    connect \\A {a}"]
        lines += [f"    connect \\B {b}"] if "B_WIDTH" in cell else []
        lines += [f"    connect \\Y \\{'q' if quotient else 'y'}{at}", "  end"]
    return "\n".join([*lines, "end", ""])


def allowed(cell: dict[str, int | str]) -> bool:
    try:
        check_laws("cells", module([cell]))
    except ValueError:
        return False
    return True


def mapped(text: str, folder: Path) -> str:
    """The text as gates."""
    (folder / "dut.il").write_text(text)
    commands = ["read_rtlil dut.il", "synth -booth -noabc -top cells", "write_rtlil mapped.il"]
    run_yosys(commands, folder, folder / "tmp", 300.0)
    lines = (folder / "mapped.il").read_text().splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("attribute")) + "\n"


@needs_tools
@pytest.mark.slow
@pytest.mark.eda
def test_the_simulator_and_the_gates_read_every_allowed_cell_alike(
    cache_dir: Path, tmp_path: Path
) -> None:
    cells = [cell for cell in each_cell() if allowed(cell)]
    assert {cell["kind"] for cell in cells} == KINDS.keys() - {"$dff", "$mux"}
    outputs = (Port(f"y{at}", "output", int(c["Y_WIDTH"])) for at, c in enumerate(cells))
    ports = (Port("a", "input", 3), Port("b", "input", 2), *outputs)
    contract = replace(contract_of("exponential", CORE), unit="cells", ports=ports)
    every = np.arange(1 << 5)
    stimuli = [Stimulus({"a": every & 7, "b": every >> 3})]
    text = module(cells)
    (seen,), (of_gates,) = (
        simulate(contract, simulator(contract, each, cache_dir), stimuli)
        for each in (text, mapped(text, tmp_path))
    )
    other = [cells[at] for at in range(len(cells)) if (seen[f"y{at}"] != of_gates[f"y{at}"]).any()]
    assert not other
