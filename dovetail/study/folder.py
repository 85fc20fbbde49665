"""The folder of a study: what it measures on, and each evaluation, kept by the id of its design.

`study.json` says once what is measured on, and with which versions; `designs/`, `evaluations/` and
`tests/` hold a file for each design. Every file is there whole or not at all, so a study that was
ended at any moment goes on with what it has.
"""

import json
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import ValidationError

from dovetail.errors import BadInput, FolderRefused, NoSpace
from dovetail.formatting import one_line
from dovetail.journal import FULL
from dovetail.reading import first_fault
from evaluators.cache import write_atomically
from evaluators.design import DesignPoint
from evaluators.metrics import Evaluation
from evaluators.target import Target
from hwlib.frozen import Frozen

Value = TypeVar("Value", bound=Frozen)

HEADER = "study.json"

SCHEMA_VERSION = 1


class Header(Frozen):
    """What a study measures on."""

    schema_version: int = SCHEMA_VERSION
    """Of the folder."""

    data: str
    """The data in words."""

    data_sha256: dict[str, str]
    """Of each data set and of the checkpoint."""

    target: Target
    """Technology and limits."""

    versions: dict[str, str]
    """Of the packages that shape a number."""


class ScoresOnTest(Frozen):
    """A design's scores on test questions."""

    figures: dict[str, dict[str, float]]
    """Image set -> figure -> value, as `Evaluator.test` gives them."""


class StudyFolder:
    """A study on disk.

    Args:
        path: The folder, which `begin` made or found fit.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def begin(cls, path: Path, header: Header) -> Self:
        """The folder, new or of an earlier study of the same.

        Raises:
            FolderRefused: It is something else, or cannot be written.
            BadInput: The study there was of other data, another target or other versions.
        """
        found = path / HEADER
        if found.is_file():
            _same(_read(found, Header), header, path)
            return cls(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FolderRefused(f"{path} holds something else; name a new folder with --out")
        study = cls(path)
        study._write(HEADER, header)
        return study

    def evaluation(self, design: DesignPoint) -> Evaluation | None:
        """What was measured of a design; None where nothing was yet."""
        return self._kept("evaluations", design, Evaluation)

    def test(self, design: DesignPoint) -> ScoresOnTest | None:
        """Its test scores; None where there are none yet."""
        return self._kept("tests", design, ScoresOnTest)

    def keep(self, design: DesignPoint, value: Evaluation | ScoresOnTest) -> None:
        """Puts what was measured on disk, the design before it.

        Raises:
            NoSpace: The disk is full.
        """
        room = "evaluations" if isinstance(value, Evaluation) else "tests"
        text = design.model_dump_json(exclude_defaults=True, indent=2)
        self._put(f"designs/{design.id}.json", text)
        self._write(f"{room}/{design.id}.json", value)

    def write(self, name: str, text: str) -> Path:
        """A page of the report; its path."""
        self._put(name, text)
        return self.path / name

    def _kept(self, room: str, design: DesignPoint, kind: type[Value]) -> Value | None:
        path = self.path / room / f"{design.id}.json"
        return _read(path, kind) if path.is_file() else None

    def _write(self, name: str, value: Frozen) -> None:
        self._put(name, json.dumps(value.model_dump(mode="json"), indent=1) + "\n")

    def _put(self, name: str, text: str) -> None:
        try:
            write_atomically(self.path / name, text.encode())
        except OSError as error:
            where = f"{self.path / name} cannot be written ({error.strerror})"
            if error.errno in FULL:
                raise NoSpace(f"{where}; make room and give the command again") from None
            raise FolderRefused(f"{where}; name another folder with --out") from None


def _read(path: Path, kind: type[Value]) -> Value:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        fault = " ".join(first_fault(error)) if isinstance(error, ValidationError) else str(error)
        raise BadInput(
            f"{path} was changed and cannot be read ({one_line(fault, 120)}); remove that file, "
            "and it is measured again"
        ) from None


def _same(there: Header, here: Header, path: Path) -> None:
    """Raises BadInput where a study would go on with something else than it began with."""
    before: dict[str, Any] = there.model_dump(mode="json")
    for name, value in here.model_dump(mode="json").items():
        if before[name] != value:
            raise BadInput(
                f"the study in {path} began with another `{name}` than there is now; its figures "
                "would not compare; name a new folder with --out"
            )
