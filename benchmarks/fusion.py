"""What each fusion and each choice of the mapper is worth: cycles, DRAM bytes, scratchpad.

    python benchmarks/fusion.py [--case 1] [--draws 8] [--rtl]

`tiny-vlm` on the default core and, at 4-bit weights, on a composable one of 8 x 16; a decoder block
of SmolLM2-135M's shape (drawn weights, 64 tokens) on the core of `benchmarks/decoder_block.py`.
Cycles are those that `hwlib.timeline` predicts. Beside what the mapper chooses stand as many random
lawful mappings, pass by pass, and random overrides by the knobs, as `--draws` says. With `--rtl`
the first row and the one without any fusion also run in Verilator, every tensor compared with the
integer model. Prints Markdown.
"""

import argparse
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import get_args

import numpy as np

from benchmarks.decoder_block import CORE
from evaluators import cache
from evaluators.latency import Rtl, hold_to_model
from evaluators.silicon.simulation import Dram
from evaluators.traffic import traffic
from hwlib.config import LANE_BYTES, CoreConfig
from hwlib.elaborate import elaborate_core
from hwlib.timeline import timeline
from swopt.compiler import mapping
from swopt.compiler.choices import MAPPER, Choices
from swopt.compiler.host import Inputs
from swopt.compiler.integer_model import integer_model
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import place
from swopt.compiler.network import Network
from swopt.compiler.program import Program, lower
from swopt.plan import CompressionPlan
from swopt.techniques.dataflow import DataflowKnobs
from swopt.techniques.fusion import FusionKnobs
from swopt.techniques.quantization import QuantizationKnobs, WeightBits
from swopt.workloads.blocks import integer_block, smollm2
from swopt.workloads.workload import load_workload

NOTHING_FUSED = FusionKnobs(
    activations=False, rotations=False, residuals=False, attention=False, norms=False, pieces=1
)

ROWS: Mapping[str, Choices] = {
    "all fused, the mapper's choice": MAPPER,
    "activations and gates apart": Choices(fusion=FusionKnobs(activations=False)),
    "rotations apart": Choices(fusion=FusionKnobs(rotations=False)),
    "residuals apart": Choices(fusion=FusionKnobs(residuals=False)),
    "attention in three": Choices(fusion=FusionKnobs(attention=False)),
    "norms apart": Choices(fusion=FusionKnobs(norms=False)),
    "a piece a pass": Choices(fusion=FusionKnobs(pieces=1)),
    "nothing fused": Choices(fusion=NOTHING_FUSED),
    "blocks of 1 group": Choices(dataflow=DataflowKnobs(groups=1)),
    "blocks of 4 groups": Choices(dataflow=DataflowKnobs(groups=4)),
    "one block": Choices(dataflow=DataflowKnobs(groups=32)),
    "1 block under way": Choices(dataflow=DataflowKnobs(ways=1)),
    "activations stationary": Choices(dataflow=DataflowKnobs(stationary="activations")),
    "chunks of 16 channels": Choices(dataflow=DataflowKnobs(chunk_channels=16)),
    "chunks of 256 channels": Choices(dataflow=DataflowKnobs(chunk_channels=256)),
    "1 buffer of chunks": Choices(dataflow=DataflowKnobs(chunk_buffers=1)),
}
"""The rows of a table."""

MEASURED = ("all fused, the mapper's choice", "nothing fused")
"""Rows that run on the RTL."""

TRIES = 50
"""Draws for one lawful mapping or override before it is given up."""


@dataclass(frozen=True)
class Case:
    """A model on a core.

    Attributes:
        name: What it is.
        network: The model.
        inputs: The question.
        config: The core.
    """

    name: str
    network: Network
    inputs: Inputs
    config: CoreConfig


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", type=int, choices=range(len(CASES)), help="one alone")
    parser.add_argument("--draws", type=int, default=8, help="random mappings, and overrides")
    parser.add_argument("--rtl", action="store_true", help="run two rows in Verilator")
    chosen = parser.parse_args()
    if chosen.draws < 1:
        parser.error("--draws must be 1 or more")
    tools = ", ".join(f"{name} {version(name)}" for name in ("torch", "amaranth", "verilator"))
    print(f"{tools}, {platform.machine()}; DRAM latency {Dram().latency_cycles} cycles\n")
    for make in CASES if chosen.case is None else [CASES[chosen.case]]:
        case = make()
        table(case, chosen.rtl)
        controls(case, chosen.draws)
        sys.stdout.flush()


def block() -> Case:
    """The decoder block."""
    made = integer_block(smollm2(seed=0, tokens=64), weight_bits=4)
    return Case("SmolLM2 block, w4a8, 64 tokens, 16 x 16", made.network, made.inputs, CORE)


def tiny_vlm(name: str, bits: WeightBits, config: CoreConfig) -> Case:
    """The first validation question of the shipped model."""
    workload = load_workload()
    model = integer_model(workload, CompressionPlan(quantization=QuantizationKnobs(bits=bits)))
    (inputs,) = model.host.inputs(workload.validation().take([0]))
    return Case(name, model.network, inputs, config)


