"""Linked RTLIL text, cut into modules, with equal modules merged.

Amaranth writes one module for each instance of a component. Modules whose bodies are equal, once
source positions are left out and the types of their instances are replaced by what those types
are, are one module: a core of 16 x 16 elements has one element. Only text is compared, so the
merge never equates modules that differ.
"""

import hashlib
import re
from typing import Literal

from evaluators.silicon.memory import is_sram
from hwlib.frozen import Frozen

_MODULE = re.compile(r"^module (\S+)$")
_WIRE = re.compile(r"^\s+wire (?P<options>.*?)\s*(?P<name>\\\S+)$")
_CELL = re.compile(r"^(\s+cell )(\\\S+)( \S+)$")
_IGNORED = re.compile(r"^\s*attribute \\(src|generator|top) |^\s*$|^\s*#")


class LinkError(ValueError):
    """RTLIL text that cannot be linked."""


class Port(Frozen):
    """A port of a module."""

    name: str
    """Its name, with the leading backslash of RTLIL."""

    direction: Literal["input", "output"]
    """Which way."""

    width: int
    """Bits."""

    index: int
    """Its position, as RTLIL numbers it."""


class SourceModule(Frozen):
    """One distinct module."""

    name: str
    """Name of the first of the merged modules."""

    ports: tuple[Port, ...]
    """Ports in order."""

    instances: dict[str, str]
    """Instances of other modules: instance name to name of the distinct module."""

    body: str
    """Lines between `module` and `end`, without positions, instance types being distinct names."""


class LinkedDesign(Frozen):
    """All distinct modules below a top module."""

    top: str
    """Name of the top module."""

    modules: dict[str, SourceModule]
    """Distinct modules that the top reaches, children before parents."""


def link(text: str, top: str) -> LinkedDesign:
    r"""Cuts linked RTLIL into modules and merges equal ones.

    Args:
        text: concatenated RTLIL.
        top: name of the top module, without the backslash.

    Raises:
        LinkError: a module is defined twice with different bodies, is missing, contains itself,
            or has a port that is neither input nor output.
    """
    raw = _split(text)
    distinct: dict[str, str] = {}  # raw name -> distinct name
    by_digest: dict[str, str] = {}
    modules: dict[str, SourceModule] = {}

    def visit(name: str, path: tuple[str, ...]) -> str:
        if name in distinct:
            return distinct[name]
        if name in path:
            raise LinkError(f"module {name} contains itself: {' > '.join((*path, name))}")
        if name not in raw:
            raise LinkError(f"module {name} is instantiated but not defined")
        lines, instances = [], {}
        macro = is_sram(name.removeprefix("\\"))  # its ports count, not how it is simulated
        for line in raw[name]:
            if (match := _CELL.match(line)) and not macro:
                child = visit(match[2], (*path, name))
                instances[match[3].strip()] = child
                line = f"{match[1]}{child}{match[3]}"
            lines.append(line)
        body = "\n".join(lines)
        digest = hashlib.sha256(body.encode()).hexdigest()
        distinct[name] = by_digest.setdefault(digest, name)
        if distinct[name] == name:
            modules[name] = SourceModule(
                name=name, ports=_ports(name, lines), instances=instances, body=body
            )
        return distinct[name]

    return LinkedDesign(top=visit("\\" + top, ()), modules=modules)


def stub(name: str, ports: tuple[Port, ...]) -> str:
    """RTLIL of an empty module: what a parent needs to know of its child."""
    wires = "".join(
        f"  wire width {port.width} {port.direction} {port.index} {port.name}\n" for port in ports
    )
    return f"attribute \\blackbox 1\nmodule {name}\n{wires}end\n"


def _split(text: str) -> dict[str, list[str]]:
    modules: dict[str, list[str]] = {}
    name = ""
    lines: list[str] = []
    for line in text.splitlines():
        if match := _MODULE.match(line):
            name, lines = match[1], []
        elif line == "end":
            if modules.setdefault(name, lines) != lines:
                raise LinkError(f"module {name} is defined twice, with different bodies")
            name = ""
        elif name and not _IGNORED.match(line):
            lines.append(line)
    if name:
        raise LinkError(f"module {name} never ends")
    return modules


def _ports(module: str, lines: list[str]) -> tuple[Port, ...]:
    ports = []
    for line in lines:
        match = _WIRE.match(line)
        if match is None:
            continue
        words = match["options"].split()
        if "inout" in words:
            raise LinkError(f"module {module}: port {match['name']} is neither input nor output")
        for direction in ("input", "output"):
            if direction in words:
                ports.append(
                    Port(
                        name=match["name"],
                        direction=direction,
                        width=int(words[words.index("width") + 1]) if "width" in words else 1,
                        index=int(words[words.index(direction) + 1]),
                    )
                )
    return tuple(sorted(ports, key=lambda port: port.index))
