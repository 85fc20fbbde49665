"""The core: its netlist computes what the reference says, whatever stalls."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evaluators.silicon import simulation, verilator
from evaluators.silicon.simulation import (
    CoreRun,
    Disturbance,
    Dram,
    SimulationError,
    simulate_core,
)
from hwlib.commands import QUEUES, Load, Matmul, Rotate, Store, Waits, queue_of
from hwlib.config import CoreConfig
from hwlib.contracts.table import CORE_UNITS
from hwlib.cycles import WAIT_CYCLES, CoreLatencies, command_cycles
from hwlib.elaborate import UnitNetlist, elaborate_core, latencies_of
from hwlib.reference.core import execute
from swopt.compiler.program import lower
from tests.hwlib.core_programs import (
    contention,
    every_magnitude,
    groups,
    overlapping,
    paces,
    random_program,
)
from tests.hwlib.later_units import later
from tests.swopt.plain_network import few_bit_weights, grouped, tiny_inputs, tiny_model

SMALL = CoreConfig(rows=4, columns=4, activation_bytes=8192, weight_bytes=8192, channel_entries=256)
"""Seconds to build, and every mode of every command."""

SHAPES = [
    {"rows": 8, "columns": 4, "dma_bytes": 4, "exponential_entries": 4},
    {"rows": 4, "columns": 8, "dma_bytes": 16, "exponential_entries": 32},
    {"rows": 8, "columns": 8, "activation_banks": 8, "queue_depth": 1, "accumulator_bits": 20},
    {"rows": 16, "columns": 4, "dma_bytes": 32, "exponential_entries": 8, "activation_banks": 2},
    {"rows": 4, "columns": 16, "queue_depth": 9, "mac_stages": 3},
    {"rows": 8, "columns": 8, "composable": True, "dma_bytes": 4},
    {
        "rows": 4,
        "columns": 16,
        "composable": True,
        "dma_bytes": 32,
        "activation_banks": 2,
        "grouped_weights": True,
    },
    {"rows": 16, "columns": 8, "composable": True, "queue_depth": 1},
]
"""Cores of other shapes: array sides, link, table, banks, queues, elements."""

LENGTH = 24
"""Commands of a random program after its loads: more than one of each kind."""

pytestmark = [
    pytest.mark.eda,
    pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "there"),
]


COMPOSABLE = SMALL.model_copy(update={"composable": True})
"""The same with elements composed of 4-bit products."""


@pytest.fixture(scope="module")
def small() -> str:
    return elaborate_core(SMALL)


@pytest.fixture(scope="module")
def composable() -> str:
    return elaborate_core(COMPOSABLE)


def config_of(shape: dict[str, int]) -> CoreConfig:
    sizes = {"activation_bytes": 2048 * shape["rows"], "weight_bytes": 8192, "channel_entries": 256}
    return CoreConfig.model_validate(sizes | shape)


def dram_timing(rng: np.random.Generator) -> Dram:
    return Dram(
        latency_cycles=int(rng.integers(0, 60)),
        burst_beats=int(rng.choice([0, 4, 16])),
        gap_cycles=int(rng.integers(0, 9)),
    )


def disturbance(rng: np.random.Generator, seed: int) -> Disturbance:
    """None for every second seed; stalls for the others, and for half of them a reset."""
    if seed % 2 == 0:
        return Disturbance()
    command, read, write = rng.random(3) * (0.3, 0.5, 0.5)
    reset = int(rng.integers(1, 4000)) if seed % 4 == 1 else 0
    return Disturbance(seed=seed, command=command, read=read, write=write, reset_cycle=reset)


def check(rtlil: str, config: CoreConfig, seed: int, cache_dir: Path) -> CoreRun:
    program, dram = random_program(config, LENGTH, seed)
    if seed % 3:
        program = overlapping(program, config)
    rng = np.random.default_rng(seed)
    run = simulate_core(
        rtlil, program, dram, config, cache_dir, dram_timing(rng), disturbance(rng, seed)
    )
    found, expected = np.frombuffer(run.dram, np.uint8), execute(program, dram, config)
    wrong = np.flatnonzero(found != expected)
    assert not len(wrong), f"seed {seed}: {len(wrong)} bytes of DRAM differ, first {wrong[0]}"
    return run


def test_random_programs_equal_the_reference_under_stalls_and_resets(
    small: str, cache_dir: Path
) -> None:
    for seed in range(24):
        check(small, SMALL, seed, cache_dir)


def test_random_programs_of_four_bits_equal_the_reference(composable: str, cache_dir: Path) -> None:
    for seed in range(200, 224):
        check(composable, COMPOSABLE, seed, cache_dir)


def other_units(config: CoreConfig, slowest: bool) -> dict[str, UnitNetlist]:
    """Every unit a cycle later than the shipped one, or as late as its contract lets it be."""
    element = "composable_mac" if config.composable else "mac"
    exponential = f"exponential_{config.exponential_entries}"
    units = {}
    for name in (element, "rescaler", "activation", exponential, "inverse_sqrt", "reciprocal"):
        unit = CORE_UNITS[name]
        latency = unit.contract.latency_bounds[1] if slowest else unit.latency + 1
        units[unit.contract.unit] = later(name, latency)
    return units


@pytest.mark.parametrize("slowest", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_units_of_other_latencies_stand_in_the_core(cache_dir: Path, slowest: bool) -> None:
    """The same numbers, and exactly the cycles that the formulas give for such units."""
    config = COMPOSABLE if slowest else SMALL
    units = other_units(config, slowest)
    rtlil = elaborate_core(config, units)
    latencies = CoreLatencies.of(latencies_of(config, units))
    for seed in range(300, 308):
        check(rtlil, config, seed, cache_dir)
        program, dram = random_program(config, LENGTH, seed)
        run = simulate_core(rtlil, program, dram, config, cache_dir)
        ends = {queue: iter(run.completed[queue]) for queue in QUEUES}
        before = None
        for index, command in enumerate(program):
            end = next(ends[queue_of(command)])
            if before is not None:
                alone = command_cycles(command, config, Dram(), latencies)
                assert end - before == WAIT_CYCLES + alone, f"seed {seed}, command {index}"
            before = end


def test_a_core_has_no_other_units_than_its_own() -> None:
    with pytest.raises(ValueError, match="this core has no unit composable_mac; it has mac, "):
        elaborate_core(SMALL, {"composable_mac": later("composable_mac", 3)})


@pytest.mark.parametrize("dma_bytes", [4, pytest.param(32, marks=pytest.mark.slow)])
def test_groups_of_weights_are_multiplied_as_in_the_reference(
    dma_bytes: int, cache_dir: Path
) -> None:
    config = COMPOSABLE.model_copy(update={"grouped_weights": True, "dma_bytes": dma_bytes})
    rtlil = elaborate_core(config)
    for seed in range(3):
        program, dram = groups(config, seed)
        stalls = Disturbance(seed=seed, read=0.3 * seed)
        run = simulate_core(
            rtlil, overlapping(program, config), dram, config, cache_dir, disturbance=stalls
        )
        assert run.dram == execute(program, dram, config).tobytes()
    for seed in range(400, 412):
        check(rtlil, config, seed, cache_dir)
    for seed in range(2):
        check_model(rtlil, config, seed, cache_dir)


@pytest.mark.parametrize("words", [200, 255])
def test_products_of_four_bits_take_half_and_a_quarter_of_the_cycles(
    composable: str, cache_dir: Path, words: int
) -> None:
    """A tile takes 2, 1 and 1 cycles a word of activations; a word holds 2, 2 and 4 channels.

    Where a word feeds one cycle, the drain and the fetch meet once a tile in a bank.
    """
    tiles, out = 4, COMPOSABLE.activation_words // 2
    for precision, cycles_a_word in (("8x8", 2), ("8x4", 1), ("4x4", 1)):
        tile = Matmul(
            activation_address=0, weight_address=0, depth=words, columns=4, scale_by="uniform",
            precision=precision, out=out, waits=Waits(load=1),
        )  # fmt: skip
        entry = Load(target="matmul_channels", address=0, words=1, dram_address=0)
        dram = np.array([0, 0, 0, 0, 1, 0, 1, 0] * 8, np.uint8)
        run = simulate_core(composable, [entry, *[tile] * tiles], dram, COMPOSABLE, cache_dir)
        lost = np.diff(run.completed["matmul"]) - cycles_a_word * words
        assert lost.min() >= 0
        assert lost.max() <= (cycles_a_word == 1)


@pytest.mark.parametrize(
    "dma_bytes, cycles",
    [(4, {100, 200}), (8, {100}), pytest.param(16, {100}, marks=pytest.mark.slow)],
)
def test_loads_and_stores_move_a_beat_or_a_word_a_cycle(
    dma_bytes: int, cycles: set[int], cache_dir: Path
) -> None:
    """Words of 8 bytes, packed weights of 8, 4 and 2: of several beats, of one, several a beat."""
    config = SMALL.model_copy(update={"dma_bytes": dma_bytes})
    rtlil = elaborate_core(config)
    dram = np.zeros(1 << 13, np.uint8)
    assert {more for _, _, more in paces(config)} == cycles
    for short, long, more in paces(config):
        taken = [
            simulate_core(rtlil, program, dram, config, cache_dir).total_cycles
            for program in (short, long)
        ]
        assert taken[1] - taken[0] == more


def check_model(rtlil: str, config: CoreConfig, seed: int, cache_dir: Path) -> None:
    """A lowered model, whose queues overlap: its waits and the arbiters are all that orders it."""
    model = tiny_model(seed)
    if config.grouped_weights:
        model = grouped(few_bit_weights(model), 16)
    program = lower(model, tiny_inputs(seed, 5 + seed % 7), config, trace=True)
    rng = np.random.default_rng(seed)
    run = simulate_core(
        rtlil,
        program.commands,
        program.dram,
        config,
        cache_dir,
        dram_timing(rng),
        disturbance(rng, 3 if seed % 2 else 0),
    )
    expected = execute(program.commands, program.dram, config)
    wrong = np.flatnonzero(np.frombuffer(run.dram, np.uint8) != expected)
    assert not len(wrong), f"model {seed}: {len(wrong)} bytes of DRAM differ, first {wrong[0]}"


def test_models_whose_queues_overlap_equal_the_reference(small: str, cache_dir: Path) -> None:
    for seed in range(6):
        check_model(small, SMALL, seed, cache_dir)


def test_every_pair_of_engines_may_meet_in_a_bank(small: str, cache_dir: Path) -> None:
    for seed in range(6):
        program, dram = contention(SMALL, seed)
        stalls = Disturbance(seed=seed, read=0.4, write=0.4) if seed else Disturbance()
        timing = Dram(latency_cycles=7 * seed)
        run = simulate_core(small, program, dram, SMALL, cache_dir, timing, stalls)
        assert run.dram == execute(program, dram, SMALL).tobytes()


def test_norms_and_divisions_of_every_magnitude_equal_the_reference(
    small: str, cache_dir: Path
) -> None:
    program, dram = every_magnitude(SMALL)
    expected = execute(program, dram, SMALL)
    results = expected[4224:].view("<i2").reshape(-1, SMALL.rows)
    assert (results[: 4 * 32].any(1).sum() > 100) and (results[256:288].any(1).sum() > 8)
    run = simulate_core(small, overlapping(program, SMALL), dram, SMALL, cache_dir)
    assert run.dram == expected.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cores_of_other_shapes_equal_the_reference(shape: dict[str, int], cache_dir: Path) -> None:
    config = config_of(shape)
    rtlil = elaborate_core(config)
    for seed in range(100, 160):
        check(rtlil, config, seed, cache_dir)
    if config.exponential_entries == SMALL.exponential_entries:
        check_model(rtlil, config, 1, cache_dir)


def test_stalls_cost_cycles_and_change_nothing_else(small: str, cache_dir: Path) -> None:
    program, dram = random_program(SMALL, LENGTH, 2)
    free = simulate_core(small, program, dram, SMALL, cache_dir)
    held = simulate_core(
        small, program, dram, SMALL, cache_dir, disturbance=Disturbance(read=0.5, write=0.5)
    )
    assert held.dram == free.dram
    assert held.total_cycles > free.total_cycles


def test_one_wrong_bit_of_a_unit_is_seen(small: str, cache_dir: Path) -> None:
    """The broken twin: the first entry of the exponential's table is one off."""
    entry = "assign \\entry [6:0] 7'1"
    at = small.index(entry, small.index("module \\exponential\n"))
    end = small.index("\n", at)
    broken = small[: end - 1] + ("0" if small[end - 1] == "1" else "1") + small[end:]
    with pytest.raises(AssertionError, match="bytes of DRAM differ"):
        for seed in range(24):
            check(broken, SMALL, seed, cache_dir)


