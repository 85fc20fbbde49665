"""A rotated stream computes the same, and no channel of it stands out."""

from typing import Any

import numpy as np
import pytest
import torch

from swopt.techniques.rotation import rotate, rotation
from tests.swopt import tiny_llama


@pytest.mark.parametrize("channels", [1, 2, 7, 64, 96, 576])
def test_a_rotation_is_orthogonal_and_spreads_every_channel(channels: int) -> None:
    turn = rotation(channels)
    assert np.allclose(turn @ turn.T, np.eye(channels), atol=1e-12)
    if channels % 32 == 0:
        assert np.abs(turn).max() < 8 / np.sqrt(channels)
    assert np.array_equal(turn, rotation(channels))


@pytest.mark.parametrize("bias", [False, True])
def test_a_rotated_model_answers_as_before(bias: bool) -> None:
    model: Any = tiny_llama.model(attention_bias=bias, mlp_bias=bias)
    _with_outliers(model)
    ids = torch.arange(5, 45)[None]
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        rotate(model)
        after = model(input_ids=ids).logits
    assert torch.allclose(before, after, atol=2e-4 * float(before.abs().max()))
    assert all(bool((norm == 1).all()) for norm in _norms(model))


def test_outliers_of_the_stream_are_gone() -> None:
    model: Any = tiny_llama.model()
    _with_outliers(model)
    before = _share_of_the_largest(model)
    rotate(model)
    assert before > 5 and _share_of_the_largest(model) < before / 2.5


def _with_outliers(model: Any) -> None:
    """Norms and biases that are not those of a fresh model, and a channel that is large."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                value += torch.rand(value.shape, generator=generator)
        model.model.embed_tokens.weight[:, 11] *= 100


def _norms(model: Any) -> list[torch.Tensor]:
    return [value for name, value in model.named_parameters() if "norm" in name]


def _share_of_the_largest(model: Any) -> float:
    """Largest magnitude on the stream over its root mean square."""
    with torch.inference_mode():
        output = model(input_ids=torch.arange(5, 45)[None], output_hidden_states=True)
    stream = output.hidden_states[0]
    return float(stream.abs().max() / stream.square().mean().sqrt())
