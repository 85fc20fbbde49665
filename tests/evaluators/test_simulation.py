"""The netlist against the reference: bit for bit, cycle for cycle, under stalls and resets."""

from pathlib import Path

import numpy as np
import pytest

from evaluators.silicon import verilator
from evaluators.silicon.interpreted import simulate_interpreted
from evaluators.silicon.simulation import SimulationError, Stalls, simulate
from hwlib.config import AcceleratorConfig, ArrayConfig, DmaConfig, ScratchpadConfig
from hwlib.cycles import SHIPPED_TIMINGS, command_cycles
from hwlib.edit import UnitTiming
from hwlib.elaborate import elaborate, elaborate_unit, shipped_source
from hwlib.isa import LoadActivations, LoadChannels, LoadWeights, Matmul
from hwlib.reference.execute import CHANNEL, execute
from swopt.compiler.lowering import lower_matmul, unpack
from tests.hwlib.programs import random_program

needs_tools = pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)


def core(rows: int, columns: int, beat: int) -> AcceleratorConfig:
    return AcceleratorConfig(
        array=ArrayConfig(rows=rows, columns=columns),
        dma=DmaConfig(bytes_per_cycle=beat),
        scratchpad=ScratchpadConfig(activation_bytes=8192, weight_bytes=8192),
    )


SMALL = core(4, 4, 8)


@pytest.fixture(scope="session")
def small_core() -> str:
    return elaborate(SMALL)


def assert_equal_to_reference(
    config: AcceleratorConfig, rtlil: str, cache_dir: Path, length: int, timings=SHIPPED_TIMINGS
) -> None:
    commands, load = random_program(config, length, seed=length)
    reference = execute(commands, load, config)
    result = simulate(rtlil, commands, load, len(reference), cache_dir)
    assert result.store == reference
    assert list(result.cycles) == [command_cycles(c, config, timings) for c in commands]
    for seed in range(4):
        stalls = Stalls(seed=seed, command=0.3, load=0.4, store=0.5, reset_cycle=700 * seed)
        assert simulate(rtlil, commands, load, len(reference), cache_dir, stalls).store == reference


@needs_tools
@pytest.mark.eda
def test_random_programs_equal_the_reference_in_bits_and_cycles(
    small_core: str, cache_dir: Path
) -> None:
    assert_equal_to_reference(SMALL, small_core, cache_dir, length=400)


@pytest.mark.slow
@needs_tools
@pytest.mark.eda
@pytest.mark.parametrize(
    "size", [(4, 16, 4), (16, 4, 16), (8, 8, 4), (4, 4, 16), (16, 16, 4), (8, 16, 16), (16, 8, 8)]
)
def test_cores_of_other_sizes(size: tuple[int, int, int], cache_dir: Path) -> None:
    config = core(*size)
    assert_equal_to_reference(config, elaborate(config), cache_dir, length=400)


@needs_tools
@pytest.mark.eda
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_a_lowered_product_equals_numpy(small_core: str, cache_dir: Path, bits) -> None:
    rng = np.random.default_rng(bits)
    half = 1 << (bits - 1)
    x = rng.integers(-128, 128, (13, 37)).astype(np.int8)
    x[0], x[1] = -128, 127
    weight = rng.integers(-half, half, (11, 37)).astype(np.int8)
    weight[0], weight[1] = -half, half - 1
    bias = rng.integers(-1000, 1000, 11).astype(np.int32)
    program = lower_matmul(x, weight, bias, None, None, 0, "int32", bits, SMALL)
    result = simulate(
        small_core, program.commands, program.load_beats, program.store_bytes, cache_dir
    )
    expected = x.astype(np.int64) @ weight.T.astype(np.int64) + bias
    np.testing.assert_array_equal(unpack(program, result.store), expected)
    # The last beat leaves the store buffer one cycle after the last command is done.
    assert result.total_cycles == sum(result.cycles) + 1


