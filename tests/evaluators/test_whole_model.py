"""The promise, for the whole model: every tensor of an inference on the RTL is the twin's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluators.silicon import verilator
from evaluators.silicon.simulation import simulate_core
from hwlib.config import CoreConfig
from hwlib.elaborate import elaborate_core
from swopt.compiler import twin
from swopt.compiler.generation import Generation
from swopt.compiler.integer_model import IntegerModel, integer_model
from swopt.compiler.program import Program, lower, token, unpack, with_inputs
from swopt.plan import CompressionPlan
from swopt.techniques.attention import AttentionKnobs
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs, TowerBits
from swopt.workloads.vqa import Questions
from swopt.workloads.workload import Workload, load_workload

DEFAULT = CoreConfig()
"""The default core: 8 x 8, 64 KiB of activations."""

SMALL = CoreConfig(rows=4, columns=4)
"""A quarter of it, which is built in seconds."""

COMPOSABLE = CoreConfig(composable=True)
"""The default core with elements of 4-bit products."""

BLOCKS = AttentionKnobs(block=32)
"""Fewer keys than there are, so that sums are rescaled on the way."""

MOST_TOKENS = 64
"""Room for a question with its image and the answer."""

ANSWER_TOKENS = 8
"""Generated for each question."""

MIXED = QuantizationKnobs(
    bits=6, vision=TowerBits(mlp_bits=2), decoder=TowerBits(bits=4), overrides={"vision.1": 8}
)

PRUNED = PruningKnobs(vision_blocks=(2,), decoder_blocks=(1,), vision_mlp_keep=0.5)

FOUR = QuantizationKnobs(bits=4)

ALL_FOUR = QuantizationKnobs(bits=4, activation_bits=4)

PLANS = {
    "w8a8": CompressionPlan(attention=BLOCKS),
    "w4a8": CompressionPlan(attention=BLOCKS, quantization=FOUR),
    "w4a4": CompressionPlan(attention=BLOCKS, quantization=ALL_FOUR),
    "w4a4 and pruned": CompressionPlan(attention=BLOCKS, pruning=PRUNED, quantization=ALL_FOUR),
    "mixed": CompressionPlan(attention=BLOCKS, quantization=MIXED),
    "mixed and pruned": CompressionPlan(attention=BLOCKS, pruning=PRUNED, quantization=MIXED),
}

pytestmark = [
    pytest.mark.eda,
    pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "there"),
]


@pytest.fixture(scope="module")
def workload() -> Workload:
    return load_workload()


@pytest.fixture(scope="module")
def small() -> str:
    return elaborate_core(SMALL)


def compressed(workload: Workload, plan: str) -> IntegerModel:
    return integer_model(workload, PLANS[plan])


def spread(workload: Workload, count: int) -> Questions:
    """Validation questions of every image set, evenly."""
    questions = workload.validation()
    return questions.take(list(range(0, len(questions), len(questions) // count))[:count])


def check_every_tensor(
    model: IntegerModel, questions: Questions, rtl: str, config: CoreConfig, cache_dir: Path
) -> int:
    """Runs each question and compares everything; gives the last one's cycles.

    Questions of as many words share a program.
    """
    programs: dict[int, Program] = {}
    cycles = 0
    for inputs in model.host.inputs(questions):
        length = len(inputs.words)
        if length not in programs:
            programs[length] = lower(model.network, inputs, config, trace=True)
        program = programs[length]
        image = with_inputs(program, inputs)
        run = simulate_core(rtl, program.commands, image, config, cache_dir)
        dram = np.frombuffer(run.dram, np.uint8)
        expected = twin.tensors(model.network, inputs)
        found = unpack(program, dram)
        assert set(found) == set(expected)
        for name, tensor in found.items():
            assert np.array_equal(tensor, expected[name]), f"{name} differs on the RTL"
        assert token(program, dram) == int(np.argmax(expected[model.network.logits][-1]))
        cycles = run.total_cycles
    return cycles


@pytest.mark.parametrize("plan", ["w8a8", "mixed and pruned"])
def test_every_tensor_and_the_token_of_a_question_equal_the_twins(
    workload: Workload, small: str, cache_dir: Path, plan: str
) -> None:
    model = compressed(workload, plan)
    check_every_tensor(model, spread(workload, 3).take([1]), small, SMALL, cache_dir)


def test_one_wrong_bit_of_the_rtl_is_seen(workload: Workload, small: str, cache_dir: Path) -> None:
    """The broken twin: the exponential's second value is one too large."""
    value = "assign \\entry [6:0] 7'1111"
    at = small.index(value, small.index("module \\exponential\n"))
    end = small.index("\n", at)
    flipped = "0" if small[end - 1] == "1" else "1"
    broken = small[: end - 1] + flipped + small[end:]
    model = compressed(workload, "w8a8")
    with pytest.raises(AssertionError, match="differs on the RTL"):
        check_every_tensor(model, spread(workload, 3).take([0]), broken, SMALL, cache_dir)


