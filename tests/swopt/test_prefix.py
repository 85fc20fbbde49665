"""Keys and values of a prefix stand for its tokens: on the twin, and on the core."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hwlib.config import CoreConfig
from hwlib.reference.core import execute
from swopt.compiler import network as net
from swopt.compiler import twin
from swopt.compiler.generation import Generation
from swopt.compiler.host import Inputs
from swopt.compiler.language_model import IntegerLanguageModel, integer_language_model, observe
from swopt.compiler.lowering import LoweringError
from swopt.compiler.network import Kept
from swopt.compiler.prefix import TOKENS, float_prefix, with_prefix
from swopt.compiler.program import lower, token, unpack
from swopt.techniques.quantization import QuantizationKnobs
from tests.swopt import tiny_llama

IDS = np.arange(7, 7 + TOKENS + 11)


@pytest.fixture(scope="module")
def made() -> IntegerLanguageModel:
    model: Any = tiny_llama.model()
    calibration = [torch.arange(start, start + 60) % 260 for start in (2, 70, 140)]
    return integer_language_model(model, observe(model, calibration), QuantizationKnobs())


def kept_of(network: net.Network, words: net.Int16s) -> dict[str, Kept]:
    """What the integer model itself makes of the keys and values of `words`."""
    tensors = twin.tensors(network, Inputs(words=words))
    return {
        op.y: Kept(tensors[op.k].astype(np.int8), tensors[op.v].astype(np.int8))
        for op in network.operators
        if isinstance(op, net.Attention)
    }


@pytest.fixture(scope="module")
def behind(made: IntegerLanguageModel) -> net.Network:
    return with_prefix(made.network, kept_of(made.network, made.words[IDS[:TOKENS]]))


def test_texts_behind_a_prefix_are_those_that_begin_with_it(
    made: IntegerLanguageModel, behind: net.Network
) -> None:
    whole = twin.token_logits(made.network, Inputs(words=made.words[IDS]))
    own = twin.token_logits(behind, Inputs(words=made.words[IDS[TOKENS:]]))
    assert torch.equal(own, whole[TOKENS:])
    assert not torch.equal(
        twin.token_logits(made.network, Inputs(words=made.words[IDS[TOKENS:]])), own
    )


@pytest.mark.parametrize("side", [8, 16])
def test_the_core_computes_them_from_a_cache_that_was_loaded_before(
    made: IntegerLanguageModel, behind: net.Network, side: int
) -> None:
    config = CoreConfig(rows=side, columns=side, channel_entries=512, weight_bytes=32768)
    own = made.words[IDS[TOKENS:]]
    expected = twin.token_logits(behind, Inputs(words=own)).numpy()
    program = lower(behind, Inputs(words=own), config)
    after = execute(program.commands, program.dram, config)
    assert np.array_equal(unpack(program, after)["head"][0], expected[-1])
    assert token(program, after) == expected[-1].argmax()

    generation = Generation(behind, config, Inputs(words=own[:5]), len(own))
    program = generation.prompt()
    for length in range(5, len(own) + 1):
        after = execute(program.commands, program.dram, config)
        assert np.array_equal(unpack(program, after)["head"][0], expected[length - 1]), length
        if length < len(own):
            program = generation.step(own[: length + 1], after)


def test_float_keys_and_values_are_those_that_the_integers_follow(
    made: IntegerLanguageModel,
) -> None:
    model: Any = tiny_llama.model()
    found = float_prefix(model, IDS[:TOKENS].tolist())
    ours = kept_of(made.network, made.words[IDS[:TOKENS]])
    for keys, values, each in zip(found.keys, found.values, ours.values(), strict=True):
        for exact, integers in ((keys, each.keys), (values, each.values)):
            flat = np.stack([exact.numpy().ravel(), integers.ravel().astype(float)])
            assert np.corrcoef(flat)[0, 1] > 0.99


def test_a_prefix_that_does_not_fit_is_refused(
    made: IntegerLanguageModel, behind: net.Network
) -> None:
    kept = kept_of(made.network, made.words[IDS[:12]])
    twelve = with_prefix(made.network, kept)
    own = Inputs(words=made.words[IDS[TOKENS:]])
    with pytest.raises(LoweringError, match="12 tokens in front of every text must be a multiple"):
        lower(twelve, own, CoreConfig(channel_entries=512))
    with pytest.raises(ValueError, match="has a past already"):
        with_prefix(behind, kept)
    with pytest.raises(ValueError, match="no keys and values of a prefix"):
        with_prefix(made.network, dict(list(kept.items())[:1]))
    attention = next(op for op in behind.operators if isinstance(op, net.Attention))
    with pytest.raises(ValueError, match=r"keys that are kept must be \[8, 32\]"):
        replace(attention, past=8)
