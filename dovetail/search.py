"""Optuna's suggestion as a pure function of the history.

The study lives in memory for one question: it is filled from the journal, and its sampler is seeded
from (seed, trial). Nothing of it is stored, so nothing of it can be lost or go stale.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from dovetail.history import TrialRecord
from evaluators import space
from evaluators.design import DesignPoint, check
from evaluators.metrics import OBJECTIVES

STARTUP_TRIALS = 4
"""Told trials before the suggestions are guided; few, so that a short run is guided too."""

ATTEMPTS = 1024
"""Suggestions drawn for one trial until one is a lawful design; most at random, which is quick."""

GUIDED_ATTEMPTS = 32
"""The first of them, which know the history."""

REFUSED_VIOLATION = 1.0
"""Told of a draw that breaks a law: as infeasible as twice the area that is allowed."""


def suggest(
    history: Sequence[TrialRecord],
    in_flight: Sequence[DesignPoint],
    seed: int,
    trial: int,
    layers: tuple[str, ...],
) -> tuple[DesignPoint, dict[str, Any]]:
    """The next design to consider, and Optuna's raw parameters.

    Args:
        history: Told trials that this one may know. One without objectives (an invalid or failed
            design) tells the sampler nothing and is left out.
        in_flight: Designs of later trials, whose figures it may not know; the sampler keeps away
            from them (constant liar).
        seed: The run's seed.
        trial: Index of the trial that is asked for.
        layers: Names of the workload's blocks and layers, which say what knobs there are.

    Raises:
        RuntimeError: no lawful design in `ATTEMPTS` draws.
    """
    known = {past.proposal.design.id for past in history} | {design.id for design in in_flight}
    repeated = None
    refused: list[dict[str, Any]] = []
    for attempt in range(ATTEMPTS):
        # Where the guided draws find nothing, the others are drawn as if nothing were known.
        past = history if attempt < GUIDED_ATTEMPTS else ()
        params = _draw(past, in_flight, refused, _seed(seed, trial, attempt), layers)
        try:
            design = space.design_of(params)
            check(design, layers)
        except ValueError:
            refused.append(params)  # Optuna knows no laws between knobs: tell it and draw again.
            continue
        if design.id not in known:
            return design, params
        repeated = design, params  # its figures are known already: draw again
    if repeated is None:
        raise RuntimeError(f"no lawful design in {ATTEMPTS} draws for trial {trial}")
    return repeated


def _draw(
    history: Sequence[TrialRecord],
    in_flight: Sequence[DesignPoint],
    refused: Sequence[dict[str, Any]],
    sampler_seed: int,
    layers: Sequence[str],
) -> dict[str, Any]:
    import optuna  # half a second: not for those who only read a run

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = space.distributions(layers)
    study = optuna.create_study(
        directions=["minimize"] * len(OBJECTIVES),
        sampler=optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=sampler_seed),
    )
    measured = [(past, past.told, past.told.values) for past in history if past.told is not None]
    valued = [(past, told, values) for past, told, values in measured if values is not None]
    for past, told, values in valued:
        study.add_trial(
            optuna.trial.create_trial(
                params=space.params_of(past.proposal.design, layers),
                distributions=distributions,
                values=[values[name] for name in OBJECTIVES],
                constraints={"limits": told.violation},
            )
        )
    # At the start draws are at random, and one that was refused would count as a told trial.
    if len(valued) >= STARTUP_TRIALS:
        # A draw that broke a law: as bad as the worst in every objective, and infeasible.
        worst = [max(values[name] for _, _, values in valued) for name in OBJECTIVES]
        for params in refused:
            study.add_trial(
                optuna.trial.create_trial(
                    params=params,
                    distributions=distributions,
                    values=worst,
                    constraints={"limits": REFUSED_VIOLATION},
                )
            )
    for design in in_flight:
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params=space.params_of(design, layers),
                distributions=distributions,
            )
        )
    return dict(study.ask(distributions).params)


def _seed(seed: int, trial: int, attempt: int) -> int:
    """32 bits that depend on all three; neighbouring trials get unrelated ones."""
    digest = hashlib.sha256(f"{seed}/{trial}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:4])
