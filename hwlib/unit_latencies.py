"""Latencies of the units that stand in the core; blocks take them as data."""

from typing import Annotated

from pydantic import Field

from hwlib.config import CoreConfig
from hwlib.frozen import Frozen

UpTo4 = Annotated[int, Field(ge=1, le=4)]


class UnitLatencies(Frozen):
    """Cycles from a unit's inputs to its result, within its contract's bounds.

    The defaults are those of the shipped units. A unit that takes another time may stand in its
    place: what goes beside it is delayed as much.
    """

    mac: UpTo4 = 2
    """Of the array's element, composable or not: from operands to what `capture` takes."""

    rescaler: Annotated[int, Field(ge=1, le=8)] = 4
    """In enabled cycles."""

    activation: UpTo4 = 1
    """Of the activation function."""

    exponential: UpTo4 = 1
    """Of the exponential."""

    inverse_sqrt: UpTo4 = 2
    """Of the inverse square root."""

    reciprocal: UpTo4 = 2
    """Of the reciprocal."""


def shipped_latencies(config: CoreConfig) -> UnitLatencies:
    """Those of a core whose units are all shipped ones."""
    return UnitLatencies(mac=config.mac_stages)
