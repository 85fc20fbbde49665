"""Counts of a program: against closed forms, and against the reference core as it runs."""

from collections import Counter
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from evaluators import roofline
from evaluators.roofline import Work
from hwlib.commands import QUEUES, Divide, Load, Matmul, Queue, Store, queue_of
from hwlib.config import CoreConfig
from hwlib.reference.core import Core
from swopt.compiler import network as net
from swopt.compiler.generation import Generation, continuation
from swopt.compiler.listing import label
from swopt.compiler.mapping import one_block
from swopt.compiler.program import Program, lower
from tests.swopt.plain_network import (
    Drawer,
    brought,
    few_bit_weights,
    narrowed,
    random_mapping,
    tiny_inputs,
    tiny_model,
)

CONFIGS = [
    CoreConfig(channel_entries=256),
    CoreConfig(rows=4, columns=16, channel_entries=256, dma_bytes=32),
    CoreConfig(rows=16, columns=8, channel_entries=256, composable=True, dma_bytes=4),
]


@cache
def lowered(config: CoreConfig, seed: int = 0) -> tuple[net.Network, Program]:
    model, inputs = tiny_model(seed, vision_heads=3), tiny_inputs(seed, 11)
    if config.composable:
        model = few_bit_weights(model) if seed % 2 else narrowed(few_bit_weights(model))
    mapping = random_mapping(model, inputs, config.rows, seed)
    return model, lower(model, inputs, config, mapping)


