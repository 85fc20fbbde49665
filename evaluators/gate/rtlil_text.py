"""Reads the RTLIL text of a unit by a grammar that holds what Amaranth writes, and no more.

The grammar is strict to the blank: two readers of one text must not see different things in it.
Amaranth does not escape names, so that a name is where foreign statements would come in.
"""

import re
from collections.abc import Container
from dataclasses import dataclass, field
from typing import NamedTuple

STRINGS = r'"[A-Za-z0-9_.]{0,128}"'
_NAME = r"(?:\\[A-Za-z_$][A-Za-z0-9_$.\[\]]{0,127}|\$[0-9]{1,9})"
_CONSTANT = r"[0-9]{1,5}'[01]*"
_BITS = rf"(?:{_CONSTANT}|{_NAME}(?: \[[0-9]{{1,5}}(?::[0-9]{{1,5}})?\])?)"
_SIGNAL = rf"(?:{_BITS}|\{{\}}|\{{ (?:{_BITS}(?: {_BITS})*)? \}})"

_PART = re.compile(
    rf"(?P<size>[0-9]{{1,5}})'(?P<digits>[01]*)"
    rf"|(?P<wire>{_NAME})(?: \[(?P<high>[0-9]{{1,5}})(?::(?P<low>[0-9]{{1,5}}))?\])?"
)
_ATTRIBUTE = re.compile(
    rf"attribute \\(?:init [0-9]{{1,5}}'(?P<initial>[01]*)|enum_base_type {STRINGS}"
    rf"|enum_value_[01]+ {STRINGS})"
)
_WIRE = re.compile(
    r"wire width (?P<width>[0-9]{1,5})(?: (?P<way>input|output) [0-9]{1,4} )? "
    rf"(?P<name>{_NAME})"
)
_CELL = re.compile(rf"cell (?P<kind>\$[A-Za-z0-9_]{{1,32}}|{_NAME}) (?P<name>{_NAME})")
_PARAMETER = re.compile(r"parameter \\(?P<name>[A-Z_]{1,16}) (?P<value>[0-9]{1,9})")
_CONNECT = re.compile(rf"connect (?P<left>{_SIGNAL}) (?P<right>{_SIGNAL})")
_PIN = re.compile(rf"connect (?P<left>{_NAME}) (?P<right>{_SIGNAL})")
_ASSIGN = re.compile(rf"assign (?P<left>{_SIGNAL}) (?P<right>{_SIGNAL})")
_SWITCH = re.compile(rf"switch (?P<on>{_SIGNAL})")
_PATTERN = r"[0-9]{1,5}'[01-]*"
_CASE = re.compile(rf"case(?: (?P<patterns>{_PATTERN}(?:, {_PATTERN})*))?")
_PROCESS = re.compile(rf"process (?P<name>{_NAME})")
_MODULE = re.compile(rf"module (?P<name>{_NAME})")

NESTED_SWITCHES = 64
"""Deepest nesting of switches: what reads the text later calls itself for each."""


def is_name(text: str) -> bool:
    """Whether a text may stand as the name of a wire, a cell or a module."""
    return re.fullmatch(_NAME, text) is not None


class NetlistError(ValueError):
    """The text breaks the grammar or a law; the message names the line."""


class Bits(NamedTuple):
    """Some bits of a wire, or of a constant where `wire` is empty."""

    wire: str
    low: int
    """The lowest of them; of a constant its value."""
    width: int


Signal = tuple[Bits, ...]
"""Bits side by side, the most significant ones first."""


def width_of(signal: Signal) -> int:
    """Bits of a signal."""
    return sum(bits.width for bits in signal)


class Wire(NamedTuple):
    """One wire."""

    width: int
    way: str
    """`input`, `output`, or empty for a wire that is no port."""
    initial: str | None
    """Digits of the attribute `init`, None where there is none."""


@dataclass
class Cell:
    """One cell, of a built-in kind or an instance of a module."""

    kind: str
    line: int
    parameters: dict[str, int] = field(default_factory=dict)
    pins: dict[str, Signal] = field(default_factory=dict)


