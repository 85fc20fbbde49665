"""From an Amaranth component to RTLIL text."""

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager

from amaranth.back import rtlil as amaranth_rtlil
from amaranth.hdl import Elaboratable

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
