"""Front and hypervolume, against brute force."""

import itertools
import random

import pytest

from dovetail.events import Told
from dovetail.history import TrialRecord, dominates, front, hypervolume
from evaluators.metrics import OBJECTIVES


def trial(index: int, *values: float, violation: float = -0.1) -> TrialRecord:
    told = Told(trial=index, values=dict(zip(OBJECTIVES, values, strict=True)), violation=violation)
    return TrialRecord(index, told=told)


def some(count: int, seed: int) -> list[TrialRecord]:
    chance = random.Random(seed)
    rest = [trial(i, *(chance.uniform(0.2, 1.3) for _ in range(3))) for i in range(1, count)]
    return [trial(0, 1.0, 1.0, 1.0), *rest]


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_nothing_dominates(seed: int) -> None:
    trials = some(20, seed)
    values = {t.index: t.told.values for t in trials if t.told and t.told.values}
    expected = {i for i in values if not any(dominates(v, values[i]) for v in values.values())}
    assert {t.index for t in front(trials)} == expected


def test_infeasible_and_unmeasured_designs_are_never_on_the_front() -> None:
    over = trial(1, 0.1, 0.1, 0.1, violation=0.01)
    failed = TrialRecord(2, told=Told(trial=2, values=None, violation=0.0))
    assert [t.index for t in front([trial(0, 1, 1, 1), over, failed])] == [0]


def test_of_equal_designs_the_first_stands() -> None:
    assert [t.index for t in front([trial(0, 1, 1, 1), trial(1, 1, 1, 1)])] == [0]


@pytest.mark.parametrize("seed", range(3))
def test_hypervolume_equals_a_count_of_grid_cells(seed: int) -> None:
    # Coordinates on a grid of 0.1, so that counting cells is exact.
    chance = random.Random(seed)
    points = [tuple(chance.randrange(1, 11) / 10 for _ in range(3)) for _ in range(6)]
    trials = [trial(0, 1, 1, 1), *(trial(i + 1, *p) for i, p in enumerate(points))]
    cells = [(i + 0.5) / 10 for i in range(11)]
    covered = sum(
        any(all(p[a] < cell[a] for a in range(3)) for p in [(1, 1, 1), *points])
        for cell in itertools.product(cells, repeat=3)
    )
    assert hypervolume(trials) == pytest.approx(covered * 1e-3)


def test_hypervolume_waits_for_the_baseline() -> None:
    assert hypervolume([trial(1, 1, 1, 1)]) is None
