"""The promise: the integers that give the accuracy are the integers that the RTL computes."""

import os
import re
from pathlib import Path

import pytest

from evaluators.latency import NotBitExact, one_question_a_set, run_on_core
from evaluators.silicon import verilator
from hwlib.config import AcceleratorConfig
from hwlib.cycles import SHIPPED_TIMINGS
from hwlib.elaborate import elaborate
from swopt.plan import CompressionPlan, compress
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs, TowerBits
from swopt.workloads.vqa import SYNTHETIC
from swopt.workloads.workload import Workload, load_workload

IMAGES = 8
"""Images of the real sets that go through the RTL."""

MIXED = CompressionPlan(
    pruning=PruningKnobs(decoder_blocks=(1,), vision_mlp_keep=0.5),
    quantization=QuantizationKnobs(bits=6, vision=TowerBits(mlp_bits=2), decoder=TowerBits(bits=4)),
)
"""A plan that uses every technique, and weights packed at 8, 4 and 2 bits."""

pytestmark = [
    pytest.mark.eda,
    pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "there"),
]


@pytest.fixture(scope="module")
def workload() -> Workload:
    return load_workload()


def images_of(workload: Workload, count: int, *, real: bool) -> list[int]:
    sets = workload.validation().sets
    chosen = [i for i, name in enumerate(sets) if (name != SYNTHETIC) is real]
    # Evenly spread, so that each set is among them.
    return chosen[:: max(1, len(chosen) // count)][:count]


@pytest.mark.parametrize("plan", [CompressionPlan(), MIXED], ids=["w8a8", "mixed"])
def test_every_linear_layer_of_real_images_equals_the_integer_model(
    workload: Workload, cache_dir: Path, plan: CompressionPlan
) -> None:
    questions = workload.validation()
    real = set(questions.sets) - {SYNTHETIC}
    if not real:
        folder = os.environ.get("DOVETAIL_DATA_DIR", "~/.medmnist")
        pytest.skip(f"no MedMNIST files in {folder}; `dovetail fetch medmnist` brings them")
    chosen = questions.take(images_of(workload, IMAGES, real=True))
    assert len(chosen) == IMAGES
    assert set(chosen.sets) == real
    model = compress(workload, plan)
    config = AcceleratorConfig()
    result = run_on_core(model, chosen, elaborate(config), config, SHIPPED_TIMINGS, cache_dir)
    assert {layer.name for layer in result.layers} == set(model.layers)
    assert len(result.layers) == IMAGES * len(model.layers)
    assert result.compared_values == sum(layer.rows * layer.channels for layer in result.layers)


def test_synthetic_images_go_through_the_rtl_too(workload: Workload, cache_dir: Path) -> None:
    chosen = workload.validation().take(images_of(workload, 1, real=False))
    model = compress(workload, MIXED)
    config = AcceleratorConfig()
    result = run_on_core(model, chosen, elaborate(config), config, SHIPPED_TIMINGS, cache_dir)
    assert len(result.layers) == len(model.layers)


def test_one_flipped_bit_of_the_rtl_is_seen(workload: Workload, cache_dir: Path) -> None:
    """The broken twin: the element's product reads its activation with the lowest bit inverted."""
    config = AcceleratorConfig()
    rtlil = elaborate(config)
    broken = flip_lowest_product_bit(rtlil)
    assert broken != rtlil
    model = compress(workload, CompressionPlan())
    with pytest.raises(NotBitExact, match=r"the RTL gives .* the integer model"):
        run_on_core(model, one_question_a_set(workload), broken, config, SHIPPED_TIMINGS, cache_dir)


def flip_lowest_product_bit(rtlil: str) -> str:
    """Feeds the element's multiplier with an operand whose lowest bit is inverted."""
    return re.sub(
        r"(cell \$mul .*?connect \\A )\\a_in \[7:0\]",
        r"\1{ \\a_in [7:1] 1'1 }",
        rtlil,
        count=1,
        flags=re.DOTALL,
    )
