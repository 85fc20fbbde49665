"""The contract of a leaky integrate-and-fire neuron's step, 8, 12 or 16 bits wide. No core has it.

One step: `v - (v >> leak) + current`, saturated to the width; where that reaches `threshold` the
neuron fires and the threshold is taken off. The potential lies outside, in a memory, so that one
unit serves many neurons in turn.

Protocol: the inputs of any cycle give `next_v` and `spike` after `latency` cycles; one step a
cycle, and nothing stalls. What stands at the outputs before the first result is not looked at.
"""

from functools import partial

import numpy as np
import numpy.typing as npt

from hwlib.contracts.contract import Expected, Port, Trace, UnitContract, delayed

SIZES = (8, 12, 16)
"""Bits of a potential."""

LEAK_BITS = 3
"""Of `leak`: the potential loses 1/2 to 1/128 of itself a step, or all of it at 0."""

CYCLES = 1 << 16
"""Random steps."""

Wide = npt.NDArray[np.int64]


def contract(bits: int) -> UnitContract:
    """The contract of a neuron's step.

    Args:
        bits: Of potential, current and threshold, two's complement, one of `SIZES`; a threshold is
            not negative.
    """
    return UnitContract(
        unit=f"lif_{bits}",
        class_name="Lif",
        class_arguments=(bits,),
        ports=(
            Port("v", "input", bits, signed=True),
            Port("current", "input", bits, signed=True),
            Port("leak", "input", LEAK_BITS),
            Port("threshold", "input", bits - 1),
            Port("next_v", "output", bits, signed=True),
            Port("spike", "output", 1),
        ),
        latency_bounds=(1, 4),
        stimulus=partial(stimulus, bits),
        expected=partial(expected, bits),
    )


def stimulus(bits: int, latency: int, seed: int) -> Trace:
    """Corners, steps that come within 1 of the threshold or of an end, and random ones, mixed.

    Args:
        bits: Of a potential.
        latency: Cycles of the unit under test.
        seed: Seed of the random values.

    Returns:
        `v`, `current`, `leak`, `threshold`: int64 [cycles].
    """
    rng = np.random.default_rng(seed)
    half = 1 << (bits - 1)
    v = rng.integers(-half, half, CYCLES) >> rng.integers(0, bits, CYCLES)
    corner = rng.random(CYCLES) < 0.2
    v[corner] = rng.choice([-half, 1 - half, -1, 0, 1, half - 1], np.count_nonzero(corner))
    leak = rng.integers(0, 1 << LEAK_BITS, CYCLES)
    threshold = rng.integers(0, half, CYCLES) >> rng.integers(0, bits - 1, CYCLES)
    aims = np.stack([threshold, np.full(CYCLES, half - 1), np.full(CYCLES, -half)])
    aim = aims[rng.integers(0, 3, CYCLES), np.arange(CYCLES)] + rng.integers(-1, 2, CYCLES)
    near = rng.random(CYCLES) < 0.5
    current = np.where(near, aim - v + (v >> leak), rng.integers(-half, half, CYCLES))
    values = {
        "v": v,
        "current": current.clip(-half, half - 1),
        "leak": leak,
        "threshold": threshold,
    }
    return {name: np.concatenate([each, each[:latency]]) for name, each in values.items()}


def step(bits: int, v: Wide, current: Wide, leak: Wide, threshold: Wide) -> tuple[Wide, Wide]:
    """The integer reference: one step of many neurons.

    Args:
        bits: Of a potential.
        v: Potentials, int64 `[n]`.
        current: What comes in, int64 `[n]`.
        leak: Shifts, int64 `[n]`.
        threshold: Where they fire, int64 `[n]`.

    Returns:
        The potentials after it and whether each fired, int64 `[n]`.
    """
    half = 1 << (bits - 1)
    reached = (v - (v >> leak) + current).clip(-half, half - 1)
    spike = (reached >= threshold).astype(np.int64)
    return reached - spike * threshold, spike


def expected(bits: int, inputs: Trace, latency: int) -> Expected:
    """The step that belongs to each cycle.

    Args:
        bits: Of a potential.
        inputs: As `stimulus` gives them.
        latency: Cycles from inputs to their result.

    Returns:
        `next_v` and `spike`, compared in every cycle with a result.
    """
    names = ("v", "current", "leak", "threshold")
    next_v, spike = step(bits, *(inputs[name] for name in names))
    defined = np.ones(len(spike), np.bool_)
    found = [
        delayed(port, results, defined, latency)
        for port, results in (("next_v", next_v), ("spike", spike))
    ]
    return Expected(
        values={port: values for each in found for port, values in each.values.items()},
        checked={port: checked for each in found for port, checked in each.checked.items()},
    )
