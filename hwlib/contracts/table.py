"""The contracts of all units, by name."""

from hwlib.contracts import element, requantizer
from hwlib.contracts.contract import UnitContract
from hwlib.edit import UnitName

CONTRACTS: dict[UnitName, UnitContract] = {
    "element": element.CONTRACT,
    "requantizer": requantizer.CONTRACT,
}
"""One contract a unit."""
