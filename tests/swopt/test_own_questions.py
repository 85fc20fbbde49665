"""One's own questions become a table of the model's size, and nothing is lost unsaid."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from swopt.workloads import checkpoint, own_questions, own_words
from swopt.workloads.checkpoint import CheckpointError, TinyVlm
from swopt.workloads.image_grid import fitted, resized
from swopt.workloads.own_questions import NoQuestions, OwnQuestions, Table, pack
from swopt.workloads.vqa_rows import Row
from tests.swopt.own_rows import packed, row, rows


def made(found: list[Row], words_max: int = 20) -> own_questions.Packed:
    return pack(found, words_max, str.split)


def test_each_image_stands_once_and_each_question_keeps_what_it_had() -> None:
    found = made(rows(6))
    table = found.table
    assert table.images.shape == (18, 32, 32, 3) and len(table.texts) == 36
    assert found.answers == ("below", "no", "top half", "yes")
    assert [found.answers[i] for i in table.answers[:4]] == ["top half", "yes", "below", "no"]
    assert np.array_equal(table.image[:4], [0, 0, 1, 1])
    assert np.bincount(table.splits).tolist() == [12, 12, 12]
    asked = table.questions(table.of("test"))
    assert asked.texts[:2] == ("Where is the LIGHT?", "Is the light on top?")
    assert asked.sets[:2] == ("open", "closed")
    assert asked.images[0][:16].mean() > 2 * asked.images[0][16:].mean()


def test_an_answer_that_training_does_not_have_is_left_out_and_counted() -> None:
    stranger = row("test", 7, "Where is the light?", "outside")
    found = made([*rows(4), stranger])
    assert "outside" not in found.answers
    assert found.unseen == {"test": 1} and len(found.table.texts) == 24


def test_answers_told_apart_by_signs_alone_and_images_in_two_splits_are_counted() -> None:
    found = made([*rows(4), row("train", 0, "How large?", "<5"), row("train", 2, "Or?", "> 5!")])
    assert (found.merged, found.shared) == (1, 0) and "5" in found.answers
    leaking = row("test", 0, "Is the light on top?", "yes", "closed")
    assert made([*rows(4), leaking]).shared == 1


def test_a_question_that_is_too_long_is_left_out_and_counted() -> None:
    found = made([*rows(4), row("val", 8, "is it " * 11, "yes", "closed")], words_max=20)
    assert found.long == {"val": 1} and found.unseen == {}


def test_without_validation_and_test_some_training_images_are_held_out_whole() -> None:
    training = [each for each in rows(24) if each.split == "train"]
    table = made(training).table
    by_image = {image: set(table.splits[table.image == image]) for image in range(24)}
    assert all(len(splits) == 1 for splits in by_image.values())
    assert [sum(split in each for each in by_image.values()) for split in (0, 1, 2)] == [18, 3, 3]
    assert np.array_equal(made(training).table.splits, table.splits)


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ((), "0 different answers"),
        (("val", "test"), '"split": "train"'),
    ],
)
def test_nothing_to_learn_is_a_sentence(splits: tuple[str, ...], said: str) -> None:
    with pytest.raises(NoQuestions, match=said):
        made([each for each in rows(4) if each.split in splits])


def test_a_test_question_that_training_answers_is_wanted() -> None:
    training = [each for each in rows(24) if each.split != "test"]
    with pytest.raises(NoQuestions, match="no question of the split test has an answer that"):
        made([*training, row("test", 9, "Where is it?", "nowhere")])
    with pytest.raises(NoQuestions, match="too few training images to hold some out"):
        made([each for each in rows(2) if each.split == "train"])


def test_images_of_any_size_are_seen_whole() -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (28, 28, 3), np.uint8)
    assert np.array_equal(fitted(small), resized(small[None], 32, 32)[0])
    exact = rng.integers(0, 256, (32, 32, 3), np.uint8)
    assert np.array_equal(fitted(exact), exact)
    large = rng.integers(0, 256, (96, 96, 3), np.uint8)
    mean = large.reshape(32, 3, 32, 3, 3).mean((1, 3))
    assert np.array_equal(fitted(large), np.rint(mean).astype(np.uint8))
    wide = np.full((10, 64, 3), 200, np.uint8)
    seen = fitted(wide)
    assert seen.shape == (32, 32, 3)
    assert not seen[:13].any() and not seen[19:].any() and (seen[14:18] == 200).all()
    assert abs(seen.astype(float).mean() * 64 * 64 - 200 * 640) < 64 * 64
    assert (fitted(np.full((1, 1, 3), 9, np.uint8)) == 9).all()


def test_a_table_comes_back_from_its_file_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    base = checkpoint.load()
    found = packed(base, 6)
    content = found.content()
    assert content == found.content()
    (tmp_path / checkpoint.QUESTIONS).write_bytes(content)
    loaded = own_questions.load(_with_questions(base, tmp_path, content, found))
    assert isinstance(loaded, OwnQuestions) and loaded.table.texts == found.table.texts
    assert loaded.sets == ("closed", "open")
    assert "rows.jsonl, with 4 answers" in loaded.describe()
    assert "0 and 3 more are left out, whose answer is not among them" in loaded.describe()
    other = replace(found, answers=found.answers[::-1])
    with pytest.raises(CheckpointError, match=r"other answers than questions\.npz"):
        own_questions.load(_with_questions(base, tmp_path, content, other))
    (tmp_path / checkpoint.QUESTIONS).write_bytes(content[:-1])
    own_questions._table.cache_clear()
    with pytest.raises(CheckpointError, match=r"not the file that training\.json names"):
        own_questions.load(_with_questions(base, tmp_path, content, found))


def test_kinds_have_choices_of_their_own_and_calibration_is_of_training() -> None:
    found = made(rows(48))
    bank = OwnQuestions("rows", found.table, found.answers, {}, "")
    asked, labels = bank.asked("val")
    by_kind = dict(zip(asked.sets, labels.choices, strict=True))
    assert [found.answers[i] for i in by_kind["closed"]] == ["no", "yes"]
    assert [found.answers[i] for i in by_kind["open"]] == ["below", "top half"]
    assert all(t in choice for t, choice in zip(labels.answers, labels.choices, strict=True))
    calibration = bank.asked("train")[0]
    assert len(calibration) == own_questions.CALIBRATION_QUESTIONS
    training = {image.tobytes() for image in bank.practice(0).images}
    assert {image.tobytes() for image in calibration.images} <= training
    assert not {image.tobytes() for image in asked.images} & training


def test_known_words_keep_their_tokens_and_an_answer_of_two_words_is_one_token() -> None:
    base = checkpoint.load()
    tokenizer = own_words.extended(base.tokenizer, ["Is the GLOW on top?"], ["top half", "yes"])
    before, after = base.tokenizer.get_vocab(), tokenizer.get_vocab()
    assert all(after[word] == token for word, token in before.items())
    assert set(after) - set(before) == {"glow", "on", "top", "top half"} - set(before)
    text = "is this breast ultrasound malignant or benign ?"
    assert tokenizer.encode(text).ids == base.tokenizer.encode(text).ids
    assert tokenizer.encode("Is the glow on top?").tokens == ["is", "the", "glow", "on", "top", "?"]


def test_text_never_becomes_the_token_of_an_image() -> None:
    base = checkpoint.load()
    tokenizer = own_words.extended(base.tokenizer, ["<image> <pad>?"], ["yes"])
    assert tokenizer.token_to_id("<image>") not in tokenizer.encode("is it <image> ?").ids


def test_rarer_words_are_unknown_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    base = checkpoint.load()
    monkeypatch.setattr(own_words, "WORDS_MAX", base.tokenizer.get_vocab_size() + 2)
    tokenizer = own_words.extended(base.tokenizer, ["often often seldom"], ["yes"])
    assert tokenizer.encode("often seldom").tokens == ["often", "<unk>"]


def _with_questions(
    base: TinyVlm, folder: Path, content: bytes, found: own_questions.Packed
) -> TinyVlm:
    about = {
        "files_sha256": {checkpoint.QUESTIONS: sha256(content).hexdigest()},
        "of": "rows.jsonl",
        "unseen": {"test": 3},
    }
    return replace(base, folder=folder, answers=found.answers, training=about)


def test_columns_are_typed() -> None:
    table = made(rows(4)).table
    assert isinstance(table, Table) and table.images.dtype == np.uint8
    assert all(getattr(table, name).dtype == np.int64 for name in ("image", "answers", "kinds"))
