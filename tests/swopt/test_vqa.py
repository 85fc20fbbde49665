"""Questions, answers and the tokenizer's words fit together."""

import numpy as np
import pytest

from swopt.workloads import tiny_vlm
from swopt.workloads.medmnist import MD5
from swopt.workloads.vqa import (
    SYNTHETIC,
    TASKS,
    LabelledImages,
    answer_set,
    asked_of,
    one_question_each,
    synthetic_images,
    vocabulary,
)


def test_every_2d_set_has_questions_with_three_phrasings_and_single_token_answers() -> None:
    assert set(TASKS) == {*MD5, SYNTHETIC}
    tokenizer = tiny_vlm.build_tokenizer()
    for tasks in TASKS.values():
        for task in tasks:
            assert len(set(task.phrasings)) >= 3
            assert len(set(task.answers)) == len(task.answers) >= 2
            for text in (*task.phrasings, *task.answers):
                assert "<unk>" not in tokenizer.encode(text).tokens
            assert all(len(tokenizer.encode(answer).ids) == 1 for answer in task.answers)
    assert len(vocabulary()) == tokenizer.get_vocab_size() <= 512


def test_the_label_decides_the_answer_and_the_seed_the_phrasing() -> None:
    images = np.zeros((40, 28, 28, 3), np.uint8)
    part = LabelledImages("breastmnist", images, np.arange(40)[:, None] % 2)
    answers = answer_set(("breastmnist", SYNTHETIC))
    questions, labels = one_question_each(part, answers, seed=0)
    assert [answers[i] for i in labels.answers[:2]] == ["malignant", "benign"]
    assert set(questions.texts) == set(TASKS["breastmnist"][0].phrasings)
    again, _ = one_question_each(part, answers, seed=0)
    other, other_labels = one_question_each(part, answers, seed=1)
    assert questions.texts == again.texts != other.texts
    assert np.array_equal(labels.answers, other_labels.answers)


def test_only_questions_that_apply_are_asked() -> None:
    part = synthetic_images("val", 200)
    answers = answer_set((SYNTHETIC,))
    questions, labels = one_question_each(part, answers, seed=0)
    for row, (text, truth, choices) in enumerate(
        zip(questions.texts, labels.answers, labels.choices, strict=True)
    ):
        (index,) = [i for i, task in enumerate(TASKS[SYNTHETIC]) if text in task.phrasings]
        assert answers[truth] == TASKS[SYNTHETIC][index].answers[part.labels[row, index]]
        assert truth in choices


def test_a_multi_label_set_is_asked_finding_by_finding() -> None:
    labels = np.eye(14, dtype=np.int64)
    part = LabelledImages("chestmnist", np.zeros((14, 28, 28, 3), np.uint8), labels)
    answers = answer_set(("chestmnist",))
    assert answers == ("no", "yes")
    _, asked = one_question_each(part, answers, seed=0)
    assert set(asked.answers.tolist()) <= {0, 1}


def test_splits_of_the_synthetic_set_differ_and_sets_follow_each_other() -> None:
    train, val = synthetic_images("train", 8), synthetic_images("val", 8)
    assert train.images.tobytes() != val.images.tobytes()
    questions, labels = asked_of((train, val), answer_set((SYNTHETIC,)), seed=0)
    assert len(questions) == len(labels.answers) == len(labels.choices) == 16
    assert questions.images[:8].tobytes() == train.images.tobytes()
    taken = questions.take([9, 2])
    assert taken.texts == (questions.texts[9], questions.texts[2])


@pytest.mark.parametrize("name", sorted(TASKS))
def test_answers_of_one_question_are_ordered_as_its_labels(name: str) -> None:
    answers = answer_set((name,))
    for task in TASKS[name]:
        assert set(task.answers) <= set(answers)
