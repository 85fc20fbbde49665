"""Liberty: the power of the cells of a standard-cell library.

Read are the leakage of each state, and the tables of internal energy per edge of a pin. They are
kept apart from the timing of `liberty.py`, which most evaluations read alone. An internal_power
group with no `fall_power` or no `rise_power` is an error, as is a cell without any leakage figure:
nothing is taken for zero that the library does not write as zero.
"""

from pathlib import Path

from evaluators.silicon.liberty import (
    Group,
    LibertyError,
    Table,
    Units,
    library_group,
    load_parsed,
    read_table,
)
from hwlib.frozen import Frozen

FORMAT = "liberty-power-1"
"""Goes into the key of the cache: a change of what is parsed makes old entries unreachable."""


class Leakage(Frozen):
    """Leakage in some states of a cell."""

    when: str
    """Boolean function of the cell's pins."""

    power_w: float
    """Power in those states."""


class InternalEnergy(Frozen):
    """Energy that a cell draws inside itself at an edge of a pin, loads left out."""

    pin: str
    """The pin that switches."""

    related_pin: str
    """The input that made it switch, for an output; empty for an input."""

    when: str
    """Boolean function of the other pins; empty for always."""

    rise: Table
    """Energy of a rising edge (J) over the input's transition (s) and the output's load (F)."""

    fall: Table
    """Energy of a falling edge."""


class CellPower(Frozen):
    """Power of a standard cell."""

    mean_leakage_w: float | None
    """Leakage that the library gives for the whole cell; None where it gives none."""

    leakage: tuple[Leakage, ...]
    """Leakage by state."""

    energies: tuple[InternalEnergy, ...]
    """Internal energies in file order."""


class PowerLibrary(Frozen):
    """The power of a library's cells, in SI units."""

    name: str
    """The library's own name."""

    voltage_v: float
    """Supply voltage."""

    cells: dict[str, CellPower]
    """Cells by name."""

    def cell(self, name: str) -> CellPower:
        """The power of the cell called `name`.

        Raises:
            LibertyError: the library has no such cell, or nothing about its leakage.
        """
        if name not in self.cells:
            raise LibertyError(f"library {self.name} has no cell {name}")
        cell = self.cells[name]
        if cell.mean_leakage_w is None and not cell.leakage:
            raise LibertyError(f"library {self.name} gives no leakage of cell {name}")
        return cell


def load_power(path: Path, cache_dir: Path) -> PowerLibrary:
    """Reads the power of a Liberty file; the parsed form is kept under the file's digest.

    Raises:
        LibertyError: the file is missing, is not Liberty, or has a table of an unknown form.
    """
    return load_parsed(path, cache_dir, FORMAT, PowerLibrary, lambda text, _: parse_power(text))


def parse_power(text: str) -> PowerLibrary:
    """The power that a Liberty text describes.

    Raises:
        LibertyError: the text is not Liberty, or a unit or table has an unknown form.
    """
    library = library_group(text)
    try:
        units = Units(library)
        templates = {group.title: group for group in library.of_kind("power_lut_template")}
        return PowerLibrary(
            name=library.title,
            voltage_v=float(library.attributes["nom_voltage"]),
            cells={g.title: _cell(g, templates, units) for g in library.of_kind("cell")},
        )
    except (KeyError, IndexError) as error:
        raise LibertyError(f"library {library.title}: {error} is missing or unknown") from error


def _cell(group: Group, templates: dict[str, Group], units: Units) -> CellPower:
    mean = group.attributes.get("cell_leakage_power")
    leakages = group.of_kind("leakage_power")
    always = [leak for leak in leakages if "when" not in leak.attributes]
    if mean is None and always:
        mean = always[0].attributes["value"]
    return CellPower(
        mean_leakage_w=None if mean is None else float(mean) * units.power_w,
        leakage=tuple(
            Leakage(
                when=leak.attributes["when"],
                power_w=float(leak.attributes["value"]) * units.power_w,
            )
            for leak in leakages
            if "when" in leak.attributes
        ),
        energies=tuple(
            energy
            for pin in group.of_kind("pin")
            for internal in pin.of_kind("internal_power")
            for energy in _energies(f"{group.title}.{pin.title}", pin, internal, templates, units)
        ),
    )


def _energies(
    name: str, pin: Group, internal: Group, templates: dict[str, Group], units: Units
) -> list[InternalEnergy]:
    """One an internal_power group and related pin."""
    tables = []
    for kind in ("rise_power", "fall_power"):
        groups = internal.of_kind(kind)
        if len(groups) != 1:
            raise LibertyError(f"{name}: internal_power has {len(groups)} {kind} tables, not one")
        for axis in ("variable_1", "variable_2"):
            template = templates.get(groups[0].title)
            if template is not None and template.attributes.get(axis, _AXES[0]) not in _AXES:
                raise LibertyError(f"{name}: unknown axis {template.attributes[axis]} of {kind}")
        tables.append(read_table(groups[0], templates, units, units.capacitance_f, units.energy_j))
    return [
        InternalEnergy(
            pin=pin.title,
            related_pin=related,
            when=internal.attributes.get("when", ""),
            rise=tables[0],
            fall=tables[1],
        )
        for related in internal.attributes.get("related_pin", "").split() or [""]
    ]


_AXES = ("input_transition_time", "total_output_net_capacitance")
