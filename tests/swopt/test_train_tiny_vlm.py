"""Training repeats to the bit and its checkpoint loads as what was trained."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from swopt.workloads import checkpoint
from swopt.workloads.train_tiny_vlm import Batches, Recipe, Trainer, targets, train
from swopt.workloads.vqa import LabelledImages

SHORT = Recipe(steps=3, synthetic_images=8, synthetic_pool=16, real_images=4)


def test_training_repeats_and_what_is_saved_is_what_was_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in ("a", "b"):
        train(SHORT, (), None, tmp_path / out)
    assert "nats" in capsys.readouterr().out
    first, second = ((tmp_path / out / "model.safetensors").read_bytes() for out in ("a", "b"))
    assert first == second
    record = json.loads((tmp_path / "a" / "training.json").read_text())
    assert record["recipe"]["steps"] == 3
    assert record["sets"] == ["synthetic"]
    loaded = checkpoint.load(tmp_path / "a")
    assert loaded.answers[:2] == ("no", "yes")
    assert loaded.sha256 != checkpoint.load().sha256
    train(replace(SHORT, seed=1), (), None, tmp_path / "c")
    assert (tmp_path / "c" / "model.safetensors").read_bytes() != first


def test_real_sets_join_in_and_the_loss_falls() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 28, 28, 3), np.uint8)
    part = LabelledImages("retinamnist", images, rng.integers(0, 5, (6, 1)))
    trainer = Trainer(replace(SHORT, steps=40, real_images=8, learning_rate=1e-3), [part])
    losses = [trainer.step(index) for index in range(16)]
    assert np.mean(losses[-4:]) < np.mean(losses[:4])


def test_targets_are_distributions_and_ordinal_ones_favour_neighbours() -> None:
    grades = targets("retinamnist", 0, 1, 0.1, [10, 11, 12, 13, 14])
    assert sum(grades.values()) == pytest.approx(1)
    assert grades[11] == pytest.approx(0.8)
    assert grades[10] == pytest.approx(grades[12])
    assert grades[12] > grades[13] > grades[14]
    assert targets("breastmnist", 0, 0, 0.1, [3, 4]) == {3: pytest.approx(0.9), 4: 0.1}


def test_every_image_is_drawn_before_any_is_drawn_again() -> None:
    images = np.zeros((10, 28, 28, 3), np.uint8)
    part = LabelledImages("synthetic", images, np.arange(10)[:, None])
    batches = Batches(part, torch.Generator().manual_seed(0))
    seen = torch.cat([batches.draw(5)[1] for _ in range(4)]).flatten().tolist()
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
