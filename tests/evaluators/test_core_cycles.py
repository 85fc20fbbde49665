"""Closed formulas of commands that run alone: on the RTL each takes exactly so many cycles."""

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from evaluators.silicon import verilator
from evaluators.silicon.core_simulation import Dram, simulate_core
from hwlib import core_cycles
from hwlib.blocks import dma, operand_fetch, vector_engine, vector_lane
from hwlib.commands import (
    QUEUES,
    Activate,
    Add,
    AnyCommand,
    Divide,
    Gate,
    Load,
    Matmul,
    MatmulOutput,
    Norm,
    Queue,
    Rotate,
    Softmax,
    Waits,
    queue_of,
)
from hwlib.core_config import CoreConfig
from hwlib.core_cycles import QUEUE_CYCLES, WAIT_CYCLES, command_cycles
from hwlib.core_netlist import elaborate_core
from hwlib.unit_latencies import UnitLatencies
from tests.evaluators.test_core import COMPOSABLE, SHAPES, SMALL, config_of
from tests.hwlib.core_programs import random_program

DRAMS = (
    Dram(),
    Dram(latency_cycles=0),
    Dram(latency_cycles=37, burst_beats=4, gap_cycles=3),
    Dram(latency_cycles=9, burst_beats=16, gap_cycles=30),
)


def one_by_one(commands: list[AnyCommand]) -> list[AnyCommand]:
    """Each waits for all before it."""
    issued: dict[Queue, int] = dict.fromkeys(QUEUES, 0)
    chained = []
    for command in commands:
        chained.append(command.model_copy(update={"waits": Waits(**issued)}))
        issued[queue_of(command)] += 1
    return chained


def check(
    rtlil: str,
    config: CoreConfig,
    program: list[AnyCommand],
    memory: np.ndarray,
    dram: Dram,
    cache_dir: Path,
) -> int:
    """Holds every command of a program in which each waits for all before it; how many."""
    run = simulate_core(rtlil, program, memory, config, cache_dir, dram)
    ends = {queue: iter(run.completed[queue]) for queue in QUEUES}
    before = QUEUE_CYCLES - WAIT_CYCLES  # the first is taken at cycle 0 and waits for nothing
    for command in program:
        end = next(ends[queue_of(command)])
        cycles = end - before - WAIT_CYCLES
        assert cycles == command_cycles(command, config, dram), f"{config} {command}"
        before = end
    return len(program)


def sweep(config: CoreConfig) -> list[AnyCommand]:
    """Every vector command at many counts, every output of a matmul in every way it may begin."""
    scale: dict[str, Any] = {"multiplier": 1, "shift": 10}
    out = config.activation_words // 2
    program: list[AnyCommand] = []
    for count in [*range(2, 44, 2), 100, 202, 256]:
        norm: dict[str, Any] = {"channel": 0, "base": 0, "centred": True}
        program += [
            Norm(source=0, out=out, count=min(count, 256), **norm, **scale),
            Activate(source=0, out=out, count=count, function="gelu", **scale),
            Gate(source=0, second=100, out=out, count=count, gate_shift=3, **scale),
            Rotate(source=0, table=3, out=out, count=min(count, 60), **scale),
            Add(source=0, second=100, out=out, count=count - 1),
            Softmax(source=0, out=out, state=500, count=count - 1, first=True),
            Softmax(source=0, out=out, state=500, count=count, first=False),
            Divide(source=0, out=out, state=500, count=min(count, 200), **scale),
        ]
    for output in get_args(MatmulOutput):
        for depth in (1, 2, 3, 8, 51):
            for apart in range(config.activation_banks + 1):
                program.append(
                    Matmul(
                        activation_address=apart, weight_source="activations", weight_address=7,
                        depth=depth, columns=1 + depth % config.columns, output=output, out=out,
                        first=output == "argmax" or bool(apart % 2),
                        scale_by=("column", "uniform", "lane")[apart % 3],
                    )
                )  # fmt: skip
    return one_by_one(program)


@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "there")
def test_every_command_alone_takes_the_cycles_of_its_formula(cache_dir: Path) -> None:
    rtlil = elaborate_core(SMALL)
    commands = 0
    for seed in range(8):
        program, memory = random_program(SMALL, 90, seed)
        commands += check(rtlil, SMALL, program, memory, DRAMS[seed % 4], cache_dir)
    commands += check(rtlil, SMALL, sweep(SMALL), np.zeros(64, np.uint8), Dram(), cache_dir)
    assert commands > 1000


@pytest.mark.slow
@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "there")
@pytest.mark.parametrize("shape", [COMPOSABLE.model_dump(), *SHAPES], ids=str)
def test_commands_on_cores_of_other_shapes(shape: dict[str, Any], cache_dir: Path) -> None:
    config = config_of(shape)
    rtlil = elaborate_core(config)
    for seed in range(8):
        program, memory = random_program(config, 90, seed)
        check(rtlil, config, program, memory, DRAMS[seed % 4], cache_dir)
    check(rtlil, config, sweep(config), np.zeros(64, np.uint8), Dram(), cache_dir)


def test_latencies_are_those_that_the_blocks_name() -> None:
    here = core_cycles.LATENCIES
    assert here == core_cycles.CoreLatencies.of(UnitLatencies())
    delays = vector_lane.LaneDelays.of(UnitLatencies())
    assert here.result == delays.result
    assert here.statistics == delays.statistics
    assert here.probability == delays.probability
    assert here.sum == vector_lane.SUM_DELAY
    assert here.writes_ahead == vector_engine.WRITES_AHEAD
    assert here.words_ahead == operand_fetch.WORDS_AHEAD
    assert here.tiles_ahead == operand_fetch.TILES_AHEAD
    assert here.requests_ahead == dma.REQUESTS_AHEAD


def test_a_slower_unit_makes_the_commands_that_use_it_longer() -> None:
    slow = core_cycles.CoreLatencies(rescaler=7, result=9, reciprocal=5)
    tile = Matmul(activation_address=0, weight_address=0, depth=9, columns=4, out=0)
    activate = Activate(source=0, out=0, count=2, function="gelu", multiplier=1, shift=1)
    divide = Divide(source=0, out=0, state=0, count=2, multiplier=1, shift=1)
    load = Load(target="activations", address=0, words=4, dram_address=0)
    for command, more in ((tile, 3), (activate, 2), (divide, 2 + 3 * SMALL.rows), (load, 0)):
        usual = command_cycles(command, SMALL, Dram())
        assert command_cycles(command, SMALL, Dram(), slow) == usual + more


def test_formulas_need_no_amaranth() -> None:
    program = "import sys, hwlib.core_cycles; sys.exit('amaranth' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
