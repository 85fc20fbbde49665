"""The far side that runs the tests: a process of its own, which the program under test is not in.

What the tests call is a `Remote`: it sends the arguments to the other process and gives back the
value that comes. Comparisons are made here, on plain values. It is confined like the other side: a
file of tasks is somebody's code, too, and so is every message that it reads.
"""

import builtins
import json
import os
import sys
from typing import Any

from evaluators.execution import inside, wire

REASON_CHARACTERS = 300


class ProgramError(RuntimeError):
    """What the program raised that is none of Python's own exceptions, or none that may pass."""


class Remote:
    """Something that the program defined or gave back, and that cannot cross.

    It can be called, and has the attributes of what it stands for. It equals itself alone and has
    no truth value, whatever the program's object would say of itself.
    """

    def __init__(self, link: wire.Link, number: int, name: str) -> None:
        """Stands for the object `number` of the process at the other end."""
        object.__setattr__(self, "_to", (link, number, name))

    def __call__(self, *arguments: object, **named: object) -> Any:
        """What the program's function gives for these arguments."""
        encoded = (wire.encoded(each, _number) for each in (list(arguments), named))
        return self._ask("call", *encoded)

    def __getattr__(self, name: str) -> Any:
        """The attribute as it is there."""
        return self._ask("get", name)

    def __setattr__(self, name: str, value: object) -> None:
        """Sets it there."""
        self._ask("set", name, wire.encoded(value, _number))

    def __bool__(self) -> bool:
        """Refused: it would be the program's own word on whether it passes.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f"{self!r} is no plain value, and neither true nor false")

    def __repr__(self) -> str:
        """What kind of thing it is."""
        return f"an object of type {self._to[2]}"

    def _ask(self, verb: str, *rest: object) -> Any:
        link, number, _ = self._to
        return ask(link, verb, number, *rest)


def ask(link: wire.Link, *message: object) -> Any:
    """Asks the program's process; what it answers as a value.

    Raises:
        Exception: What the program raised, by its name where it is one of Python's own.
        wire.Ended, wire.TooLong: There is no answer, or more than is read.
    """
    link.send(message)
    try:
        kind, *content = link.receive()
        if kind == "error":
            name, text = str(content[0]), str(content[1])
        else:
            return wire.decoded(content[0], lambda number, name: Remote(link, number, name))
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError) as error:
        raise RuntimeError(f"the program's answer is no value ({type(error).__name__})") from None
    raise _raised(name, text)


def main() -> None:
    """Runs the trial whose descriptor it is given; answers status and reason as JSON."""
    parent, cpu_s, memory_bytes, answer_bytes, job = (int(argument) for argument in sys.argv[1:])
    with os.fdopen(job, "rb") as file:
        trial = json.load(file)
    inside.import_modules()
    link, verdict = wire.Link(os.dup(0), os.dup(1), answer_bytes), os.dup(2)
    inside.confine(parent, cpu_s, memory_bytes, keep=())
    status, reason = _examined(link, trial)
    os.write(verdict, json.dumps([status, reason[:REASON_CHARACTERS]]).encode())
    os._exit(0)


def _examined(link: wire.Link, trial: dict[str, Any]) -> tuple[str, str]:
    names: dict[str, object] = {"__name__": "tests"}
    try:
        # Before the program is there: a fault of these is the task's.
        exec(compile(trial["head"], "<head>", "exec", dont_inherit=True), names)
        defined = ask(link, "run", trial["program"], trial["names"])
        names |= {name: Remote(link, number, "function") for name, number in defined}
        if missing := [name for name in trial["names"] if name not in dict(defined)]:
            return "failed", f"the program does not define {missing[0]}"
        exec(compile(trial["tests"], "<tests>", "exec", dont_inherit=True), names)
    except wire.Ended:
        return "crashed", "the program's process ended"
    except wire.TooLong:
        return "failed", "it gave back more than is read"
    except PermissionError as error:
        return "forbidden", _said(error)
    except BaseException as error:  # whatever a test or a program raises is no pass
        return "failed", _said(error)
    return "passed", ""


def _said(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, ProgramError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _raised(name: str, text: str) -> Exception:
    """The error as one of Python's own, which a test may expect.

    Not StopIteration: it would end a loop over the program's answers, and what is left untested
    would count as passed. A UnicodeError takes more than a text.
    """
    kind = getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        return ProgramError(f"{name}: {text}")
    if issubclass(kind, StopIteration | StopAsyncIteration | UnicodeError):
        return ProgramError(f"{name}: {text}")
    return kind(text)


def _number(value: object) -> int:
    """The number of what came from the other side; nothing else can go there.

    Raises:
        TypeError: It is something of the tests' own.
    """
    if isinstance(value, Remote):
        return int(value._to[1])
    raise TypeError(f"a {type(value).__name__} of the tests cannot be given to a program")
