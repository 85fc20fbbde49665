"""From the source of a unit to its netlist in RTLIL.

Converting runs the source in this process: only trusted sources may come here. That of an edit is
converted in a process of its own (`evaluators.gate`).
"""

from functools import cache
from pathlib import Path

from hwlib import rtlil
from hwlib.config import CoreConfig
from hwlib.contracts.table import LOOSE_UNITS, contract_of
from hwlib.convert import convert_source
from hwlib.edit import UnitName

_UNITS = Path(__file__).parent / "units"


def shipped_source(unit: UnitName) -> str:
    """The source of a shipped unit: what an edit replaces."""
    family = unit.rpartition("_")[0] if unit in LOOSE_UNITS else unit
    return (_UNITS / f"{family}.py").read_text(encoding="utf-8")


def source_to_rtlil(unit: UnitName, source: str, config: CoreConfig) -> str:
    """Runs `source` in this process and converts its class, constructed for a core.

    Raises:
        ValueError: The core has no such unit, or the source does not define its class.
    """
    contract = contract_of(unit, config)
    return convert_source(unit, source, contract.class_name, contract.class_arguments)


@cache
def shipped_rtlil(unit: UnitName, config: CoreConfig) -> str:
    """The netlist of a shipped unit for a core; converted once, as every edit is held to it.

    Raises:
        ValueError: The core has no such unit.
    """
    return source_to_rtlil(unit, shipped_source(unit), config)


def check_interface(unit: UnitName, config: CoreConfig, text: str) -> None:
    """Holds a unit's netlist to the module names and ports of its contract.

    Raises:
        ValueError: A module name or a port differs, or the core has no such unit.
    """
    bodies = rtlil.modules(text)
    for name in bodies:
        if name != unit and not name.startswith(f"{unit}."):
            raise ValueError(
                f"unit {unit} brings a module {name}; its modules must be named {unit} or {unit}.*"
            )
    wanted = {p.name: (p.direction, p.width) for p in contract_of(unit, config).ports}
    wanted |= {"clk": ("input", 1), "rst": ("input", 1)}
    if unit not in bodies:
        raise ValueError(f"the netlist has no module {unit}")
    found = rtlil.ports(bodies[unit])
    for name in sorted(wanted.keys() | found.keys()):
        if name == "clk" and name not in found:
            raise ValueError(
                f"unit {unit} has no register, so no port clk and no latency; register its result"
            )
        if wanted.get(name) != found.get(name):
            raise ValueError(
                f"unit {unit}: port {name} must be {_port(wanted.get(name))}, "
                f"not {_port(found.get(name))}"
            )


def _port(port: tuple[str, int] | None) -> str:
    return "absent" if port is None else f"an {port[0]} of {port[1]} bits"
