"""An analytic stand-in for the evaluators: coarse formulas of a core, no tool needed.

Only the tests of agents use it; its figures mean nothing outside them.
"""

import contextlib
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

WITHOUT_IMAGES = tuple(name for name in LAYERS if not name.startswith(("vision", "connector")))
"""Of a language model."""

MAC = '"""The shipped element."""\n\nclass Mac:\n    pass\n'
FAST_MAC = (
    '"""A pipelined element.\n\nunit: mac\nlatency: 3\nhelps: clock\ncosts: area\n"""\n\n'
    "class Mac:\n    pipelined = True\n"
)

LIBRARY = Library(
    units=(
        UnitText(unit="mac", contract='"""Adds products."""\n', source=MAC),
        UnitText(unit="composable_mac", contract='"""Adds more."""\n', source='"""Shipped."""\n'),
        UnitText(unit="rescaler", contract='"""Rounds."""\n', source='"""Shipped."""\n'),
    ),
    rewrites=(
        Rewrite(
            name="mac_fast",
            unit="mac",
            latency=3,
            helps=("clock",),
            costs=("area",),
            source=FAST_MAC,
        ),
    ),
)

BAD_START = space.with_changes(
    DesignPoint(),
    {
        "hardware.rows": 4,
        "hardware.columns": 4,
        "hardware.dma_bytes": 4,
        "hardware.activation_bytes": 131072,
    },
)

LEAST_ACTIVATION_BYTES = 32_768
"""What the model needs of the activation memory."""


def measure(design: DesignPoint) -> Evaluation:
    """A verdict on `design` by formula."""
    hardware, plan = design.hardware, design.compression
    refused = ""
    if 3 in (len(plan.pruning.vision_blocks), len(plan.pruning.decoder_blocks)):
        refused = "a tower needs at least one block"
    if hardware.activation_bytes < LEAST_ACTIVATION_BYTES:
        refused = "an operator takes more than the activation memory; use a larger one"
    if refused:
        return Evaluation(design_id=design.id, evaluator="toy", status="invalid", reason=refused)
    fast = any(edit.unit == "mac" for edit in design.edits)
    netlist_hz = 9e8 if fast else 6e8
    areas = _areas_um2(design)
    array, lanes, moved, energy, nll = _work(design)
    cycles = max(array, moved / hardware.dma_bytes) + lanes
    core_s, dram_s = cycles / netlist_hz, moved / Target().dram_figures.bytes_per_s
    energy += 1e-12 * sum(areas.values()) * cycles / 1e6
    metrics = {
        "latency_s": max(core_s, dram_s),
        "energy_j": energy,
        "nll_nats": nll,
        "nll_increase_nats": nll - 0.5,
        "area_um2": sum(areas.values()),
        "cycles": cycles,
        "clock_hz": netlist_hz,
    }
    details: dict[str, str | float | int] = {
        "worst_path_unit": (
            "vector_lane" if hardware.composable else "rescaler" if fast else "mac"
        ),
        "netlist_clock_hz": netlist_hz,
        "latency_limited_by": "DRAM bandwidth" if dram_s > core_s else "core",
        "utilization_array": array / cycles,
        "energy_share_dram": moved * DRAM_J / energy,
        "cycles_share_linear": array / cycles,
        "sram_area_um2": areas["sram"],
    }
    details |= {f"area_um2_of_{unit}": areas[unit] for unit in UNITS if unit in areas}
    return Evaluation(
        design_id=design.id, evaluator="toy", status="ok", metrics=metrics, details=details
    )


DRAM_J = Target().dram_figures.energy_j_per_byte
UNITS = ("mac", "composable_mac", "rescaler")


