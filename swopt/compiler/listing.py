"""A program as lines that a person reads."""

from collections.abc import Iterator

from hwlib.commands import QUEUES, AnyCommand
from swopt.compiler import network as net
from swopt.compiler.program import Program


def label(operator: net.Operator) -> str:
    """An operator as a person calls it: a layer by its name, another by what it makes."""
    return operator.name if isinstance(operator, net.Linear) else operator.y


def lines(program: Program, network: net.Network) -> Iterator[str]:
    """One line a command: index, kind, fields that are not at their default, waits, operator.

    Args:
        program: The program.
        network: What it was lowered from.
    """
    for index, (command, at) in enumerate(zip(program.commands, program.operators, strict=True)):
        parts = [f"{index:>6} {command.kind:<8}", *_fields(command)]
        if waits := _waits(command):
            parts.append(f" waits: {waits}")
        yield " ".join([*parts, f" for: {label(network.operators[at])}"])


def _fields(command: AnyCommand) -> Iterator[str]:
    for name, field in type(command).model_fields.items():
        value = getattr(command, name)
        if name not in ("kind", "waits") and (field.is_required() or value != field.default):
            yield f"{name}={value}"


def _waits(command: AnyCommand) -> str:
    counts = ((queue, getattr(command.waits, queue)) for queue in QUEUES)
    return ", ".join(f"{queue} {count}" for queue, count in counts if count is not None)
