"""Generation token by token: every step gives what the whole model gives about all tokens."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hwlib.commands import Load
from hwlib.config import CoreConfig
from hwlib.reference.core import execute
from swopt.compiler import network as net
from swopt.compiler import twin
from swopt.compiler.generation import Generation, continuation
from swopt.compiler.host import Inputs
from swopt.compiler.lowering import LoweringError
from swopt.compiler.program import lower, token, unpack
from tests.swopt.plain_network import (
    Drawer,
    evaluate,
    few_bit_weights,
    narrowed,
    tiny_inputs,
    tiny_model,
)

IMAGE_TOKENS = 16
"""Of `tiny_model`, in front of its words."""


def core(**knobs: Any) -> CoreConfig:
    return CoreConfig(**{"rows": 8, "columns": 8, "channel_entries": 256} | knobs)


def check(model: net.Network, inputs: Inputs, config: CoreConfig, steps: int) -> list[int]:
    """Generates; every tensor of every step equals numpy's about all tokens so far."""
    generation = Generation(model, config, inputs, IMAGE_TOKENS + len(inputs.words) + steps)
    embeddings = Drawer(99).tensor(model_words(model), 24)
    words, found = inputs.words, []
    program = generation.prompt(trace=True)
    for step in range(steps + 1):
        dram = execute(program.commands, program.dram, config)
        made = evaluate(model, replace(inputs, words=words))
        whole = {op.y: y for op, y in zip(model.operators, made, strict=True)}
        for name, tensor in unpack(program, dram).items():
            np.testing.assert_array_equal(tensor, whole[name][-len(tensor) :], err_msg=name)
        found.append(token(program, dram))
        assert found[-1] == int(whole["logits"].argmax())
        if step < steps:
            words = np.concatenate([words, embeddings[found[-1]][None]])
            program = generation.step(words, dram, trace=True)
    return found


def model_words(model: net.Network) -> int:
    head = model.operators[-1]
    assert isinstance(head, net.Linear)
    return len(head.weight)


@pytest.mark.parametrize("rows, columns", [(8, 8), (4, 4), (4, 16), (16, 4), (8, 16), (16, 8)])
def test_every_tensor_of_every_step_is_the_whole_models(rows: int, columns: int) -> None:
    config = core(rows=rows, columns=columns, dma_bytes=8)
    tokens = check(tiny_model(rows), tiny_inputs(rows, words=3), config, steps=10)
    assert len(tokens) == 11


def test_steps_at_four_bits() -> None:
    model = narrowed(few_bit_weights(tiny_model(5, vision_heads=3)))
    check(model, tiny_inputs(5, words=7), core(composable=True), steps=3)


def test_a_step_loads_what_was_kept_and_no_image() -> None:
    config, inputs = core(), tiny_inputs(1, words=3)
    generation = Generation(tiny_model(1), config, inputs, 40)
    program = generation.prompt()
    dram = execute(program.commands, program.dram, config)
    step = generation.step(np.concatenate([inputs.words, inputs.words[:1]]), dram)
    words = sum(
        command.words
        for command in step.commands
        if isinstance(command, Load) and command.target == "activations"
    )
    # The weights of values go through the activation memory; q and k turn by two tables.
    stream, weights, tables, kept = 24, 2 * 12, 2 * 8, 2 * 16
    assert words == stream + weights + tables + kept
    assert len(step.commands) < len(program.commands) / 2


def test_more_tokens_than_room_was_made_for() -> None:
    inputs = tiny_inputs(1, words=3)
    generation = Generation(tiny_model(1), core(), inputs, 20)
    with pytest.raises(LoweringError, match="25 tokens are more than the 24 that room was made"):
        generation.step(Drawer(0).tensor(9, 24), np.zeros(0, np.uint8))


def test_a_dram_that_cannot_hold_what_was_kept() -> None:
    generation = Generation(tiny_model(1), core(), tiny_inputs(1, words=3), 40)
    words = Drawer(0).tensor(4, 24)
    with pytest.raises(LoweringError, match=r"a DRAM of 100 bytes cannot hold the [0-9]+ of"):
        generation.step(words, np.zeros(100, np.uint8))
    with pytest.raises(LoweringError, match="needs the words so far, and there are none"):
        generation.step(words[:0], np.zeros(10000, np.uint8))


def test_room_that_is_too_little_or_too_much_and_a_network_without_a_decoder() -> None:
    inputs = tiny_inputs(1, words=3)
    with pytest.raises(LoweringError, match="room for 18 tokens is too little for a"):
        Generation(tiny_model(1), core(), inputs, 18)
    with pytest.raises(LoweringError, match="65 tokens are more than the 64 positions"):
        Generation(tiny_model(1), core(), inputs, 65)
    encoder = net.Network((net.Input("stream", "words", 24),), 8, 16)
    with pytest.raises(LoweringError, match="needs a causal attention"):
        Generation(encoder, core(), inputs, 40)


def test_token_groups_that_are_no_whole_beats() -> None:
    with pytest.raises(LoweringError, match="whose 16 bytes must be a multiple of the beat of 32"):
        Generation(tiny_model(1), core(rows=4, columns=4, dma_bytes=32), tiny_inputs(1, 3), 30)


def test_a_past_that_nobody_kept() -> None:
    model = continuation(tiny_model(1), 16)
    inputs = Inputs(words=tiny_inputs(1, words=2).words)
    with pytest.raises(LoweringError, match="continues 16 tokens, but none were kept"):
        lower(model, inputs, core())
    with pytest.raises(ValueError, match="continues 16 tokens that are not there"):
        twin.tensors(model, inputs)
