"""A design from a JSON file, as `dovetail evaluate` and `dovetail compile` take it."""

from pathlib import Path

from pydantic import ValidationError

from dovetail import reading
from dovetail.errors import BadInput
from evaluators.design import DesignPoint


def read_design(path: Path) -> DesignPoint:
    """The design in a JSON file.

    Raises:
        BadInput: it cannot be read, or is none.
    """
    tree = reading.read_json(path)
    try:
        made = DesignPoint.model_validate(tree)
    except ValidationError as error:
        where, kind, law = reading.first_fault(error)
        if kind == "extra_forbidden":
            law = "there is no such knob; `dovetail knobs` lists them all"
        raise BadInput(f"{path}: {where}: {law}" if where else f"{path}: {law}") from None
    for where in reading.truths_for_numbers(tree, made.model_dump()):
        raise BadInput(f"{path}: {where}: must be a number, not true or false")
    return made
