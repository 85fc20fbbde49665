"""RTLIL text: its modules, a module's ports, and names that a module alone decides."""

import re
from collections import defaultdict

_MODULE = re.compile(r"^module \\?(\S+)$(.*?)^end$", re.MULTILINE | re.DOTALL)
_PORT = re.compile(
    r"^  wire (?P<before>.*?)(?P<direction>input|output|inout) \d+ (?P<after>.*?)"
    r"\\(?P<name>\S+)$",
    re.MULTILINE,
)
_NUMBERED = re.compile(r"\\port\$\d+\$\d+")
_NUMBERED_PORT = re.compile(r"^  wire .*put (?P<index>\d+)  (?P<name>\\port\$\d+\$\d+)$")
_PIN = re.compile(r"    connect \S+ ")
_REGISTER = re.compile(r"^    connect \\Q (.+)$", re.MULTILINE)
_ALIAS = re.compile(
    r"^(?:  )?connect (?P<alias>\{.*?\}|\S+(?: \[[\d:]+\])?) (?P<of>.+)$", re.MULTILINE
)
_NAME = re.compile(r"\\(\S+)")
_WIDTH = re.compile(r"\bwidth (\d+)\b")


def modules(rtlil: str) -> dict[str, str]:
    """The text of each module in `rtlil` between its head and its end, by name, in order."""
    return dict(_MODULE.findall(rtlil))


def ports(body: str) -> dict[str, tuple[str, int]]:
    """Ports of the module with this text: name -> (direction, width in bits)."""
    found: dict[str, tuple[str, int]] = {}
    for port in _PORT.finditer(body):
        width = _WIDTH.search(port["before"] + port["after"])
        found[port["name"]] = (port["direction"], int(width[1]) if width else 1)
    return found


def registers(body: str) -> tuple[str, ...]:
    """Names of a module's signals with a bit that a flip-flop gives, also by another name."""
    found = dict.fromkeys(_NAME.findall("\n".join(_REGISTER.findall(body))))
    aliases = [(_NAME.findall(m["alias"]), _NAME.findall(m["of"])) for m in _ALIAS.finditer(body)]
    before = -1
    while before < len(found):
        before = len(found)
        for names, of in aliases:
            if not found.keys().isdisjoint(of):
                found |= dict.fromkeys(names)
    return tuple(found)


def with_local_port_names(rtlil: str) -> str:
    r"""Amaranth's text with each port that has no name called after its place in its module.

    A port that carries part of a register is `port$<cell>$<bit>` to Amaranth, with a number over
    the whole design, so that a module's text would change with whatever stands before it.
    """
    lines = rtlil.splitlines()
    local: dict[str, dict[str, str]] = defaultdict(dict)  # by module
    module = kind = ""
    for line in lines:
        if line.startswith("module "):
            module = line.split()[1]
        elif match := _NUMBERED_PORT.match(line):
            local[module][match["name"]] = rf"\port$${match['index']}"
    for at, line in enumerate(lines):
        if line.startswith("module "):
            module = line.split()[1]
        elif line.startswith("  cell "):
            kind = line.split()[1]
        elif r"\port$" in line:
            # In a cell's connections the pin is the child's, the net is the module's own.
            pin = _PIN.match(line)
            lines[at] = (
                _renamed(pin[0], local[kind]) + _renamed(line[pin.end() :], local[module])
                if pin
                else _renamed(line, local[module])
            )
    return "\n".join(lines) + "\n"


def _renamed(text: str, names: dict[str, str]) -> str:
    return _NUMBERED.sub(lambda match: names[match[0]], text)
