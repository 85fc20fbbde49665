"""Heads in turn give what all heads at once give, but for the rounding of their sum."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hwlib.config import CoreConfig
from hwlib.reference.core import execute
from swopt.compiler import network as net
from swopt.compiler import twin
from swopt.compiler.compressed_language_model import compress, prepare
from swopt.compiler.head_groups import split_heads
from swopt.compiler.host import Inputs
from swopt.compiler.language_model import IntegerLanguageModel
from swopt.compiler.program import lower, unpack
from swopt.plan import CompressionPlan
from swopt.techniques.quantization import QuantizationKnobs
from tests.swopt import tiny_llama

IDS = torch.arange(5, 25)


@pytest.fixture(scope="module", params=[None, 16], ids=["a scale a row", "groups of 16"])
def made(request: pytest.FixtureRequest) -> IntegerLanguageModel:
    model: Any = tiny_llama.model(attention_bias=True)
    with torch.no_grad():
        for block in model.model.layers:
            block.self_attn.o_proj.bias += 0.3
            block.self_attn.q_proj.bias += 0.2
    calibration = [torch.arange(start, start + 60) % 260 for start in (2, 70)]
    knobs = QuantizationKnobs(bits=4 if request.param else 8, group=request.param)
    prepared = prepare(model, calibration, prefix=range(3, 19))
    return compress(prepared, CompressionPlan(quantization=knobs))


def test_every_head_gives_what_it_gave_and_streams_differ_by_rounding(
    made: IntegerLanguageModel,
) -> None:
    split = split_heads(made.network)
    inputs = Inputs(words=made.words[IDS.numpy()])
    whole, parts = (twin.tensors(network, inputs) for network in (made.network, split))
    heads = [parts[f"decoder.0.attention.heads.{head}"] for head in range(tiny_llama.KV_HEADS)]
    assert np.array_equal(np.concatenate(heads, 1), whole["decoder.0.attention.heads"])
    first = next(i for i, op in enumerate(split.operators) if op.y == "decoder.0.mlp.norm")
    before = twin.tensors(replace(split, operators=split.operators[:first], logits=None), inputs)
    at = next(i for i, op in enumerate(made.network.operators) if op.y == "decoder.0.mlp.norm")
    ops = made.network.operators[:at]
    expected = twin.tensors(replace(made.network, operators=ops, logits=None), inputs)
    off = before["decoder"].astype(int) - expected["decoder"].astype(int)
    assert 0 < np.abs(off).max() <= tiny_llama.KV_HEADS


def test_weights_are_the_same_and_logits_nearly_so(made: IntegerLanguageModel) -> None:
    split = IntegerLanguageModel(split_heads(made.network), made.words)
    assert split.model_bytes == made.model_bytes
    ours, theirs = (torch.log_softmax(m(IDS[None]).logits[0].double(), -1) for m in (split, made))
    assert float((theirs.exp() * (theirs - ours)).sum(-1).mean()) < 5e-3


def test_a_core_runs_them_in_a_memory_that_all_heads_do_not_fit(
    made: IntegerLanguageModel,
) -> None:
    config = CoreConfig(rows=8, columns=8, channel_entries=512, grouped_weights=True)
    inputs = Inputs(words=made.words[IDS.numpy()])
    split = split_heads(made.network)
    words = {}
    for name, network in (("whole", made.network), ("split", split)):
        program = lower(network, inputs, config)
        words[name] = program.activation_words
        logits = unpack(program, execute(program.commands, program.dram, config))["head"]
        assert np.array_equal(logits[0], twin.token_logits(network, inputs)[-1].numpy())
    assert words["split"] < words["whole"]


def test_an_attention_of_no_decoder_is_refused() -> None:
    attention = net.Attention("q", "k", "v", "y", 2, 2, 4, True, net.Scale(1, 1), net.Scale(1, 1))
    with pytest.raises(ValueError, match="y is no attention of a decoder"):
        split_heads(net.Network((attention,), 16, 16))
