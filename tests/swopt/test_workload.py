"""A workload says what it is measured on, and scores are what they claim."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from swopt.workloads.image_sets import ImageSets
from swopt.workloads.workload import Workload, load_workload


def test_without_data_it_never_calls_itself_medical(workload: Workload) -> None:
    assert workload.sets == ("synthetic",)
    assert isinstance(workload.bank, ImageSets)
    assert workload.bank.missing == ("breastmnist", "retinamnist")
    assert "synthetic set alone" in workload.describe()
    assert "not medical data" in workload.describe()
    assert list(workload.data_sha256) == ["synthetic", "checkpoint"]


def test_splits_are_apart_and_labels_match_them(workload: Workload) -> None:
    assert (len(workload.validation()), len(workload.test())) == (100, 200)
    assert len(workload.labels("val").answers) == 100
    held = [
        {image.tobytes() for image in questions.images}
        for questions in (workload.calibration(), workload.validation(), workload.test())
    ]
    assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])


def test_scores_are_log_probabilities_and_the_same_one_by_one(workload: Workload) -> None:
    questions = workload.validation().take(list(range(12)))
    scores = workload.score_uncompressed(questions)
    assert scores.shape == (12, len(workload.answers))
    assert torch.allclose(scores.exp().sum(1), torch.ones(12))
    alone = [workload.score_uncompressed(questions.take([i])) for i in range(12)]
    assert torch.allclose(scores, torch.cat(alone), atol=1e-4)


def test_the_model_has_learned_to_see(workload: Workload) -> None:
    scores = workload.score_uncompressed(workload.test())
    labels = workload.labels("test")
    right = float(np.mean(scores.argmax(1).numpy() == labels.answers))
    chance = float(np.mean([1 / len(choices) for choices in labels.choices]))
    assert right > chance + 0.15


@pytest.mark.skipif("DOVETAIL_DATA_DIR" not in os.environ, reason="DOVETAIL_DATA_DIR is not set")
def test_with_data_the_real_sets_come_first() -> None:
    workload = load_workload(Path(os.environ["DOVETAIL_DATA_DIR"]))
    assert workload.sets == ("breastmnist", "retinamnist", "synthetic")
    assert isinstance(workload.bank, ImageSets) and workload.bank.missing == ()
    assert len(workload.validation()) == 78 + 120 + 100
    assert "medical images" in workload.describe()
    assert len(workload.test()) == 156 + 400 + 200
