"""From an Amaranth component, or the source of one, to RTLIL text.

What the contracts of units expect is not imported here: the process that runs an edit's source
imports this module.
"""

import gc
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from amaranth.back import rtlil as amaranth_rtlil
from amaranth.hdl import Elaboratable
from amaranth.lib import wiring

from hwlib import rtlil


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


def convert_source(unit: str, source: str, class_name: str, arguments: Sequence[int]) -> str:
    """Runs `source` in this process and converts its class.

    Args:
        unit: Name of the netlist's top module.
        source: A Python module.
        class_name: The class in it, a `wiring.Component`.
        arguments: What it is constructed with.

    Raises:
        ValueError: The source does not define the class.
    """
    namespace: dict[str, object] = {"__name__": f"unit_{unit}"}
    exec(compile(source, f"{unit}.py", "exec"), namespace)
    found = namespace.get(class_name)
    if not (isinstance(found, type) and issubclass(found, wiring.Component)):
        raise ValueError(f"unit {unit} must define the class {class_name}, a wiring.Component")
    return convert(found(*arguments), unit)


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
