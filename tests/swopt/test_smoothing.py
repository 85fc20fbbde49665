"""Sizes of channels move from activations to weights, and in float nothing else changes."""

from typing import Any

import pytest
import torch

from swopt.compiler.language_model import linear_layers
from swopt.techniques.smoothing import SmoothingKnobs, factors, largest_inputs, smooth
from tests.swopt import tiny_llama

IDS = torch.arange(5, 45)[None]


def with_outliers(**changes: Any) -> Any:
    """A model some channels of whose MLPs and values are large."""
    model: Any = tiny_llama.model(**changes)
    with torch.no_grad():
        for block in model.model.layers:
            block.mlp.up_proj.weight[7] *= 60
            block.self_attn.v_proj.weight[3] *= 40
            for part in (block.mlp.up_proj, block.self_attn.v_proj):
                if part.bias is not None:
                    part.bias += 0.1
    return model


def read(model: Any, skip: int = 0) -> dict[str, torch.Tensor]:
    ends = ("mlp.down", "attention.output")
    layers = {name: part for name, part in linear_layers(model).items() if name.endswith(ends)}
    with torch.inference_mode():
        return largest_inputs(layers, lambda: model(input_ids=IDS), skip)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("knobs", [SmoothingKnobs(), SmoothingKnobs(down=0.8, output=0.5)])
def test_a_smoothed_model_answers_as_before(knobs: SmoothingKnobs, bias: bool) -> None:
    model = with_outliers(attention_bias=bias, mlp_bias=bias)
    with torch.inference_mode():
        before = model(input_ids=IDS).logits
        seen = read(model)
        smooth(linear_layers(model), seen, tiny_llama.HEADS, tiny_llama.KV_HEADS, knobs)
        after = model(input_ids=IDS).logits
    assert torch.allclose(before, after, atol=1e-4 * float(before.abs().max()))


def test_channels_that_stood_out_do_so_less_the_greater_alpha() -> None:
    ratios = []
    for alpha in (0.0, 0.4, 0.8):
        model = with_outliers()
        knobs = SmoothingKnobs(down=alpha, output=alpha)
        layers = linear_layers(model)
        smooth(layers, read(model), tiny_llama.HEADS, tiny_llama.KV_HEADS, knobs)
        seen = read(model)
        ratios.append([float(each.max() / each.median()) for each in seen.values()])
    for plain, some, much in zip(*ratios, strict=True):
        assert much < some < plain


def test_heads_that_read_the_same_values_have_the_same_factors() -> None:
    largest, weight = torch.rand(4 * 16) + 0.1, torch.rand(10, 4 * 16) + 0.1
    found = factors(largest, weight, 0.5, heads=4, kv_heads=2)
    size = largest.reshape(2, 2, 16).amax(1)
    column = weight.amax(0).reshape(2, 2, 16).amax(1)
    expected = (size / column).sqrt().double()
    assert found.shape == (2, 16)
    assert torch.allclose(found / found[0, 0], expected / expected[0, 0])
    assert float(found.log().mean()) == pytest.approx(0.0, abs=1e-9)


def test_tokens_that_do_not_count_are_not_seen() -> None:
    model = with_outliers()
    with torch.no_grad():
        model.model.embed_tokens.weight[IDS[0, 0]] *= 100
    whole, rest = read(model), read(model, skip=1)
    assert all(bool((rest[name] <= whole[name]).all()) for name in whole)
    assert any(bool((rest[name] < whole[name]).any()) for name in whole)