@dataclass
class Process:
    """One process: assignments under switches. It never has a `sync`."""

    line: int
    assignments: list[tuple[Signal, Signal]] = field(default_factory=list)
    switches: list[Signal] = field(default_factory=list)


@dataclass
class Module:
    """One module."""

    name: str
    line: int
    wires: dict[str, Wire] = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    connections: list[tuple[Signal, Signal]] = field(default_factory=list)


def read(text: str, kinds: Container[str]) -> dict[str, Module]:
    """The modules of a text, by name.

    Args:
        text: What is to be read.
        kinds: The built-in cells that may stand in it.

    Raises:
        NetlistError: The text is none that Amaranth writes for a plain synchronous unit.
    """
    if found := re.search(r"[^\n -~]", text):
        raise NetlistError(f"the character {found[0]!a} may not stand in a netlist")
    if not text.endswith("\n"):
        raise NetlistError("the text breaks off")
    return _Reader(text, kinds).modules()


class _Reader:
    """Goes through the lines; each `_read_...` begins behind the line that opens its block."""

    def __init__(self, text: str, kinds: Container[str]) -> None:
        self._kinds = kinds
        self._lines = text[:-1].split("\n")
        self._at = 0
        self._wires: dict[str, Wire] = {}
        """Of the module that is being read: Amaranth writes a wire before what uses it."""

    def modules(self) -> dict[str, Module]:
        found: dict[str, Module] = {}
        while self._at < len(self._lines):
            opening = self._match(_MODULE, self._next(0), "module")
            module = Module(opening["name"], self._at)
            if module.name in found:
                raise self._error(f"a second module {module.name}")
            found[module.name] = module
            self._wires = module.wires
            self._read_module(module)
        return found

    def _read_module(self, module: Module) -> None:
        initial, attributed = None, False
        while (line := self._next_of(1, module.connections)) is not None:
            word = line.partition(" ")[0]
            if attributed and word not in ("attribute", "wire"):
                raise self._error(f"attribute of a {word}; only wires may have one")
            match word:
                case "attribute":
                    attribute = _ATTRIBUTE.fullmatch(line)
                    if attribute is None:
                        raise self._error(f"{line[:60]} is not allowed")
                    initial, attributed = attribute["initial"] or initial, True
                case "wire":
                    self._read_wire(module, line, initial)
                    initial, attributed = None, False
                case "cell":
                    self._read_cell(module, line)
                case "process":
                    self._read_process(module, line)
                case "memory":
                    raise self._error("a unit may not hold a memory")
                case _:
                    raise self._error(f"{line[:40]!r} is no statement of a unit")
        if attributed:
            raise self._error("an attribute of nothing")

    def _next_of(self, depth: int, connections: list[tuple[Signal, Signal]]) -> str | None:
        """The next line of a module, None at its end; connections stand at the margin."""
        while self._at < len(self._lines) and self._lines[self._at].startswith("connect "):
            found = self._match(_CONNECT, self._next(0), "connection")
            connections.append((self._signal(found["left"]), self._signal(found["right"])))
        if self._at < len(self._lines) and self._lines[self._at] == "end":
            self._at += 1
            return None
        return self._next(depth)

    def _read_wire(self, module: Module, line: str, initial: str | None) -> None:
        found = self._match(_WIRE, line, "wire")
        if found["name"] in module.wires:
            raise self._error(f"a second wire {found['name']}")
        module.wires[found["name"]] = Wire(int(found["width"]), found["way"] or "", initial)

    def _read_cell(self, module: Module, line: str) -> None:
        found = self._match(_CELL, line, "cell")
        cell = Cell(found["kind"], self._at)
        if cell.kind.startswith("$") and cell.kind not in self._kinds:
            raise self._error(f"a unit may not use a cell {cell.kind}")
        self._add(module, found["name"])
        module.cells[found["name"]] = cell
        while (line := self._next(2, closing=1)) != "end":
            if line.startswith("parameter "):
                parameter = self._match(_PARAMETER, line, "parameter")
                if parameter["name"] in cell.parameters:
                    raise self._error(f"a second parameter {parameter['name']}")
                cell.parameters[parameter["name"]] = int(parameter["value"])
            else:
                pin = self._match(_PIN, line, "pin")
                if pin["left"] in cell.pins:
                    raise self._error(f"a second connection of {pin['left']}")
                cell.pins[pin["left"]] = self._signal(pin["right"])

    def _read_process(self, module: Module, line: str) -> None:
        found = self._match(_PROCESS, line, "process")
        process = Process(self._at)
        self._add(module, found["name"])
        module.processes[found["name"]] = process
        self._read_statements(process, 2, 0)

    def _read_statements(self, process: Process, depth: int, nested: int) -> None:
        """Up to the `end` of a process."""
        while (line := self._next(depth, closing=depth - 1)) != "end":
            self._read_statement(process, line, depth, nested)

    def _read_statement(self, process: Process, line: str, depth: int, nested: int) -> None:
        if line.startswith("assign "):
            found = self._match(_ASSIGN, line, "assignment")
            process.assignments.append((self._signal(found["left"]), self._signal(found["right"])))
            return
        found = self._match(_SWITCH, line, "statement of a process")
        if nested == NESTED_SWITCHES:
            raise self._error(f"more than {NESTED_SWITCHES} switches inside one another")
        on = self._signal(found["on"])
        process.switches.append(on)
        self._read_cases(process, width_of(on), depth + 1, nested + 1)

    def _read_cases(self, process: Process, width: int, depth: int, nested: int) -> None:
        """Up to the `end` of a switch."""
        while (line := self._next(depth, closing=depth - 1)) != "end":
            found = self._match(_CASE, line, "case")
            for pattern in (found["patterns"] or "").split(", ") if found["patterns"] else ():
                size, _, digits = pattern.partition("'")
                if not int(size) == len(digits) == width:
                    raise self._error(f"pattern {pattern[:40]} of a switch of {width} bits")
            while self._indented(depth + 1):
                self._read_statement(process, self._next(depth + 1), depth + 1, nested)

    def _add(self, module: Module, name: str) -> None:
        if name in module.cells or name in module.processes:
            raise self._error(f"a second cell or process {name}")

    def _signal(self, text: str) -> Signal:
        parts = _PART.finditer(text)
        return tuple(self._bits(part) for part in parts)

    def _bits(self, part: re.Match[str]) -> Bits:
        if part["wire"] is None:
            if int(part["size"]) != len(part["digits"]):
                raise self._error(f"constant {part[0][:40]} is not of the width that it announces")
            return Bits("", int(f"0{part['digits']}", 2), len(part["digits"]))
        wire = self._wires.get(part["wire"])
        if wire is None:
            raise self._error(f"the module has no wire {part['wire']}")
        if part["high"] is None:
            return Bits(part["wire"], 0, wire.width)
        high = int(part["high"])
        low = int(part["low"] or high)
        if not low <= high < wire.width:
            raise self._error(f"a wire of {wire.width} bits has no {part[0]}")
        return Bits(part["wire"], low, high - low + 1)

    def _indented(self, depth: int) -> bool:
        return self._at < len(self._lines) and self._lines[self._at].startswith("  " * depth)

    def _next(self, depth: int, closing: int | None = None) -> str:
        """The next line without its indentation, which must be `depth`, or `closing` for `end`."""
        if self._at == len(self._lines):
            raise NetlistError("the text breaks off before an end")
        line = self._lines[self._at]
        self._at += 1
        if closing is not None and line == "  " * closing + "end":
            return "end"
        statement = line[2 * depth :]
        if line[: 2 * depth].strip(" ") or statement.startswith(" ") or not statement:
            raise self._error(f"{line[:40]!r} is no statement of a unit at this depth")
        return statement

    def _match(self, pattern: re.Pattern[str], line: str, what: str) -> re.Match[str]:
        if found := pattern.fullmatch(line):
            return found
        raise self._error(f"{line[:60]!r} is no {what} of a unit")

    def _error(self, reason: str) -> NetlistError:
        return NetlistError(f"line {self._at}: {reason}")
