"""What a contract says of a unit: ports, latency bounds, stimulus and expected outputs.

Contracts are trusted and need numpy alone, so that judge and software read them without amaranth.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

Trace = Mapping[str, npt.NDArray[np.int64]]
"""Values of each port, one a cycle: port name -> int64 [cycles]."""


@dataclass(frozen=True)
class Port:
    """One port of a unit. Every unit also has the inputs `clk` and `rst` (synchronous, high)."""

    name: str
    direction: Literal["input", "output"]
    width: int
    signed: bool = False


@dataclass(frozen=True)
class Expected:
    """What the outputs must be, where they matter."""

    values: Trace
    """Expected values of each output, int64 [cycles]."""

    checked: Mapping[str, npt.NDArray[np.bool_]]
    """Cycles in which each output is compared, bool [cycles]."""


@dataclass(frozen=True)
class Approximation:
    """How far a unit that computes a function of its inputs may be from its reference.

    The model is scored with what such a unit gives, so this bounds what is tried, not what is good.
    """

    tolerance: int
    """Largest distance of a result from the reference's, in steps of the output."""

    rows: int
    """Rows of a table of all results."""

    row: Callable[[Trace], npt.NDArray[np.int64]]
    """Row that the inputs of each cycle stand for, int64 [cycles]."""


@dataclass(frozen=True)
class Products:
    """How far the products may be off that an element sums up; the sum itself must be exact.

    What a product is may hang on its two operands alone. The model is scored with all of them.
    """

    tolerance: int
    """Largest distance of a product from the exact one."""

    rows: int
    """Rows of a table of all products, as `hwlib.behaviour.product_row` has them."""

    zeros: npt.NDArray[np.int64]
    """Rows with an operand of 0, whose product must be 0: so is filled up where there is nothing
    to add."""

    probe: Callable[[int], tuple[Trace, npt.NDArray[np.int64]]]
    """latency -> inputs that show every product as a sum of its own, and the row of each sum in the
    order in which they are seen."""

    expected: Callable[[npt.NDArray[np.int64], Trace, int], Expected]
    """(products, inputs, latency) -> outputs of a right element with such products."""


@dataclass(frozen=True)
class UnitContract:
    """Everything the core relies on in one unit."""

    unit: str
    """The unit's name: its file in `hwlib/units/` and its module in the netlist."""

    class_name: str
    """The class that the unit's file defines."""

    ports: tuple[Port, ...]
    """Ports besides `clk` and `rst`, in the order of the documentation."""

    latency_bounds: tuple[int, int]
    """Smallest and largest latency that the core can schedule, in cycles."""

    stimulus: Callable[[int, int], Trace]
    """(latency, seed) -> values of every input: corners first, then random, as the core may
    drive a unit of that latency. Cycle 0 is the first after reset."""

    expected: Callable[[Trace, int], Expected]
    """(inputs, latency) -> outputs of a right unit of that latency: the integer reference."""

    class_arguments: tuple[int, ...] = ()
    """What the class is constructed with: the parameters that this contract stands for."""

    together: frozenset[str] = frozenset()
    """Inputs whose values of one cycle belong together; all others may meet as they like."""

    handshake: Callable[[Trace, Trace, int], str] | None = None
    """(inputs, outputs, latency) -> what a unit did wrong, in words, where what it must give in a
    cycle hangs on what it gave before; None where `expected` says it all."""

    products: Products | None = None
    """Of an element whose products may be off; None where they may not, and of all other units."""

    approximation: Approximation | None = None
    """None where a result must be the reference's. Units that have one have a single output, whose
    value hangs on the inputs `latency` cycles ago and on nothing else."""

    @property
    def exact(self) -> "UnitContract":
        """The contract without a tolerance: what the shipped unit is held to."""
        return replace(self, approximation=None, products=None)

    def with_products(self, table: npt.NDArray[np.int64]) -> "UnitContract":
        """The contract of an element that has such products, and is exact in all else."""
        if self.products is None:
            raise ValueError(f"products of unit {self.unit} may not be off")
        expected = partial(self.products.expected, table)
        return replace(self, expected=expected, products=None)

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The input ports."""
        return tuple(port for port in self.ports if port.direction == "input")

    @property
    def outputs(self) -> tuple[Port, ...]:
        """The output ports."""
        return tuple(port for port in self.ports if port.direction == "output")


def delayed(
    port: str,
    results: npt.NDArray[np.int64],
    defined: npt.NDArray[np.bool_],
    latency: int,
) -> Expected:
    """The outputs of a unit that takes a value in every cycle and never stalls.

    Args:
        port: The unit's only output.
        results: What belongs to the inputs of each cycle, int64 [cycles].
        defined: Whether the inputs of each cycle have a defined result, bool [cycles].
        latency: Cycles from inputs to their result.

    Returns:
        `port`, not compared in the first `latency` cycles after reset nor where nothing is defined.
    """
    values = np.zeros_like(results)
    checked = np.zeros_like(defined)
    values[latency:] = results[: len(results) - latency]
    checked[latency:] = defined[: len(defined) - latency]
    return Expected(values={port: values}, checked={port: checked})
