"""Single blocks in integers follow the float blocks of transformers that they were made of."""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from hwlib.config import CoreConfig
from hwlib.reference.core import execute
from swopt.compiler import network as net
from swopt.compiler import twin
from swopt.compiler.host import Inputs
from swopt.compiler.program import lower, unpack
from swopt.workloads.blocks import (
    FloatBlock,
    IntegerBlock,
    deit_tiny,
    deit_tiny_block,
    integer_block,
    smollm2,
    smollm2_block,
)


def _added_error(block: FloatBlock, made: IntegerBlock) -> float:
    """Root mean square error of what the block adds to the stream, over what it adds."""
    stream = block.name.split(".")[0]
    integers = twin.tensors(made.network, made.inputs)[stream].astype(float)
    with torch.no_grad():
        expected = (block.run(block.streams[:1]) - block.streams[:1])[0].double().numpy()
    added = (integers - made.inputs.words) * made.step
    return float(np.sqrt(((added - expected) ** 2).mean() / (expected**2).mean()))


def _plain(value: object) -> object:
    """A dataclass as nested tuples of plain values."""
    if is_dataclass(value) and not isinstance(value, type):
        return tuple(_plain(getattr(value, each.name)) for each in fields(value))
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


@pytest.mark.parametrize("seed", range(3))
def test_an_encoder_block_at_eight_bits_is_within_four_percent_of_the_float_block(
    seed: int,
) -> None:
    """Eight roundings to 8 bits follow each other: a tensor that reaches 4.5 deviations has a
    step of 9 / 255 of one, so an error of 1 % of it, and eight independent ones make 2.9 %."""
    block = deit_tiny(seed)
    assert 0.015 < _added_error(block, integer_block(block)) < 0.04


def test_four_bit_weights_cost_an_encoder_block_more_than_eight() -> None:
    block = deit_tiny(0)
    four = _added_error(block, integer_block(block, 4))
    assert 4 * _added_error(block, integer_block(block)) < four < 0.25
    assert four < _added_error(block, integer_block(block, 4, 4)) < 0.35


@pytest.mark.parametrize("seed", range(2))
def test_a_decoder_block_at_eight_bits_pays_for_its_outlier_channels(seed: int) -> None:
    """Three channels of 576, r times as large as the others, set the steps. One reaches 4.5 of its
    deviations, so a step is 9 r / 255 of an ordinary deviation and the error .0102 r; the tensor's
    deviation is sqrt(1 + 3 r^2 / 576). For r from 20 to 50 the error is 12 to 14 % of the tensor,
    less where an outlier channel's weight in the norm is small; in `test_an_encoder_block...`,
    without outliers, it is 1 %."""
    block = smollm2(seed)
    assert 0.05 < _added_error(block, integer_block(block)) < 0.15


def test_the_stream_of_a_decoder_block_has_three_channels_of_outliers() -> None:
    size = smollm2(1).streams.square().mean((0, 1)).sqrt()
    ratio = torch.sort(size / size.median(), descending=True).values
    assert ratio[2] > 15 and ratio[0] < 60
    assert ratio[3] < 6


def test_a_decoder_block_has_the_shape_of_smollm2_135m() -> None:
    network, inputs = smollm2_block(0)
    assert inputs.words.shape == (72, 576)
    layers = {op.name: op for op in network.operators if isinstance(op, net.Linear)}
    # 576 (576 + 192 + 192 + 576 + 3 * 1536): thirty such blocks, as many norms of 2 * 576, the
    # embeddings 49152 * 576 and the last norm make the 134,515,008 parameters of SmolLM2-135M.
    weights = sum(layer.weight.size for layer in layers.values())
    assert 30 * (weights + 2 * 576) + 49152 * 576 + 576 == 134_515_008
    (attention,) = (op for op in network.operators if isinstance(op, net.Attention))
    assert (attention.heads, attention.kv_heads, attention.head_dim) == (9, 3, 64)
    rotations = [op for op in network.operators if isinstance(op, net.Rotate)]
    assert [op.heads for op in rotations] == [9, 3]
    angles = 71 * 100_000.0 ** -(np.arange(32) / 32)
    for op in rotations:
        assert np.abs(op.sine[71] / 2**14 - np.sin(angles)).max() < 1e-4
    assert network.logits is None


def test_four_bits_are_four_bits_before_linear_layers_alone() -> None:
    network, inputs = smollm2_block(0, weight_bits=4, activation_bits=4, tokens=10)
    tensors = twin.tensors(network, inputs)
    layers = [op for op in network.operators if isinstance(op, net.Linear)]
    assert {op.activation_bits for op in layers} == {op.weight_bits for op in layers} == {4}
    for op in layers:
        assert tensors[op.x].min() >= -8 and tensors[op.x].max() <= 7
    (attention,) = (op for op in network.operators if isinstance(op, net.Attention))
    assert all(np.abs(tensors[name]).max() > 8 for name in (attention.q, attention.k))
    wide = smollm2_block(0, weight_bits=8, activation_bits=4, tokens=10)
    assert _plain(wide) == _plain(smollm2_block(0, tokens=10))


