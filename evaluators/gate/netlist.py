"""Validates the RTLIL text of an edit: judge the netlist, not the Python.

Only what Amaranth writes for a plain synchronous unit passes: the unit's own modules, wires,
cells of known types, processes. Amaranth does not escape names, so a name is checked too.
"""

import re

from hwlib.config import CoreConfig
from hwlib.edit import UnitName
from hwlib.unit_source import check_interface

CELLS = frozenset(
    f"${name}"
    for names in (
        ("and", "or", "xor", "not", "neg", "pos", "add", "sub", "mul", "divfloor", "modfloor"),
        ("shl", "shr", "sshr", "shift", "shiftx", "eq", "ne", "lt", "le", "gt", "ge"),
        ("mux", "pmux", "dff", "dffe", "sdff", "logic_not", "logic_and", "logic_or"),
        ("reduce_and", "reduce_or", "reduce_xor", "reduce_bool"),
    )
    for name in names
)
"""Cell types that a unit may use: logic and flip-flops; no memory, no formal, no printing."""

_NAME = r"(?:\\[A-Za-z_$][A-Za-z0-9_$.\[\]]{0,127}|\$[0-9]+|\$[a-z_]{1,24}\$[0-9]+)"
_WORD = re.compile(_NAME)
_ATTRIBUTE = re.compile(r"attribute \\(init|top|keep|enum_[a-z_0-9]+|full_case|parallel_case)\b")
_INSIDE = re.compile(
    r"(connect|parameter|assign|case|switch|sync|update|default|end|process) ?.*|end"
)


def check_netlist(unit: UnitName, config: CoreConfig, text: str) -> None:
    """Holds the text to the grammar above and to the ports of the unit's contract.

    Raises:
        ValueError: Something does not belong; the message names the line.
    """
    own = {f"\\{name}" for name in re.findall(r"^module \\(\S+)$", text, re.MULTILINE)}
    for number, line in enumerate(text.splitlines(), start=1):
        if reason := _objection(line.strip(), own):
            raise ValueError(f"netlist of {unit}, line {number}: {reason}")
    if text.count("\nmodule ") + text.startswith("module ") != len(own) or not own:
        raise ValueError(f"netlist of {unit}: a module is defined twice or not at all")
    check_interface(unit, config, text)


def _objection(line: str, own: set[str]) -> str:
    """Why this line may not stand in a unit's netlist; empty when it may."""
    word, _, rest = line.partition(" ")
    parts = rest.split()
    match word:
        case "" | "end":
            return ""
        case "module" | "memory" | "cell" | "wire":
            if word == "memory":
                return "a unit may not hold a memory"
            if not parts or not _WORD.fullmatch(parts[-1]):
                return f"the name of a {word} must match {_NAME}"
            if word == "cell" and parts[0] not in CELLS and parts[0] not in own:
                return f"a unit may not use a cell {parts[0][:40]}"
            return ""
        case "attribute":
            return "" if _ATTRIBUTE.match(line) else f"attribute {rest[:40]} is not allowed"
        case _:
            return "" if _INSIDE.fullmatch(line) else f"{line[:40]!r} is no statement of a unit"
