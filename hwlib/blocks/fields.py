"""Reading the fields of an encoded command."""

from amaranth.hdl import Signal, Value

from hwlib.commands import layout


def field(command: Signal, kind: str, name: str) -> Value:
    """The field `name` of a command of `kind`, as `hwlib.commands.layout` places it."""
    low, width = layout(kind)[name]
    return command[low : low + width]
