"""A language model in integers follows the float one, token by token."""

from typing import Any

import numpy as np
import pytest
import torch

from swopt.compiler import twin
from swopt.compiler.host import Inputs
from swopt.compiler.language_model import (
    IntegerLanguageModel,
    integer_language_model,
    linear_layers,
    observe,
)
from swopt.techniques.quantization import QuantizationKnobs
from swopt.techniques.rotation import rotate
from tests.swopt import tiny_llama

IDS = torch.arange(5, 45)

EIGHT_BITS = QuantizationKnobs()


def integers(model: Any, knobs: QuantizationKnobs = EIGHT_BITS) -> IntegerLanguageModel:
    calibration = [torch.arange(start, start + 60) % 260 for start in (2, 70, 140)]
    return integer_language_model(model, observe(model, calibration), knobs)


def apart(model: Any, made: IntegerLanguageModel) -> float:
    """Mean divergence of the next token's distribution from the float model's, in nats."""
    with torch.inference_mode():
        float_nats = torch.log_softmax(model(input_ids=IDS[None]).logits[0].double(), -1)
    ours = torch.log_softmax(made(IDS[None]).logits[0].double(), -1)
    return float((float_nats.exp() * (float_nats - ours)).sum(-1).mean())


def test_integers_follow_the_float_model_and_fewer_bits_less_closely() -> None:
    model: Any = tiny_llama.model()
    eight, four = (apart(model, integers(model, QuantizationKnobs(bits=b))) for b in (8, 4))
    assert 0 < eight < 0.02 < four


def test_a_token_sees_only_those_before_it() -> None:
    model: Any = tiny_llama.model()
    made = integers(model)
    whole = twin.token_logits(made.network, Inputs(words=made.words[IDS.numpy()]))
    for count in (1, 2, 17):
        beginning = Inputs(words=made.words[IDS[:count].numpy()])
        assert torch.equal(twin.token_logits(made.network, beginning), whole[:count])
        assert torch.equal(twin.logits(made.network, [beginning])[0], whole[count - 1])


def test_a_stream_with_outliers_needs_to_be_rotated() -> None:
    model: Any = tiny_llama.model()
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 11] *= 3000
    plain = apart(model, integers(model))
    rotate(model)
    assert apart(model, integers(model)) < plain / 3


def test_bytes_are_those_of_all_linear_layers() -> None:
    model: Any = tiny_llama.model()
    weights = {name: layer.weight.numel() for name, layer in linear_layers(model).items()}
    assert len(weights) == 7 * tiny_llama.LAYERS + 1
    made = integers(model, QuantizationKnobs(bits=4, head_bits=8))
    assert made.model_bytes == (sum(weights.values()) - weights["head"]) // 2 + weights["head"]


def test_the_model_is_left_alone_and_equal_calls_give_equal_integers() -> None:
    model: Any = tiny_llama.model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = integers(model), integers(model)
    assert np.array_equal(first.words, second.words)
    assert torch.equal(first(IDS[None]).logits, second(IDS[None]).logits)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_what_is_not_there_is_refused() -> None:
    model: Any = tiny_llama.model()
    made = integers(model)
    with pytest.raises(ValueError, match="one text at a time"):
        made(torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="mean_bits is shared out by sensitivities"):
        integers(model, QuantizationKnobs(mean_bits=4.0))
