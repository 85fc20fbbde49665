"""Reading RTLIL text: which modules it has, and a module's ports."""

import re

_MODULE = re.compile(r"^module (\S+)$", re.MULTILINE)
_PORT = re.compile(
    r"^  wire (?P<before>.*?)(?P<direction>input|output|inout) \d+ (?P<after>.*?)"
    r"\\(?P<name>\S+)$",
    re.MULTILINE,
)
_WIDTH = re.compile(r"\bwidth (\d+)\b")


def modules(rtlil: str) -> tuple[str, ...]:
    """Names of the modules in `rtlil`, in order, without the leading backslash."""
    return tuple(name.removeprefix("\\") for name in _MODULE.findall(rtlil))


def ports(rtlil: str, module: str) -> dict[str, tuple[str, int]]:
    """Ports of `module`: name -> (direction, width in bits).

    Raises:
        ValueError: `rtlil` has no such module.
    """
    match = re.search(
        rf"^module \\{re.escape(module)}$(?P<body>.*?)^end$", rtlil, re.MULTILINE | re.DOTALL
    )
    if match is None:
        raise ValueError(f"the netlist has no module {module}")
    found: dict[str, tuple[str, int]] = {}
    for port in _PORT.finditer(match["body"]):
        width = _WIDTH.search(port["before"] + port["after"])
        found[port["name"]] = (port["direction"], int(width[1]) if width else 1)
    return found