def _areas_um2(design: DesignPoint) -> dict[str, float]:
    """Area by part: the units by their names, the SRAM, and the rest."""
    hardware = design.hardware
    fast = any(edit.unit == "mac" for edit in design.edits)
    element = 2200.0 if hardware.composable else 1700.0 if fast else 1400.0
    return {
        "composable_mac" if hardware.composable else "mac": (
            element * hardware.rows * hardware.columns
        ),
        "rescaler": 6500.0 * hardware.rows,
        "sram": 3.4 * (hardware.activation_bytes + hardware.weight_bytes),
        "rest": 80_000.0 + 17_000.0 * hardware.rows + 2_000.0 * (hardware.mac_stages == 3),
    }


def _work(design: DesignPoint) -> tuple[float, float, float, float, float]:
    """Cycles of the array and of the lanes, DRAM bytes, joules of both, and the NLL."""
    hardware, plan = design.hardware, design.compression
    quantization, pruning = plan.quantization, plan.pruning
    elements = hardware.rows * hardware.columns
    array = lanes = moved = energy = 0.0
    nll = 0.5
    for tower in ("vision", "decoder"):
        removed = len(getattr(pruning, f"{tower}_blocks"))
        keep = getattr(pruning, f"{tower}_mlp_keep")
        own = getattr(quantization, tower)
        blocks = max(0, 3 - removed)
        lanes += blocks * 64 * 96 * 4 / hardware.rows
        for kind, share in (("attention", 1.0), ("mlp", 2.0 * keep)):
            b = getattr(own, f"{kind}_bits") or own.bits or quantization.bits
            packed = next(size for size in (2, 4, 8) if size >= b)
            narrow = b <= 4 and quantization.activation_bits == 4
            products = (4 if narrow else 2) if b <= 4 and hardware.composable else 1
            work, bytes_of = blocks * share * 64 * 96 * 96, blocks * share * 96 * 96 * packed / 8
            bytes_of *= max(1.0, 12_000 / hardware.weight_bytes)
            padding = 1 + (hardware.rows + hardware.columns) / 96
            array += work * padding / (elements * products)
            moved += bytes_of
            energy += work * 0.4e-12 / products + bytes_of * DRAM_J
            nll += 0.6 * 4.0 ** (-(b - 1)) + 0.01 * narrow
        nll += 0.25 * removed**2 + 0.4 * (1 - keep) ** 3
    return array, lanes, moved, energy, nll


def context(
    trial: int,
    suggestion: DesignPoint,
    history: Sequence[Trial] = (),
    seed: int = 0,
    pending: Sequence[DesignPoint] = (),
    layers: tuple[str, ...] = LAYERS,
) -> Context:
    """A context as the loop makes it."""
    return Context(
        trial=trial,
        suggestion=suggestion,
        history=tuple(history),
        pending=tuple(pending),
        target=Target(),
        workload="toy formulas, no data",
        layers=layers,
        seed=seed,
    )


def random_design(chance: random.Random, layers: tuple[str, ...] = LAYERS) -> DesignPoint:
    """A lawful design drawn evenly from the space that Optuna samples."""
    while True:
        with contextlib.suppress(ValueError):  # knobs that break a law together: drawn again
            return _drawn(chance, layers)


def _drawn(chance: random.Random, layers: tuple[str, ...]) -> DesignPoint:
    params: dict[str, object] = {}
    for name, distribution in space.distributions(layers).items():
        choices = getattr(distribution, "choices", None)
        if choices is not None:
            params[name] = chance.choice(choices)
        else:
            low, high = distribution.low, distribution.high  # type: ignore[attr-defined]
            step = distribution.step  # type: ignore[attr-defined]
            params[name] = low + step * chance.randrange(round((high - low) / step) + 1)
    return space.design_of(params)


def run(
    proposer: Proposer,
    trials: int,
    seed: int,
    lag: int = 1,
    start: DesignPoint = BAD_START,
    layers: tuple[str, ...] = LAYERS,
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
            random_design(chance, layers),
            with_front(trials_so_far[:known]),
            seed,
            [t.design for t in trials_so_far[known:]],
            layers,
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
