"""What is removed is what adds least, and what adds nothing is removed without a trace."""

from copy import deepcopy

import numpy as np
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


class Mlp(torch.nn.Module):
    """An MLP of eight channels, three of which nearly follow from others."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = torch.nn.Linear(6, 8), torch.nn.Linear(8, 5)
        with torch.no_grad():
            self.up.weight[5] = self.up.weight[:2].sum(0)
            self.up.weight[6] = self.up.weight[2] * 1.1
            self.up.weight[7] = self.up.weight[3] - self.up.weight[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.down(torch.tanh(self.up(x)))
        return y


def error(model: Mlp, x: torch.Tensor, wanted: torch.Tensor) -> float:
    """Squared, of all outputs."""
    return float(((model(x) - wanted) ** 2).sum().detach())


def residual(model: Mlp, x: torch.Tensor, left: list[int]) -> float:
    """Least squared error of the model's outputs by some of its channels and a bias."""
    with torch.no_grad():
        hidden, wanted = torch.tanh(model.up(x)).double().numpy(), model(x).double().numpy()
    columns = np.concatenate([hidden[:, left], np.ones((len(x), 1))], axis=1)
    fitted, *_ = np.linalg.lstsq(columns, wanted, rcond=None)
    return float(((columns @ fitted - wanted) ** 2).sum())


def test_the_weights_that_stay_are_least_squares_and_the_channel_that_leaves_costs_least(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pruning, "DAMPING", 1e-12)
    torch.manual_seed(3)
    model, x = Mlp(), torch.randn(200, 6)
    by_hand = [residual(model, x, [k for k in range(8) if k != gone]) for gone in range(8)]
    before, wanted = deepcopy(model), model(x).detach()
    layers = {"decoder.0.mlp.up": model.up, "decoder.0.mlp.down": model.down}
    knobs = PruningKnobs(decoder_mlp_keep=0.875, compensation="least_squares")
    tower = torch.nn.ModuleList([model])
    pruning.apply({"decoder": tower}, layers, knobs, lambda: model(x))
    assert model.up.out_features == model.down.in_features == 7
    left = [k for k in range(8) if (before.up.weight[k] == model.up.weight).all(1).any()]
    found = error(model, x, wanted)
    assert found == pytest.approx(min(by_hand), rel=1e-3)
    assert found == pytest.approx(residual(before, x, left), rel=1e-3)
    # A bias alone leaves more of the error.
    plain = PruningKnobs(decoder_mlp_keep=0.875)
    layers = {"decoder.0.mlp.up": before.up, "decoder.0.mlp.down": before.down}
    pruning.apply({"decoder": torch.nn.ModuleList([before])}, layers, plain, lambda: before(x))
    assert error(before, x, wanted) > 2 * found


def test_what_a_head_costs_is_what_least_squares_lose_without_it() -> None:
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((300, 6)) @ rng.standard_normal((6, 6))
    weight = rng.standard_normal((4, 6))
    centred = mixed - mixed.mean(0)
    covariance = torch.from_numpy(centred.T @ centred / len(centred))
    lost = pruning._loss(torch.from_numpy(weight), covariance, 3)
    for head in range(3):
        left = [k for k in range(6) if k // 2 != head]
        wanted = centred @ weight.T
        fitted, *_ = np.linalg.lstsq(centred[:, left], wanted, rcond=None)
        error = ((centred[:, left] @ fitted - wanted) ** 2).sum() / len(centred)
        assert float(lost[head]) == pytest.approx(error)


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
