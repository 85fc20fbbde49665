"""An analytic stand-in for the evaluators: coarse formulas of a systolic array, no tool needed.

Only the tests of agents use it; its figures mean nothing outside them.
"""

import math
import random
from collections.abc import Sequence

import numpy as np

from agents.proposer import Context, Proposer, Trial
from agents.rewrites import Library, Rewrite, UnitText
from evaluators import space
from evaluators.design import DesignPoint
from evaluators.metrics import OBJECTIVES, Evaluation
from evaluators.target import Target

LAYERS = (
    *(
        f"{tower}.{block}{layer}"
        for tower in ("vision", "decoder")
        for block in range(3)
        for layer in ("", ".attention.q", ".mlp.up", ".mlp.down")
    ),
    "connector",
    "head",
)

ELEMENT = '"""The shipped element."""\n\nclass Element:\n    pass\n'
FAST_ELEMENT = (
    '"""A pipelined element.\n\nunit: element\nlatency: 2\nhelps: clock\ncosts: area\n"""\n\n'
    "class Element:\n    pipelined = True\n"
)

LIBRARY = Library(
    units=(
        UnitText(unit="element", contract='"""Adds products."""\n', source=ELEMENT),
        UnitText(unit="requantizer", contract='"""Rounds."""\n', source='"""Shipped."""\n'),
    ),
    rewrites=(
        Rewrite(
            name="element_fast",
            unit="element",
            latency=2,
            helps=("clock",),
            costs=("area",),
            source=FAST_ELEMENT,
        ),
    ),
)

BAD_START = space.with_changes(
    DesignPoint(),
    {
        "hardware.array.rows": 4,
        "hardware.array.columns": 4,
        "hardware.dma.bytes_per_cycle": 4,
        "hardware.scratchpad.activation_bytes": 65536,
    },
)


def measure(design: DesignPoint) -> Evaluation:
    """A verdict on `design` by formula."""
    hardware, plan = design.hardware, design.compression
    fast = any(edit.unit == "element" for edit in design.edits)
    elements = hardware.array.rows * hardware.array.columns
    sram = hardware.scratchpad.activation_bytes + hardware.scratchpad.weight_bytes
    area = (
        elements * (1150.0 if fast else 1000.0) + 3.2 * sram + 2500.0 * hardware.dma.bytes_per_cycle
    )
    netlist_hz = 9e8 if fast else 6e8
    clock_hz = min(netlist_hz, Target().dram_bytes_per_s / hardware.dma.bytes_per_cycle)
    cycles = energy = 0.0
    nll = 0.5
    for tower in ("vision", "decoder"):
        pruning, bits = plan.pruning, plan.quantization
        removed = len(getattr(pruning, f"{tower}_blocks"))
        keep = getattr(pruning, f"{tower}_mlp_keep")
        own = getattr(bits, tower)
        for kind, share in (("attention", 1.0), ("mlp", 2.0 * keep)):
            b = getattr(own, f"{kind}_bits") or own.bits or bits.bits
            packed = next(size for size in (2, 4, 8) if size >= b)
            work = share * max(0, 3 - removed) * 64 * 96 * 96
            loads = share * max(0, 3 - removed) * 96 * 96 * packed / 8
            reload = max(1.0, 24_000 / hardware.scratchpad.weight_bytes)
            compute = work / elements * (1 + (hardware.array.rows + hardware.array.columns) / 96)
            cycles += max(compute, loads * reload / hardware.dma.bytes_per_cycle)
            energy += work * 0.4e-12 + loads * reload * 40e-12
            nll += 0.6 * 2.0 ** (-(b - 1))
        nll += 0.25 * removed**2 + 0.4 * (1 - keep) ** 3
    if 3 in (len(plan.pruning.vision_blocks), len(plan.pruning.decoder_blocks)):
        reason = "a tower needs at least one block"
        return Evaluation(design_id=design.id, evaluator="toy", status="invalid", reason=reason)
    metrics = {
        "latency_s": cycles / clock_hz,
        "energy_j": energy + 1e-12 * area * cycles / 1e6,
        "nll_nats": nll,
        "nll_increase_nats": nll - 0.5,
        "area_um2": area,
        "cycles": cycles,
        "clock_hz": clock_hz,
    }
    details: dict[str, str | float | int] = {
        "worst_path_unit": "requantizer" if fast else "element",
        "netlist_clock_hz": netlist_hz,
        "clock_limited_by": "netlist" if clock_hz == netlist_hz else "DRAM link",
    }
    return Evaluation(
        design_id=design.id, evaluator="toy", status="ok", metrics=metrics, details=details
    )


