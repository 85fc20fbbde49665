"""The code workload: what is read, how it is scored, and that it is the same each time."""

import ast
import copy
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from swopt.workloads import code, language_models, model_store, smollm2
from tests.swopt import tiny_llama


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return tiny_llama.model()


def test_no_module_is_in_two_splits() -> None:
    named = [name for names in code.MODULES.values() for name in names]
    assert len(set(named)) == len(named) == 20


@pytest.mark.parametrize("split", code.MODULES)
def test_modules_are_the_interpreters_own_and_of_plain_ascii(split: str) -> None:
    for name in code.MODULES[split]:  # type: ignore[index]
        text, sha256 = code.read_module(name)
        assert text.isascii() and len(sha256) == 64
        assert ast.parse(text).body
    with pytest.raises(code.CodeError, match="needs a Python that has the sources"):
        code.read_module("no_such_module")


def test_windows_are_pieces_of_the_modules_whose_bytes_are_counted() -> None:
    tokenizer = tiny_llama.tokenizer()
    found = code.windows(tokenizer, "val")
    assert found.ids.shape == (code.WINDOWS, code.WINDOW)
    assert found.modules == tuple(name for name in code.MODULES["val"] for _ in range(2))
    for row, count, name in zip(found.ids, found.byte_counts, found.modules, strict=True):
        text = tokenizer.decode(row[1:].tolist())
        assert text in code.read_module(name)[0]
        assert count == len(text.encode())
    again = code.windows(tokenizer, "val")
    assert np.array_equal(again.ids, found.ids) and again.sha256 == found.sha256
    assert len({row.tobytes() for row in found.ids}) == code.WINDOWS
    few = code.windows(tokenizer, "test", 3)
    assert few.modules == code.MODULES["test"][:3] and set(few.sha256) == set(few.modules)


def test_windows_that_cannot_be_are_refused() -> None:
    tokenizer = tiny_llama.tokenizer()
    with pytest.raises(code.CodeError, match="a score needs 1 window or more, not 0"):
        code.windows(tokenizer, "val", 0)
    with pytest.raises(code.CodeError, match=r"calendar has \d+ windows of 256 tokens, fewer than"):
        code.windows(tokenizer, "val", 100_000)
    lossy = copy.deepcopy(tokenizer)
    from tokenizers.normalizers import Lowercase

    lossy.normalizer = Lowercase()
    with pytest.raises(code.CodeError, match="does not give the text of calendar back"):
        code.windows(lossy, "val")


def test_bits_and_hits_are_those_of_every_token_but_the_first(model: torch.nn.Module) -> None:
    asked = code.windows(tiny_llama.tokenizer(), "val", 3)
    found = code.score(model, asked)
    for index, row in enumerate(torch.from_numpy(asked.ids)):
        with torch.no_grad():
            logits = model(input_ids=row[None]).logits[0].double()
        bits, hits = 0.0, 0
        for place in range(1, len(row)):
            odds = functional.softmax(logits[place - 1], -1)
            bits -= math.log2(odds[row[place]])
            hits += int(odds.argmax() == row[place])
        assert found.bits[index] == pytest.approx(bits, rel=1e-5)
        assert found.hits[index] == hits
    assert found.tokens == code.WINDOW - 1
    assert found.bits_per_byte == pytest.approx(found.bits.sum() / asked.byte_counts.sum())
    assert found.accuracy == pytest.approx(found.hits.mean() / 255)


def test_a_score_is_the_same_each_time_and_does_not_hang_on_other_windows(
    model: torch.nn.Module,
) -> None:
    tokenizer = tiny_llama.tokenizer()
    asked = code.windows(tokenizer, "val", 4)
    first, again = code.score(model, asked), code.score(model, asked)
    assert np.array_equal(first.bits, again.bits) and np.array_equal(first.hits, again.hits)
    fewer = code.score(model, code.windows(tokenizer, "val", 2))
    assert np.array_equal(fewer.bits[0], first.bits[0])


