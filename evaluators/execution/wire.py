"""How a program and its tests talk: one line of JSON a message, values of Python's plain types.

A value crosses as `null`, `true`, `false`, a string, or a list that begins with its kind; a type of
Python's own by its name. What is none of these (an object, a function, a generator) stays where it
is, and its number crosses. So no method of a foreign object, `__eq__` above all, ever runs on the
other side.
"""

import builtins
import json
import os
from collections.abc import Callable
from typing import Any

CHUNK_BYTES = 1 << 16

Keep = Callable[[object], int]
"""Keeps an object that cannot cross, and gives its number."""

Find = Callable[[int, str], object]
"""What stands for the object of a number and the name of its type."""

_COLLECTIONS: dict[str, Callable[[list[Any]], object]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}

_TYPES = {name: each for name, each in vars(builtins).items() if isinstance(each, type)}


class Ended(Exception):
    """Nobody is at the other end any more."""


class TooLong(Exception):
    """A message is longer than what is read."""


def encoded(value: object, keep: Keep) -> Any:
    """A value as JSON: of the plain types by their content, subclasses as what they extend."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return ["int", hex(value)]
    if isinstance(value, float):
        return ["float", float.hex(value)]
    if isinstance(value, complex):
        return ["complex", value.real.hex(), value.imag.hex()]
    if isinstance(value, bytes | bytearray):
        return ["bytes", value.hex()]
    if isinstance(value, dict):
        pairs = [[encoded(k, keep), encoded(v, keep)] for k, v in value.items()]
        return ["dict", pairs]
    for kind, of in (("list", list), ("tuple", tuple), ("set", set), ("frozenset", frozenset)):
        if isinstance(value, of):
            return [kind, [encoded(each, keep) for each in value]]
    if isinstance(value, type) and _TYPES.get(value.__name__) is value:
        return ["type", value.__name__]
    return ["object", keep(value), type(value).__name__]


def decoded(message: Any, find: Find) -> Any:
    """The value that `encoded` was given.

    Raises:
        ValueError, TypeError: It is no such message; whoever wrote it may have written anything.
    """
    if message is None or isinstance(message, bool | str):
        return message
    kind, *content = message
    if kind == "int":
        return int(content[0], 16)
    if kind == "float":
        return float.fromhex(content[0])
    if kind == "complex":
        return complex(float.fromhex(content[0]), float.fromhex(content[1]))
    if kind == "bytes":
        return bytes.fromhex(content[0])
    if kind == "dict":
        return {decoded(k, find): decoded(v, find) for k, v in content[0]}
    if kind == "type":
        return _TYPES[content[0]]
    if kind == "object":
        return find(int(content[0]), str(content[1]))
    return _COLLECTIONS[kind]([decoded(each, find) for each in content[0]])


class Link:
    """Messages through two descriptors."""

    def __init__(self, source: int, sink: int, limit_bytes: int) -> None:
        """Takes over two open descriptors; messages of more than `limit_bytes` are not read."""
        self._source, self._sink, self._limit_bytes = source, sink, limit_bytes
        self._read = bytearray()

    def send(self, message: object) -> None:
        """Writes a message.

        Raises:
            Ended: Nobody reads it.
        """
        left = memoryview(json.dumps(message).encode() + b"\n")
        try:
            while left:
                left = left[os.write(self._sink, left) :]
        except OSError:
            raise Ended from None

    def receive(self) -> Any:
        """Waits for the next message.

        Raises:
            Ended: None will come.
            TooLong: It is longer than the limit.
            ValueError, RecursionError: It is no JSON, or too deep.
        """
        at = -1
        while (at := self._read.find(b"\n", max(at, 0))) < 0:
            if len(self._read) > self._limit_bytes:
                raise TooLong
            at = len(self._read)
            chunk = os.read(self._source, CHUNK_BYTES)
            if not chunk:
                raise Ended
            self._read += chunk
        if at > self._limit_bytes:
            raise TooLong
        line = bytes(self._read[:at])
        del self._read[: at + 1]
        return json.loads(line)
