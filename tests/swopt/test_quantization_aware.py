"""Teaching behind the rounding: it begins with the rounded model, and integers come out of it."""

from typing import Any

import numpy as np
import pytest
import torch

from swopt.compiler.integer_model import integer_model
from swopt.plan import CompressionPlan
from swopt.techniques import compensation, quantization_aware, rounding
from swopt.techniques.compensation import Moment
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs
from swopt.techniques.quantization_aware import Learner
from swopt.techniques.recovery import RecoveryKnobs, Taught
from swopt.techniques.rounding import Groups, QuantizedWeight, Steps
from swopt.workloads.workload import Workload, load_workload

KNOBS = RecoveryKnobs(steps=100, rank=4, quantization_aware=True)


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    torch.set_num_threads(1)
    return load_workload(tmp_path_factory.mktemp("none"))


@pytest.mark.parametrize(
    ("bits", "group"), [*((bits, None) for bits in range(2, 9)), (2, 16), (4, 16), (3, 64)]
)
def test_who_has_learnt_nothing_gives_what_the_weights_are_rounded_to(
    bits: int, group: int | None
) -> None:
    rng = np.random.default_rng(bits)
    weight = rng.standard_normal((24, 40)) ** 3
    read = rng.standard_normal((200, 40)) @ rng.standard_normal((40, 40))
    moment = Moment((read.T @ read / len(read)).astype(np.float32))
    power = moment.mean.diagonal().astype(np.float64)
    nearest = rounding.quantize(weight, bits, power, group)
    made_up = compensation.quantize(weight, bits, moment, group)
    assert (nearest.values != made_up.values).mean() > 0.02
    for rounded, begin in (
        (nearest, weight),
        (made_up, compensation.made_up(weight, bits, moment, group)),
    ):
        learner = learner_of(begin / rounded.scale[:, None], rounded)
        assert np.array_equal(learner.integers().numpy(), rounded.values)
        expected = rounded.values * rounded.scale[:, None]
        given = learner(torch.empty(0)).detach().numpy()
        assert np.allclose(given, expected, rtol=1e-5)


def learner_of(begin: Any, rounded: QuantizedWeight) -> Learner:
    chance = torch.Generator().manual_seed(1)
    return Learner(torch.tensor(begin), rounded, RecoveryKnobs(steps=50, rank=4), chance)


def test_a_weight_moves_to_the_next_step_when_it_has_changed_by_what_it_lacks() -> None:
    rounded = QuantizedWeight(np.array([[1, -2, 7]], np.int8), np.array([0.5]), 4)

    def moved(*by: float) -> list[int]:
        """Changed by so much, in steps; the last weight was clipped."""
        learner = learner_of([[1.4, -2.2, 18.0]], rounded)
        with torch.no_grad():
            learner.up[:] = torch.tensor([[0.5, 0.0, 0.0, 0.0]])
            learner.down[0] = torch.tensor([*by])
        made: list[int] = learner.integers()[0].tolist()
        return made

    assert moved(0.05, 0.0, 0.0) == [1, -2, 7]  # at 1.45
    assert moved(0.15, 0.0, 0.0) == [2, -2, 7]  # at 1.55
    assert moved(0.0, -0.25, 0.0) == [1, -2, 7]  # at -2.45
    assert moved(0.0, -0.35, 0.0) == [1, -3, 7]
    assert moved(0.0, 0.0, -10.0) == [1, -2, 7]  # at 8
    assert moved(0.0, 0.0, -12.0) == [1, -2, 6]


def test_a_weight_of_a_group_moves_by_its_groups_factor() -> None:
    groups = Groups(2, np.array([[3, 1]], np.uint8))
    rounded = QuantizedWeight(np.array([[3, -6, 7]], np.int8), np.array([0.5]), 4, groups)
    learner = learner_of([[3.9, -6.3, 6.8]], rounded)
    with torch.no_grad():
        learner.up[:] = torch.tensor([[0.5, 0.0, 0.0, 0.0]])
        learner.down[0] = torch.tensor([0.5, -1.1, -0.25])  # to 4.4, -7.4 and 6.55
    assert learner.integers().tolist() == [[3, -6, 7]]
    with torch.no_grad():
        learner.down[0] = torch.tensor([0.7, -1.3, -0.35])  # to 4.6, -7.6 and 6.45
    assert learner.integers().tolist() == [[6, -9, 6]]


def test_gradients_pass_the_rounding_and_stop_where_a_weight_is_clipped() -> None:
    rounded = QuantizedWeight(np.array([[1, -2, 7]], np.int8), np.array([0.5]), 4)
    learner = learner_of([[1.4, -2.2, 18.0]], rounded)
    (learner(torch.empty(0)) * torch.tensor([3.0, 5.0, 7.0])).sum().backward()
    passed = torch.tensor([3.0, 5.0, 0.0]) @ learner.down.detach().T
    assert torch.allclose(learner.up.grad[0], passed)
    assert float(learner.gain.grad) == pytest.approx(3 * 0.5 - 5 * 1.0 + 7 * 3.5)


