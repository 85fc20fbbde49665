"""Speculative decoding writes what the target writes alone, and counts what it asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from hwlib.config import CoreConfig
from hwlib.reference.core import execute
from swopt.compiler import twin
from swopt.compiler.decoding import IntegerDecoder, IntegerTexts
from swopt.compiler.host import Inputs
from swopt.compiler.language_model import IntegerLanguageModel, integer_language_model, observe
from swopt.compiler.verification import CoreDecoder, programs_of
from swopt.techniques.quantization import QuantizationKnobs
from swopt.techniques.speculative import (
    Decoder,
    Drafter,
    ModelDrafter,
    PromptLookup,
    Recorded,
    Round,
    SpeculativeKnobs,
    check_tokenizers,
    generate,
)
from swopt.workloads import drafts, language_models
from swopt.workloads.float_decoding import FloatDecoder
from tests.swopt import tiny_llama

PROMPT = [5, 60, 7, 5, 60, 9, 33, 5, 60, 7]
CORE = CoreConfig(rows=8, columns=8, channel_entries=256, dma_bytes=8)


class Cyclic:
    """A decoder whose choice is drawn from the last three tokens, so that texts repeat."""

    def __init__(self, seed: int) -> None:
        self.seed, self.tokens, self.calls = seed, list[int](), list[int]()

    def extend(self, tokens: Sequence[int]) -> list[int]:
        self.calls.append(len(tokens))
        found = []
        for token in tokens:
            self.tokens.append(token)
            found.append(hash((self.seed, *self.tokens[-3:])) % 4)
        return found

    def cut(self, length: int) -> None:
        del self.tokens[length:]


class Reading:
    """A drafter that proposes pieces of a fixed list, right or wrong."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens

    def propose(self, text: Sequence[int], count: int) -> list[int]:
        at = len(text) % len(self.tokens)
        return self.tokens[at : at + count]


@pytest.fixture(scope="module")
def integers() -> IntegerLanguageModel:
    return made_integer(tiny_llama.model(), 8)


def made_integer(model: Any, bits: Any, block: int = 16) -> IntegerLanguageModel:
    calibration = [torch.arange(start, start + 60) % 260 for start in (2, 70, 140)]
    seen = observe(model, calibration)
    return integer_language_model(model, seen, QuantizationKnobs(bits=bits), block)


def alone(target: Decoder, new_tokens: int, prompt: list[int] = PROMPT) -> tuple[int, ...]:
    """One token a call."""
    text = list(prompt)
    target.cut(0)
    text.append(target.extend(text)[-1])
    while len(text) < len(prompt) + new_tokens:
        text += target.extend(text[-1:])
    return tuple(text[len(prompt) :])


@settings(deadline=None, max_examples=200)
@given(
    st.integers(0, 50), st.lists(st.integers(0, 3), min_size=1, max_size=9), st.integers(1, 40),
    st.integers(1, 9), st.sampled_from([None, 1, 4, 8]), st.sampled_from([(), (2,), (0, 3)]),
)  # fmt: skip
def test_any_draft_leaves_the_text_as_it_is(
    seed: int, guesses: list[int], new: int, k: int, group: int | None, stop: tuple[int, ...]
) -> None:
    prompt = [1, 2, 3, 0, 1]
    whole = alone(Cyclic(seed), new, prompt)
    ends = [i for i, token in enumerate(whole) if token in stop]
    expected = whole[: ends[0] + 1] if ends else whole
    drafters: list[Drafter | None] = [
        None, PromptLookup(3), Reading(guesses),
        ModelDrafter(Cyclic(seed)), ModelDrafter(Cyclic(seed + 1)),
    ]  # fmt: skip
    for drafter in drafters:
        target = Cyclic(seed)
        found = generate(target, drafter, prompt, new, draft_tokens=k, stop=stop, token_group=group)
        assert found.tokens == expected
        assert found.target_calls == len(target.calls)
        assert found.drafted == sum(target.calls[1:]) - len(found.rounds)
        assert target.tokens == [*prompt, *expected][:-1]
        first = len(prompt)
        for one, read in zip(found.rounds, target.calls[1:], strict=True):
            assert one.drafted == read - 1 <= k and one.accepted <= one.drafted
            assert group is None or (one.length - 1) // group == (one.length + read - 2) // group
            first += one.accepted + 1


def test_a_draft_by_the_target_itself_is_always_accepted() -> None:
    found = generate(Cyclic(1), ModelDrafter(Cyclic(1)), [1, 2], 13, draft_tokens=3)
    assert found.rounds == (Round(3, 3, 3), Round(7, 3, 3), Round(11, 3, 3))
    assert (found.target_calls, found.drafted, found.accepted) == (4, 9, 9)
    assert found.tokens_per_call == 4.0
    grouped = generate(
        Cyclic(1), ModelDrafter(Cyclic(1)), [1, 2], 13, draft_tokens=3, token_group=4
    )
    assert [(each.length, each.drafted) for each in grouped.rounds] == [
        (3, 1), (5, 3), (9, 3), (13, 1)
    ]  # fmt: skip


