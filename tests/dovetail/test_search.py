"""Suggestions are a pure function of what was told."""

import math
from typing import Any

import pytest

from agents.proposer import Proposal
from dovetail import search
from dovetail.events import Proposed, Told
from dovetail.history import TrialRecord, fold
from dovetail.search import STARTUP_TRIALS, suggest
from dovetail.settings import Settings
from dovetail.testing import LAYERS
from evaluators import space
from evaluators.design import DesignPoint
from evaluators.metrics import OBJECTIVES
from swopt import plan
from tests.dovetail.runs import Memory, finish

TOWERS = ("vision", "decoder")


def lawful(params: dict[str, Any]) -> bool:
    try:
        plan.check(space.design_of(params).compression, LAYERS)
    except ValueError:
        return False
    return True


@pytest.fixture(scope="module")
def told() -> list[TrialRecord]:
    record = Memory()
    finish(record, Settings(seed=7, iterations=9))
    return fold(record.events).told()


def test_the_same_history_gives_the_same_suggestion(told: list[TrialRecord]) -> None:
    assert suggest(told, (), 7, 9, LAYERS) == suggest(list(told), (), 7, 9, LAYERS)


def test_seed_and_trial_change_it(told: list[TrialRecord]) -> None:
    places = [(s, i) for s in range(3) for i in (9, 10)]
    # Among the first trials each draw is its own; later ones may meet in the same mode.
    drawn = {suggest(told[:2], (), s, i, LAYERS)[0].id for s, i in places}
    assert len(drawn) == len(places)


def test_a_known_design_is_not_suggested_again(told: list[TrialRecord]) -> None:
    first, _ = suggest(told, (), 7, 9, LAYERS)
    second, _ = suggest(told, (first,), 7, 9, LAYERS)
    assert second.id != first.id


def leaning(count: int) -> list[TrialRecord]:
    """Trials that say: the fewer blocks, the better; so the sampler wants to remove them all."""
    trials = []
    for i in range(count):
        removed = [(), (0,), (1,)][i % 3]
        knobs = {f"compression.pruning.{tower}_blocks": list(removed) for tower in TOWERS}
        knobs["hardware.weight_bytes"] = 2 ** (13 + i // 3 % 4)
        proposal = Proposal(
            parent_trial=None,
            design=space.with_changes(DesignPoint(), knobs),
            author="test",
            rationale="",
        )
        values = dict.fromkeys(OBJECTIVES, 2.0 - len(removed))
        trials.append(
            TrialRecord(
                i,
                proposed=Proposed(trial=i, proposal=proposal, replies_sha256=""),
                told=Told(trial=i, values=values, violation=-0.1),
            )
        )
    return trials


@pytest.mark.parametrize("seed", range(6))
def test_a_suggestion_keeps_the_laws_of_the_model(seed: int) -> None:
    design, params = suggest(leaning(12), (), seed, 12, LAYERS)
    plan.check(design.compression, LAYERS)
    assert space.design_of(params) == design
    assert suggest(leaning(12), (), seed, 12, LAYERS) == (design, params)


def test_the_sampler_alone_would_break_them() -> None:
    draws = [search._draw(leaning(12), (), (), search._seed(s, 12, 0), LAYERS) for s in range(6)]
    unlawful = {s for s in range(6) if not lawful(draws[s])}
    assert unlawful, "the trials no longer lead the sampler astray; make them lean more"


def test_it_is_guided_after_the_start_up_trials(told: list[TrialRecord]) -> None:
    """Before them the figures do not matter; after them they do."""

    def negated(trials: list[TrialRecord]) -> list[TrialRecord]:
        turned = []
        for t in trials:
            assert t.told is not None
            values = t.told.values and {n: -v for n, v in t.told.values.items()}
            other = Told(trial=t.index, values=values, violation=t.told.violation)
            turned.append(TrialRecord(t.index, proposed=t.proposed, told=other))
        return turned

    few = [t for t in told if t.told and t.told.values][: STARTUP_TRIALS - 1]
    assert suggest(few, (), 1, 9, LAYERS) == suggest(negated(few), (), 1, 9, LAYERS)
    guided = [
        suggest(told, (), s, 9, LAYERS) != suggest(negated(told), (), s, 9, LAYERS)
        for s in range(4)
    ]
    assert any(guided)


def test_a_trial_without_figures_tells_nothing(told: list[TrialRecord]) -> None:
    assert any(t.told and t.told.values is None for t in told)
    measured = [t for t in told if t.told and t.told.values]
    assert suggest(told, (), 7, 9, LAYERS) == suggest(measured, (), 7, 9, LAYERS)
    assert all(math.isfinite(v) for t in measured for v in (t.told.values or {}).values())  # type: ignore[union-attr]
