"""Fine-tuning teaches what rows say, goes on where it ended, and gives files of a checkpoint."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from swopt.compiler.integer_model import integer_model
from swopt.plan import CompressionPlan
from swopt.workloads import checkpoint
from swopt.workloads.finetune_questions import QuestionRecipe, QuestionTuning
from swopt.workloads.own_questions import Packed
from swopt.workloads.workload import load_workload
from tests.swopt.own_rows import packed

SHORT = QuestionRecipe(steps=6, batch=8, rank=4, learning_rate=1e-2)


def learnt(recipe: QuestionRecipe, found: Packed) -> QuestionTuning:
    teaching = QuestionTuning(checkpoint.load(), found, recipe)
    while teaching.steps_done < recipe.steps:
        teaching.step()
    teaching.check()
    return teaching


def test_it_learns_from_the_image_what_rows_say_and_their_model_loads(tmp_path: Path) -> None:
    base = checkpoint.load()
    before = {name: each.clone() for name, each in base.model.state_dict().items()}
    found = packed(base, 32)
    teaching = learnt(SHORT.model_copy(update={"steps": 60, "batch": 16}), found)
    files, judged = teaching.finish()
    assert judged.accuracy["open"] > 0.9 and judged.accuracy["closed"] > 0.9
    assert judged.commonest == {"closed": 0.5, "open": 0.5}
    assert all(torch.equal(each, before[name]) for name, each in base.model.state_dict().items())

    record = teaching.about | {
        "of": "rows",
        "weights_sha256": hashlib.sha256(files["model.safetensors"]).hexdigest(),
        "files_sha256": {n: hashlib.sha256(content).hexdigest() for n, content in files.items()},
    }
    for name, content in (files | {"training.json": json.dumps(record).encode()}).items():
        (tmp_path / name).write_bytes(content)
    workload = load_workload(checkpoint=tmp_path)
    assert workload.sets == ("closed", "open") and workload.answers == found.answers
    questions, labels = workload.validation(), workload.labels("val")
    theirs = workload.score_uncompressed(questions)
    assert np.mean(theirs.argmax(1).numpy() == labels.answers) > 0.9
    ours = integer_model(workload, CompressionPlan()).score(questions)
    assert np.mean((ours.argmax(1) == theirs.argmax(1)).numpy()) > 0.95


def test_with_answers_dealt_to_other_rows_nothing_is_learnt() -> None:
    found = packed(checkpoint.load(), 32)
    table = found.table
    order = np.random.default_rng(0).permutation(len(table.texts))
    dealt = table.answers.copy()
    for kind in (0, 1):
        for split in (0, 1, 2):
            these = (table.kinds == kind) & (table.splits == split)
            dealt[these] = table.answers[order[these[order]]]
    table.answers[:] = dealt
    _, judged = learnt(SHORT.model_copy(update={"steps": 60, "batch": 16}), found).finish()
    assert all(share < 0.8 for share in judged.accuracy.values())


def test_ended_and_begun_again_it_comes_to_the_same_weights() -> None:
    found = packed(checkpoint.load(), 8)
    whole = learnt(SHORT, found)
    first = QuestionTuning(checkpoint.load(), found, SHORT)
    for _ in range(3):
        first.step()
    second = QuestionTuning(checkpoint.load(), found, SHORT)
    second.restore(first.state())
    assert second.steps_done == 3
    while second.steps_done < SHORT.steps:
        second.step()
    second.check()
    assert whole.finish()[0]["model.safetensors"] == second.finish()[0]["model.safetensors"]


def test_another_seed_is_another_model_and_so_are_other_questions() -> None:
    found = packed(checkpoint.load(), 8)
    one = QuestionTuning(checkpoint.load(), found, SHORT)
    other = QuestionTuning(checkpoint.load(), found, SHORT.model_copy(update={"seed": 1}))
    assert one.about != other.about
    assert one.about != QuestionTuning(checkpoint.load(), packed(checkpoint.load(), 9), SHORT).about
    assert one.step() != other.step()


def test_every_question_is_drawn_before_any_is_drawn_again() -> None:
    found = packed(checkpoint.load(), 5)
    teaching = QuestionTuning(checkpoint.load(), found, SHORT.model_copy(update={"batch": 5}))
    drawn = np.concatenate([teaching._drawn(found.table.of("train"), step) for step in range(4)])
    training = found.table.of("train").tolist()
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == training


def test_the_best_step_on_validation_is_the_one_that_is_kept() -> None:
    found = packed(checkpoint.load(), 8)
    recipe = SHORT.model_copy(update={"steps": 12, "learning_rate": 0.1})
    teaching, seen = QuestionTuning(checkpoint.load(), found, recipe), []
    while teaching.steps_done < recipe.steps:
        teaching.step()
        seen.append(teaching.check())
    assert teaching.kept_step == 1 + int(np.argmin(seen))
    assert teaching.finish()[1].nll_nats == pytest.approx(min(seen), abs=1e-6)


def test_targets_are_distributions_over_the_answers_of_the_kind() -> None:
    found = packed(checkpoint.load(), 4)
    teaching = QuestionTuning(checkpoint.load(), found, SHORT)
    targets = teaching._targets(found.table.of("train"))
    assert torch.allclose(targets.sum(1), torch.ones(len(targets)))
    assert torch.allclose(targets.max(1).values, torch.tensor(0.95))
    assert ((targets > 0).sum(1) == 2).all()


def test_a_loss_that_is_no_number_and_a_damaged_state_are_said() -> None:
    teaching = QuestionTuning(checkpoint.load(), packed(checkpoint.load(), 4), SHORT)
    with pytest.raises(ValueError, match="holds no state of this fine-tuning"):
        teaching.restore(b"damaged")
    with torch.no_grad():
        next(iter(teaching._learning.values())).fill_(float("nan"))
    with pytest.raises(ValueError, match="smaller --learning-rate"):
        teaching.step()
