"""From config and units to one linked netlist in RTLIL.

The core holds units and SRAMs as instances of fixed names; each is elaborated alone and the texts
are joined here. Elaborating runs Python: only trusted sources may come here. The source of an
edit is elaborated in a process of its own (`evaluators.gate`) and arrives as a `UnitNetlist`.
"""

import gc
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from amaranth.back import rtlil as amaranth_rtlil
from amaranth.hdl import Elaboratable, Module, Value
from amaranth.lib import wiring
from pydantic import Field

from hwlib import rtlil
from hwlib.accelerator import Accelerator
from hwlib.blocks.array import ROW, SystolicRow
from hwlib.blocks.cells import instance, sram_name
from hwlib.blocks.sram import Sram
from hwlib.config import AcceleratorConfig
from hwlib.contracts.table import CONTRACTS
from hwlib.cycles import SHIPPED_TIMINGS
from hwlib.edit import UnitName, UnitTiming
from hwlib.frozen import Frozen

TOP = "accelerator"
"""Name of the linked netlist's top module."""

_UNITS = Path(__file__).parent / "units"


class UnitNetlist(Frozen):
    """One unit, elaborated alone."""

    unit: UnitName
    """The unit's name, which is also the name of its module."""

    rtlil: Annotated[str, Field(min_length=1)]
    """RTLIL text: the module of that name and perhaps submodules `<unit>.<name>`."""

    timing: UnitTiming
    """The schedule that the core keeps for it."""


def shipped_source(unit: UnitName) -> str:
    """The source of a shipped unit: what an edit replaces."""
    return (_UNITS / f"{unit}.py").read_text(encoding="utf-8")


def source_to_rtlil(unit: UnitName, source: str) -> str:
    """Runs `source` in this process and converts the class that the unit's contract names.

    Raises:
        ValueError: The source does not define the class.
    """
    return convert(unit_class(unit, source)(), unit)


def check_interface(unit: UnitName, text: str) -> None:
    """Holds a unit's netlist to the module names and ports of its contract.

    Raises:
        ValueError: A module name or a port differs.
    """
    for name in rtlil.modules(text):
        if name != unit and not name.startswith(f"{unit}."):
            raise ValueError(
                f"unit {unit} brings a module {name}; its modules must be named {unit} or {unit}.*"
            )
    wanted = {port.name: (port.direction, port.width) for port in CONTRACTS[unit].ports}
    wanted |= {"clk": ("input", 1), "rst": ("input", 1)}
    found = rtlil.ports(text, unit)
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ValueError(
                f"unit {unit}: port {name} must be {_port(wanted.get(name))}, "
                f"not {_port(found.get(name))}"
            )


def unit_class(unit: UnitName, source: str) -> type[wiring.Component]:
    """Runs `source` in this process and returns the class that the unit's contract names.

    Raises:
        ValueError: The source does not define the class.
    """
    class_name = CONTRACTS[unit].class_name
    namespace: dict[str, object] = {"__name__": f"unit_{unit}"}
    exec(compile(source, f"{unit}.py", "exec"), namespace)
    found = namespace.get(class_name)
    if not (isinstance(found, type) and issubclass(found, wiring.Component)):
        raise ValueError(f"unit {unit} must define the class {class_name}, a wiring.Component")
    return found


def elaborate_unit(
    unit: UnitName,
    source: str | None = None,
    timing: UnitTiming | None = None,
) -> UnitNetlist:
    """Elaborates one unit alone, in this process: trusted sources only.

    Args:
        unit: Which unit.
        source: Text of its file; None for the shipped one.
        timing: Its schedule; None for the shipped one.

    Raises:
        ValueError: Class or ports are not those of the contract.
    """
    text = source_to_rtlil(unit, shipped_source(unit) if source is None else source)
    check_interface(unit, text)
    return UnitNetlist(unit=unit, rtlil=text, timing=timing or SHIPPED_TIMINGS[unit])


