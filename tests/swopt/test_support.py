"""What counts as supported follows transformers in integers; what does not is named with why."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    Qwen2Config,
    Qwen2Model,
)

from swopt.compiler import calibration, support, twin
from swopt.workloads import checkpoint, tiny_vlm
from swopt.workloads.blocks import FloatBlock, integer_block
from tests.swopt import tiny_llama

CLASSES = {
    "llama": (LlamaConfig, LlamaModel),
    "mistral": (MistralConfig, MistralModel),
    "qwen2": (Qwen2Config, Qwen2Model),
}
ROPE = {"rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "vocab_size": 100,
}


def _reasons(config: dict[str, Any]) -> list[str]:
    found = support.check(config)
    return [*found.problems, *(e.reason for e in found.layers if e.state == "unsupported")]


def _error(kind: str, changes: dict[str, Any]) -> float:
    """Root mean square error of what an integer block adds to a stream, over what it adds."""
    made_config, made_model = CLASSES[kind]
    rope = {"rope_type": "default", "rope_theta": 10_000.0}
    settings = SMALL | {"rope_parameters": rope, "initializer_range": 0.15} | changes
    config = made_config(**settings, use_cache=False, bos_token_id=None, eos_token_id=None)
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = made_model(config).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, 0, 0.5)
        streams = 2 * torch.randn(9, 40, 64)
    model.norm = torch.nn.Identity()
    block = FloatBlock(
        "decoder.0",
        model.layers[0],
        lambda stream: model(inputs_embeds=stream).last_hidden_state,
        calibration.rotary_table(model),
        streams,
    )
    made = integer_block(block)
    integers = twin.tensors(made.network, made.inputs)["decoder"].astype(float)
    with torch.no_grad():
        expected = (block.run(streams[:1]) - streams[:1])[0].double().numpy()
    added = (integers - made.inputs.words) * made.step
    return float(np.sqrt(((added - expected) ** 2).mean() / (expected**2).mean()))


@pytest.mark.parametrize(
    ("kind", "changes", "supported"),
    [
        ("llama", {}, True),
        ("llama", {"attention_bias": True, "mlp_bias": True}, True),
        ("llama", {"head_dim": 32}, True),
        ("llama", {"rope_parameters": ROPE | {"rope_type": "linear"}}, True),
        ("llama", {"rope_parameters": ROPE | LLAMA3 | {"rope_type": "llama3"}}, True),
        ("llama", {"rope_parameters": ROPE | {"rope_type": "yarn"}}, True),
        ("qwen2", {}, True),
        ("mistral", {"sliding_window": None}, True),
        ("mistral", {"sliding_window": 64}, True),
        ("mistral", {"sliding_window": 8}, False),
        ("llama", {"hidden_act": "gelu"}, False),
    ],
)
def test_a_supported_block_follows_the_float_one_and_no_other_does(
    kind: str, changes: dict[str, Any], supported: bool
) -> None:
    """8 bits cost up to 6 % of what such a block adds; wrong arithmetic over twice as much."""
    found = support.check({"model_type": kind} | SMALL | changes)
    assert found.supported == supported
    assert (_error(kind, changes) < 0.07) == supported


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "llama", "hidden_act": "gelu"}, "the gate has a table of SiLU alone"),
        ({"model_type": "mistral", "sliding_window": 8}, "not a window of 8"),
        ({"model_type": "llama", "vocab_size": 65_537}, "counts to 65536 tokens, not 65537"),
        (
            {"model_type": "llama", "rope_parameters": ROPE | {"rope_type": "dynamic"}},
            "angles of dynamic change with the text's length",
        ),
        ({"model_type": "qwen3", "head_dim": 16}, "no operator norms queries or keys"),
        ({"model_type": "qwen3", "head_dim": 16}, "qwen3 was never held to"),
        ({"model_type": "mixtral", "num_local_experts": 2}, "no operator chooses among experts"),
        (
            {"model_type": "llama", "intermediate_size": 1_600_000, "num_hidden_layers": 30},
            "9.2 billion weights do not fit the 4 GiB",
        ),
    ],
)
def test_what_is_not_supported_is_named_with_the_reason(config: dict[str, Any], said: str) -> None:
    found = _reasons(SMALL | config)
    assert any(said in reason for reason in found), found


def test_the_shipped_model_is_supported_and_images_too_large_are_not() -> None:
    config = json.loads((checkpoint.SHIPPED / "config.json").read_text())
    found = support.check(config)
    assert found.supported and "integerize" in found.lowering
    model = checkpoint.load().model
    assert found.parameters == sum(each.numel() for each in model.parameters())
    assert found.fp16_bytes == 2 * found.parameters
    on_core = {layer.name for layer in found.layers if layer.state == "core"}
    for name in tiny_vlm.linear_layers(model):
        assert ".".join("*" if part.isdigit() else part for part in name.split(".")) in on_core
    config["vision_config"]["image_size"] = 512
    assert any("82 at most, not 512" in reason for reason in _reasons(config))
    config["vision_config"]["image_size"] = 36
    assert any("9 patches along a side are no multiple of 2" in e for e in _reasons(config))
    config["vision_config"] |= {"image_size": 32, "hidden_act": "relu"}
    assert any("tables of GELU and SiLU alone" in reason for reason in _reasons(config))
    config["vision_config"]["hidden_act"] = "gelu_pytorch_tanh"
    config["text_config"] |= {"model_type": "gemma", "head_dim": 16}
    assert any("gemma was never held to" in reason for reason in _reasons(config))


def test_exact_gelu_is_as_near_to_the_table_as_is_said() -> None:
    x = torch.linspace(-10, 10, 100_001, dtype=torch.float64)
    exact, tanh = (torch.nn.functional.gelu(x, approximate=each) for each in ("none", "tanh"))
    assert float((exact - tanh).abs().max()) < 0.0005


def test_numbers_are_those_of_the_built_model_whether_or_not_its_head_is_tied() -> None:
    for tied in (True, False):
        model: Any = tiny_llama.model(tie_word_embeddings=tied)
        found = support.check(model.config.to_dict())
        assert found.parameters == sum(each.numel() for each in model.parameters())
        assert found.load_bytes == 6 * found.parameters
        layer = next(e for e in found.layers if e.name == "decoder.*.mlp.down")
        assert layer.count == tiny_llama.LAYERS and layer.what == "linear 96 -> 64"


def test_the_estimate_is_two_operations_a_weight_and_token() -> None:
    model: Any = tiny_llama.model()
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    found = support.check(model.config.to_dict())
    assert found.score_s == pytest.approx(2 * linear * 16 * 256 / support.FLOAT_RATE)
    assert "an estimate" in found.score_of and "16 windows of 256 tokens" in found.score_of


def test_what_transformers_does_not_know_is_refused_in_a_sentence() -> None:
    for config in ({}, {"model_type": "nosuch"}, {"model_type": "llama", "hidden_size": "a"}):
        with pytest.raises(support.SupportError, match="transformers builds no model of the type"):
            support.check(config)
