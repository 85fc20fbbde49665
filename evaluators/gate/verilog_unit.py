"""A unit in Verilog as the netlist that the gate judges: the text that Amaranth would write of it.

Yosys makes cells of the file; this writes them down in the few kinds that a unit may use. What is
not among these, such as a latch or a division, is refused here with a word on what to do instead.
Nothing that comes out is trusted: `netlist.check_netlist` judges it like every other.

Undefined bits of constants are 0, and start values are left out, as a chip has none.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from evaluators.gate.netlist import KINDS
from evaluators.gate.rtlil_text import is_name

READING = (
    "hierarchy -check -top {unit}", "proc -norom", "flatten -noscopeinfo", "tribuf",
    "memory -nordff", "dffunmap", "pmuxtree", "opt_expr", "wreduce",
    "simplemap t:$logic_* t:$xnor t:$reduce_xnor t:$pos", "opt_clean", "setundef -zero",
)  # fmt: skip
"""What Yosys does with a file: one flat module of cells."""

REMEDIES = {
    "$adff": "an asynchronous reset; test rst inside always @(posedge clk)",
    "$adffe": "an asynchronous reset; test rst inside always @(posedge clk)",
    "$aldff": "an asynchronous load; test it inside always @(posedge clk)",
    "$dffsr": "an asynchronous set; test rst inside always @(posedge clk)",
    "$dlatch": "a latch; give the signal a value in every branch",
    "$adlatch": "a latch; give the signal a value in every branch",
    "$div": "a division; multiply by a constant, or look the quotient up",
    "$mod": "a remainder; mask bits, or look it up",
    "$tribuf": "1'bz; use a multiplexer",
    "$print": "a $display; leave it out",
    "$check": "an assertion; leave it out",
}
"""What is refused most: kind of a cell -> what it comes from, and what to write instead."""

_WRITTEN_AS = {
    "$sshl": "$shl", "$shiftx": "$shift", "$eqx": "$eq", "$nex": "$ne", "$_NOT_": "$not",
    "$_AND_": "$and", "$_OR_": "$or", "$_XOR_": "$xor", "$_XNOR_": "$eq", "$_MUX_": "$mux",
}  # fmt: skip
"""Kinds that another one stands for where no bit is undefined."""

Bits = Sequence[int | str]
"""Nets by number, and digits of constants, the least significant first."""


class NotAUnit(ValueError):
    """The file holds something that no unit may have; the message says what."""


def unit_netlist(unit: str, design: str) -> str:
    """The netlist of a unit, as RTLIL.

    Args:
        unit: Its top module, the only one.
        design: What Yosys wrote as JSON after `READING`.

    Raises:
        NotAUnit: It has a cell or a port that a unit may not have, or a net without a driver.
    """
    try:
        module = json.loads(design)["modules"][unit]
        return "\n".join(_Writer(module).lines(unit)) + "\n"
    except NotAUnit:
        raise
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NotAUnit(f"Yosys wrote no netlist of a module {unit}") from None


class _Writer:
    """Writes one module; nets are called after the port or the cell that drives them."""

    def __init__(self, module: dict[str, Any]) -> None:
        self._ports, self._cells = module["ports"], module["cells"].values()
        self._names: dict[tuple[int | str, ...], str] = {}
        """Nets side by side -> what the file calls them, where it is no port."""
        self._taken = {f"\\{name}" for name in self._ports}
        for name, net in module["netnames"].items():
            if not net["hide_name"] and name not in self._ports and is_name(f"\\{name}"):
                self._names.setdefault(tuple(net["bits"]), f"\\{name}")
        self._driver: dict[int, tuple[str, int]] = {}
        """Net -> the wire that has it, and its place there."""
        self._private = 0

    def lines(self, unit: str) -> Iterator[str]:
        """The text of the module."""
        yield f"module \\{unit}"
        for index, (name, port) in enumerate(self._ports.items()):
            way, bits = port["direction"], port["bits"]
            if way not in ("input", "output") or not is_name(f"\\{name}"):
                raise NotAUnit(f"port {name[:60]!a} is no plain input or output")
            yield f"  wire width {len(bits)} {way} {index}  \\{name}"
            if way == "input":
                self._drive(f"\\{name}", bits)
        for cell in self._cells:
            yield self._wire(cell)
        for cell in self._cells:
            yield from self._cell(cell)
        for name, port in self._ports.items():
            if port["direction"] == "output":
                yield f"connect \\{name} {self._signal(port['bits'])}"
        yield "end"

    def _wire(self, cell: dict[str, Any]) -> str:
        """The wire that a cell drives; a register's is called as in the file where it can be."""
        kind = _kind(cell)
        bits = cell["connections"]["Q" if kind == "$dff" else "Y"]
        name = self._names.get(tuple(bits), "") if kind == "$dff" else ""
        if not name or name in self._taken:
            name = self._fresh()
        self._taken.add(name)
        self._drive(name, bits)
        return f"  wire width {len(bits)} {name}"

    def _cell(self, cell: dict[str, Any]) -> Iterator[str]:
        kind, pins = _kind(cell), cell["connections"]
        widths, flags = KINDS[kind]
        given = {"CLK_POLARITY": "1"} | cell["parameters"]
        if kind == "$shift" and pins["B"][-1] == "0":
            # The amount of a part-select is an int to Verilog; this one is never negative.
            pins, given = pins | {"B": _without_leading_zeros(pins["B"])}, given | {"B_SIGNED": "0"}
        numbers = {parameter: len(pins[pin]) for pin, parameter in widths.items() if parameter}
        numbers |= {flag: int(given.get(flag, "0"), 2) for flag in flags}
        yield f"  cell {kind} {self._fresh()}"
        for name, number in numbers.items():
            yield f"    parameter \\{name} {number}"
        for pin in widths:
            yield f"    connect \\{pin} {self._signal(pins[pin])}"
        yield "  end"

    def _drive(self, wire: str, bits: Bits) -> None:
        for at, bit in enumerate(bits):
            if not isinstance(bit, int) or bit in self._driver:
                raise NotAUnit(f"{self._word(bits)} is driven more than once")
            self._driver[bit] = wire, at

    def _signal(self, bits: Bits) -> str:
        """Slices of wires and constants, the highest bit first."""
        written: list[str] = []
        for constant, group in groupby(reversed(bits), lambda bit: isinstance(bit, str)):
            part = list(group)
            if constant:
                written.append(f"{len(part)}'{''.join(map(str, part))}")
            elif self._driver.keys() >= set(part):
                written.extend(_slices(self._driver[int(bit)] for bit in part))
            else:
                raise NotAUnit(f"{self._word(bits)} has a bit that nothing drives")
        return written[0] if len(written) == 1 else "{ " + " ".join(written) + " }"

    def _word(self, bits: Bits) -> str:
        ports = (name for name, port in self._ports.items() if port["bits"] == list(bits))
        return self._names.get(tuple(bits), next(ports, "a net")).removeprefix("\\")

    def _fresh(self) -> str:
        self._private += 1
        return f"${self._private}"


def _slices(places: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Neighbours on a wire as one slice of it; the highest come first."""
    runs: list[tuple[str, int, int]] = []  # wire, highest place, lowest place
    for wire, at in places:
        if runs and runs[-1][0] == wire and runs[-1][2] == at + 1:
            runs[-1] = wire, runs[-1][1], at
        else:
            runs.append((wire, at, at))
    return (f"{wire} [{high}:{low}]" for wire, high, low in runs)


def _without_leading_zeros(bits: Bits) -> Bits:
    width = next((at for at in range(len(bits), 1, -1) if bits[at - 1] != "0"), 1)
    return bits[:width]


def _kind(cell: dict[str, Any]) -> str:
    """What a cell is written down as."""
    kind = _WRITTEN_AS.get(cell["type"], cell["type"])
    if kind not in KINDS:
        what = REMEDIES.get(kind, f"a cell {kind[:60]}, which no unit may have")
        raise NotAUnit(f"it has {what}")
    return str(kind)