def test_a_uniform_model_takes_the_logarithm_of_its_vocabulary() -> None:
    flat = tiny_llama.model()
    with torch.no_grad():
        flat.model.embed_tokens.weight.zero_()  # type: ignore[union-attr, operator]
    found = code.score(flat, code.windows(tiny_llama.tokenizer(), "test", 2))
    assert found.bits == pytest.approx(255 * math.log2(len(tiny_llama.vocabulary())))


def test_prompts_are_functions_whose_next_line_parses() -> None:
    tokenizer = tiny_llama.tokenizer()
    found = code.prompts(tokenizer, "val", 6)
    assert found == code.prompts(tokenizer, "val", 6)
    for prompt in found:
        text, _ = code.read_module(prompt.module)
        assert f"{prompt.beginning}\n{prompt.line}\n" in text
        assert prompt.beginning.count("\n") >= 1
        ast.parse(f"{prompt.beginning}\n{prompt.line}\n")
        assert len(tokenizer.encode(prompt.beginning).ids) <= code.PROMPT_TOKENS
    with pytest.raises(code.CodeError, match="lines, not 100000"):
        code.prompts(tokenizer, "val", 100_000)


class Parrot(torch.nn.Module):
    """Writes one text, whatever it is asked, and counts what it was shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids = tiny_llama.tokenizer().encode(text).ids
        self.seen: list[int] = []

    def forward(self, input_ids: torch.Tensor, past_key_values: object, **_: object) -> object:
        if past_key_values is None:
            self.seen = []
        self.seen.append(input_ids.shape[1])
        logits = torch.zeros(1, 1, len(tiny_llama.vocabulary()))
        logits[0, 0, self.ids[(len(self.seen) - 1) % len(self.ids)]] = 1

        class Answer:
            pass

        answer = Answer()
        answer.logits, answer.past_key_values = logits, "kept"  # type: ignore[attr-defined]
        return answer


@pytest.mark.parametrize(
    ("written", "line", "exact", "parses"),
    [
        ("\n    return 1\nx", "    return 1", True, True),
        ("\n\n    return 1  \n", "    return 1", True, True),
        ("\n    return 2\n", "    return 2", False, True),
        ("\n   return 1\n", "   return 1", False, False),
        ("\n    return (\n", "    return (", False, False),
        (" + 1\n    return 1\n", " + 1", False, True),
        ("    return 1\n", "    return 1", False, False),
        ("\n    " + 40 * "x", "    " + 28 * "x", False, True),
    ],
)
def test_a_line_is_what_stands_up_to_its_line_feed(
    written: str, line: str, exact: bool, parses: bool
) -> None:
    prompt = code.Prompt("m", "def f():\n    x = 3", "    return 1")
    found = code.complete(Parrot(written), tiny_llama.tokenizer(), (prompt,))
    assert found.lines[0].rstrip("x") == line.rstrip("x")
    assert (bool(found.exact[0]), bool(found.parses[0])) == (exact, parses)


def test_a_line_is_written_token_by_token_as_without_kept_keys(model: torch.nn.Module) -> None:
    tokenizer = tiny_llama.tokenizer()
    prompt = code.prompts(tokenizer, "val", 1)[0]
    ids = tokenizer.encode(prompt.beginning).ids
    with torch.no_grad():
        for _ in range(code.LINE_TOKENS):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    text = tokenizer.decode(ids[-code.LINE_TOKENS :], skip_special_tokens=False).lstrip("\n")
    found = code.complete(model, tokenizer, (prompt,)).lines[0]
    assert found and text.startswith(found)


def test_smollm2_predicts_the_standard_library() -> None:
    if smollm2.find(model_store.models_dir()) is None:
        pytest.skip("smollm2-135m is not here; dovetail fetch smollm2-135m")
    loaded = language_models.load(smollm2.NAME)
    found = code.score(loaded.model, code.windows(loaded.tokenizer, "val", 4))
    assert 0.6 < found.bits_per_byte < 1.2, "gzip takes about 2"
    assert 0.4 < found.accuracy < 0.7


def test_the_standard_library_is_where_it_is_looked_for() -> None:
    assert (Path(ast.__file__).parent / "calendar.py").is_file(), sys.version
    assert (
        code.read_module("calendar")[0] == (Path(ast.__file__).parent / "calendar.py").read_text()
    )
