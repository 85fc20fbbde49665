"""The invariant that an edit may bring: a Verilog expression over registers of both units.

An edit says it in its source, in a line `invariant: EXPRESSION`; several lines hold all together.
Names are those of the edit's registers, or after `shipped.` of the shipped unit's; vectors are
unsigned. It is a stranger's text: a few words and signs go through, under names of our own, and
what it says is proved like everything else. A false one proves nothing.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

_LINE = re.compile(r"^[ \t#]*invariant:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_LENGTH = 2000
_LINES = 16
_REPEATED = re.compile(r"[0-9][ ]*\{")

SHIPPED = "shipped."
"""What stands before the name of a shipped unit's register."""

_TOKEN = re.compile(
    r"(?P<space>[ ]+)"
    r"|(?P<constant>[0-9]{1,3}'[bdh][0-9a-fA-F]{1,40}|[0-9]{1,9})"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)"
    r"|(?P<sign>==|!=|<=|>=|&&|\|\||[-+~&|^!<>(){}\[\]:,?])"
)


class BadInvariant(ValueError):
    """The text is no invariant; the message says why."""


@dataclass(frozen=True)
class Invariant:
    """Expressions that an edit's source brings."""

    lines: tuple[str, ...] = ()

    def over(self, named: Callable[[str, bool], str | None]) -> list[str]:
        """The expressions about two states.

        Args:
            named: (register, whether of the shipped unit) -> what holds its value; None where
                there is no such register.

        Raises:
            BadInvariant: A word is no register, or a sign is not known.
        """
        return [_translated(line, named) for line in self.lines]


def invariant_in(source: str) -> Invariant:
    """What a source brings.

    Raises:
        BadInvariant: It is too long.
    """
    lines = tuple(_LINE.findall(source))
    if len(lines) > _LINES or any(len(line) > _LENGTH for line in lines):
        raise BadInvariant(f"an invariant has at most {_LINES} lines of {_LENGTH} characters")
    return Invariant(lines)


def _translated(line: str, named: Callable[[str, bool], str | None]) -> str:
    if _REPEATED.search(line):
        raise BadInvariant("an invariant may not repeat bits")
    parts, at = [], 0
    while at < len(line):
        found = _TOKEN.match(line, at)
        if found is None:
            raise BadInvariant(f"an invariant may not hold {line[at]!a}")
        parts.append(_register(found[0], named) if found.lastgroup == "name" else found[0])
        at = found.end()
    return "".join(parts)


def _register(name: str, named: Callable[[str, bool], str | None]) -> str:
    own = name.removeprefix(SHIPPED)
    if (found := named(own, own != name)) is None:
        whose = "the edit" if own == name else "the shipped unit"
        raise BadInvariant(f"an invariant names {own[:60]}, which is no register of {whose}")
    return found
