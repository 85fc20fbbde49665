"""A Llama that went through GGUF computes what it computed before."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from swopt.workloads import gguf, gguf_llama, smollm2
from tests.swopt import tiny_llama
from tests.swopt.gguf_bytes import F32, file_of, text, uint32


def _written(path: Path, content: bytes) -> gguf.GgufFile:
    path.write_bytes(content)
    return gguf.read(path)


def test_a_model_comes_back_with_its_configuration_and_its_numbers(tmp_path: Path) -> None:
    before = tiny_llama.model(seed=3)
    file = _written(tmp_path / "a.gguf", tiny_llama.gguf_bytes(before))
    files = smollm2.write_llama(file, tmp_path)
    assert set(files) == set(smollm2.FILES)
    after, report = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert after.config.rms_norm_eps == 1e-5, "not 9.999999747378752e-06"
    assert after.config.rope_parameters["rope_theta"] == 100_000.0
    ids = torch.randint(0, 200, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = (each.eval()(input_ids=ids).logits for each in (before, after))
    # The weights went through float16.
    assert float((expected - found).abs().max()) < 0.01 * float(expected.abs().max())


def test_rows_are_turned_so_that_both_rotary_embeddings_give_one_score() -> None:
    """The score of a query and a key at two places, as llama.cpp and as transformers turn them."""
    rng = np.random.default_rng(1)
    heads, half, channels = 2, 4, 8
    file_rows = [rng.normal(size=(heads * 2 * half, channels)).astype(np.float32) for _ in "qk"]
    x = rng.normal(size=(2, channels))
    frequency = 0.3 ** np.arange(half)

    def scores(layers: list[np.ndarray], halves: bool) -> np.ndarray:
        turned = []
        for weight, at, place in zip(layers, x, (3, 11), strict=True):
            y = (weight @ at).reshape(heads, -1)
            a, b = (y[:, :half], y[:, half:]) if halves else (y[:, 0::2], y[:, 1::2])
            turned.append((a + 1j * b) * np.exp(1j * place * frequency))
        return (turned[0] * turned[1].conj()).real.sum(1)

    ours = [gguf_llama.half_split(weight, heads) for weight in file_rows]
    assert np.allclose(scores(file_rows, halves=False), scores(ours, halves=True))
    assert not np.allclose(scores(file_rows, halves=False), scores(file_rows, halves=True))


def test_the_tokenizer_takes_each_digit_for_itself_and_gives_any_text_back(tmp_path: Path) -> None:
    file = _written(tmp_path / "a.gguf", tiny_llama.gguf_bytes(tiny_llama.model()))
    tokenizer = gguf_llama.tokenizer(file)
    assert tokenizer.encode("re12").tokens == ["re", "1", "2"], "the merge of 1 and 2 is not used"
    said = "def f():\n    return 12  # é\t\u2003<|im_start|>\r\n"
    found = tokenizer.encode(said)
    assert tokenizer.decode(found.ids, skip_special_tokens=False) == said
    assert found.tokens[-3:] == ["<|im_start|>", "č", "Ċ"]
    assert tokenizer.encode("x").tokens == ["x"], "no space is put before a text"


def test_what_is_no_such_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    whole = tiny_llama.gguf_bytes(tiny_llama.model())
    with pytest.raises(ValueError, match="the architecture gpt22, not llama"):
        changed = whole.replace(text("llama"), text("gpt22"))
        gguf_llama.config(_written(path, changed))
    with pytest.raises(ValueError, match=r"does not give llama\.block_count"):
        gguf_llama.config(_written(path, whole.replace(b"llama.block_count", b"llama.block_cOunt")))
    with pytest.raises(ValueError, match="kind gpt2/default; gpt2/smollm is read"):
        gguf_llama.tokenizer(_written(path, tiny_llama.gguf_bytes(tiny_llama.model(), "default")))
    with pytest.raises(ValueError, match=r"a Llama has no tensor blk\.0\.attn_q\.bias"):
        pairs = [text("llama.attention.head_count") + uint32(1)]
        odd = file_of(pairs, [("blk.0.attn_q.bias", (4,), F32, bytes(16))])
        list(gguf_llama.weights(_written(path, odd)))