def test_an_answer_of_one_token_has_nothing_to_draft() -> None:
    target = Cyclic(1)
    found = generate(target, PromptLookup(), [1, 1, 1], 1)
    assert found.tokens_per_call is None
    assert (found.target_calls, found.drafted, target.calls) == (1, 0, [3])


def test_look_up_takes_the_longest_match_and_of_these_the_latest() -> None:
    text = [1, 2, 3, 4, 9, 2, 3, 5, 8, 2, 3, 6, 1, 2, 3]
    assert PromptLookup(3).propose(text, 2) == [4, 9]
    assert PromptLookup(2).propose(text, 2) == [6, 1]
    assert PromptLookup(2).propose(text, 9) == [6, 1, 2, 3]
    assert PromptLookup(3).propose([1, 2, 3], 2) == []
    assert PromptLookup(3).propose([7], 2) == []


def test_a_record_gives_the_rounds_of_the_decoder_itself() -> None:
    prompt = [1, 2, 3, 0, 1]
    for seed in range(20):
        text = [*prompt, *alone(Cyclic(seed), 30, prompt)]
        ours, theirs = Cyclic(seed), Cyclic(seed + 1)
        recorded, draft = Recorded(ours.extend(text)), Recorded(theirs.extend(text))
        for k in (1, 3, 8):
            real = generate(
                Cyclic(seed), ModelDrafter(Cyclic(seed + 1)), prompt, 30, draft_tokens=k
            )
            recorded.cut(0)
            draft.cut(0)
            assert real == generate(recorded, ModelDrafter(draft), prompt, 30, draft_tokens=k)


def test_float_target_writes_what_it_writes_alone() -> None:
    model: Any = tiny_llama.model()
    expected = alone(FloatDecoder(model), 40)
    with torch.inference_mode():
        ids = torch.tensor([[*PROMPT, *expected]])
        whole = model(input_ids=ids, use_cache=False).logits[0].argmax(-1).tolist()
    assert tuple(whole[len(PROMPT) - 1 : -1]) == expected
    target = FloatDecoder(model)
    for drafter in (
        PromptLookup(), ModelDrafter(FloatDecoder(tiny_llama.model(seed=1))),
        ModelDrafter(FloatDecoder(drafts.without_blocks(model, (1,)))),
    ):  # fmt: skip
        found = generate(target, drafter, PROMPT, 40, draft_tokens=5)
        assert found.tokens == expected
    assert 0 < found.accepted < found.drafted


@pytest.mark.parametrize("block", [2, 64])
def test_rows_of_a_verification_are_the_steps_byte_for_byte(block: int) -> None:
    made = made_integer(tiny_llama.model(), 8, block)
    text = [(7 * i * i + 3) % 262 for i in range(33)]
    whole = twin.token_logits(made.network, Inputs(words=made.words[text]))
    steps = IntegerDecoder(made)
    for at, token in enumerate(text):
        assert torch.equal(steps.logits([token])[0], whole[at])
    for k in (3, 8, 19):
        verified = IntegerDecoder(made)
        for at in range(0, len(text), k):
            # A draft that is turned down first leaves no trace.
            verified.logits([9, 8])
            verified.cut(at)
            assert torch.equal(verified.logits(text[at : at + k]), whole[at : at + k])
        assert verified.tokens == text


def test_texts_side_by_side_are_texts_alone(integers: IntegerLanguageModel) -> None:
    ids = np.array([[(seed * i + 3) % 262 for i in range(12)] for seed in (5, 7, 11)])
    together = IntegerTexts(integers, 3)
    rows = torch.cat([together.logits(ids[:, :7]), together.logits(ids[:, 7:])], 1)
    for text, row in zip(ids, rows, strict=True):
        assert torch.equal(IntegerDecoder(integers).logits(text.tolist()), row)


def test_integer_target_writes_what_it_writes_alone(integers: IntegerLanguageModel) -> None:
    expected = alone(IntegerDecoder(integers), 40)
    target = IntegerDecoder(integers)
    four = made_integer(drafts.without_blocks(tiny_llama.model(), (1,)), 4)
    for drafter in (PromptLookup(), ModelDrafter(IntegerDecoder(four))):
        found = generate(target, drafter, PROMPT, 40, draft_tokens=6)
        assert found.tokens == expected
        assert found.drafted > 0