@needs_tools
@pytest.mark.eda
def test_accumulators_wrap_as_the_reference_does(small_core: str, cache_dir: Path) -> None:
    words = 2048
    channels = np.zeros(4, CHANNEL)
    channels["bias"] = [2**31 - 1, -(2**31), 0, 1]
    channels["shift"] = 1
    load = b"\x80" * (4 * words) + b"\x80" * (4 * words) + channels.tobytes()
    tile = Matmul(activation_address=0, weight_address=0, depth=words, rows=4, drain=False)
    commands = [
        LoadActivations(address=0, words=words),
        LoadWeights(address=0, words=words),
        LoadChannels(words=4),
        *[tile] * 66,
        tile.model_copy(update={"drain": True, "output": "int32"}),
    ]
    store = simulate(small_core, commands, load, 64, cache_dir).store
    total = 67 * words * 128 * 128  # beyond 2^31
    sums = np.frombuffer(store, "<i4").reshape(4, 4)
    wrapped = (total + channels["bias"].astype(np.int64) + 2**31) % 2**32 - 2**31
    assert total > 2**31
    np.testing.assert_array_equal(sums, np.tile(wrapped, (4, 1)))


@pytest.mark.slow
@needs_tools
@pytest.mark.eda
def test_an_element_of_latency_two_needs_its_timing_alone(cache_dir: Path) -> None:
    source = (
        shipped_source("element")
        .replace("import Module,", "import Module, Signal,")
        .replace("m = Module()", "m = Module()\n        product = Signal(signed(16))")
        .replace("self.acc_out + self.a_in * self.w_in", "self.acc_out + product")
        .replace("m.d.sync += [self.a_out", "m.d.sync += product.eq(self.a_in * self.w_in)\n"
                 "        m.d.sync += [self.a_out", 1)
    )  # fmt: skip
    timing = UnitTiming(latency=2)
    rtlil = elaborate(SMALL, {"element": elaborate_unit("element", source, timing)})
    timings = {**SHIPPED_TIMINGS, "element": timing}
    assert_equal_to_reference(SMALL, rtlil, cache_dir, length=150, timings=timings)

    with_old_timing = elaborate(SMALL, {"element": elaborate_unit("element", source)})
    with pytest.raises(AssertionError):
        assert_equal_to_reference(SMALL, with_old_timing, cache_dir, length=150)


@needs_tools
@pytest.mark.eda
def test_one_broken_bit_is_seen(small_core: str, cache_dir: Path) -> None:
    # The element's product loses the sign of its weight.
    head, element, tail = small_core.partition("module \\element\n")
    assert element and "parameter \\B_SIGNED 1" in tail
    at = tail.index("cell $mul")
    broken = tail[:at] + tail[at:].replace("\\A_SIGNED 1", "\\A_SIGNED 0", 1).replace(
        "\\B_SIGNED 1", "\\B_SIGNED 0", 1
    )
    with pytest.raises(AssertionError):
        assert_equal_to_reference(SMALL, head + element + broken, cache_dir, length=50)


@needs_tools
@pytest.mark.eda
def test_the_watchdog_names_the_command(small_core: str, cache_dir: Path) -> None:
    commands = [LoadChannels(words=4), LoadActivations(address=0, words=8)]
    with pytest.raises(SimulationError, match=r"command 1, LoadActivations.*6 of 6 load beats"):
        simulate(small_core, commands, bytes(48), 0, cache_dir)


def test_amaranths_simulator_agrees() -> None:
    rng = np.random.default_rng(5)
    x = rng.integers(-128, 128, (5, 9)).astype(np.int8)
    weight = rng.integers(-8, 8, (6, 9)).astype(np.int8)
    bias = rng.integers(-99, 99, 6).astype(np.int32)
    scale = rng.integers(1 << 14, 1 << 16, 6), rng.integers(18, 24, 6)
    program = lower_matmul(x, weight, bias, *scale, 3, "int8", 4, SMALL)
    result = simulate_interpreted(SMALL, program.commands, program.load_beats, program.store_bytes)
    assert result.store == execute(program.commands, program.load_beats, SMALL)
    assert list(result.cycles) == [command_cycles(c, SMALL) for c in program.commands]


def test_equal_arguments_elaborate_to_equal_text() -> None:
    assert elaborate(SMALL) == elaborate(SMALL)
    assert "/" not in elaborate(SMALL).replace("//", "")
