"""Reading the fields of an encoded command."""

from amaranth.hdl import Const, Module, Mux, Signal, Value

from hwlib.commands import layout


def field(command: Signal, kind: str, name: str) -> Value:
    """The field `name` of a command of `kind`, as `hwlib.commands.layout` places it."""
    low, width = layout(kind)[name]
    return command[low : low + width]


def lanes_chosen(m: Module, masked: Value, lane: Value, rows: int) -> Signal:
    """A bit for each lane: high for `lane` or, without `masked`, for all."""
    chosen = Signal(rows)
    m.d.comb += chosen.eq(Mux(masked, Const(1, rows) << lane, Const(-1, rows)))
    return chosen
