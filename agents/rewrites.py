"""What the RTL role reads: each unit's contract and source, and the playbook's rewrites, as text.

Nothing here is imported or run. The convention of a playbook file is `agents/playbook/README.md`.
"""

import ast
import re
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field

import hwlib
from hwlib.edit import CoreUnitName
from hwlib.frozen import Frozen

PLAYBOOK = Path(__file__).parent / "playbook"
"""The shipped rewrites."""

UNITS: tuple[CoreUnitName, ...] = get_args(CoreUnitName)
"""The units that an edit may replace."""

SOURCE_LIMIT_BYTES = 16_384
"""Largest playbook file, since it travels in a prompt."""

CONTRACT_FILES: dict[CoreUnitName, str] = {"inverse_sqrt": "mantissa", "reciprocal": "mantissa"}
"""Files of `hwlib/contracts/` that have another name than their unit."""

Gain = Literal["clock", "area", "energy", "cycles"]


class UnitText(Frozen):
    """A unit as text."""

    unit: CoreUnitName
    """Its name."""

    contract: str
    """The file of its contract."""

    source: str
    """The shipped file."""


class Rewrite(Frozen):
    """A playbook entry: a known replacement of one unit."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    """The file's name without `.py`."""

    unit: CoreUnitName
    """The unit that it replaces."""

    latency: Annotated[int, Field(ge=1, le=8)]
    """Its latency in cycles, as `RtlEdit.latency` counts them."""

    helps: Annotated[tuple[Gain, ...], Field(min_length=1)]
    """What gets better."""

    costs: tuple[Gain, ...] = ()
    """What gets worse."""

    source: str
    """The whole file."""


class Library(Frozen):
    """All that the RTL role may read."""

    units: tuple[UnitText, ...] = ()
    """The replaceable units."""

    rewrites: tuple[Rewrite, ...] = ()
    """The playbook, by name."""

    def unit(self, name: str | None) -> UnitText | None:
        """The unit of that name, or `None`."""
        return next((u for u in self.units if u.unit == name), None)

    def name_of(self, source: str) -> str | None:
        """Name of the rewrite with that very source, or `None`."""
        return next((r.name for r in self.rewrites if r.source == source), None)


def shipped_library() -> Library:
    """Reads the units of `hwlib` and the shipped playbook.

    Raises:
        ValueError: a playbook file breaks the convention.
        OSError: a file is missing.
    """
    root = Path(hwlib.__file__).parent
    units = tuple(
        UnitText(
            unit=unit,
            contract=(root / "contracts" / f"{CONTRACT_FILES.get(unit, unit)}.py").read_text(
                "utf-8"
            ),
            source=(root / "units" / f"{unit}.py").read_text("utf-8"),
        )
        for unit in UNITS
    )
    return Library(units=units, rewrites=read_playbook(PLAYBOOK))


def read_playbook(folder: Path) -> tuple[Rewrite, ...]:
    """Reads every `*.py` of `folder`, sorted by name.

    Raises:
        ValueError: a file breaks the convention; the message names the file and the law.
    """
    return tuple(_read(path) for path in sorted(folder.glob("*.py")))


def _read(path: Path) -> Rewrite:
    raw = path.read_bytes()
    if len(raw) > SOURCE_LIMIT_BYTES:
        raise ValueError(f"{path.name}: {len(raw)} bytes, at most {SOURCE_LIMIT_BYTES} are allowed")
    if not raw.isascii() or b"\r" in raw or not raw.endswith(b"\n") or raw.endswith(b"\n\n"):
        raise ValueError(
            f"{path.name}: must be ASCII with Unix line ends and one newline at its end"
        )
    source = raw.decode("ascii")
    header = _header(source, path.name)
    if not path.stem.startswith(f"{header['unit']}_"):
        raise ValueError(f"{path.name}: the name must begin with its unit, `{header['unit']}_`")
    try:
        return Rewrite.model_validate({"name": path.stem, "source": source, **header})
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


def _header(source: str, name: str) -> dict[str, object]:
    docstring = ast.get_docstring(ast.parse(source)) or ""
    lines = re.findall(r"^(unit|latency|helps|costs):[ ]*(.*?)[ ]*$", docstring, re.MULTILINE)
    found = dict(lines)
    missing = {"unit", "latency", "helps"} - found.keys()
    if missing or len(lines) != len(found):
        raise ValueError(
            f"{name}: its docstring must hold the lines `unit:`, `latency:` and `helps:`, each once"
        )
    return {
        "unit": found["unit"],
        "latency": int(found["latency"]) if found["latency"].isdigit() else found["latency"],
        "helps": tuple(re.split(r",\s*", found["helps"])),
        "costs": tuple(re.split(r",\s*", found["costs"])) if found.get("costs") else (),
    }
