"""The promise, for the whole model: every tensor of an inference on the RTL is the twin's."""

from pathlib import Path

import numpy as np
import pytest

from evaluators.silicon import verilator
from evaluators.silicon.core_simulation import simulate_core
from hwlib.core_config import CoreConfig
from hwlib.core_netlist import elaborate_core
from swopt.compiler import twin
from swopt.compiler.integer_model import IntegerModel, integer_model
from swopt.compiler.program import lower, token, unpack
from swopt.plan import CompressionPlan
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs, TowerBits
from swopt.workloads.vqa import Questions
from swopt.workloads.workload import Workload, load_workload

DEFAULT = CoreConfig()
"""The default core: 8 x 8, 64 KiB of activations."""

SMALL = CoreConfig(rows=4, columns=4)
"""A quarter of it, which is built in seconds."""

BLOCK = 32
"""Keys of one block of the softmax: fewer than there are, so that rescaling happens."""

MIXED = QuantizationKnobs(
    bits=6, vision=TowerBits(mlp_bits=2), decoder=TowerBits(bits=4), overrides={"vision.1": 8}
)

PLANS = {
    "w8a8": CompressionPlan(),
    "w4a8": CompressionPlan(quantization=QuantizationKnobs(bits=4)),
    "mixed": CompressionPlan(quantization=MIXED),
    "mixed and pruned": CompressionPlan(
        pruning=PruningKnobs(vision_blocks=(2,), decoder_blocks=(1,), vision_mlp_keep=0.5),
        quantization=MIXED,
    ),
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


def compressed(workload: Workload, plan: CompressionPlan) -> IntegerModel:
    return integer_model(workload, plan, BLOCK, DEFAULT.exponential_entries)


def spread(workload: Workload, count: int) -> Questions:
    """Validation questions of every image set, evenly."""
    questions = workload.validation()
    return questions.take(list(range(0, len(questions), len(questions) // count))[:count])


def check_every_tensor(
    model: IntegerModel, question: Questions, rtl: str, config: CoreConfig, cache_dir: Path
) -> int:
    """Runs one question and compares everything; gives the cycles."""
    inputs = model.host.inputs(question)[0]
    expected = twin.tensors(model.network, inputs)
    program = lower(model.network, inputs, config, trace=True)
    run = simulate_core(rtl, program.commands, program.dram, config, cache_dir)
    dram = np.frombuffer(run.dram, np.uint8)
    found = unpack(program, dram)
    assert set(found) == set(expected)
    for name, tensor in found.items():
        assert np.array_equal(tensor, expected[name]), f"{name} differs on the RTL"
    assert token(program, dram) == int(np.argmax(expected[model.network.logits][-1]))
    return run.total_cycles


@pytest.mark.parametrize("plan", ["w8a8", "mixed and pruned"])
def test_every_tensor_and_the_token_of_a_question_equal_the_twins(
    workload: Workload, small: str, cache_dir: Path, plan: str
) -> None:
    model = compressed(workload, PLANS[plan])
    check_every_tensor(model, spread(workload, 3).take([1]), small, SMALL, cache_dir)


def test_one_wrong_bit_of_the_rtl_is_seen(workload: Workload, small: str, cache_dir: Path) -> None:
    """The broken twin: the exponential's second value is one too large."""
    value = "assign \\entry [6:0] 7'1111"
    at = small.index(value, small.index("module \\exponential\n"))
    end = small.index("\n", at)
    flipped = "0" if small[end - 1] == "1" else "1"
    broken = small[: end - 1] + flipped + small[end:]
    model = compressed(workload, CompressionPlan())
    with pytest.raises(AssertionError, match="differs on the RTL"):
        check_every_tensor(model, spread(workload, 3).take([0]), broken, SMALL, cache_dir)


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_every_tensor_of_32_questions_equals_the_twins(
    workload: Workload, cache_dir: Path, plan: str
) -> None:
    model, rtl = compressed(workload, PLANS[plan]), elaborate_core(DEFAULT)
    questions = spread(workload, 32)
    assert len(questions) == 32
    for index in range(32):
        check_every_tensor(model, questions.take([index]), rtl, DEFAULT, cache_dir)


@pytest.mark.slow
def test_more_lanes_take_fewer_cycles_for_the_same_numbers(
    workload: Workload, small: str, cache_dir: Path
) -> None:
    model, question = compressed(workload, CompressionPlan()), spread(workload, 3).take([2])
    slow = check_every_tensor(model, question, small, SMALL, cache_dir)
    fast = check_every_tensor(model, question, elaborate_core(DEFAULT), DEFAULT, cache_dir)
    assert slow > 2 * fast