def coarse(seed: int) -> tuple[torch.nn.Module, dict[str, Any], dict[str, QuantizedWeight]]:
    torch.manual_seed(seed)
    layers = {"first": torch.nn.Linear(12, 16), "last": torch.nn.Linear(16, 4)}
    weights = {
        name: rounding.quantize(
            layer.weight.detach().double().numpy(), 2, np.ones(layer.in_features)
        )
        for name, layer in layers.items()
    }
    return torch.nn.Sequential(layers["first"], torch.nn.Tanh(), layers["last"]), layers, weights


READ = {"first": Steps(0.25, 3, 4), "last": Steps(1 / 64, 0, 8)}


def in_integers(layers: Any, weights: dict[str, QuantizedWeight], x: torch.Tensor) -> torch.Tensor:
    """What the rounded model answers, written down a second time in numpy."""
    for name in ("first", "last"):
        steps, most = READ[name], 1 << (READ[name].bits - 1)
        read = np.clip(np.rint(x.double().numpy() / steps.size) + steps.zero, -most, most - 1)
        weight = weights[name].values * weights[name].scale[:, None]
        y = (read - steps.zero) * steps.size @ weight.T + layers[name].bias.detach().numpy()
        x = torch.from_numpy(np.tanh(y) if name == "first" else y)
    return x


def lesson_of(model: torch.nn.Module, teacher: torch.nn.Module) -> Any:
    def lesson(step: int) -> torch.Tensor:
        x = torch.randn(64, 12, generator=torch.Generator().manual_seed(step))
        return ((model(x) - teacher(x).detach()) ** 2).mean()

    return lesson


def test_the_rounded_model_learns_and_the_float_model_stays_as_it_was() -> None:
    model, layers, weights = coarse(1)
    whole = coarse(1)[0]
    before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    x = torch.randn(500, 12, generator=torch.Generator().manual_seed(1000))
    seen: list[torch.Tensor] = []

    def watched(step: int) -> torch.Tensor:
        if step == 0:
            seen.append(model(x).detach())
        return lesson_of(model, whole)(step)

    taught = quantization_aware.teach(model, layers, weights, READ, {}, KNOBS, watched, 0.01)
    assert torch.allclose(seen[0].double(), in_integers(layers, weights, x), atol=1e-4)
    for name, layer in layers.items():
        assert torch.equal(layer.weight, before[name]) and layer.weight.requires_grad
        assert type(layer) is torch.nn.Linear and not layer._forward_pre_hooks
    made = quantization_aware.apply(weights, taught)
    aim = whole(x).detach()
    lost = [float(((in_integers(layers, w, x) - aim) ** 2).mean()) for w in (weights, made)]
    assert lost[1] < 0.7 * lost[0]
    assert all(each.values.min() >= -2 and each.values.max() <= 1 for each in made.values())


def test_equal_lessons_teach_the_same() -> None:
    found = []
    for _ in range(2):
        model, layers, weights = coarse(1)
        torch.rand(3)  # what others draw does not matter
        lesson = lesson_of(model, coarse(2)[0])
        found.append(
            quantization_aware.teach(model, layers, weights, READ, {}, KNOBS, lesson, 0.01)
        )
    assert found[0] == found[1]


def test_a_loss_that_is_no_number_is_a_sentence_and_leaves_the_model_as_it_was() -> None:
    model, layers, weights = coarse(1)
    with pytest.raises(ValueError, match="recovery diverged: the loss of step 0 is nan"):
        lesson = lesson_of(model, coarse(2)[0])
        quantization_aware.teach(
            model, layers, weights, READ, {}, KNOBS, lambda s: lesson(s) * np.nan
        )
    assert all(type(each) is torch.nn.Linear for each in layers.values())


def test_what_is_taught_behind_the_rounding_hangs_on_bits_and_nothing_before_it_does() -> None:
    plan = CompressionPlan(
        pruning=PruningKnobs(decoder_mlp_keep=0.5),
        recovery=KNOBS,
        quantization=QuantizationKnobs(bits=4),
    )
    assert plan.before_rounding == CompressionPlan(pruning=plan.pruning)
    assert plan.taught == plan
    before = plan.model_copy(update={"recovery": RecoveryKnobs(steps=100)})
    assert before.taught == before.before_rounding == CompressionPlan(
        pruning=plan.pruning, recovery=before.recovery
    )  # fmt: skip


@pytest.mark.slow
def test_two_bits_answer_more_as_the_whole_one_does_when_they_are_taught_behind_the_rounding(
    workload: Workload,
) -> None:
    two = QuantizationKnobs(bits=2, rounding="compensated")
    questions = workload.validation()
    whole = np.asarray(workload.score_uncompressed(questions), dtype=np.float64)
    kept: list[Taught] = []

    def keep(plan: CompressionPlan, teach: Any) -> Taught:
        assert plan == CompressionPlan(quantization=two, recovery=KNOBS)
        kept.append(kept[0] if kept else teach())
        return kept[-1]

    def divergence(plan: CompressionPlan) -> float:
        """Of a plan's answers from those of the whole model, in nats a question."""
        found = np.asarray(integer_model(workload, plan, taught=keep).score(questions))
        return float((np.exp(whole) * (whole - found)).sum(-1).mean())

    plan = CompressionPlan(quantization=two, recovery=KNOBS)
    first = divergence(plan)
    assert 0 < first < 0.5 * divergence(CompressionPlan(quantization=two))
    assert divergence(plan) == first and len(kept) == 2
