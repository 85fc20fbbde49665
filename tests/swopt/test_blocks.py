"""Single blocks in integers follow the float blocks of transformers that they were made of."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch

from swopt.compiler import network as net
from swopt.compiler import twin
from swopt.compiler.host import Inputs
from swopt.workloads.blocks import (
    FloatBlock,
    IntegerBlock,
    deit_tiny,
    deit_tiny_block,
    integer_block,
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


def _last_token_changed(network: net.Network, inputs: Inputs) -> np.ndarray:
    """Which tokens of the stream behind the block see the last token that comes in."""
    words = inputs.words.copy()
    words[-1] = -words[-1]
    name = network.operators[-1].y
    before = twin.tensors(network, inputs)[name]
    return (twin.tensors(network, replace(inputs, words=words))[name] != before).any(1)


def test_every_token_of_an_encoder_block_sees_the_last() -> None:
    assert _last_token_changed(*deit_tiny_block(0, tokens=24)).all()


def test_a_network_without_a_head_has_no_logits() -> None:
    network, inputs = deit_tiny_block(0, tokens=4)
    with pytest.raises(ValueError, match="ends without a head"):
        twin.logits(network, [inputs])
