"""What the commands work with: two consoles and the workshop."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from dovetail.workshop import Workshop


class Screen(Console):
    """A console whose reader may go (`| head`), which is for `main` to see."""

    def on_broken_pipe(self) -> None:
        """Rich would end the process with 1."""
        raise BrokenPipeError


@dataclass(frozen=True)
class Desk:
    """What the commands work with; tests hand in fakes."""

    out: Console
    """Results."""

    err: Console
    """Progress and complaints."""

    workshop: "Workshop | None" = None
    """`None`: the shipped one."""

    def open_workshop(self) -> "Workshop":
        """The workshop, imported when a command needs it."""
        if self.workshop is not None:
            return self.workshop
        from dovetail.shipped import Shipped

        return Shipped()

    def tell(self, stage: str) -> None:
        """Says on the error stream what begins."""
        self.err.print(Text(stage), soft_wrap=True)

    def say(self, text: str) -> None:
        """Says a result in one line."""
        from dovetail.formatting import safe

        self.out.print(Text(safe(text)), soft_wrap=True)

    def print_json(self, value: Any) -> None:
        """Gives a result as JSON; ASCII, whose escapes keep control characters off the terminal."""
        self.out.print(Text(json.dumps(value, indent=2)), soft_wrap=True)


def desk_of(context: typer.Context) -> Desk:
    """The desk of a command's context."""
    desk = context.obj
    assert isinstance(desk, Desk)
    return desk