def test_an_answer_of_eight_tokens_equals_the_twins(
    workload: Workload, small: str, cache_dir: Path
) -> None:
    """Every tensor of each step is what the twin makes of all tokens at once."""
    check_generation(compressed(workload, "w8a8"), workload, small, SMALL, cache_dir)


def check_generation(
    model: IntegerModel, workload: Workload, rtl: str, config: CoreConfig, cache_dir: Path
) -> None:
    (inputs,) = model.host.inputs(spread(workload, 3).take([1]))
    generation = Generation(model.network, config, inputs, MOST_TOKENS)
    program, words = generation.prompt(trace=True), inputs.words
    for _ in range(ANSWER_TOKENS):
        run = simulate_core(rtl, program.commands, program.dram, config, cache_dir)
        dram = np.frombuffer(run.dram, np.uint8)
        expected = twin.tensors(model.network, replace(inputs, words=words))
        found = unpack(program, dram)
        assert len(found) > 10
        for name, tensor in found.items():
            whole = expected[name][-len(tensor) :]
            assert np.array_equal(tensor, whole), f"{name} differs after {len(words)} words"
        answered = token(program, dram)
        assert answered == int(np.argmax(expected[model.network.logits][-1]))
        words = np.concatenate([words, model.host.words[answered][None]])
        program = generation.step(words, dram, trace=True)


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["w4a8", "w4a4"])
def test_answers_at_four_bits_equal_the_twins(
    workload: Workload, cache_dir: Path, plan: str
) -> None:
    rtl = elaborate_core(COMPOSABLE)
    check_generation(compressed(workload, plan), workload, rtl, COMPOSABLE, cache_dir)


def check_32_questions(workload: Workload, plan: str, config: CoreConfig, cache_dir: Path) -> None:
    questions = spread(workload, 32)
    assert len(questions) == 32
    model = compressed(workload, plan)
    check_every_tensor(model, questions, elaborate_core(config), config, cache_dir)


# Classes, so that two workers share the work.


@pytest.mark.slow
class TestEveryTensorOf32QuestionsOnComposableElements:
    @pytest.mark.parametrize("plan", ["w4a8", "w4a4", "w4a4 and pruned", "mixed and pruned"])
    def test_equals_the_twins(self, workload: Workload, cache_dir: Path, plan: str) -> None:
        check_32_questions(workload, plan, COMPOSABLE, cache_dir)


@pytest.mark.slow
class TestEveryTensorOf32QuestionsOnFixedElements:
    @pytest.mark.parametrize("plan", ["w8a8", "w4a8", "mixed"])
    def test_equals_the_twins(self, workload: Workload, cache_dir: Path, plan: str) -> None:
        check_32_questions(workload, plan, DEFAULT, cache_dir)


@pytest.mark.slow
def test_more_lanes_take_fewer_cycles_for_the_same_numbers(
    workload: Workload, small: str, cache_dir: Path
) -> None:
    model, question = compressed(workload, "w8a8"), spread(workload, 3).take([2])
    slow = check_every_tensor(model, question, small, SMALL, cache_dir)
    fast = check_every_tensor(model, question, elaborate_core(DEFAULT), DEFAULT, cache_dir)
    assert slow > 2 * fast
