"""How blocks hold units and memories: by fixed module name and fixed ports.

Amaranth folds constant inputs and drops unused ports of a submodule, so a submodule cannot be
exchanged by name. An `Instance` keeps its ports whatever is behind them; the netlist of each cell
is elaborated alone and linked in as text.
"""

from collections.abc import Mapping
from typing import Protocol

from amaranth.hdl import ClockSignal, Elaboratable, Instance, Module, ResetSignal, Signal, Value


class Cells(Protocol):
    """Makes the cell `name` with `inputs` driving it and `outputs` driven by it."""

    def __call__(
        self, name: str, inputs: Mapping[str, Value], outputs: Mapping[str, Value]
    ) -> Elaboratable: ...


def instance(name: str, inputs: Mapping[str, Value], outputs: Mapping[str, Value]) -> Elaboratable:
    """A cell whose netlist is linked in later; every cell has a clock and a reset."""
    return Instance(
        name,
        ("i", "clk", ClockSignal()),
        ("i", "rst", ResetSignal()),
        *(("i", port, value) for port, value in inputs.items()),
        *(("o", port, value) for port, value in outputs.items()),
    )


def shared(m: Module, inputs: Mapping[str, Value]) -> dict[str, Signal]:
    """`inputs` as signals, for ports that many cells have in common.

    Amaranth makes the logic of an expression anew wherever the expression stands.
    """
    signals = {name: Signal(len(value), name=name) for name, value in inputs.items()}
    m.d.comb += [signals[name].eq(value) for name, value in inputs.items()]
    return signals


def sram_name(words: int, bits: int) -> str:
    """Module name of the SRAM of that size."""
    return f"sram_{words}x{bits}"
