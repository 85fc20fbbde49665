"""What a program says of itself: the operator of each command, and where its inputs lie."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hwlib import commands
from hwlib.commands import Load, Matmul, Store
from hwlib.config import CoreConfig
from hwlib.reference.core import execute
from swopt.compiler import network as net
from swopt.compiler.generation import Generation
from swopt.compiler.host import Inputs
from swopt.compiler.lowering import LoweringError
from swopt.compiler.program import Program, lower, token, with_inputs
from tests.swopt.plain_network import Drawer, random_mapping, tiny_inputs, tiny_model

CONFIG = CoreConfig(channel_entries=256)

MADE_BY: dict[type[commands.Command], tuple[type[Any], ...]] = {
    commands.Norm: (net.Norm,),
    commands.Activate: (net.Activate,),
    commands.Gate: (net.Gate,),
    commands.Rotate: (net.Rotate,),
    commands.Add: (net.Add,),
    commands.Softmax: (net.Attention,),
    commands.Divide: (net.Attention,),
    Matmul: (net.Linear, net.Attention),
}
"""Operators that a kind of command can be for."""


@pytest.mark.parametrize("seed", range(4))
def test_each_tensor_is_stored_by_a_command_for_the_operator_that_made_it(seed: int) -> None:
    model, inputs = tiny_model(seed), tiny_inputs(seed, 5)
    mapping = random_mapping(model, inputs, 8, seed)
    program = lower(model, inputs, CONFIG, mapping, trace=True)
    by_place = {
        command.dram_address: operator
        for command, operator in zip(program.commands, program.operators, strict=True)
        if isinstance(command, Store)
    }
    assert len(program.results) == len(model.operators) - 1
    for result in program.results:
        for piece in result.pieces:
            assert by_place[piece.dram_address] == result.operator, result.name


@pytest.mark.parametrize("seed", range(4))
def test_each_kind_of_command_is_for_an_operator_of_its_kind(seed: int) -> None:
    model, inputs = tiny_model(seed), tiny_inputs(seed, 9)
    program = lower(model, inputs, CONFIG, random_mapping(model, inputs, 8, seed))
    for command, operator in zip(program.commands, program.operators, strict=True):
        if type(command) in MADE_BY:
            assert isinstance(model.operators[operator], MADE_BY[type(command)])


@pytest.mark.parametrize("seed", range(4))
def test_the_tiles_of_a_layer_are_as_many_as_its_groups_and_columns_make(seed: int) -> None:
    model, inputs = tiny_model(seed), tiny_inputs(seed, 9)
    program = lower(model, inputs, CONFIG, random_mapping(model, inputs, 8, seed))
    matmuls = tagged(program, Matmul)
    decoder = {"q", "k", "gate", "up", "stream"}
    for index, operator in enumerate(model.operators):
        if isinstance(operator, net.Linear) and operator.y in decoder | {"image.up"}:
            groups = 8 if operator.y == "image.up" else 4  # 64 patches, 16 + 9 tokens
            assert len(matmuls[index]) == groups * -(-operator.weight.shape[0] // 8), operator.name


def test_loads_of_the_past_are_for_their_attention() -> None:
    model, inputs = tiny_model(1), tiny_inputs(1, 9)
    generation = Generation(model, CONFIG, inputs, 40)
    prompt = generation.prompt()
    dram = execute(prompt.commands, prompt.dram, CONFIG)
    words = np.concatenate([inputs.words, Drawer(9).tensor(1, 24)])
    step = generation.step(words, dram)
    kept = {c.dram_address for c in prompt.commands if isinstance(c, Store)}
    past = [
        operator
        for command, operator in zip(step.commands, step.operators, strict=True)
        if isinstance(command, Load)
        and command.target == "activations"
        and command.dram_address in kept
    ]
    # The step's network begins with the words; its only attention continues 24 tokens.
    network = generation.network
    first = next(i for i, op in enumerate(network.operators) if op.y == "stream")
    attention = next(i for i, op in enumerate(network.operators) if op.y == "attended")
    assert len(past) > 1 and set(past) == {attention - first}


def tagged(program: Program, kind: type[commands.Command]) -> dict[int, list[Any]]:
    """Commands of a kind by their operator."""
    found = defaultdict(list)
    for command, operator in zip(program.commands, program.operators, strict=True):
        if isinstance(command, kind):
            found[operator].append(command)
    return found


class TestWithInputs:
    def test_equals_lowering_the_other_question_anew(self) -> None:
        model, one = tiny_model(2), tiny_inputs(2, 11)
        # Equal token groups in the first question, other ones in the second.
        same = Inputs(np.zeros_like(one.patches), one.positions, np.zeros_like(one.words))
        program, anew = (lower(model, inputs, CONFIG) for inputs in (same, one))
        assert program.commands == anew.commands
        assert not np.array_equal(program.dram, anew.dram)
        np.testing.assert_array_equal(with_inputs(program, one), anew.dram)
        np.testing.assert_array_equal(with_inputs(program, same), program.dram)

    def test_gives_the_other_questions_token(self) -> None:
        model = tiny_model(2)
        program = lower(model, tiny_inputs(2, 11), CONFIG)
        tokens = set()
        for seed in range(3):
            other = tiny_inputs(seed, 11)
            anew = lower(model, other, CONFIG)
            dram = execute(program.commands, with_inputs(program, other), CONFIG)
            expected = execute(anew.commands, anew.dram, CONFIG)
            assert token(program, dram) == token(anew, expected)
            tokens.add(token(program, dram))
        assert len(tokens) > 1

    def test_a_question_of_another_length_is_refused(self) -> None:
        program = lower(tiny_model(2), tiny_inputs(2, 11), CONFIG)
        with pytest.raises(LoweringError, match=r"words must be \[11, 24\].*, not \[12, 24\]"):
            with_inputs(program, tiny_inputs(2, 12))
        wide = tiny_inputs(2, 11)
        wide = replace(wide, words=wide.words.astype(np.int32))
        with pytest.raises(LoweringError, match="words must be int16, not int32"):
            with_inputs(program, wide)
