"""What the figures of a model depend on, as the store asks for it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from evaluators.design import DesignPoint
from hwlib.edit import CoreUnitName

if TYPE_CHECKING:
    from hwlib.elaborate import UnitNetlist
    from swopt.workloads.workload import Workload


def data_of(workload: "Workload") -> str:
    """What the figures of a workload depend on, beside the model's plan."""
    return str(sorted(workload.data_sha256.items()))


def numbers_of(
    workload: "Workload", design: DesignPoint, units: "Mapping[CoreUnitName, UnitNetlist]"
) -> dict[str, str]:
    """Everything that the numbers of a design's model depend on, by name."""
    return design_numbers(design, units) | {"workload": data_of(workload)}


def design_numbers(
    design: DesignPoint, units: "Mapping[CoreUnitName, UnitNetlist]"
) -> dict[str, str]:
    """What a design adds to a model for its numbers: plan, tables and approximate units."""
    built = {
        f"built_{name}": unit.behaviour.packed for name, unit in units.items() if unit.behaviour
    }
    return {
        "compression": design.compression.numbers_json(),
        "exponential_entries": str(design.hardware.exponential_entries),
    } | built


MODEL_TOOLS = ("torch", "transformers", "peft")
"""Packages that shape the numbers of a model."""
