"""What a unit that approximates its reference gives, for all of its inputs.

| unit | row of a table |
|---|---|
| `exponential` | distance from the maximum in 1/32 octave, 0..511 |
| `activation` | x as 16 unsigned bits; and 65,536 more for SiLU |
| `inverse_sqrt`, `reciprocal` | the mantissa, 0..65,535 |
| `mac`: a product | 256 times the activation above -256, and the weight above -128 |
"""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Literal, Protocol, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from hwlib.edit import CoreUnitName
from hwlib.frozen import Frozen

FunctionUnit = Literal["exponential", "activation", "inverse_sqrt", "reciprocal", "mac"]
"""Units whose result, or whose product, is a function of few inputs, so that it is tabulated."""

Table = npt.NDArray[np.int64]
"""Results by row, int64 `[rows]`."""

Built = Mapping[FunctionUnit, Table]
"""What the units of a core give that do not give what the reference does."""

Whole = TypeVar("Whole")


def product_row(activation: Whole, weight: Whole) -> Whole:
    """Row of the table of products, of arrays of any library: -256..255 and -128..127."""
    return (activation + 256) * 256 + (weight + 128)  # type: ignore[operator, return-value]


def exact_products() -> Table:
    """The table of products of an element that makes no error, int64 `[131072]`."""
    activation, weight = np.meshgrid(np.arange(-256, 256), np.arange(-128, 128), indexing="ij")
    return (activation * weight).ravel()


EXACT: Built = {}
"""All give what the reference does."""


FUNCTION_UNITS: tuple[FunctionUnit, ...] = get_args(FunctionUnit)


class Behaviour(Frozen):
    """A table of results that fits into a record."""

    packed: str
    """Base64 of the deflated little-endian int32 results."""

    @classmethod
    def of(cls, table: Table) -> "Behaviour":
        """Of results within int32, `[rows]`."""
        return cls(packed=b64encode(zlib.compress(table.astype("<i4").tobytes())).decode("ascii"))

    @property
    def table(self) -> Table:
        """The results, int64 `[rows]`."""
        return np.frombuffer(zlib.decompress(b64decode(self.packed)), "<i4").astype(np.int64)


class HasBehaviour(Protocol):
    """What stands in a core for a unit."""

    @property
    def behaviour(self) -> Behaviour | None:
        """None where it gives what the reference does."""


def built_of(units: Mapping[CoreUnitName, HasBehaviour]) -> Built:
    """Tables of those of a core's units that do not give what the reference does."""
    behaviours = {name: units[name].behaviour for name in FUNCTION_UNITS if name in units}
    return {name: each.table for name, each in behaviours.items() if each is not None}