def test_on_the_core_a_draft_costs_no_program_more(integers: IntegerLanguageModel) -> None:
    """The core's numpy model reads drafts, right ones and wrong ones, in the programs of steps."""
    expected = alone(IntegerDecoder(integers), 14)

    def run(program: Any) -> Any:
        return execute(program.commands, program.dram, program.config)

    wrong = [PROMPT[0]] * 3
    for drafter, calls in ((ModelDrafter(Recorded([*PROMPT[1:], *expected])), 3), (None, 14)):
        target = CoreDecoder(integers, CORE, 32, run)
        found = generate(target, drafter, PROMPT, 14, draft_tokens=7, token_group=CORE.rows)
        assert found.tokens == expected
        assert found.target_calls == calls
        assert target.programs == calls + 1  # the prompt is of two token groups
    target = CoreDecoder(integers, CORE, 32, run)
    found = generate(target, Reading(wrong), PROMPT, 6, draft_tokens=3, token_group=CORE.rows)
    assert found.tokens == expected[:6]
    assert found.accepted < found.drafted


def test_programs_are_counted_by_token_groups() -> None:
    assert [programs_of(*case, 8) for case in ((0, 8), (0, 9), (7, 1), (7, 2), (8, 17))] == [
        1, 2, 1, 2, 3
    ]  # fmt: skip


def test_knobs_name_their_drafter(tmp_path: Path) -> None:
    tiny_llama.save(tmp_path / "target")
    tiny_llama.save(tmp_path / "draft", seed=1, num_hidden_layers=1)
    target = language_models.load(str(tmp_path / "target"))
    assert drafts.drafter(SpeculativeKnobs(), target) is None
    assert drafts.drafter(SpeculativeKnobs(draft="prompt_lookup", ngram=2), target) == PromptLookup(
        2
    )
    expected = alone(FloatDecoder(target.model), 20)
    for knobs in (
        SpeculativeKnobs(draft="model", draft_model=str(tmp_path / "draft")),
        SpeculativeKnobs(draft="compressed", draft_bits=4),
        SpeculativeKnobs(draft="compressed", draft_without_blocks=(0,)),
    ):
        drafter = drafts.drafter(knobs, target, [torch.arange(2, 90)])
        assert generate(FloatDecoder(target.model), drafter, PROMPT, 20).tokens == expected
    for knobs, said in (
        (SpeculativeKnobs(draft="model"), "needs draft_model; name one"),
        (SpeculativeKnobs(draft="compressed", draft_without_blocks=(7,)), "names block 7"),
        (SpeculativeKnobs(draft="compressed", draft_bits=4), "needs calibration texts"),
    ):
        with pytest.raises(ValueError, match=said):
            drafts.drafter(knobs, target)


def test_a_draft_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    tiny_llama.save(tmp_path / "target")
    folder = tiny_llama.save(tmp_path / "draft", seed=1)
    words = {token: index for index, token in enumerate(tiny_llama.vocabulary())}
    words["a"], words["b"] = words["b"], words["a"]
    Tokenizer(WordLevel(words, "a")).save(str(folder / "tokenizer.json"))
    target = language_models.load(str(tmp_path / "target"))
    knobs = SpeculativeKnobs(draft="model", draft_model=str(folder))
    with pytest.raises(ValueError, match=r"another tokenizer.* token \d+ is 'b' to the draft and"):
        drafts.drafter(knobs, target)
    more = tiny_llama.save(tmp_path / "more", vocab_size=300)
    knobs = SpeculativeKnobs(draft="model", draft_model=str(more))
    with pytest.raises(ValueError, match="embeddings of 300 tokens and the target of 262"):
        drafts.drafter(knobs, target)
    fewer = Tokenizer(WordLevel({"<|endoftext|>": 0}, "<|endoftext|>"))
    with pytest.raises(ValueError, match=r"token 1 is None to the draft and '<\|im_start\|>'"):
        check_tokenizers(tiny_llama.tokenizer(), fewer)


def test_what_cannot_be_is_refused(integers: IntegerLanguageModel) -> None:
    with pytest.raises(ValueError, match="a prompt of at least 1 token"):
        generate(Cyclic(0), None, [], 3)
    with pytest.raises(ValueError, match="must be 1 or more, not 0, 4 and None"):
        generate(Cyclic(0), None, [1], 0)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        SpeculativeKnobs(draft_tokens=0)
    decoder = IntegerDecoder(integers)
    with pytest.raises(ValueError, match=r"1 texts are gone on with by 1 token or more each, not"):
        decoder.extend([])
    with pytest.raises(ValueError, match="1 token or more, not 0"):
        FloatDecoder(tiny_llama.model()).extend([])
    with pytest.raises(ValueError, match="513 tokens are more than the 512 positions"):
        decoder.extend([1] * 513)
