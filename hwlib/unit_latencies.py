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
    """Of the shipped array's element, composable or not: from operands to what `capture` takes."""

    array: Annotated[int, Field(ge=1, le=8)] = 4
    """Of the array: from a tile's last operands to its first column of sums. The shipped one takes
    two cycles more than its elements."""

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
    return UnitLatencies(mac=config.mac_stages, array=of_shipped_array(config.mac_stages))


def of_shipped_array(element_latency: int) -> int:
    """Latency of the shipped array with elements of some latency."""
    return element_latency + 2
