"""The cycle model of the core, held to its RTL.

Commands that run alone take exactly the cycles of their formula; of whole programs, whose queues
overlap, the prediction is near.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from evaluators.silicon import verilator
from evaluators.silicon.simulation import Dram, simulate_core
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
    ScaleBy,
    Softmax,
    Store,
    Waits,
    queue_of,
)
from hwlib.config import CoreConfig
from hwlib.cycles import QUEUE_CYCLES, WAIT_CYCLES, CoreLatencies, command_cycles
from hwlib.elaborate import elaborate_core
from hwlib.timeline import timeline
from hwlib.unit_latencies import UnitLatencies
from swopt.compiler.program import lower
from tests.evaluators.test_core import COMPOSABLE, SHAPES, SMALL, config_of
from tests.hwlib.core_programs import overlapping, random_program
from tests.swopt.plain_network import random_mapping, tiny_inputs, tiny_model

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
                        first=output == "argmax" or (output == "accumulate" and bool(apart % 2)),
                        scale_by=("column", "uniform", "lane")[apart % 3],
                    )
                )  # fmt: skip
    return one_by_one(program)


@pytest.fixture(scope="module")
def small() -> str:
    return elaborate_core(SMALL)


@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "there")
def test_every_command_alone_takes_the_cycles_of_its_formula(small: str, cache_dir: Path) -> None:
    commands = 0
    for seed in range(6):
        program, memory = random_program(SMALL, 90, seed)
        commands += check(small, SMALL, program, memory, DRAMS[seed % 4], cache_dir)
    commands += check(small, SMALL, sweep(SMALL), np.zeros(64, np.uint8), Dram(), cache_dir)
    assert commands > 800


def tiles(config: CoreConfig, seed: int) -> list[AnyCommand]:
    """Matmuls that wait for nothing: each is fetched while the one before is drained."""
    rng = np.random.default_rng(seed)
    load = Load(target="activations", address=0, words=1, dram_address=0)
    program: list[AnyCommand] = [load]
    for _ in range(40):
        precision = rng.choice(["8x8", "8x4", "4x4"]) if config.composable else "8x8"
        output = str(rng.choice(get_args(MatmulOutput)))
        both = precision == "8x8" and seed % 3 == 0
        program.append(
            Matmul.model_validate({
                "activation_address": rng.integers(200), "weight_address": rng.integers(100),
                "weight_source": "activations" if both else "weights",
                "depth": rng.choice([1, 2, 3, 5, 8, 24, 60]), "precision": precision,
                "columns": rng.integers(1, config.columns + 1), "output": output,
                "first": output == "argmax"
                or (output == "accumulate" and bool(rng.random() < 0.5)),
                "scale_by": rng.choice(get_args(ScaleBy)), "out": 300 + rng.integers(100),
                "waits": Waits(load=1),
            })
        )  # fmt: skip
    return program


def check_tiles(rtlil: str, config: CoreConfig, cache_dir: Path) -> None:
    """Of tiles that overlap, all but 3 in 100 take exactly the cycles that are predicted.

    The others follow a tile whose own operands were late.
    """
    equal = []
    for seed in range(24):
        program, memory = tiles(config, seed), np.zeros(64, np.uint8)
        run = simulate_core(rtlil, program, memory, config, cache_dir, Dram())
        predicted = np.diff(timeline(program, config, Dram()).completed[1:])
        wrong = np.diff(run.completed["matmul"]) - predicted
        assert abs(wrong).max() <= 3
        equal.append(np.mean(wrong == 0))
    assert np.mean(equal) > 0.97


def program_error(
    rtlil: str,
    config: CoreConfig,
    commands: Sequence[AnyCommand],
    memory: np.ndarray,
    dram: Dram,
    cache_dir: Path,
) -> float:
    """Relative error of the predicted cycles of a program."""
    run = simulate_core(rtlil, commands, memory, config, cache_dir, dram)
    predicted = timeline(commands, config, dram)
    assert len(predicted.completed) == len(commands)
    return predicted.total_cycles / run.total_cycles - 1


def check_programs(rtlil: str, config: CoreConfig, seeds: range, cache_dir: Path) -> None:
    """Random programs and small models, within 1 % in the median and 3 % at worst."""
    errors = []
    for seed in seeds:
        dram = DRAMS[seed % len(DRAMS)]
        program, memory = random_program(config, (24, 60, 150)[seed % 3], seed)
        program = overlapping(program, config)
        errors.append(program_error(rtlil, config, program, memory, dram, cache_dir))
        if seed % 4 == 0 and config.exponential_entries == SMALL.exponential_entries:
            model, inputs = tiny_model(seed), tiny_inputs(seed, 5 + seed % 7)
            mapping = random_mapping(model, inputs, config.rows, seed) if seed % 8 else None
            lowered = lower(model, inputs, config, mapping)
            errors.append(
                program_error(rtlil, config, lowered.commands, lowered.dram, dram, cache_dir)
            )
    assert np.median(np.abs(errors)) < 0.01
    assert np.abs(errors).max() < 0.03


@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "there")
def test_tiles_that_overlap_take_the_predicted_cycles(small: str, cache_dir: Path) -> None:
    check_tiles(small, SMALL, cache_dir)


@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "there")
def test_whole_programs_are_predicted(small: str, cache_dir: Path) -> None:
    check_programs(small, SMALL, range(9), cache_dir)


def test_a_program_waits_for_a_queue_that_is_full() -> None:
    """The second load waits in the dispatcher for a place; the store behind it waits too."""
    loads = [Load(target="activations", address=0, words=w, dram_address=0) for w in (90, 90, 90)]
    store = Store(address=0, words=1, dram_address=0)
    program = [*loads, *loads, store]
    deep, shallow = (SMALL.model_copy(update={"queue_depth": depth}) for depth in (16, 1))
    early = timeline(program, deep, Dram())
    late = timeline(program, shallow, Dram())
    assert early.completed[-1] == len(program) - 1 + QUEUE_CYCLES + command_cycles(
        store, deep, Dram()
    )
    assert late.completed[-1] > late.completed[2]
    assert timeline([], SMALL, Dram()).total_cycles == 0


@pytest.mark.slow
@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "there")
@pytest.mark.parametrize("shape", [COMPOSABLE.model_dump(), *SHAPES], ids=str)
def test_cores_of_other_shapes(shape: dict[str, Any], cache_dir: Path) -> None:
    config = config_of(shape)
    rtlil = elaborate_core(config)
    for seed in range(8):
        program, memory = random_program(config, 90, seed)
        check(rtlil, config, program, memory, DRAMS[seed % 4], cache_dir)
    check(rtlil, config, sweep(config), np.zeros(64, np.uint8), Dram(), cache_dir)
    check_tiles(rtlil, config, cache_dir)
    check_programs(rtlil, config, range(24), cache_dir)


def test_latencies_are_those_that_the_blocks_name() -> None:
    here = CoreLatencies.of(UnitLatencies())
    assert here == CoreLatencies()
    delays = vector_lane.LaneDelays.of(UnitLatencies())
    assert here.result == delays.result
    assert here.statistics == delays.statistics
    assert here.probability == delays.probability
    assert here.sum == vector_lane.SUM_DELAY
    assert here.writes_ahead == vector_engine.WRITES_AHEAD
    assert here.words_ahead == operand_fetch.WORDS_AHEAD
    assert here.words_ahead_composable == operand_fetch.WORDS_AHEAD_COMPOSABLE
    assert here.tiles_ahead == operand_fetch.TILES_AHEAD
    assert here.requests_ahead == dma.REQUESTS_AHEAD


def test_a_slower_unit_makes_the_commands_that_use_it_longer() -> None:
    slow = CoreLatencies(rescaler=7, result=9, reciprocal=5)
    tile = Matmul(activation_address=0, weight_address=0, depth=9, columns=4, out=0)
    activate = Activate(source=0, out=0, count=2, function="gelu", multiplier=1, shift=1)
    divide = Divide(source=0, out=0, state=0, count=2, multiplier=1, shift=1)
    load = Load(target="activations", address=0, words=4, dram_address=0)
    for command, more in ((tile, 3), (activate, 2), (divide, 2 + 3 * SMALL.rows), (load, 0)):
        usual = command_cycles(command, SMALL, Dram())
        assert command_cycles(command, SMALL, Dram(), slow) == usual + more


def test_formulas_need_no_amaranth() -> None:
    program = "import sys, hwlib.timeline; sys.exit('amaranth' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