CASES: Sequence[Callable[[], Case]] = (
    partial(tiny_vlm, "tiny-vlm, w8a8, default core", 8, CoreConfig()),
    partial(
        tiny_vlm,
        "tiny-vlm, w4a8, composable core of 8 x 16",
        4,
        CoreConfig(rows=8, columns=16, composable=True),
    ),
    block,
)
"""The models and their cores."""


def table(case: Case, rtl: bool) -> None:
    """What each row takes, beside the first."""
    print(f"\n### {case.name}\n")
    print("| lowering | cycles, predicted | | DRAM bytes | | peak scratchpad, bytes | RTL |")
    print("|---|---:|---:|---:|---:|---:|---|")
    base: tuple[int, int] | None = None
    netlist = elaborate_core(case.config) if rtl else ""
    for name, choices in ROWS.items():
        try:
            program = lower(case.network, case.inputs, case.config, choices=choices)
        except LoweringError:
            print(f"| {name} | does not fit | | | | | |")
            continue
        cycles = cycles_of(program)
        moved = traffic(program.commands, case.config).dram_bytes
        base = base or (cycles, moved)
        used = program.activation_words * LANE_BYTES * case.config.rows
        measured = on_rtl(case, choices, program, netlist) if rtl and name in MEASURED else ""
        print(
            f"| {name} | {cycles:,} | {cycles / base[0] - 1:+.1%} | {moved:,} | "
            f"{moved / base[1] - 1:+.1%} | {used:,} | {measured} |"
        )


def cycles_of(program: Program) -> int:
    """Cycles of a program, predicted."""
    return timeline(program.commands, program.config, Dram()).total_cycles


def on_rtl(case: Case, choices: Choices, program: Program, netlist: str) -> str:
    """Cycles in Verilator, and how many values of tensors were compared, all equal."""
    engine = Rtl(netlist, case.config, Dram(), cache.root() / "simulators")
    traced = lower(case.network, case.inputs, case.config, choices=choices, trace=True)
    compared = hold_to_model(case.network, case.inputs, traced, engine)
    cycles = engine.run(program).cycles
    return f"{cycles:,} cycles; {len(compared)} tensors, {sum(compared):,} values equal"


def controls(case: Case, draws: int) -> None:
    """The mapper's choice beside random lawful ones."""
    rng = np.random.default_rng(0)
    ours = cycles_of(lower(case.network, case.inputs, case.config))
    kinds = {"mappings, pass by pass": random_mappings, "overrides by the knobs": random_overrides}
    for name, draw in kinds.items():
        cycles = np.array([cycles_of(program) for program in draw(case, rng, draws)])
        print(
            f"\n{draws} random lawful {name}: median {np.median(cycles):,.0f} cycles "
            f"({np.median(cycles) / ours - 1:+.1%}), least {cycles.min():,} "
            f"({cycles.min() / ours - 1:+.1%}); the mapper's {ours:,} are fewer than "
            f"{(ours < cycles).sum()} of them."
        )


def random_mappings(case: Case, rng: np.random.Generator, draws: int) -> Iterator[Program]:
    """Passes of random lengths, sizes of blocks and blocks under way, each of which fits."""
    placed = place(case.network, case.inputs, case.config.rows)
    candidates = mapping.Candidates(case.network, placed, case.config)
    cuts = candidates.cuts
    fitting = [
        [
            taken
            for end in candidates.ends(at)
            for taken, words in candidates.between(cut, cuts[end])
            if words <= case.config.activation_words
        ]
        for at, cut in enumerate(cuts[:-1])
    ]

    def draw() -> Program:
        passes, at = [], 0
        while at < len(cuts) - 1:
            if not fitting[at]:
                raise LoweringError("no pass from here on fits")
            passes.append(fitting[at][rng.integers(len(fitting[at]))])
            at = cuts.index(passes[-1].end)
        return lower(case.network, case.inputs, case.config, mapping.Mapping(tuple(passes)))

    return (lawful(draw) for _ in range(draws))


def random_overrides(case: Case, rng: np.random.Generator, draws: int) -> Iterator[Program]:
    """Each knob of the dataflow at a random value of its own, none left to the mapper."""

    def draw() -> Program:
        drawn = {}
        for name, field in DataflowKnobs.model_fields.items():
            values = _values(field.annotation)
            drawn[name] = values[int(rng.integers(len(values)))]
        choices = Choices(dataflow=DataflowKnobs.model_validate(drawn))
        return lower(case.network, case.inputs, case.config, choices=choices)

    return (lawful(draw) for _ in range(draws))


def lawful(draw: Callable[[], Program]) -> Program:
    """The first of `TRIES` draws that fits its core."""
    for _ in range(TRIES):
        try:
            return draw()
        except LoweringError:
            continue
    raise SystemExit(f"nothing lawful in {TRIES} draws")


def _values(annotation: object) -> list[object]:
    """The values of a Literal, optional or not."""
    inner = [each for each in get_args(annotation) if each is not type(None)]
    return list(get_args(inner[0])) or inner


if __name__ == "__main__":
    main()
