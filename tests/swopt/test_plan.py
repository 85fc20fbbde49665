"""A plan is applied in order, repeats to the bit, and its laws are told in a sentence."""

import subprocess
import sys

import pytest
import torch

from swopt.compiler.integer_model import integer_model, measure_sensitivities
from swopt.compiler.network import Linear
from swopt.plan import CompressionPlan, check
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs
from swopt.workloads.tiny_vlm import linear_layers
from swopt.workloads.workload import Workload


def test_reading_the_knobs_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, swopt.plan; "
        "sys.exit(bool({'torch', 'transformers', 'amaranth'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_baseline_stays_close_to_the_float_model(workload: Workload) -> None:
    questions = workload.validation()
    baseline = integer_model(workload, CompressionPlan()).score(questions)
    uncompressed = workload.score_uncompressed(questions)
    divergence = (uncompressed.exp() * (uncompressed - baseline)).sum(1).mean()
    assert 0 < divergence < 0.003
    coarse = integer_model(workload, CompressionPlan(quantization=QuantizationKnobs(bits=2)))
    away = (uncompressed.exp() * (uncompressed - coarse.score(questions))).sum(1).mean()
    assert away > 5 * divergence


def test_equal_plans_give_equal_bits_and_leave_the_model_alone(workload: Workload) -> None:
    questions = workload.validation().take(list(range(0, 40, 4)))
    plan = CompressionPlan(
        pruning=PruningKnobs(vision_blocks=(1,), decoder_mlp_keep=0.5),
        quantization=QuantizationKnobs(bits=3, overrides={"vision.2": 8}),
    )
    untouched = workload.score_uncompressed(questions)
    first = integer_model(workload, plan).score(questions)
    second = integer_model(workload, plan).score(questions)
    assert torch.equal(first, second)
    assert torch.equal(untouched, workload.score_uncompressed(questions))


def test_shared_bits_lose_less_than_equal_ones_of_no_more_memory(workload: Workload) -> None:
    questions = workload.validation()
    uncompressed = workload.score_uncompressed(questions)
    sensitivities = measure_sensitivities(workload)

    def made(knobs: QuantizationKnobs) -> tuple[float, int]:
        plan = CompressionPlan(quantization=knobs)
        model = integer_model(workload, plan, sensitivities=lambda: sensitivities)
        away = (uncompressed.exp() * (uncompressed - model.score(questions))).sum(1).mean()
        return float(away), model.model_bytes

    equal, equal_bytes = made(QuantizationKnobs(bits=4))
    shared, shared_bytes = made(QuantizationKnobs(mean_bits=4.0))
    assert shared_bytes <= equal_bytes and shared < 0.7 * equal
    spoken, spoken_bytes = made(QuantizationKnobs(mean_bits=2.0, head_bits=8))
    everywhere, _ = made(QuantizationKnobs(bits=2))
    assert spoken < everywhere and spoken_bytes < equal_bytes
    assert made(QuantizationKnobs(mean_bits=2.0))[0] == everywhere


def test_bits_blocks_and_channels_show_in_the_bytes(workload: Workload) -> None:
    shapes = {n: m.weight.numel() for n, m in linear_layers(workload.vlm.model).items()}
    whole = sum(shapes.values())
    assert integer_model(workload, CompressionPlan()).model_bytes == whole
    three = CompressionPlan(quantization=QuantizationKnobs(bits=3, head_bits=8))
    head = shapes["head"]
    assert integer_model(workload, three).model_bytes == (whole - head) // 2 + head
    shallow = CompressionPlan(pruning=PruningKnobs(vision_blocks=(0,), decoder_mlp_keep=0.5))
    block = sum(size for name, size in shapes.items() if name.startswith("vision.0."))
    mlp = sum(
        size for name, size in shapes.items() if name.startswith("decoder.") and "mlp" in name
    )
    compressed = integer_model(workload, shallow)
    assert compressed.model_bytes == whole - block - mlp // 2
    layers = [op.name for op in compressed.network.operators if isinstance(op, Linear)]
    assert not any(name.startswith("vision.0.") for name in layers)
    assert "vision.3.mlp.up" in layers


@pytest.mark.parametrize(
    ("plan", "law"),
    [
        (CompressionPlan(pruning=PruningKnobs(vision_blocks=(9,))), "has blocks 0 to 3"),
        (CompressionPlan(pruning=PruningKnobs(decoder_blocks=(0, 1, 2))), "leave at least one"),
        (
            CompressionPlan(quantization=QuantizationKnobs(overrides={"vision.9": 4})),
            "'vision.9' names no block or layer",
        ),
    ],
)
def test_a_plan_that_does_not_fit_the_model_is_refused(
    workload: Workload, plan: CompressionPlan, law: str
) -> None:
    with pytest.raises(ValueError, match=law):
        check(plan, workload.layers)
    with pytest.raises(ValueError, match=law):
        integer_model(workload, plan)