def test_a_core_that_hangs_is_stopped_and_its_command_named(
    small: str, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A DRAM whose latency is not waited for looks like a core that hangs.
    monkeypatch.setattr(simulation, "PATIENCE", -50_000)
    monkeypatch.setattr(simulation, "PATIENCE_PER_WORD", 0)
    program = [
        Load(target="activations", address=0, words=4, dram_address=0),
        Store(address=0, words=4, dram_address=1024, waits=Waits(load=1)),
    ]
    said = r"stood at command 0 \(load\); command 1 \(store\) had not begun; 2 of 2 commands taken"
    with pytest.raises(SimulationError, match=said):
        simulate_core(
            small,
            program,
            np.zeros(4096, np.uint8),
            SMALL,
            cache_dir,
            timing=Dram(latency_cycles=100_000),
        )


def test_the_longest_command_is_no_hang(
    small: str, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "PATIENCE", 0)
    turn = Rotate(source=0, table=0, out=500, count=250, multiplier=3, shift=5)
    dram = np.zeros(1 << 16, np.uint8)
    assert simulate_core(small, [turn], dram, SMALL, cache_dir).total_cycles > 4_000


def always(port: str, core: str) -> str:
    """A core whose stream never stops offering."""
    at = core.index("module \\core\n")
    head, body = core[:at], core[at:]
    valid = rf"connect \\\S+ \\{port}__valid \[0\]"
    assert len(re.findall(valid, body)) == 2  # of the cell that drives it, and of a name
    body = re.sub(valid, "", body, count=1)
    return head + re.sub(valid, rf"connect \\{port}__valid 1'1", body, count=1)


def complete(core: str) -> str:
    """A core that completes a command of each queue in every cycle."""
    at = core.index("module \\core\n")
    return core[:at] + re.sub(
        r"connect \\completed \{[^}]*\}", r"connect \\completed 4'1111", core[at:], count=1
    )


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (complete, "completed what it had not taken"),
        (lambda core: always("write_beats", core), "moved more than its program does"),
    ],
    ids=["completions", "writes"],
)
def test_a_core_that_never_rests_is_stopped(
    broken: Callable[[str], str], said: str, small: str, cache_dir: Path
) -> None:
    program = [
        Load(target="activations", address=0, words=10, dram_address=0),
        Store(address=0, words=10, dram_address=8000, waits=Waits(load=1)),
    ]
    dram = np.zeros(1 << 16, np.uint8)
    assert simulate_core(small, program, dram, SMALL, cache_dir).total_cycles
    with pytest.raises(SimulationError, match=said):
        simulate_core(broken(small), program, dram, SMALL, cache_dir)


def test_a_program_that_leaves_its_dram_is_refused(small: str, cache_dir: Path) -> None:
    program = [
        Load(target="activations", address=0, words=4, dram_address=0),
        Store(address=0, words=4, dram_address=1 << 20, waits=Waits(load=1)),
    ]
    message = "command 1, store: bytes 1048576 to 1048607 reach beyond the DRAM image of 4096 bytes"
    with pytest.raises(ValueError, match=message):
        simulate_core(small, program, np.zeros(4096, np.uint8), SMALL, cache_dir)
    with pytest.raises(ValueError, match="must be a numpy array of uint8"):
        simulate_core(small, program, np.zeros(4096), SMALL, cache_dir)
