"""The far side that holds the program under test: it confines itself, then runs what it is told.

It is asked to run the program, to call what the program defines, to read or set an attribute; it
answers with values or with an error's name. It never sees a test or an expected value, and nothing
that it says is believed but as a value.
"""

import os
import sys
import types
from typing import Any

from evaluators.execution import inside, wire

NAME = "candidate"
"""The program's `__name__`, so that what stands under `if __name__ == "__main__"` is not run."""

ERROR_CHARACTERS = 300
"""How much of an error's text goes back."""

MESSAGE_BYTES = 1 << 26
"""Longest message that is read; they come from the examiner."""


def main() -> None:
    """Reads the command line that `execute` wrote; does not return."""
    parent, cpu_s, memory_bytes = (int(argument) for argument in sys.argv[1:])
    inside.import_modules()
    link = wire.Link(os.dup(0), os.dup(1), MESSAGE_BYTES)
    inside.confine(parent, cpu_s, memory_bytes, keep=())
    kept: list[object] = []
    while True:
        try:
            asked = link.receive()
        except wire.Ended:
            os._exit(0)
        try:
            answer = ["value", wire.encoded(_done(asked, kept), lambda each: _keep(kept, each))]
        except BaseException as error:  # the boundary: SystemExit is a program's fault too
            answer = ["error", type(error).__name__, _text(error)]
        link.send(answer)


def _done(asked: Any, kept: list[object]) -> object:
    """Does what one message asks for."""
    verb, *rest = asked
    if verb == "run":
        return _run(rest[0], rest[1], kept)
    target: Any = kept[rest[0]]
    if verb == "call":
        arguments, named = (wire.decoded(each, lambda number, _: kept[number]) for each in rest[1:])
        return target(*arguments, **named)
    if verb == "get":
        return getattr(target, rest[1])
    setattr(target, rest[1], wire.decoded(rest[2], lambda number, _: kept[number]))
    return None


def _run(program: str, names: list[str], kept: list[object]) -> list[object]:
    """Runs the program; which of `names` it has defined, with the number of each."""
    module = types.ModuleType(NAME)
    sys.modules[NAME] = module  # dataclasses look there
    exec(compile(program, f"<{NAME}>", "exec", dont_inherit=True), module.__dict__)
    there = [name for name in names if name in module.__dict__]
    return [[name, _keep(kept, module.__dict__[name])] for name in there]


def _keep(kept: list[object], value: object) -> int:
    kept.append(value)
    return len(kept) - 1


def _text(error: BaseException) -> str:
    try:
        return str(error)[:ERROR_CHARACTERS]
    except BaseException:  # an error of the program's own making
        return ""
