"""SRAM macros: area, access time, energy and leakage from a table computed with CACTI 7.

A memory that is not in the table is given the row of the next larger capacity and word, so that
no figure is better than the table's. The table and its source are in `data/`.
"""

import csv
import functools
import importlib.resources
import re
from typing import Literal

from hwlib.frozen import Frozen

SramFlavour = Literal["itrs-hp", "itrs-lop", "itrs-lstp"]
"""Device flavour: high performance, low operating power, low standby power."""

DEFAULT_FLAVOUR: SramFlavour = "itrs-lop"

_NAME = re.compile(r"sram_([1-9][0-9]*)x([1-9][0-9]*)")


class SramMacro(Frozen):
    """One SRAM bank."""

    words: int
    """Words asked for."""

    word_bits: int
    """Bits of a word asked for."""

    row: str
    """The row of the table that stands for it: `<capacity_bytes> x <word_bits>`."""

    area_um2: float
    """Area of the bank, before routing."""

    access_time_s: float
    """From the clock edge to the data at the output."""

    cycle_time_s: float
    """Shortest time between two accesses."""

    read_energy_j: float
    """Dynamic energy of one read of a whole word."""

    write_energy_j: float
    """Dynamic energy of one write of a whole word."""

    leakage_w: float
    """Leakage and gate leakage."""


class SramError(ValueError):
    """A memory that the table does not cover."""


def is_sram(module: str) -> bool:
    """Whether a module of this name is an SRAM macro: `sram_<words>x<bits>`."""
    return _NAME.fullmatch(module) is not None


def sram_macro(module: str, flavour: SramFlavour = DEFAULT_FLAVOUR) -> SramMacro:
    """The macro for a module named `sram_<words>x<bits>`.

    Raises:
        SramError: the name has another form, or the memory is larger than the table's largest.
    """
    match = _NAME.fullmatch(module)
    if match is None:
        raise SramError(f"SRAM module must be named sram_<words>x<bits>, not {module}")
    words, bits = int(match[1]), int(match[2])
    capacity_bytes = -(-words * bits // 8)
    fitting = [
        row
        for row in _table()
        if row["cell"] == flavour
        and int(row["capacity_bytes"]) >= capacity_bytes
        and int(row["word_bits"]) >= bits
    ]
    if not fitting:
        raise SramError(
            f"{module}: the {flavour} table ends at 2 MB and 512 bits; split the memory in banks"
        )
    row = min(fitting, key=lambda row: (int(row["capacity_bytes"]), int(row["word_bits"])))
    return SramMacro(
        words=words,
        word_bits=bits,
        row=f"{row['capacity_bytes']} x {row['word_bits']}",
        area_um2=float(row["area_mm2"]) * 1e6,
        access_time_s=float(row["access_time_ns"]) * 1e-9,
        cycle_time_s=float(row["cycle_time_ns"]) * 1e-9,
        read_energy_j=float(row["read_energy_nj"]) * 1e-9,
        write_energy_j=float(row["write_energy_nj"]) * 1e-9,
        leakage_w=(float(row["leakage_mw"]) + float(row["gate_leakage_mw"])) * 1e-3,
    )


@functools.cache
def _table() -> tuple[dict[str, str], ...]:
    source = importlib.resources.files("evaluators.silicon") / "data" / "sram_45nm_cacti7.csv"
    return tuple(csv.DictReader(source.read_text(encoding="ascii").splitlines()))
