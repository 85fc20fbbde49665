"""What the gate drives units with keeps their protocols, and covers what it says."""

from functools import cache

import numpy as np
import pytest

from evaluators.gate.stimuli import DWELL_CYCLES, Stimulus, stimuli
from hwlib.contracts.table import CORE_UNITS

ELEMENTS = ("mac", "composable_mac")
each_unit = pytest.mark.parametrize("name", CORE_UNITS)
each_element = pytest.mark.parametrize("name", ELEMENTS)


@cache
def sequences(name: str, seed: int = 5) -> tuple[Stimulus, ...]:
    unit = CORE_UNITS[name]
    return tuple(stimuli(unit.contract, unit.latency, seed))


def the(name: str, where: str) -> Stimulus:
    return next(each for each in sequences(name) if where in each.where)


@each_unit
def test_values_are_those_of_the_ports(name: str) -> None:
    for port in CORE_UNITS[name].contract.inputs:
        low = -(1 << port.width - 1) if port.signed else 0
        for trace, *_ in sequences(name):
            assert low <= trace[port.name].min() and trace[port.name].max() < low + (
                1 << port.width
            )


@each_unit
def test_all_but_the_public_vectors_hang_on_the_netlist(name: str) -> None:
    (public, *drawn), (same, *others) = sequences(name), sequences(name, seed=6)
    ports = [port.name for port in CORE_UNITS[name].contract.inputs]
    assert np.array_equal(public.trace[ports[0]], same.trace[ports[0]])
    assert not any(
        all(np.array_equal(one.trace[port], other.trace[port]) for port in ports)
        for one, other in zip(drawn, others, strict=True)
    )


@each_element
def test_a_chain_moves_two_cycles_after_a_capture_at_the_earliest(name: str) -> None:
    for trace, where, _ in sequences(name):
        capture, shift = trace["capture"], trace["shift"]
        assert not (shift & capture).any(), where
        assert not (shift[1:] & capture[:-1]).any(), where
        assert not (shift.astype(bool) & (np.cumsum(capture) == 0)).any(), where


def test_a_tile_of_a_composable_core_has_one_mode() -> None:
    latency = CORE_UNITS["composable_mac"].latency
    for trace, where, _ in sequences("composable_mac"):
        # Operands of a cycle belong to the first capture from `latency` cycles later on.
        tile = np.concatenate([[0], np.cumsum(trace["capture"])])[latency:]
        added = trace["a"][: len(tile)] != 0  # else the mode is anything
        tile, mode = tile[added], trace["mode"][: len(tile)][added]
        same_tile = tile[1:] == tile[:-1]
        assert (mode[1:] == mode[:-1])[same_tile].all(), where


@each_element
def test_every_sum_of_a_sweep_is_seen(name: str) -> None:
    trace = the(name, "sweep").trace
    captures = np.flatnonzero(trace["capture"])
    shifts = np.cumsum(trace["shift"])
    assert (np.diff(shifts[captures]) > 0).all()


def test_a_sweep_has_every_pair_of_a_mac() -> None:
    trace = the("mac", "sweep").trace
    pairs = set(zip(trace["a"].tolist(), trace["w"].tolist(), strict=True))
    assert len(pairs) == 1 << 17


@pytest.mark.parametrize(
    ("mode", "a_bits", "products"),
    [
        (0, 8, [(0, (0, 8))]),
        (1, 8, [(0, (0, 8))]),
        (2, 8, [(0, (0,)), (8, (8,))]),
        (3, 4, [(at, (at,)) for at in (0, 4, 8, 12)]),
    ],
)
def test_a_sweep_has_every_pair_of_each_product(
    mode: int, a_bits: int, products: list[tuple[int, tuple[int, ...]]]
) -> None:
    """`products`: where the activation stands in its word, and where the weight's nibbles do."""
    trace = the("composable_mac", "sweep").trace
    here = trace["mode"] == mode
    a, w = trace["a"][here], trace["w"][here]
    for place, nibbles in products:
        activations = a >> place & (1 << a_bits) - 1
        weights = sum((w >> at & 15) << 4 * i for i, at in enumerate(nibbles))
        pairs = set(zip(activations.tolist(), weights.tolist(), strict=True))
        assert len(pairs) == 1 << a_bits + 4 * len(nibbles)


@pytest.mark.parametrize("name", [name for name in CORE_UNITS if name not in ELEMENTS])
def test_values_stay_for_hundreds_of_cycles_and_for_one(name: str) -> None:
    for values in the(name, "stay").trace.values():
        assert len(values) == DWELL_CYCLES
        changes = np.flatnonzero(np.diff(values))
        assert np.diff(changes).min() == 1 and np.diff(changes).max() > 200
