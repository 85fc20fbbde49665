"""Laws of the cascade, and views that leave answers alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from swopt.plan import CompressionPlan
from swopt.techniques import cascade
from swopt.techniques.cascade import ALWAYS, AUGMENTATIONS, CascadeKnobs, View
from swopt.workloads.synthetic import ATTRIBUTES
from swopt.workloads.vqa import SYNTHETIC, TASKS, Questions, synthetic_images
from swopt.workloads.workload import Workload


def _knobs(**given: object) -> CascadeKnobs:
    return CascadeKnobs.model_validate({"small": CompressionPlan()} | given)


def _log_probabilities(seed: int, *shape: int, spread: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, spread, shape)
    return cascade.calibrated(logits, 1.0)


def _questions(texts: tuple[str, ...], sets: tuple[str, ...]) -> Questions:
    images = np.random.default_rng(0).integers(0, 256, (len(texts), 28, 28, 3), np.uint8)
    return Questions(images, texts, sets)


@given(
    passes=st.integers(1, 5),
    signal=st.sampled_from(["confidence", "agreement"]),
    temperature=st.floats(0.1, 10),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=40, deadline=None)
def test_the_thresholds_ends_are_never_and_always(
    passes: int, signal: str, temperature: float, seed: int
) -> None:
    small, large = _log_probabilities(seed, passes, 6, 4), _log_probabilities(seed + 1, 6, 4)
    knobs = _knobs(passes=passes, signal=signal, temperature=temperature)
    found = cascade.signals(small, knobs)
    assert np.all((found >= 0) & (found <= 1))
    never = cascade.outcome(small, large, knobs)
    assert not never.escalated.any()
    assert never.small_passes == passes
    mean = np.exp(cascade.calibrated(small, temperature)).mean(0)
    np.testing.assert_allclose(np.exp(never.log_probabilities), mean, rtol=1e-9)
    always = cascade.outcome(small, large, _knobs(passes=passes, signal=signal, threshold=ALWAYS))
    assert always.escalated.all()
    np.testing.assert_array_equal(always.log_probabilities, large)


@given(temperature=st.floats(0.1, 10), seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_one_pass_agrees_with_itself(temperature: float, seed: int) -> None:
    knobs = _knobs(signal="agreement", temperature=temperature)
    assert np.all(cascade.signals(_log_probabilities(seed, 1, 20, 5), knobs) == 1.0)


def test_signals_of_a_case_done_by_hand() -> None:
    table = np.log([[[0.6, 0.4], [0.9, 0.1]], [[0.7, 0.3], [0.2, 0.8]], [[0.3, 0.7], [0.7, 0.3]]])
    agreement = cascade.signals(table, _knobs(signal="agreement", passes=3))
    np.testing.assert_allclose(agreement, [2 / 3, 2 / 3])
    confidence = cascade.signals(table, _knobs(passes=3))
    np.testing.assert_allclose(confidence, [1.6 / 3, 0.6])
    cold = cascade.signals(table[:1], _knobs(temperature=0.5))
    np.testing.assert_allclose(cold, [0.36 / 0.52, 0.81 / 0.82])


def test_escalated_questions_alone_have_the_large_stages_answer() -> None:
    small, large = _log_probabilities(1, 3, 50, 4), _log_probabilities(2, 50, 4)
    knobs = _knobs(passes=3, threshold=0.5)
    seen = cascade.outcome(small, large, knobs)
    expected = cascade.signals(small, knobs) < 0.5
    assert 0 < expected.sum() < 50
    np.testing.assert_array_equal(seen.escalated, expected)
    np.testing.assert_array_equal(seen.log_probabilities[expected], large[expected])
    kept = cascade.mean_answer(small, 1.0)[~expected]
    np.testing.assert_array_equal(seen.log_probabilities[~expected], kept)


def test_without_a_small_stage_every_question_goes_to_the_large_one() -> None:
    large = _log_probabilities(3, 9, 4)
    seen = cascade.outcome(None, large, CascadeKnobs())
    assert seen.escalated.all()
    assert seen.small_passes == 0
    assert seen.log_probabilities is large


@pytest.mark.parametrize("planted", [0.4, 1.0, 2.5])
def test_the_fit_recovers_a_planted_temperature(planted: float) -> None:
    rng = np.random.default_rng(11)
    true = _log_probabilities(4, 20_000, 5)
    gumbel = -np.log(-np.log(rng.random(true.shape)))
    answers = (true + gumbel).argmax(1)  # drawn from the true probabilities
    told = cascade.calibrated(true, 1 / planted)
    assert cascade.fit_temperature(told[None], answers) == pytest.approx(planted, rel=0.04)


def test_no_neighbouring_temperature_is_likelier_than_the_fitted_one() -> None:
    small = _log_probabilities(5, 3, 300, 4)
    answers = _log_probabilities(6, 300, 4).argmax(1)
    answers[:150] = small.mean(0).argmax(1)[:150]
    found = cascade.fit_temperature(small, answers)

    def nll(temperature: float) -> float:
        mean = cascade.mean_answer(small, temperature)
        return float(-mean[np.arange(300), answers].mean())

    assert nll(found) < min(nll(found * 0.97), nll(found / 0.97))


def test_answers_that_are_all_right_have_no_temperature() -> None:
    sure = _log_probabilities(7, 1, 40, 3)
    with pytest.raises(ValueError, match=r"no temperature .* keep the temperature at 1"):
        cascade.fit_temperature(sure, sure[0].argmax(1))


def test_every_question_is_rephrased_in_its_own_words() -> None:
    texts, sets = zip(
        *((p, name) for name, tasks in TASKS.items() for task in tasks for p in task.phrasings),
        strict=True,
    )
    questions = _questions(texts, sets)
    seen = cascade.views(questions, _knobs(passes=3))
    assert seen[0].texts == texts
    for index, (text, name) in enumerate(zip(texts, sets, strict=True)):
        task = next(t for t in TASKS[name] if text in t.phrasings)
        assert {view.texts[index] for view in seen} == set(task.phrasings)
    assert all(view.images is questions.images for view in seen)


def test_views_change_what_they_say_and_nothing_else() -> None:
    text = TASKS["breastmnist"][0].phrasings[1]
    questions = _questions((text, text), ("breastmnist",) * 2)
    moved = cascade.views(questions, _knobs(views="augmentations", passes=5))
    both = cascade.views(questions, _knobs(views="both", passes=3))
    assert len(moved) == 5
    np.testing.assert_array_equal(moved[0].images, questions.images)
    assert all(view.texts == questions.texts for view in moved)
    for one, other in zip(both, moved, strict=False):
        np.testing.assert_array_equal(one.images, other.images)
    assert len({view.texts for view in both}) == 3


def test_an_image_moves_and_lights_by_what_the_view_says() -> None:
    images = np.full((1, 5, 5, 3), 100, np.uint8)
    images[0, 2, 2] = 200
    seen = cascade.augment(images, View(right=1, down=-1, light=1.1))
    assert seen[0, 1, 3].tolist() == [220] * 3
    assert np.sum(seen == 220) == 3
    assert np.sum(seen == 110) == 5 * 5 * 3 - 3
    assert cascade.augment(np.full_like(images, 250), View(0, 0, 1.1)).max() == 255


def test_augmentations_leave_the_lesions_side_and_shape() -> None:
    """Moments of the drawn lesion say where it is and how it lies; a mirror would turn them."""
    drawn = synthetic_images("train", 64)
    names = list(ATTRIBUTES)
    has_lesion = drawn.labels[:, names.index("side")] >= 0

    def side(images: np.ndarray) -> np.ndarray:
        dark = 255.0 - images[has_lesion].mean(-1)
        weight = np.maximum(dark - np.quantile(dark, 0.8, axis=(1, 2), keepdims=True), 0)
        columns = (weight.sum(1) * np.arange(28)).sum(1) / weight.sum((1, 2))
        return np.asarray(columns > 13.5)

    before = side(drawn.images)
    for view in AUGMENTATIONS:
        assert np.mean(side(cascade.augment(drawn.images, view)) == before) > 0.9
    assert np.mean(side(drawn.images[:, :, ::-1]) == before) < 0.1


def test_a_mirror_would_change_true_answers_and_these_views_do_not(workload: Workload) -> None:
    """As the float model sees it: accuracy on left and right falls under a mirror alone."""
    questions, labels = workload.validation(), workload.labels("val")
    sides = [i for i, text in enumerate(questions.texts) if "side" in text or "left" in text]
    asked, truth = questions.take(sides), labels.answers[sides]

    def right(images: np.ndarray) -> float:
        seen = workload.score_uncompressed(Questions(images, asked.texts, asked.sets))
        return float((seen.numpy().argmax(1) == truth).mean())

    as_it_is = right(asked.images)
    assert all(right(cascade.augment(asked.images, v)) > as_it_is - 0.15 for v in AUGMENTATIONS)
    assert right(np.ascontiguousarray(asked.images[:, :, ::-1])) < as_it_is - 0.5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"passes": 0}, "greater than or equal to 1"),
        ({"passes": 6}, "less than or equal to 5"),
        ({"threshold": -0.1}, "greater than or equal to 0"),
        ({"threshold": float("nan")}, "threshold"),
        ({"temperature": 0.0}, "greater than or equal to 0.05"),
        ({"views": "mirror"}, "augmentations"),
        ({"rounds": 2}, "Extra inputs"),
    ],
)
def test_knobs_out_of_range_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CascadeKnobs.model_validate(given)


def test_what_does_not_fit_is_refused_in_a_sentence() -> None:
    small, large = _log_probabilities(8, 2, 6, 4), _log_probabilities(9, 6, 4)
    with pytest.raises(ValueError, match=r"3 passes needs .* as many, not \[2, 6, 4\]"):
        cascade.outcome(small, large, _knobs(passes=3))
    with pytest.raises(ValueError, match="answer other questions"):
        cascade.outcome(small, large[:5], _knobs(passes=2))
    with pytest.raises(ValueError, match="no small stage was given, but the knobs name one"):
        cascade.outcome(None, large, _knobs())
    with pytest.raises(ValueError, match="a small stage was given, but the knobs name none"):
        cascade.outcome(small, large, CascadeKnobs(passes=2))
    text = TASKS[SYNTHETIC][0].phrasings[0]
    with pytest.raises(ValueError, match="3 phrasings, too few for 4 passes; ask for fewer"):
        cascade.views(_questions((text,), (SYNTHETIC,)), _knobs(passes=4))
    with pytest.raises(ValueError, match="0 phrasings"):
        cascade.views(_questions(("where ?",), (SYNTHETIC,)), _knobs(passes=2))
