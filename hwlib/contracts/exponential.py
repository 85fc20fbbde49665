"""The contract of the online softmax's exponential.

Protocol: `fraction` and `octave` of any cycle give their `value` after `latency` cycles; one value
a cycle, and nothing stalls. What stands at `value` before the first result is not looked at. A unit
may be off by up to `TOLERANCE`: the model is then scored with what it gives.
"""

from functools import partial

import numpy as np
import numpy.typing as npt

from hwlib.contracts.contract import Approximation, Expected, Port, Trace, UnitContract, delayed
from hwlib.reference import softmax, tables

OCTAVES = 16
"""Distances from the maximum that a unit tells apart, in octaves: 15 stands for all further ones,
where a probability is 0."""

TOLERANCE = 8
"""Of 127, the largest value."""


def contract(entries: int) -> UnitContract:
    """The contract of the unit with a table of `entries`: 4, 8, 16 or 32."""
    return UnitContract(
        unit="exponential",
        class_name="Exponential",
        class_arguments=(entries,),
        ports=(
            Port("fraction", "input", 5),
            Port("octave", "input", 4),
            Port("value", "output", 7),
        ),
        latency_bounds=(1, 4),
        stimulus=stimulus,
        expected=partial(expected, entries),
        approximation=Approximation(TOLERANCE, OCTAVES * tables.OCTAVE, distance),
    )


def stimulus(latency: int, seed: int) -> Trace:
    """Every fraction in every octave, once in order and once in random order.

    Args:
        latency: Cycles of the unit under test.
        seed: Seed of the random order.

    Returns:
        `fraction`, `octave`: int64 [cycles].
    """
    every = np.arange(OCTAVES * tables.OCTAVE)
    shuffled = np.random.default_rng(seed).permutation(every)
    steps = np.concatenate([every, shuffled, np.zeros(latency, np.int64)])
    return {"fraction": steps % tables.OCTAVE, "octave": steps // tables.OCTAVE}


def distance(inputs: Trace) -> npt.NDArray[np.int64]:
    """How far each score is below the maximum, in 1/32 octave: the row of a table, [cycles]."""
    return inputs["octave"] * tables.OCTAVE + inputs["fraction"]


def expected(entries: int, inputs: Trace, latency: int) -> Expected:
    """The softmax of one key a row, so far below a running maximum of 0 as the inputs say.

    Args:
        entries: Of the table.
        inputs: As `stimulus` gives them.
        latency: Cycles from inputs to their value.

    Returns:
        `value`, compared in every cycle with a result.
    """
    scores = -distance(inputs)
    zeros = np.zeros(len(scores), np.int64)
    seen = np.ones((1, len(scores)), np.bool_)
    values, _ = softmax.block(scores[None], seen, softmax.State(zeros, zeros, zeros), entries)
    return delayed("value", values[0], seen[0], latency)
