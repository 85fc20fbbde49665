"""Fusion and dataflow: other commands, the same numbers; what is chosen is done, or refused."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from hwlib.assembler import encode_program
from hwlib.commands import Activate, Load, Matmul, Softmax
from hwlib.commands import Add as AddCommand
from hwlib.config import CoreConfig
from hwlib.reference.core import execute
from swopt.compiler import network as net
from swopt.compiler.choices import MAPPER, Choices
from swopt.compiler.lowering import LoweringError
from swopt.compiler.mapping import cut_points
from swopt.compiler.memory_map import place
from swopt.compiler.passes import groups_of
from swopt.compiler.program import Program, lower, token, unpack, unpack_result
from swopt.plan import CompressionPlan
from swopt.techniques import dataflow
from swopt.techniques.dataflow import DataflowKnobs
from swopt.techniques.fusion import FusionKnobs
from tests.swopt.plain_network import (
    Drawer,
    brought,
    evaluate,
    few_bit_weights,
    narrowed,
    tiny_inputs,
    tiny_model,
)

NOTHING_FUSED = FusionKnobs(
    activations=False, rotations=False, residuals=False, attention=False, norms=False, pieces=1
)

FUSIONS = [
    *(FusionKnobs(**{name: False}) for name in FusionKnobs.model_fields if name != "pieces"),
    FusionKnobs(pieces=1),
    FusionKnobs(pieces=2, norms=False),
    NOTHING_FUSED,
]

DATAFLOWS = [
    DataflowKnobs(groups=2, ways=1, chunk_channels=16),
    DataflowKnobs(groups=4, stationary="activations"),
    DataflowKnobs(groups=32, chunk_buffers=1, chunk_channels=16),
]

CHOICES = [
    *(Choices(fusion=each) for each in FUSIONS),
    *(Choices(dataflow=each) for each in DATAFLOWS),
    Choices(
        fusion=NOTHING_FUSED,
        dataflow=DataflowKnobs(groups=2, stationary="activations", chunk_buffers=1),
    ),
]

SIDES = [(8, 8), (8, 16), (16, 4)]


def core(**knobs: object) -> CoreConfig:
    return CoreConfig.model_validate({"rows": 8, "columns": 8, "channel_entries": 256} | knobs)


AT_ONCE = (3, 7, 9, len(CHOICES) - 1)
"""Which of them every run tries: whole scores, nothing fused, and two dataflows; more are slow."""


@pytest.mark.parametrize(
    "at",
    [
        at if at in AT_ONCE else pytest.param(at, marks=pytest.mark.slow)
        for at in range(len(CHOICES))
    ],
)
def test_every_tensor_and_the_token_are_those_of_plain_numpy(at: int) -> None:
    """Numpy goes through whole tensors, one operator after the other, and knows of no choice."""
    rows, columns = SIDES[at % len(SIDES)]
    config = core(rows=rows, columns=columns, composable=at % 2 == 1)
    model, inputs = tiny_model(at, vision_heads=3), tiny_inputs(at, 2 + at)
    if config.composable:
        model = narrowed(few_bit_weights(model)) if at % 4 == 1 else few_bit_weights(model)
    program = lower(model, inputs, config, choices=CHOICES[at], trace=True)
    encode_program(program.commands, config)
    dram = execute(program.commands, program.dram, config)
    expected = evaluate(model, inputs)
    for result in program.results:
        found = unpack_result(program, result, dram)
        np.testing.assert_array_equal(found, expected[result.operator], err_msg=result.name)
    assert len(program.results) == len(model.operators) - 1  # all but the logits
    np.testing.assert_array_equal(unpack(program, dram)["logits"], expected[-1])
    assert token(program, dram) == int(expected[-1].argmax())


@cache
def lowered(choices: Choices) -> Program:
    return lower(tiny_model(1), tiny_inputs(1, 11), core(), choices=choices)


def fused(**knobs: object) -> Choices:
    return Choices(fusion=FusionKnobs.model_validate(knobs))


def flowing(**knobs: object) -> Choices:
    return Choices(dataflow=DataflowKnobs.model_validate(knobs))


def count(program: Program, kind: type) -> int:
    return sum(isinstance(command, kind) for command in program.commands)


def test_an_activation_that_is_not_fused_takes_all_channels_of_a_group_at_once() -> None:
    """20 channels in chunks of 16 are two commands a group of 8 of the 64 patches."""
    chunks = Choices(dataflow=DataflowKnobs(chunk_channels=16))
    whole = chunks.model_copy(update={"fusion": FusionKnobs(activations=False)})
    assert count(lowered(chunks), Activate) == 2 * 8
    assert count(lowered(whole), Activate) == 8


def test_a_rotation_that_is_not_fused_reads_a_tensor_that_has_words_as_a_whole() -> None:
    """11 groups of 64 channels, beside results of 32 words a group and a table of 8."""
    d = Drawer(3)
    model = net.Network(
        (
            net.Input("stream", "words", 24),
            d.norm("stream", "normed", 24),
            d.linear("normed", "q", 24, 64, "int16"),
            d.rotate("q", "y", 8, 8, 96),
        ),
        8,
        16,
    )
    inputs, block = brought(words=d.tensor(88, 24)), DataflowKnobs(groups=32)
    together, apart = (
        lower(model, inputs, core(), choices=Choices(fusion=each, dataflow=block)).activation_words
        for each in (FusionKnobs(), FusionKnobs(rotations=False))
    )
    assert apart >= 11 * (64 + 32 + 8) > together


def test_residuals_that_are_not_fused_are_added_by_the_vector_engine() -> None:
    plain, apart = lowered(MAPPER), lowered(fused(residuals=False))
    residuals = [c for c in plain.commands if isinstance(c, Matmul) and c.output == "residual"]
    assert residuals
    assert not [c for c in apart.commands if isinstance(c, Matmul) and c.output == "residual"]
    # Of the decoder's two layers 4 groups of tokens (16 of images, 11 words), of the vision
    # tower's two 8 groups of patches.
    assert count(apart, AddCommand) - count(plain, AddCommand) == 2 * 4 + 2 * 8


@pytest.mark.parametrize("together, expected", [(True, 2), (False, 2 * 8 * 8)])
def test_scores_that_are_not_fused_have_words_for_every_head_group_and_block_of_keys(
    together: bool, expected: int
) -> None:
    """2 heads, 8 groups of queries, 64 keys in blocks of 8; else two blocks are under way."""
    one = DataflowKnobs(groups=32, ways=1)
    program = lowered(Choices(fusion=FusionKnobs(attention=together), dataflow=one))
    operators = tiny_model(1).operators
    vision = next(at for at, each in enumerate(operators) if isinstance(each, net.Attention))
    pairs = zip(program.commands, program.operators, strict=True)
    sources = {each.source for each, at in pairs if isinstance(each, Softmax) and at == vision}
    assert len(sources) == expected


def test_a_norm_that_is_not_fused_ends_its_pass() -> None:
    def ends(choices: Choices) -> list[bool]:
        operators, passes = tiny_model(1).operators, lowered(choices).mapping.passes
        read = pairwise(operators)
        norms = [isinstance(a, net.Norm) and isinstance(b, net.Linear) for a, b in read]
        ends = {taken.end for taken in passes}
        return [at + 1 in ends for at, norm in enumerate(norms) if norm]

    assert all(ends(fused(norms=False)))
    assert not any(ends(MAPPER))


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_pass_takes_more_pieces_than_it_may(most: int) -> None:
    cuts = cut_points(tiny_model(1))
    passes = lowered(fused(pieces=most)).mapping.passes
    assert max(sum(taken.first <= cut < taken.end for cut in cuts) for taken in passes) <= most


@pytest.mark.parametrize("groups, ways", [(1, 2), (2, 3), (4, 1), (32, 2)])
def test_blocks_are_as_many_groups_and_as_many_under_way_as_chosen(groups: int, ways: int) -> None:
    """But where an operator needs all tokens at once: its piece is one block."""
    model, inputs = tiny_model(1), tiny_inputs(1, 11)
    placed, cut = place(model, inputs, 8), 0
    for taken in lowered(flowing(groups=groups, ways=ways)).mapping.passes:
        inside = model.operators[taken.first : taken.end]
        total = max(groups_of(each, placed) for each in inside)
        joins = any(isinstance(each, net.Shuffle | net.Concatenate) for each in inside)
        if not joins and inside[-1].y != model.logits:
            assert taken.groups == min(groups, total)
            assert taken.ways == min(ways, -(-total // groups))
            cut += total > groups
    assert (cut >= 2) == (groups < 8)


def test_weights_that_do_not_stay_are_loaded_for_every_group_they_turn_past() -> None:
    """192 x 64 weights are 24 tiles of 32 words; the memory holds 512."""
    d = Drawer(1)
    model = net.Network(
        (
            net.Input("stream", "words", 64), d.norm("stream", "x", 64),
            d.linear("x", "y", 64, 192, "int16"),
        ), 8, 16,
    )  # fmt: skip
    inputs, config = brought(words=d.tensor(40, 64)), core(weight_bytes=8192)

    def loads(stationary: str) -> int:
        choices = flowing(stationary=stationary, groups=32)
        commands = lower(model, inputs, config, choices=choices).commands
        return sum(isinstance(each, Load) and each.target == "weights" for each in commands)

    assert loads("weights") == 24
    assert loads("activations") == 5 * 24


@pytest.mark.parametrize("buffers", [1, 2])
def test_chunks_go_through_as_many_buffers_as_chosen(buffers: int) -> None:
    program = lowered(flowing(chunk_buffers=buffers, chunk_channels=16, groups=32, ways=1))
    sources = {each.source for each in program.commands if isinstance(each, Activate)}
    assert len(sources) == 8 * buffers


def test_what_does_not_fit_is_refused_with_a_way_out() -> None:
    """In blocks these fit: 512 channels for 150 tokens, and attention of 4 heads over them."""
    d = Drawer(2)
    stream = net.Input("stream", "words", 32)
    layers = [
        d.norm("stream", "normed", 32),
        d.linear("normed", "up", 32, 512, "int16"),
        net.Activate("up", "hidden", "gelu", d.scale(1 / 10)),
        d.linear("hidden", "stream", 512, 32, "residual"),
    ]
    attention = d.block("stream", "vision", heads=4, dim=8)
    inputs, config = brought(words=d.tensor(150, 32)), core(activation_bytes=32768)
    message = (
        "words of an activation memory of 2048, in blocks of .* use a larger activation memory, "
        "or leave more of compression.fusion and compression.dataflow at their defaults"
    )
    for operators, choices in ((layers, flowing(groups=32)), (attention, fused(attention=False))):
        model = net.Network((stream, *operators), 64, 16)
        lower(model, inputs, config)
        with pytest.raises(LoweringError, match=message):
            lower(model, inputs, config, choices=choices)


@pytest.mark.parametrize(
    "knobs, expected",
    [
        (DataflowKnobs(), [(2, range(1, 4)), (3, range(1, 3)), (5, range(1, 2))]),
        (DataflowKnobs(ways=2), [(2, range(2, 3)), (3, range(2, 3)), (5, range(1, 2))]),
        (DataflowKnobs(groups=4), [(4, range(1, 3))]),
        (DataflowKnobs(groups=8, ways=3), [(5, range(1, 2))]),
    ],
)
def test_a_knob_that_is_set_leaves_the_others_to_the_mapper(
    knobs: DataflowKnobs, expected: Sequence[tuple[int, range]]
) -> None:
    assert dataflow.apply(knobs, [2, 3, 5]) == expected


def test_a_plan_tells_lowering_its_choices_and_the_model_everything_else() -> None:
    plan = CompressionPlan(fusion=NOTHING_FUSED, dataflow=DATAFLOWS[0])
    assert plan.choices == Choices(fusion=NOTHING_FUSED, dataflow=DATAFLOWS[0])
    assert plan.numbers_json() == CompressionPlan().numbers_json()
    told = set(Choices.model_fields)
    assert set(CompressionPlan.model_fields) - told == set(
        CompressionPlan.model_validate_json(plan.numbers_json()).model_fields_set
    )
    assert CompressionPlan().choices == MAPPER
