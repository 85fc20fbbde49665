"""Words are kept in fewer bits, a scale each, and reach the core as int16 all the same."""

import numpy as np
import pytest

from swopt.compiler.host import embedding_bytes, words_of
from swopt.compiler.integer_model import integer_model
from swopt.plan import CompressionPlan
from swopt.techniques.quantization import QuantizationKnobs
from swopt.workloads.workload import Workload

STEP = 0.001


@pytest.mark.parametrize("bits", [4, 8])
def test_a_word_is_its_scale_times_integers_near_what_it_was(bits: int) -> None:
    weight = np.random.default_rng(bits).standard_normal((50, 64)) * np.logspace(-1, 1, 50)[:, None]
    steps = words_of(weight, STEP, bits)  # type: ignore[arg-type]
    assert steps.dtype == np.int16
    for row, exact in zip(steps.astype(float) * STEP, weight, strict=True):
        assert len(np.unique(steps)) > 1
        # Not more values than integers of so many bits, and within a step of them.
        assert len(np.unique(row)) <= 2**bits
        worst = np.abs(exact).max() / (2 ** (bits - 1) - 1)
        assert np.abs(row - exact).mean() < 0.6 * worst + STEP
    assert not np.array_equal(steps, words_of(weight, STEP, 16))


def test_bytes_are_those_of_integers_and_scales() -> None:
    assert embedding_bytes(10, 64, 16) == 10 * 64 * 2
    assert embedding_bytes(10, 64, 8) == 10 * 64 + 10 * 4
    assert embedding_bytes(10, 64, 4) == 10 * 32 + 10 * 4


def test_a_model_keeps_less_and_answers_nearly_the_same(workload: Workload) -> None:
    questions = workload.validation().take(range(40))

    def made(**knobs: object) -> tuple[int, np.ndarray]:  # type: ignore[type-arg]
        plan = CompressionPlan(quantization=QuantizationKnobs.model_validate(knobs))
        model = integer_model(workload, plan)
        return model.memory_bytes, model.score(questions).double().numpy()

    bytes16, whole = made()
    bytes8, eight = made(embedding_bits=8)
    words, channels = integer_model(workload, CompressionPlan()).host.words.shape
    assert bytes16 - bytes8 == words * (channels - 4)
    divergence = (np.exp(whole) * (whole - eight)).sum(1).mean()
    assert 0 < divergence < 1e-3