def test_an_encoder_block_has_the_shape_of_deit_tiny() -> None:
    network, inputs = deit_tiny_block(0, weight_bits=4)
    assert inputs.words.shape == (197, 192) and inputs.words.dtype == np.int16
    shapes = {op.name: op.weight.shape for op in network.operators if isinstance(op, net.Linear)}
    products = 197 * sum(rows * columns for rows, columns in shapes.values())
    assert products == 197 * 12 * 192 * 192  # 87.2 M, as published figures of DeiT-tiny count
    (attention,) = (op for op in network.operators if isinstance(op, net.Attention))
    assert (attention.heads, attention.kv_heads, attention.head_dim) == (3, 3, 64)
    assert not attention.causal
    assert network.logits is None
    assert network.operators[-1].y == network.operators[0].y == "vision"


def test_equal_seeds_give_equal_blocks_and_leave_the_generator_of_torch_alone() -> None:
    torch.manual_seed(1)
    first = _plain(deit_tiny_block(5, tokens=9))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert _plain(deit_tiny_block(5, tokens=9)) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert _plain(deit_tiny_block(6, tokens=9)) != first
    decoder = _plain(smollm2_block(5, tokens=9))
    assert _plain(smollm2_block(5, tokens=9)) == decoder
    assert _plain(smollm2_block(6, tokens=9)) != decoder


def _sees(network: net.Network, inputs: Inputs, token: int) -> np.ndarray:
    """Which tokens of the stream behind the block see a token that comes in."""
    words = inputs.words.copy()
    words[token] = -words[token]
    name = network.operators[-1].y
    before = twin.tensors(network, inputs)[name]
    return (twin.tensors(network, replace(inputs, words=words))[name] != before).any(1)


def test_every_token_of_an_encoder_block_sees_the_last() -> None:
    assert _sees(*deit_tiny_block(0, tokens=24), token=-1).all()


def test_a_token_of_a_decoder_block_sees_none_that_comes_later() -> None:
    network, inputs = smollm2_block(0, tokens=20)
    for token in (0, 7, 19):
        assert np.array_equal(_sees(network, inputs, token), np.arange(20) >= token)
    shorter = replace(inputs, words=inputs.words[:8])
    whole = twin.tensors(network, inputs)["decoder"]
    assert np.array_equal(twin.tensors(network, shorter)["decoder"], whole[:8])


def _write(folder: Path, **changed: torch.Tensor) -> Path:
    """A file of a block, the one of seed 3."""
    block = smollm2(3, tokens=12)
    held = block.module.state_dict() | {"streams": block.streams.contiguous()} | changed
    safetensors.torch.save_file(held, folder / "block.safetensors")
    return folder / "block.safetensors"


def test_a_block_out_of_a_file_is_the_block_that_was_written(tmp_path: Path) -> None:
    file = _write(tmp_path)
    read = smollm2_block(0, tokens=12, weights=file)
    assert _plain(read) == _plain(smollm2_block(3, tokens=12))
    assert smollm2_block(0, tokens=5, weights=file)[1].words.shape == (5, 576)


def test_a_file_of_something_else_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 or more streams of 13 tokens or more"):
        smollm2(0, tokens=13, weights=_write(tmp_path))
    with pytest.raises(ValueError, match="2 or more streams"):
        smollm2(0, tokens=2, weights=_write(tmp_path, streams=torch.zeros(5)))
    other = {"self_attn.q_proj.weight": torch.zeros(64, 64)}
    with pytest.raises(ValueError, match="not a block of SmolLM2-135M") as caught:
        smollm2(0, tokens=12, weights=_write(tmp_path, **other))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", ["deit_tiny", "smollm2"])
def test_a_block_of_few_tokens_runs_as_commands(shape: str) -> None:
    network, inputs = {"deit_tiny": deit_tiny_block, "smollm2": smollm2_block}[shape](0, tokens=8)
    config = CoreConfig(activation_bytes=128 << 10, weight_bytes=64 << 10, channel_entries=2048)
    program = lower(network, inputs, config, trace=True)
    made = unpack(program, execute(program.commands, program.dram, config))
    expected = twin.tensors(network, inputs)
    assert len(made) > 8
    for name, tensor in made.items():
        assert np.array_equal(tensor, expected[name]), name


def test_a_network_without_a_head_has_no_logits() -> None:
    network, inputs = deit_tiny_block(0, tokens=4)
    with pytest.raises(ValueError, match="ends without a head"):
        twin.logits(network, [inputs])


def test_no_tokens_no_keys_and_no_table() -> None:
    for make in (deit_tiny, smollm2):
        with pytest.raises(ValueError, match="at least 1 token, not 0"):
            make(0, tokens=0)
    block = deit_tiny(0, tokens=2)
    with pytest.raises(ValueError, match=r"at least 1 key, .* not 0"):
        integer_block(block, attention_block=0)
    with pytest.raises(ValueError, match="4, 8, 16 or 32 entries, not 5"):
        integer_block(block, exponential_entries=5)


def test_a_file_that_holds_something_else(tmp_path: Path) -> None:
    file = tmp_path / "garbage"
    file.write_bytes(b"12")
    with pytest.raises(ValueError, match="is no safetensors file"):
        smollm2(0, tokens=2, weights=file)
