"""The physical floor: a unit that is too good to be true is set aside until a person has looked."""

from evaluators.silicon.unit_cost import UnitCost

AREA_FLOOR = 0.3
"""Least share of the shipped unit's area that a unit which computes the same can have."""

ENERGY_FLOOR = 0.4
"""Least share of the shipped unit's energy under the same operands."""


def too_good(found: UnitCost, shipped: UnitCost, exact: bool) -> str:
    """What a unit has too little of, in words; empty where it has enough.

    Args:
        found: The unit.
        shipped: The shipped one, mapped and driven alike.
        exact: Whether it gives what the reference does; one that does not may be as small as it
            likes.
    """
    area, energy = found.area_um2 / shipped.area_um2, found.energy_j / shipped.energy_j
    if exact and area < AREA_FLOOR:
        return f"{area:.2f} of the shipped unit's area, under the floor of {AREA_FLOOR}"
    if energy < ENERGY_FLOOR:
        return (
            f"{energy:.2f} of the shipped unit's energy a cycle, under the floor of {ENERGY_FLOOR}"
        )
    return ""