def context(
    trial: int,
    suggestion: DesignPoint,
    history: Sequence[Trial] = (),
    seed: int = 0,
    pending: Sequence[DesignPoint] = (),
) -> Context:
    """A context as the loop makes it."""
    return Context(
        trial=trial,
        suggestion=suggestion,
        history=tuple(history),
        pending=tuple(pending),
        target=Target(),
        workload="toy formulas, no data",
        layers=LAYERS,
        seed=seed,
    )


def random_design(chance: random.Random) -> DesignPoint:
    """A design drawn evenly from the space that Optuna samples."""
    counts = space.block_counts(LAYERS)
    params: dict[str, object] = {}
    for name, distribution in space.distributions(counts).items():
        choices = getattr(distribution, "choices", None)
        if choices is not None:
            params[name] = chance.choice(choices)
        else:
            low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
            step = distribution.step  # type: ignore[attr-defined]
            params[name] = low + step * chance.randrange(round((high - low) / step) + 1)
    return space.design_of(params)


def run(
    proposer: Proposer, trials: int, seed: int, lag: int = 1, start: DesignPoint = BAD_START
) -> list[Trial]:
    """A run by the toy: trial 0 is `start`, suggestions are drawn at random.

    Trial i knows the figures of those up to i - lag, and the designs of all.
    """
    chance = random.Random(seed)
    trials_so_far: list[Trial] = [judged(0, start)]
    for index in range(1, trials):
        known = max(0, index - lag + 1)
        asked = context(
            index,
            random_design(chance),
            with_front(trials_so_far[:known]),
            seed,
            [t.design for t in trials_so_far[known:]],
        )
        trials_so_far.append(judged(index, proposer.propose(asked).design))
    return with_front(trials_so_far)


def judged(index: int, design: DesignPoint) -> Trial:
    """A measured trial."""
    evaluation = measure(design)
    feasible = evaluation.metrics.get("area_um2", math.inf) <= Target().area_limit_um2
    return Trial(
        index=index, design=design, evaluation=evaluation, feasible=feasible, on_front=feasible
    )


def with_front(history: Sequence[Trial]) -> list[Trial]:
    """The trials with `on_front` set afresh."""
    points = {t.index: [t.evaluation.metrics[o] for o in OBJECTIVES] for t in history if t.feasible}

    def beaten(t: Trial) -> bool:
        mine = points[t.index]
        return any(
            o.feasible
            and points[o.index] != mine
            and all(a <= b for a, b in zip(points[o.index], mine, strict=True))
            for o in history
        )

    return [t.model_copy(update={"on_front": t.feasible and not beaten(t)}) for t in history]


def hypervolume(history: Sequence[Trial], samples: int = 4000) -> float:
    """Share of a fixed box of the objectives (two of them in logarithms) that the trials dominate.

    By seeded sampling; the box reaches from a hundredth of the bad start to the bad start in
    latency and energy, and over one nat of NLL.
    """
    start = measure(BAD_START).metrics
    points = []
    for trial in history:
        m = trial.evaluation.metrics
        if trial.feasible:
            latency = math.log(m["latency_s"] / start["latency_s"]) / math.log(100) + 1
            energy = math.log(m["energy_j"] / start["energy_j"]) / math.log(100) + 1
            points.append((latency, energy, m["nll_nats"] - 0.5))
    drawn = np.random.default_rng(0).random((samples, 1, 3))
    return float((np.array(points) <= drawn).all(2).any(1).mean()) if points else 0.0
