"""Lowered models on the reference core, tensor by tensor, against the same model in plain numpy."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hwlib.assembler import encode_program
from hwlib.commands import (
    QUEUES,
    AnyCommand,
    Load,
    Matmul,
    Softmax,
    Waits,
    queue_of,
    reads,
    writes,
)
from hwlib.config import CoreConfig
from hwlib.reference.core import Core, execute
from swopt.compiler import network as net
from swopt.compiler import twin
from swopt.compiler.host import Inputs
from swopt.compiler.integer_model import integer_model
from swopt.compiler.lowering import LoweringError
from swopt.compiler.mapping import Mapping, one_block
from swopt.compiler.memory_map import ActivationMemory
from swopt.compiler.program import Program, lower, token, unpack, unpack_result
from swopt.compiler.schedule import Schedule
from swopt.plan import CompressionPlan
from swopt.techniques.attention import AttentionKnobs
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs
from swopt.workloads.workload import Workload
from tests.hwlib.core_programs import random_program
from tests.swopt.plain_network import (
    Drawer,
    brought,
    evaluate,
    few_bit_weights,
    grouped,
    narrowed,
    random_mapping,
    tiny_inputs,
    tiny_model,
)


def core(**knobs: Any) -> CoreConfig:
    return CoreConfig(**{"rows": 8, "columns": 8} | knobs)


def network(*operators: net.Operator, block: int = 8, entries: Any = 16) -> net.Network:
    return net.Network(operators, block, entries, "logits", 1.0)


def assert_equal_to_numpy(
    model: net.Network, inputs: Inputs, config: CoreConfig, mapping: Mapping | None = None
) -> Program:
    """Every tensor, after each operator that made it or added to it."""
    program = lower(model, inputs, config, mapping, trace=True)
    encode_program(program.commands, config)
    dram = execute(program.commands, program.dram, config)
    expected = evaluate(model, inputs)
    for result in program.results:
        np.testing.assert_array_equal(
            unpack_result(program, result, dram), expected[result.operator], err_msg=result.name
        )
    logits = [index for index, op in enumerate(model.operators) if op.y == model.logits]
    assert len(program.results) + len(logits) == len(model.operators)
    for index in logits:
        np.testing.assert_array_equal(unpack(program, dram)[model.logits], expected[index])
        assert token(program, dram) == int(expected[index].argmax())
    return program


SIDES = [(8, 8), (4, 4), (4, 16), (16, 4), (8, 16), (16, 8)]


@pytest.mark.parametrize("rows, columns", SIDES)
@pytest.mark.parametrize("tokens", [1, 5, 16])
def test_linear_layers_of_every_output_and_packing(rows: int, columns: int, tokens: int) -> None:
    d = Drawer(rows + columns + tokens)
    channels, odd = 14, 7
    operators = [
        net.Input("stream", "words", channels),
        d.norm("stream", "x", channels),
        d.linear("x", "bytes", channels, odd),
        d.linear("bytes", "again", odd, 21, weight_bits=4),
        d.linear("again", "words", 21, 33, "int16", weight_bits=2),
        d.linear("x", "stream", channels, channels, "residual", weight_bits=3),
        d.linear("x", "logits", channels, 50, "logits"),
    ]
    inputs = brought(words=d.tensor(tokens, channels))
    program = assert_equal_to_numpy(network(*operators), inputs, core(rows=rows, columns=columns))
    packed = Counter(c.packed_bits for c in program.commands if isinstance(c, Load))
    assert set(packed) == {8, 4, 2}


@pytest.mark.parametrize("centred", [True, False])
def test_norms_activations_gates_and_sums(centred: bool) -> None:
    d = Drawer(3)
    operators = [
        net.Input("a", "patches", 6),
        net.Input("b", "positions", 6),
        net.Add("a", "b", "sum"),
        d.norm("sum", "normed", 6, centred),
        net.Activate("a", "gelu", "gelu", d.scale(0.01, zero=-3)),
        net.Activate("b", "silu", "silu", d.scale(0.02, zero=100)),
        net.Gate("a", "b", "gated", 12, d.scale(0.1, zero=7)),
    ]
    inputs = brought(patches=d.tensor(21, 6, 300), positions=d.tensor(21, 6, 300))
    assert_equal_to_numpy(network(*operators), inputs, core())


def test_equal_logits_give_the_lowest_index() -> None:
    d = Drawer(4)
    head = d.linear("x", "logits", 6, 40, "logits")
    rows = np.arange(40) % 10
    head = replace(
        head, weight=head.weight[rows], bias=head.bias[rows],
        multiplier=head.multiplier[rows], shift=head.shift[rows],
    )  # fmt: skip
    operators = [net.Input("stream", "words", 6), d.norm("stream", "x", 6), head]
    for seed in range(3):
        inputs = brought(words=Drawer(seed).tensor(9, 6))
        program = assert_equal_to_numpy(network(*operators), inputs, core())
        assert token(program, execute(program.commands, program.dram, core())) < 10


def attention_model(
    seed: int, heads: int, kv_heads: int, dim: int, causal: bool, block: int
) -> net.Network:
    d = Drawer(seed)
    return network(
        net.Input("stream", "words", 10),
        d.norm("stream", "x", 10),
        d.linear("x", "q", 10, heads * dim),
        d.linear("x", "k", 10, kv_heads * dim),
        d.linear("x", "v", 10, kv_heads * dim, across=True),
        d.attention("q", "k", "v", "y", heads, kv_heads, dim, causal),
        block=block,
        entries=16,
    )


@pytest.mark.parametrize("rows, columns", SIDES)
@pytest.mark.parametrize("tokens, block", [(1, 8), (7, 2), (13, 8), (24, 16), (35, 12), (19, 64)])
@pytest.mark.parametrize("causal", [True, False])
def test_attention_over_blocks_of_any_size(
    rows: int, columns: int, tokens: int, block: int, causal: bool
) -> None:
    heads, kv_heads, dim = [(1, 1, 6), (4, 2, 10), (3, 1, 16)][(tokens + rows) % 3]
    model = attention_model(tokens, heads, kv_heads, dim, causal, block)
    inputs = brought(words=Drawer(tokens).tensor(tokens, 10))
    assert_equal_to_numpy(model, inputs, core(rows=rows, columns=columns))


def test_causal_attention_skips_blocks_that_no_query_sees() -> None:
    inputs = brought(words=Drawer(1).tensor(32, 10))
    blocks = []
    for causal in (True, False):
        program = lower(attention_model(1, 1, 1, 8, causal, 8), inputs, core())
        blocks.append(sum(isinstance(command, Softmax) for command in program.commands))
    assert blocks == [1 + 2 + 3 + 4, 16]


def test_rotation_of_several_heads_with_one_table() -> None:
    d = Drawer(5)
    first = d.rotate("q", "q.rotated", 3, 8, positions=20)
    second = replace(d.rotate("k", "k.rotated", 1, 8, 20), cosine=first.cosine, sine=first.sine)
    model = network(net.Input("q", "words", 24), net.Input("k", "patches", 8), first, second)
    inputs = brought(words=d.tensor(19, 24, 300), patches=d.tensor(19, 8, 300))
    program = assert_equal_to_numpy(model, inputs, core())
    assert (
        sum(isinstance(command, Load) for command in program.commands) == 9
    )  # a load a token group


def test_weights_that_fill_more_than_half_of_the_memory() -> None:
    d = Drawer(6)
    config = core(weight_bytes=8192)  # 512 words, 256 a half
    model = network(
        net.Input("stream", "words", 600),
        d.norm("stream", "x", 600),
        d.linear("x", "y", 600, 20, "int16"),
    )
    config = config.model_copy(update={"channel_entries": 1024})
    assert_equal_to_numpy(model, brought(words=d.tensor(9, 600)), config)


@pytest.mark.parametrize("rows, columns", SIDES)
@pytest.mark.parametrize("words", [1, 11])
def test_a_whole_model_of_vision_connector_and_decoder(rows: int, columns: int, words: int) -> None:
    model, inputs = tiny_model(words), tiny_inputs(words, words)
    assert_equal_to_numpy(model, inputs, core(rows=rows, columns=columns, channel_entries=256))


@pytest.mark.parametrize("rows, columns", SIDES)
def test_fewer_bits_take_more_products_a_cycle_and_no_other_number(rows: int, columns: int) -> None:
    config = core(rows=rows, columns=columns, channel_entries=256, composable=True)
    inputs = tiny_inputs(3, 11)
    few = few_bit_weights(tiny_model(3, vision_heads=3))
    for model, precision in ((few, "8x4"), (narrowed(few), "4x4")):
        program = assert_equal_to_numpy(model, inputs, config)
        matmuls = [c for c in program.commands if isinstance(c, Matmul)]
        used = {c.precision for c in matmuls if c.weight_source == "weights"}
        assert used == {precision}
    assert_equal_to_numpy(few, inputs, core(rows=rows, columns=columns, channel_entries=256))


@pytest.mark.parametrize("seed", range(12))
def test_blocks_of_any_size_in_passes_of_any_length(seed: int) -> None:
    rows, columns = SIDES[seed % len(SIDES)]
    config = core(rows=rows, columns=columns, channel_entries=256, composable=seed % 2 == 1)
    model, inputs = tiny_model(seed, vision_heads=3), tiny_inputs(seed, 1 + 3 * seed)
    if config.composable:
        model = narrowed(few_bit_weights(model)) if seed % 4 == 1 else few_bit_weights(model)
    mapping = random_mapping(model, inputs, rows, seed)
    assert_equal_to_numpy(model, inputs, config, mapping)


def test_weights_of_2_bits_in_groups_are_multiplied_as_those_of_4() -> None:
    config = core(composable=True, grouped_weights=True)
    few = grouped(few_bit_weights(tiny_model(3, vision_heads=3), 2), 32)
    for model, precision in ((few, "8x4"), (narrowed(few), "4x4")):
        program = assert_equal_to_numpy(model, tiny_inputs(3, 11), config)
        matmuls = [c for c in program.commands if isinstance(c, Matmul)]
        assert {c.precision for c in matmuls if c.weight_source == "weights"} == {precision}
        loads = [c for c in program.commands if isinstance(c, Load) and c.target == "weights"]
        assert {(c.packed_bits, c.memory_bits, c.group_words) for c in loads} == {(2, 4, 8)}


@pytest.mark.parametrize("composable", [False, True])
@pytest.mark.parametrize("inputs", [16, 32])
def test_weights_in_groups_take_their_fewer_bytes_and_give_their_numbers(
    composable: bool, inputs: int
) -> None:
    model = grouped(few_bit_weights(tiny_model(3)), inputs)
    config = core(composable=composable, grouped_weights=True)
    program = assert_equal_to_numpy(model, tiny_inputs(3, 5), config)
    loads = [c for c in program.commands if isinstance(c, Load) and c.target == "weights"]
    assert {load.packed_bits for load in loads} == {4, 2}
    assert {load.memory_bits for load in loads} == ({8, 4} if composable else {8})
    assert {load.group_words for load in loads} <= {inputs // 4, inputs // 2}
    values = next(op for op in model.operators if isinstance(op, net.Linear) and op.across)
    assert values.weight_bits == 4
    with pytest.raises(LoweringError, match="takes a core with grouped weights"):
        lower(model, tiny_inputs(3, 5), core(composable=composable))


def test_a_part_that_was_added_to_before_it_is_joined() -> None:
    d = Drawer(9)
    model = network(
        net.Input("image", "patches", 8),
        net.Input("words", "words", 8),
        d.norm("image", "x", 8),
        d.linear("x", "image", 8, 8, "residual"),
        net.Concatenate("image", "words", "stream"),
        d.norm("stream", "y", 8),
    )
    inputs = brought(patches=d.tensor(16, 8), words=d.tensor(3, 8))
    assert_equal_to_numpy(model, inputs, core())


def test_words_are_given_back_after_their_last_use() -> None:
    d = Drawer(10)
    model = network(
        net.Input("small", "words", 8),
        d.rotate("small", "rotated", 1, 8, positions=8),
        net.Input("large", "patches", 30),
    )
    program = lower(model, brought(words=d.tensor(8, 8), patches=d.tensor(8, 30)), core())
    assert program.activation_words == 30


def test_what_is_free_stays_in_one_piece() -> None:
    """b goes before c, so c lies at the other end and leaves no hole behind b."""
    memory = ActivationMemory(16)
    memory.keep("a", 4, until=9)
    memory.keep("b", 4, until=5)
    memory.keep("c", 4, until=7)
    assert [memory.address(name) for name in "abc"] == [0, 4, 12]
    memory.free("b")
    assert memory.allocate("rest", 8) == 4
    assert memory.most == 16
    with pytest.raises(LoweringError, match="d takes 1 words beside 16 that are in use"):
        memory.keep("d", 1, until=8)


def test_operands_of_values_come_out_of_two_banks() -> None:
    d = Drawer(11)
    model = network(
        net.Input("stream", "words", 16),
        d.norm("stream", "x", 16),
        d.linear("x", "q", 16, 16),
        d.linear("x", "k", 16, 16),
        d.linear("x", "v", 16, 16, across=True),
        d.attention("q", "k", "v", "y", 2, 2, 8, causal=False),
    )
    program = assert_equal_to_numpy(model, brought(words=d.tensor(20, 16)), core())
    exchanged = [c for c in program.commands if isinstance(c, Matmul) and c.scale_by == "lane"]
    assert exchanged
    for command in exchanged:
        assert (command.activation_address - command.weight_address) % core().activation_banks


def test_without_trace_only_the_head_is_stored() -> None:
    model, inputs = tiny_model(2), tiny_inputs(2, 5)
    program = lower(model, inputs, core())
    dram = execute(program.commands, program.dram, core())
    tensors = unpack(program, dram)
    np.testing.assert_array_equal(tensors.pop("logits"), evaluate(model, inputs)[-1])
    assert tensors == {}


HALF_OF_THE_HEADS = PruningKnobs(vision_heads_keep=0.5, decoder_heads_keep=0.75)


@pytest.mark.parametrize(
    "bits, side, pruning", [(8, 8, PruningKnobs()), (4, 16, HALF_OF_THE_HEADS)]
)
def test_tiny_vlm_is_its_twin_tensor_by_tensor(
    workload: Workload, bits: Any, side: Any, pruning: PruningKnobs
) -> None:
    plan = CompressionPlan(
        attention=AttentionKnobs(block=16),
        quantization=QuantizationKnobs(bits=bits),
        pruning=pruning,
    )
    model = integer_model(workload, plan)
    config = CoreConfig(rows=side, columns=side)
    questions = workload.validation().take([0])
    (inputs,) = model.host.inputs(questions)
    program = lower(model.network, inputs, config, trace=True)
    dram = execute(program.commands, program.dram, config)
    expected = twin.results(model.network, inputs)
    for result in program.results:
        found = unpack_result(program, result, dram)
        assert found.dtype == expected[result.operator].dtype
        np.testing.assert_array_equal(found, expected[result.operator], err_msg=result.name)
    (logits,) = model.logits(questions).numpy()
    np.testing.assert_array_equal(unpack(program, dram)[model.network.logits], logits[None])
    assert token(program, dram) == int(logits.argmax())


class TestWaits:
    """What the commands wait for is enough, in whatever order the queues get on."""

    config = core(activation_bytes=8192, weight_bytes=8192, channel_entries=256)

    def program(self) -> Program:
        return lower(tiny_model(7), tiny_inputs(7, 11), self.config, trace=True)

    def test_any_interleaving_of_the_queues_gives_the_same_dram(self) -> None:
        program = self.program()
        expected = execute(program.commands, program.dram, self.config)
        for seed in range(30):
            after = run_interleaved(program.commands, program.dram, self.config, seed)
            np.testing.assert_array_equal(after, expected, err_msg=f"seed {seed}")

    def test_interleaving_without_waits_does_not(self) -> None:
        program = self.program()
        expected = execute(program.commands, program.dram, self.config)
        for queue in QUEUES[:3]:
            loose = [
                command.model_copy(update={"waits": command.waits.model_copy(update={queue: None})})
                for command in program.commands
            ]
            try:
                after = run_interleaved(loose, program.dram, self.config, seed=1)
            except ValueError as error:
                assert "channel entry" in str(error)  # used before it was loaded
            else:
                assert (after != expected).any(), queue

    @pytest.mark.parametrize("rows, columns", [(8, 8), (4, 8), (16, 4)])
    def test_every_two_commands_that_touch_the_same_word_are_ordered(
        self, rows: int, columns: int
    ) -> None:
        config = core(rows=rows, columns=columns, weight_bytes=8192, channel_entries=256)
        program = lower(tiny_model(8), tiny_inputs(8, 9), config, trace=True)
        assert races(program.commands, config) == []

    @pytest.mark.parametrize("seed", range(8))
    def test_waits_of_commands_that_collide_everywhere_are_enough(self, seed: int) -> None:
        config = core(rows=4, columns=4, activation_bytes=8192, weight_bytes=8192)
        commands, dram = random_program(config, 150, seed)
        schedule = Schedule(config)
        for command in commands:
            schedule.add(command)
        sent = schedule.commands()
        encode_program(sent, config)
        assert races(sent, config) == []
        assert sum(c.waits != Waits() for c in sent) > 50
        after = run_interleaved(sent, dram, config, seed)
        np.testing.assert_array_equal(after, execute(commands, dram, config))

    def test_a_missing_wait_is_a_race(self) -> None:
        commands = list(self.program().commands)
        found = 0
        for index, command in enumerate(commands):
            if index % 40 == 0 and command.waits != Waits():
                loose = command.model_copy(update={"waits": Waits()})
                changed = [*commands[:index], loose, *commands[index + 1 :]]
                found += bool(races(changed, self.config))
        assert found > 5

    def test_weights_of_the_next_tiles_are_loaded_before_the_last_product_with_these(self) -> None:
        d = Drawer(1)
        model = network(
            net.Input("stream", "words", 64), d.norm("stream", "x", 64),
            d.linear("x", "y", 64, 256, "int16"),
        )  # fmt: skip
        config = core(weight_bytes=8192)
        program = lower(model, brought(words=d.tensor(32, 64)), config, one_block(model))
        loads = [
            index for index, command in enumerate(program.commands)
            if isinstance(command, Load) and command.target == "weights"
        ]  # fmt: skip
        products = [i for i, command in enumerate(program.commands) if isinstance(command, Matmul)]
        assert len(loads) == 256 // 8
        for number, load in enumerate(loads[1:], 1):
            before = sum(product < load for product in products)
            assert before <= len(products) * number // len(loads)


def run_interleaved(
    commands: Sequence[AnyCommand], dram: np.ndarray, config: CoreConfig, seed: int
) -> np.ndarray:
    """Runs the queues in a random order that respects the waits alone.

    Matmuls fetch their operands up to two tiles before the one that is drained, as the array does.
    Queues are drawn with weights that change, so that each is at times far ahead and far behind.
    """
    rng = np.random.default_rng(seed)
    state = Core(dram, config)
    queues = {
        queue: deque(command for command in commands if queue_of(command) == queue)
        for queue in QUEUES
    }
    completed = Counter[str]()
    fetched: deque[tuple[Matmul, np.ndarray]] = deque()
    weights = rng.random(5)

    def ready(command: AnyCommand) -> bool:
        waits = ((queue, getattr(command.waits, queue)) for queue in QUEUES)
        return all(count is None or completed[queue] >= count for queue, count in waits)

    while any(queues.values()) or fetched:
        able = [queue for queue, waiting in queues.items() if waiting and ready(waiting[0])]
        if "matmul" in able and len(fetched) == 3:
            able.remove("matmul")
        steps = able + ["drain"] * bool(fetched)
        if not steps:
            raise AssertionError("every queue waits for another")
        if rng.random() < 0.02:
            weights = rng.random(5) ** 4 + 1e-6
        chances = weights[[[*QUEUES, "drain"].index(step) for step in steps]]
        step = str(rng.choice(steps, p=chances / chances.sum()))
        if step == "drain":
            state.drain(*fetched.popleft())
            completed["matmul"] += 1
            continue
        command = queues[step].popleft()  # type: ignore[index]
        if isinstance(command, Matmul):
            fetched.append((command, state.sums(command)))
        else:
            state.run(command)
            completed[step] += 1
    return state.dram


def races(commands: Sequence[AnyCommand], config: CoreConfig) -> list[tuple[int, int]]:
    """Pairs of commands of different queues that touch a word, one of them writing, unordered.

    Also matmuls that fetch what an earlier matmul drains without waiting for it.
    """
    counts = Counter[str]()
    place: list[tuple[str, int]] = []  # queue, number in it
    finished: dict[tuple[str, int], Counter[str]] = {}  # what is complete when a command begins
    last: dict[str, Counter[str]] = {queue: Counter() for queue in QUEUES}
    touched: dict[tuple[str, int], list[tuple[int, bool]]] = {}
    found = []
    for index, command in enumerate(commands):
        queue = queue_of(command)
        counts[queue] += 1
        place.append((queue, counts[queue]))
        known = last[queue].copy()
        for other in QUEUES:
            count = getattr(command.waits, other)
            if count:
                known |= finished[other, count]
                known |= Counter({other: count})
        last[queue] = finished[queue, counts[queue]] = known
        fetches = set()
        if isinstance(command, Matmul):
            fetches = words(reads(command)[:2], config)
        written = words(writes(command), config)
        for word in words(reads(command), config) | written:
            writing = word in written
            for earlier, wrote in touched.get(word, []):
                other, number = place[earlier]
                conflict = (writing or wrote) and other != queue
                if other == queue == "matmul":
                    conflict = wrote and word in fetches
                if conflict and known[other] < number:
                    found.append((earlier, index))
            touched.setdefault(word, []).append((index, writing))
    return found


def words(spans: Sequence[tuple[str, int, int]], config: CoreConfig) -> set[tuple[str, int]]:
    """Every word of some spans; entries that differ by lane are as many as rows."""
    return {
        (memory, first + word)
        for memory, first, count in spans
        for word in range(count or config.rows)
    }


class TestRefuses:
    def refused(
        self, operators: Sequence[net.Operator], message: str, tokens: int = 8, **knobs: Any
    ) -> None:
        inputs = brought(words=Drawer(0).tensor(tokens, 8), patches=Drawer(0).tensor(tokens, 8))
        with pytest.raises(LoweringError, match=message):
            lower(network(*operators), inputs, core(**knobs))

    stream = net.Input("stream", "words", 8)

    def test_a_model_whose_softmax_has_another_table(self) -> None:
        self.refused([self.stream], "table of 16 entries, the core's has 8", exponential_entries=8)

    def test_an_odd_attention_block(self) -> None:
        inputs = brought(words=Drawer(0).tensor(9, 10))
        with pytest.raises(LoweringError, match=r"must be even, .* not 7 keys and 8 channels"):
            lower(attention_model(1, 1, 1, 8, False, 7), inputs, core())

    def test_pixel_shuffle_of_tokens_that_are_no_whole_groups(self) -> None:
        operators = [
            self.stream, Drawer(0).norm("stream", "x", 8), net.Shuffle("x", "y", 4),
        ]  # fmt: skip
        self.refused(operators, "makes 12 tokens of 4 x 8 .* multiple of the 8 rows", tokens=48)

    def test_a_first_part_of_tokens_that_are_no_whole_groups(self) -> None:
        operators = [
            self.stream,
            net.Input("image", "patches", 8),
            net.Concatenate("image", "stream", "y"),
        ]
        self.refused(operators, "first part of y has 9 tokens, .* multiple of the 8 rows", tokens=9)

    def test_a_memory_that_is_too_small_and_says_how_many_words_it_takes(self) -> None:
        operators = [
            net.Input("image", "patches", 8), self.stream, net.Concatenate("image", "stream", "y"),
        ]  # fmt: skip
        message = "take 640 words of an activation memory of 512, .* use a larger activation memory"
        self.refused(operators, message, tokens=320, activation_bytes=8192)

    def test_a_tile_that_is_greater_than_the_weight_memory(self) -> None:
        d = Drawer(0)
        inputs = brought(words=d.tensor(1, 1400))
        model = network(
            net.Input("stream", "words", 1400),
            d.norm("stream", "x", 1400),
            d.linear("x", "y", 1400, 8),
        )
        config = core(weight_bytes=8192, channel_entries=2048)
        with pytest.raises(LoweringError, match="takes 700 words, more than the 512 of the weight"):
            lower(model, inputs, config)

    def test_weights_that_do_not_fit_their_bits(self) -> None:
        d = Drawer(0)
        wide = replace(d.linear("x", "y", 8, 8), weight_bits=4)
        operators = [self.stream, d.norm("stream", "x", 8), wide]
        self.refused(operators, "of y from x do not fit 4 bits")

    def test_sums_that_could_wrap(self) -> None:
        d = Drawer(0)
        layer = d.linear("x", "y", 8, 8)
        edge = replace(layer, bias=np.full(8, (1 << 31) - 1, np.int32))
        operators = [self.stream, d.norm("stream", "x", 8), edge]
        self.refused(operators, "y from x: sums .* beyond the 32-bit accumulators")

    def test_sums_beyond_narrow_accumulators_by_their_operator(self) -> None:
        d = Drawer(0)
        operators = [self.stream, d.norm("stream", "x", 8), d.linear("x", "y", 8, 8)]
        lower(network(*operators), brought(words=d.tensor(8, 8)), core(accumulator_bits=20))
        model = attention_model(1, 1, 1, 8, False, 64)
        inputs = brought(words=Drawer(1).tensor(64, 10))
        with pytest.raises(LoweringError, match=r"y: sums .* use an attention block under 64 keys"):
            lower(model, inputs, core(accumulator_bits=20))
        few = brought(words=Drawer(1).tensor(32, 10))
        lower(model, few, core(accumulator_bits=20))

    def test_an_odd_norm_by_its_operator(self) -> None:
        inputs = brought(words=Drawer(0).tensor(4, 7))
        model = network(net.Input("stream", "words", 7), Drawer(0).norm("stream", "x", 7))
        with pytest.raises(LoweringError, match="norm: count must be even, not 7"):
            lower(model, inputs, core())

    def test_a_tensor_that_nothing_has_made(self) -> None:
        self.refused([net.Add("stream", "stream", "y")], "operator 0 reads stream, which nothing")

    def test_a_tensor_of_another_kind(self) -> None:
        self.refused(
            [self.stream, Drawer(0).linear("stream", "y", 8, 8)], "stream must lie as int8 here"
        )

    def test_a_part_that_is_read_after_the_whole_was_added_to(self) -> None:
        d = Drawer(0)
        operators = [
            net.Input("image", "patches", 8),
            self.stream,
            net.Concatenate("image", "stream", "all"),
            d.norm("all", "x", 8),
            d.linear("x", "all", 8, 8, "residual"),
            d.norm("image", "late", 8),
        ]
        self.refused(operators, "image is read after all, which shares its words")
