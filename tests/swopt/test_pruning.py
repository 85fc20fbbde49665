"""What is removed is what adds least, and what adds nothing is removed without a trace."""

from copy import deepcopy

import pytest
import torch

from swopt.techniques import pruning
from swopt.techniques.pruning import PruningKnobs
from swopt.workloads.tiny_vlm import blocks, linear_layers
from swopt.workloads.workload import Workload


def _pruned(workload: Workload, model: torch.nn.Module, knobs: PruningKnobs) -> torch.Tensor:
    questions = workload.calibration()
    pruning.apply(
        blocks(model), linear_layers(model), knobs, lambda: workload.score(model, questions)
    )
    return workload.score(model, questions)


def test_channels_that_nobody_reads_leave_without_a_trace(workload: Workload) -> None:
    model = deepcopy(workload.vlm.model)
    for name, layer in linear_layers(model).items():
        if name.endswith("mlp.down"):
            layer.weight.data[:, ::2] = 0
    before = workload.score(model, workload.calibration())
    knobs = PruningKnobs(vision_mlp_keep=0.5, decoder_mlp_keep=0.5)
    after = _pruned(workload, model, knobs)
    assert torch.allclose(before, after, atol=1e-4)
    layers = linear_layers(model)
    assert layers["vision.0.mlp.up"].weight.shape == (128, 64)
    assert layers["decoder.2.mlp.down"].weight.shape == (64, 64)


def test_heads_that_nobody_reads_leave_without_a_trace(workload: Workload) -> None:
    model = deepcopy(workload.vlm.model)
    for name, layer in linear_layers(model).items():
        if name.endswith("attention.output"):
            layer.weight.data[:, 16:32] = 0  # the second of four heads
    before = workload.score(model, workload.calibration())
    after = _pruned(workload, model, PruningKnobs(vision_heads_keep=0.75, decoder_heads_keep=0.75))
    assert torch.allclose(before, after, atol=1e-4)
    layers = linear_layers(model)
    assert layers["vision.3.attention.query"].weight.shape == (48, 64)
    assert layers["decoder.1.attention.value"].weight.shape == (48, 64)
    assert layers["decoder.1.attention.output"].weight.shape == (64, 48)


def test_a_key_value_head_leaves_with_the_heads_that_read_it() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from swopt.compiler.language_model import linear_layers as layers_of

    torch.manual_seed(0)
    shape = LlamaConfig(
        hidden_size=48, intermediate_size=32, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, vocab_size=50, attn_implementation="eager",
    )  # fmt: skip
    model, ids = LlamaForCausalLM(shape).eval(), torch.arange(40)[None]
    layers = layers_of(model)
    for name, layer in layers.items():
        if name.endswith("attention.output"):
            layer.weight.data[:, :24] = 0  # the three heads of the first key-value head
    with torch.no_grad():
        before = model(ids).logits
        pruning.apply(
            {"decoder": model.model.layers}, layers, PruningKnobs(decoder_heads_keep=0.5),
            lambda: model(ids),
        )  # fmt: skip
        for block in model.model.layers:
            assert block.self_attn.k_proj.out_features == 8
            assert block.self_attn.q_proj.out_features == 24
        assert torch.allclose(before, model(ids).logits, atol=1e-5)


def test_constant_channels_are_carried_by_the_bias(workload: Workload) -> None:
    model = deepcopy(workload.vlm.model)
    for name, layer in linear_layers(model).items():
        if name.startswith("vision") and name.endswith("mlp.up"):
            layer.weight.data.zero_()
            layer.bias.data.add_(1.0)
    before = workload.score(model, workload.calibration())
    after = _pruned(workload, model, PruningKnobs(vision_mlp_keep=0.125))
    assert torch.allclose(before, after, atol=1e-4)


def test_a_removed_block_is_one_that_adds_nothing(workload: Workload) -> None:
    silent = deepcopy(workload.vlm.model)
    layers = linear_layers(silent)
    for name in ("vision.2.attention.output", "vision.2.mlp.down", "decoder.1.mlp.down"):
        layers[name].weight.data.zero_()
    layers["decoder.1.attention.output"].weight.data.zero_()
    for name in ("vision.2.attention.output", "vision.2.mlp.down"):
        layers[name].bias.data.zero_()
    expected = workload.score(silent, workload.calibration())
    model = deepcopy(workload.vlm.model)
    after = _pruned(workload, model, PruningKnobs(vision_blocks=(2,), decoder_blocks=(1,)))
    assert torch.allclose(expected, after, atol=1e-4)
    assert [len(part) for part in blocks(model).values()] == [3, 2]


@pytest.mark.parametrize(
    ("knobs", "law"),
    [
        (PruningKnobs(vision_blocks=(4,)), "vision_blocks names block 4"),
        (PruningKnobs(decoder_blocks=(0, 1, 2)), "leave at least one"),
        (PruningKnobs(vision_blocks=(2, 1)), "ascending"),
        (PruningKnobs(vision_blocks=(1, 1)), "ascending"),
    ],
)
def test_laws_are_told_in_a_sentence(knobs: PruningKnobs, law: str) -> None:
    with pytest.raises(ValueError, match=law):
        pruning.check(knobs, vision_blocks=4, decoder_blocks=3)