def elaborate(
    config: AcceleratorConfig, units: Mapping[UnitName, UnitNetlist] | None = None
) -> str:
    """The whole core as linked RTLIL, top module `accelerator`.

    Equal arguments give equal text: it holds no file names and no times, so it can be the key of
    a cache.

    Args:
        config: The core's knobs.
        units: Netlists that replace shipped units, by name.

    Returns:
        RTLIL text of core, units and SRAMs.
    """
    chosen = {unit: (units or {}).get(unit) or _shipped(unit) for unit in CONTRACTS}
    timings = {unit: netlist.timing for unit, netlist in chosen.items()}
    core = convert(Accelerator(config, timings, instance), TOP)
    srams = {
        (config.activation_words, 8 * config.array.rows),
        (config.weight_words, 8 * config.array.columns),
    }
    parts = [core, _row(config.array.columns)]
    parts += [netlist.rtlil for netlist in chosen.values()]
    parts += [_sram(words, bits) for words, bits in sorted(srams)]
    return "\n".join([f"attribute \\top 1\n{parts[0]}", *parts[1:]])


def simulatable(
    config: AcceleratorConfig,
    sources: Mapping[UnitName, str] | None = None,
    timings: Mapping[UnitName, UnitTiming] | None = None,
) -> Accelerator:
    """The core with units and SRAMs as submodules, for Amaranth's simulator.

    That simulator gives 0 for an `Instance` without a word, so here every cell is the component
    itself, in this process: trusted sources only.

    Args:
        config: The core's knobs.
        sources: Texts that replace shipped units.
        timings: Schedules that replace the shipped ones.
    """
    classes = {
        unit: unit_class(unit, (sources or {}).get(unit) or shipped_source(unit))
        for unit in CONTRACTS
    }

    def component(name: str) -> wiring.Component:
        if name == ROW:
            return SystolicRow(config.array.columns, embedded)
        for unit, found in classes.items():
            if name == unit:
                return found()
        words, bits = name.removeprefix("sram_").split("x")
        return Sram(int(words), int(bits))

    def embedded(
        name: str, inputs: Mapping[str, Value], outputs: Mapping[str, Value]
    ) -> Elaboratable:
        m = Module()
        m.submodules.cell = cell = component(name)
        m.d.comb += [getattr(cell, port).eq(value) for port, value in inputs.items()]
        m.d.comb += [value.eq(getattr(cell, port)) for port, value in outputs.items()]
        return m

    return Accelerator(config, {**SHIPPED_TIMINGS, **(timings or {})}, embedded)


@lru_cache(maxsize=len(CONTRACTS))
def _shipped(unit: UnitName) -> UnitNetlist:
    return elaborate_unit(unit)


@lru_cache(maxsize=4)
def _row(columns: int) -> str:
    return convert(SystolicRow(columns, instance), ROW)


@lru_cache(maxsize=32)
def _sram(words: int, bits: int) -> str:
    return without_contents(convert(Sram(words, bits), sram_name(words, bits)))


def without_contents(text: str) -> str:
    """An SRAM's RTLIL without the zeros that Amaranth writes: contents are unknown at power-on."""
    return re.sub(r"\n  cell \$meminit_v2 .*?\n  end\n", "\n", text, flags=re.DOTALL)


def convert(component: Elaboratable, name: str) -> str:
    """RTLIL without source positions, so that the text does not depend on where files lie."""
    with _without_collector():
        text: str = amaranth_rtlil.convert(component, name=name, emit_src=False)
    text = text.replace('attribute \\generator "Amaranth"\n', "").replace("attribute \\top 1\n", "")
    # A wire's sign means nothing in RTLIL, but Yosys copies it into Verilog, where an unsigned
    # product of two signed wires would turn into a signed one.
    text = re.sub(r"^(  wire .*?)signed ", r"\1", text, flags=re.MULTILINE)
    # Blank lines between statements are a third of the text.
    return rtlil.with_local_port_names(re.sub(r"\n{2,}", "\n", text).strip())


@contextmanager
def _without_collector() -> Iterator[None]:
    """Elaboration makes millions of small objects, and with each generation of them the collector
    looks through a process that may hold torch: up to half of the time, and it finds nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _port(port: tuple[str, int] | None) -> str:
    return "absent" if port is None else f"an {port[0]} of {port[1]} bits"