def test_one_linear_layer_is_its_closed_form() -> None:
    d = Drawer(0)
    tokens, inputs, outputs = 21, 30, 44  # 3 groups of 8, 15 words, 6 tiles of 8 columns
    model = net.Network(
        (
            net.Input("stream", "words", inputs),
            d.norm("stream", "x", inputs),
            d.linear("x", "y", inputs, outputs, "int16"),
        ),
        8,
        16,
    )
    config = CoreConfig(channel_entries=256)
    program = lower(model, brought(words=d.tensor(tokens, inputs)), config, one_block(model))
    _, _, linear = roofline.work(program, model)
    tiles, groups, depth = 6, 3, 15
    weight_bytes, entry_bytes = tiles * depth * 16, 8 * outputs
    assert linear == Work(
        products=tokens * inputs * outputs,
        array_products=groups * tiles * 8 * 8 * 2 * depth,
        array_cycles=groups * tiles * 2 * depth,
        read_bytes=weight_bytes + entry_bytes,
        read_cycles=(weight_bytes + entry_bytes) // 8,
        activation_reads=groups * tiles * depth,
        activation_writes=groups * outputs,
        weight_reads=groups * tiles * depth,
        weight_writes=tiles * depth,
        least_read_bytes=inputs * outputs + entry_bytes,
        least_array_cycles=-(-tokens * inputs * outputs // 64),
    )
    assert linear.intensity == pytest.approx(tokens * inputs * outputs / (720 * 2 + 352))
    assert linear.roof_cycles == 540
    assert linear.least_cycles(config) == 434  # 27720 products / 64


def test_causal_attention_counts_the_pairs_that_are_seen() -> None:
    d = Drawer(1)
    tokens, heads, dim = 13, 4, 6
    operators = [
        net.Input("stream", "words", 10),
        d.norm("stream", "x", 10),
        d.linear("x", "q", 10, heads * dim),
        d.linear("x", "k", 10, 2 * dim),
        d.linear("x", "v", 10, 2 * dim, across=True),
        d.attention("q", "k", "v", "y", heads, 2, dim, causal=True),
    ]
    model = net.Network(tuple(operators), 8, 16)
    program = lower(model, brought(words=d.tensor(tokens, 10)), CONFIGS[0])
    seen = np.tril(np.ones((tokens, tokens), int)).sum()
    assert roofline.work(program, model)[-1].products == 2 * heads * dim * seen


class Counting(Core):
    """The reference core, which counts what goes through its memories and DRAM as it computes."""

    def __init__(self, dram: npt.NDArray[np.uint8], config: CoreConfig) -> None:
        super().__init__(dram, config)
        self.seen: Counter[str] = Counter()
        self.writing = False

    def sums(self, command: Matmul) -> Any:
        channels = command.depth * (4 if command.precision == "4x4" else 2)
        self.seen["array_products"] += self.config.rows * self.config.columns * channels
        if command.weight_source == "weights":
            self.seen["weight_reads"] += -(-channels // (2 if command.precision == "8x8" else 4))
        return super().sums(command)

    def drain(self, command: Matmul, sums: Any) -> None:
        self.writing = True
        self.seen["activation_reads"] += command.output == "accumulate" and not command.first
        super().drain(command, sums)
        self.writing = False

    def _load(self, command: Load) -> None:
        super()._load(command)
        memory = {"activations": self.activations, "weights": self.weights}.get(command.target)
        if memory is not None:
            written = memory[command.address : command.address + command.words]
            self.seen[command.target.removesuffix("s") + "_writes"] += len(written)

    def _dram(self, command: Load | Store) -> npt.NDArray[np.uint8]:
        moved = super()._dram(command)
        self.seen["read_bytes" if isinstance(command, Load) else "written_bytes"] += len(moved)
        return moved

    def _words(self, address: int, count: int) -> npt.NDArray[np.int16]:
        self.seen["activation_reads"] += count
        return super()._words(address, count)

    def _bytes(self, address: int, words: int) -> npt.NDArray[np.int8]:
        self.seen["activation_writes" if self.writing else "activation_reads"] += words
        return super()._bytes(address, words)

    def _write_words(self, address: int, value: Any, rows: slice = slice(None)) -> None:
        self.seen["activation_writes"] += len(value)
        super()._write_words(address, value, rows)

    def _write_pairs(self, address: int, value: Any, rows: slice = slice(None)) -> None:
        self.writing = True
        super()._write_pairs(address, value, rows)
        self.writing = False


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("seed", [0, 1])
def test_totals_equal_what_goes_through_the_reference_core(config: CoreConfig, seed: int) -> None:
    model, program = lowered(config, seed)
    core = Counting(program.dram, config)
    for command in program.commands:
        core.run(command)
    # A division holds all four words of its state; the reference looks at the total alone.
    core.seen["activation_reads"] += 2 * sum(isinstance(c, Divide) for c in program.commands)
    sums = asdict(roofline.total(roofline.work(program, model)))
    assert {name: sums[name] for name in core.seen} == core.seen
    assert len(core.seen) == 7


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_operator_does_less_than_the_least(config: CoreConfig, seed: int) -> None:
    model, program = lowered(config, seed)
    works = roofline.work(program, model)
    rotations = Work()
    for operator, each in zip(model.operators, works, strict=True):
        if isinstance(operator, net.Rotate):
            rotations += each  # a table may come in for either
            continue
        name = label(operator)
        assert each.array_products >= each.products, name
        assert each.array_cycles >= each.least_array_cycles, name
        assert each.read_bytes >= each.least_read_bytes, name
        assert each.written_bytes >= each.least_written_bytes, name
        assert each.roof_cycles >= each.least_cycles(config), name
    assert rotations.read_bytes >= rotations.least_read_bytes


def test_a_core_that_holds_everything_reads_little_more_than_the_least() -> None:
    model, inputs = tiny_model(0), tiny_inputs(0, 8)
    config = CoreConfig(channel_entries=2048, activation_bytes=262144, weight_bytes=262144)
    program = lower(model, inputs, config, one_block(model))
    whole = roofline.total(roofline.work(program, model))
    assert whole.least_read_bytes < whole.read_bytes < 1.6 * whole.least_read_bytes


def test_a_step_of_generation_reads_what_was_kept() -> None:
    model, inputs = tiny_model(1), tiny_inputs(1, 9)
    generation = Generation(model, CONFIGS[0], inputs, 40)
    prompt = generation.prompt()
    words = np.concatenate([inputs.words, Drawer(9).tensor(1, 24)])
    step = generation.step(words, prompt.dram)
    network = continuation(model, 24)
    works = dict(zip((op.y for op in network.operators), roofline.work(step, network), strict=True))
    attended = works["attended"]
    # 24 tokens before two of its own, keys and values of 2 heads of 8 channels, and an entry.
    assert attended.products == 2 * 4 * 8 * (25 + 26)
    assert attended.least_read_bytes == 24 * 2 * 2 * 8 + 8
    assert attended.read_bytes >= attended.least_read_bytes


def test_cycles_of_a_run_are_shared_out_to_the_last_one() -> None:
    model, program = lowered(CONFIGS[0])
    rng = np.random.default_rng(3)
    completed = {
        queue: tuple(
            sorted(rng.integers(1, 9999, sum(queue_of(c) == queue for c in program.commands)))
        )
        for queue in QUEUES
    }
    shares = roofline.completed_cycles(program, model, completed)
    assert shares == cycle_by_cycle(program, model, completed)
    # Where one command runs after the other, each has its own cycles.
    serial: dict[Queue, list[int]] = {queue: [] for queue in QUEUES}
    expected = [0] * len(model.operators)
    clock = 0
    for command, operator in zip(program.commands, program.operators, strict=True):
        cycles = int(rng.integers(1, 50))
        if isinstance(command, Matmul):
            cycles += 2 * command.depth
        clock += cycles
        expected[operator] += cycles
        serial[queue_of(command)].append(clock - 1)
    assert roofline.completed_cycles(program, model, serial) == tuple(expected)


def cycle_by_cycle(
    program: Program, model: net.Network, completed: dict[Queue, tuple[int, ...]]
) -> tuple[int, ...]:
    """The owner of each cycle in turn: a matmul that is fetched for, else who completes next."""
    done = {queue: iter(ends) for queue, ends in completed.items()}
    ends = [next(done[queue_of(command)]) + 1 for command in program.commands]
    last = max(ends)
    owner = [-1] * (last + 1)
    before = 0
    for command, operator, end in zip(program.commands, program.operators, ends, strict=True):
        if isinstance(command, Matmul):
            for cycle in range(end, before, -1):
                if end - cycle < command.depth * (2 if command.precision == "8x8" else 1):
                    owner[cycle] = operator
            before = end
    first = {}
    for operator, end in zip(program.operators, ends, strict=True):
        first.setdefault(end, operator)
    following = -1
    for cycle in range(last, 0, -1):
        following = first.get(cycle, following)
        if owner[cycle] < 0:
            owner[cycle] = following
    shares = Counter(owner[1:])
    return tuple(shares[at] for at in range(len(model.operators)))
