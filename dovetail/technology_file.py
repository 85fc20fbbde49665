"""Technology files: a cell library and the roles of its cells, in YAML. docs/technology.md."""

from pathlib import Path

from pydantic import ValidationError

from dovetail import reading
from dovetail.errors import BadInput
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
