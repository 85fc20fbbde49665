"""Technology files: a cell library and the roles of its cells, in YAML. docs/technology.md."""

from pathlib import Path

from pydantic import ValidationError

from dovetail import reading
from dovetail.errors import BadInput
from evaluators.silicon.liberty import Roles
from evaluators.silicon.technology import Technology


def read_technology(path: Path) -> Technology:
    """A technology file; its Liberty file is looked for beside it.

    Raises:
        BadInput: It cannot be read, or says something else than a technology.
    """
    try:
        technology = Technology.model_validate(reading.read_yaml(path))
    except ValidationError as error:
        where, _, law = reading.first_fault(error)
        raise BadInput(f"{path}: {where}: {law}") from None
    liberty = path.parent / Path(technology.liberty).expanduser()
    return technology.model_copy(update={"liberty": str(liberty)})


def technology_named(liberty: Path | None, technology: Path | None) -> Technology | None:
    """The cells that a command line names, if any.

    Args:
        liberty: A Liberty file with the cell names of Nangate 45 nm: another corner of it.
        technology: A technology file.

    Raises:
        BadInput: Both are named, or the technology file is none.
    """
    if technology is not None:
        if liberty is not None:
            raise BadInput("--liberty and --technology exclude each other; name one of them")
        return read_technology(technology)
    if liberty is None:
        return None
    return Technology(liberty=str(liberty), corner=liberty.name[:100] or "?", roles=Roles())
