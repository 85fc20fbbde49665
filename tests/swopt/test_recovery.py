"""Recovery: adapters merge into the weights, the lesson needs no answers, and it teaches."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from swopt.compiler.integer_model import integer_model
from swopt.compiler.prefix import float_prefix
from swopt.plan import CompressionPlan
from swopt.techniques import recovery
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.recovery import RecoveryKnobs, Taught
from swopt.techniques.resolution import ResolutionKnobs
from swopt.workloads import tiny_vlm
from swopt.workloads.image_sets import ImageSets
from swopt.workloads.lessons import continuation, distillation
from swopt.workloads.workload import Workload, load_workload
from tests.swopt import tiny_llama


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    torch.set_num_threads(1)
    return load_workload(tmp_path_factory.mktemp("none"))


def linear(seed: int) -> tuple[torch.nn.Module, dict[str, torch.nn.Linear]]:
    torch.manual_seed(seed)
    layers = {"first": torch.nn.Linear(6, 5), "last": torch.nn.Linear(5, 4)}
    return torch.nn.Sequential(layers["first"], torch.nn.Tanh(), layers["last"]), layers


def squared_error(model: torch.nn.Module, teacher: torch.nn.Module) -> Any:
    def lesson(step: int) -> torch.Tensor:
        x = torch.randn(32, 6, generator=torch.Generator().manual_seed(step))
        return ((model(x) - teacher(x).detach()) ** 2).mean()

    return lesson


def test_what_is_learnt_is_a_change_of_the_adapters_rank() -> None:
    (model, layers), (teacher, _) = linear(1), linear(2)
    before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    lesson = squared_error(model, teacher)
    first = float(lesson(0).detach())
    taught = recovery.teach(model, layers, RecoveryKnobs(steps=100, rank=4), lesson)
    assert next(iter(model.children())) is layers["first"]  # adapters are gone
    assert float(lesson(0).detach()) == first
    taught.into(layers)
    assert float(lesson(0).detach()) < 0.5 * first
    for name, layer in layers.items():
        values = torch.linalg.svdvals(layer.weight.detach() - before[name])
        assert values[0] > 1e-3
        assert (values[4:] < 1e-5).all()


def test_equal_lessons_teach_equal_weights() -> None:
    made = []
    for _ in range(2):
        (model, layers), (teacher, _) = linear(1), linear(2)
        torch.rand(3)  # what others draw does not matter
        lesson = squared_error(model, teacher)
        made.append(recovery.teach(model, layers, RecoveryKnobs(steps=100), lesson))
    assert made[0] == made[1]


def test_a_loss_that_is_no_number_is_a_sentence() -> None:
    model, layers = linear(1)
    with pytest.raises(ValueError, match="recovery diverged: the loss of step 0 is nan"):
        lesson = squared_error(model, linear(2)[0])
        recovery.teach(model, layers, RecoveryKnobs(steps=100), lambda step: lesson(step) * np.nan)
    assert next(iter(model.children())) is layers["first"]


def test_what_was_learnt_changes_the_layers_that_learnt_alone() -> None:
    _, layers = linear(1)
    before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    up, down = torch.ones(5, 1), torch.arange(6.0)[None]
    Taught.of({"first.up": up, "first.down": down}).into(layers)
    assert torch.equal(layers["first"].weight, before["first"] + torch.arange(6.0))
    assert torch.equal(layers["last"].weight, before["last"])


def test_one_batch_answers_as_single_questions_do(workload: Workload) -> None:
    questions = workload.validation().take([0, 3, 7, 11])
    model = workload.vlm.model
    with torch.no_grad():
        together = tiny_vlm.padded_logits(workload.vlm.tokenizer, model, questions)
    alone = tiny_vlm.next_token_logits(workload.vlm.tokenizer, model, questions)
    assert torch.allclose(together, alone, atol=1e-4)


def test_the_lesson_of_the_whole_model_is_learnt_already(workload: Workload) -> None:
    loss = distillation(workload, workload.vlm.model, ResolutionKnobs())(0)
    assert abs(float(loss.detach())) < 1e-5


def test_the_lesson_sees_no_true_answer(workload: Workload) -> None:
    bank = workload.bank
    assert isinstance(bank, ImageSets)
    turned = tuple(replace(part, labels=part.labels[::-1].copy()) for part in bank.training)
    wrong = replace(workload, bank=replace(bank, training=turned))
    lessons = [distillation(each, each.vlm.model, ResolutionKnobs()) for each in (workload, wrong)]
    assert workload.practice(0).texts == workload.practice(0).texts != workload.practice(1).texts
    assert torch.equal(lessons[0](0), lessons[1](0))


def test_a_language_model_learns_the_next_tokens_distribution_behind_its_prefix() -> None:
    whole, other = tiny_llama.model(0), tiny_llama.model(1)
    texts, prefix = torch.arange(60).reshape(3, 20), (7, 9)
    learnt = continuation(whole, whole, texts, prefix)
    assert all(abs(float(learnt(step).detach())) < 1e-6 for step in range(4))
    seen: list[torch.Tensor] = []

    def answers(model: Any, ids: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(model(input_ids=ids).logits[0, len(prefix) :].double(), -1)

    def watched(**inputs: Any) -> Any:
        seen.append(inputs["input_ids"])
        return other(**inputs)

    lesson = continuation(whole, watched, texts, prefix)
    losses = [float(lesson(step).detach()) for step in range(6)]
    assert {tuple(ids[0, 2:].tolist()) for ids in seen[:3]} == {tuple(t) for t in texts.tolist()}
    for ids, loss in zip(seen, losses, strict=True):
        assert tuple(ids[0, :2]) == prefix
        ours, theirs = answers(other, ids), answers(whole, ids)
        expected = float((theirs.exp() * (theirs - ours)).sum(-1).mean().detach())
        assert loss == pytest.approx(expected, rel=1e-4)


def test_a_model_may_go_on_from_the_keys_and_values_of_its_prefix() -> None:
    whole, other = tiny_llama.model(0), tiny_llama.model(1)
    texts, prefix = torch.arange(60).reshape(3, 20), (7, 9)
    read = continuation(whole, other, texts, prefix)
    own = continuation(whole, other, texts, prefix, float_prefix(other, prefix).past)
    foreign = continuation(whole, other, texts, prefix, float_prefix(whole, prefix).past)
    for step in range(4):
        expected = float(read(step).detach())
        assert float(own(step).detach()) == pytest.approx(expected, rel=1e-4)
        assert float(foreign(step).detach()) != pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_recovery_wins_back_most_of_what_pruning_costs(workload: Workload) -> None:
    cut = PruningKnobs(vision_blocks=(2, 3), vision_mlp_keep=0.25, decoder_mlp_keep=0.25)
    truth = workload.labels("val").answers
    questions, rows = workload.validation(), np.arange(len(truth))

    def nll(model: Any) -> float:
        return -float(model.score(questions)[rows, truth].mean())

    whole = nll(integer_model(workload, CompressionPlan()))
    pruned = nll(integer_model(workload, CompressionPlan(pruning=cut)))
    kept: list[Taught] = []

    def keep(plan: CompressionPlan, teach: Any) -> Taught:
        assert plan == CompressionPlan(pruning=cut, recovery=RecoveryKnobs(steps=100))
        kept.append(kept[0] if kept else teach())
        return kept[-1]

    plan = CompressionPlan(pruning=cut, recovery=RecoveryKnobs(steps=100))
    taught = integer_model(workload, plan, taught=keep)
    assert nll(taught) - whole < 0.5 * (pruned - whole)
    again = integer_model(workload, plan, taught=keep)
    assert torch.equal(again.score(questions), taught.score(questions))
    assert len(kept) == 2
