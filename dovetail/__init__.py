"""Co-design of accelerator and multimodal model by agents, with every step on record."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dovetail.saved import Run

__version__ = version("dovetail")


def load(folder: str | Path) -> "Run":
    """The run in that folder: `dovetail.load("runs/example").front` is ready for a DataFrame."""
    from dovetail import saved  # the command's `--help` needs none of it

    return saved.load(folder)
