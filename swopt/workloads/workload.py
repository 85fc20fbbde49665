"""A workload: a model, the questions it is measured on, and what is known about both."""

import hashlib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from swopt.workloads import checkpoint as checkpoints
from swopt.workloads import medmnist
from swopt.workloads.vqa import (
    SYNTHETIC,
    LabelledImages,
    Labels,
    Questions,
    Split,
    asked_of,
    synthetic_images,
)

if TYPE_CHECKING:
    import torch

    from swopt.workloads.checkpoint import TinyVlm

SPLITS: tuple[Split, ...] = ("train", "val", "test")

SYNTHETIC_COUNTS: dict[Split, int] = {"train": 32, "val": 100, "test": 200}
"""Synthetic images in each batch; those of `train` serve calibration."""

CALIBRATION_IMAGES = 32
"""Training images of each real set that ranges are calibrated on."""

_PHRASING_SEED = 5
"""Chooses the phrasing of each question, the same in every run."""


@dataclass(frozen=True)
class Workload:
    """A model with its questions. Answers are apart, for whoever scores.

    Attributes:
        name: Name in tables.
        vlm: The uncompressed model and its tokenizer.
        answers: The fixed answer set; scores have one column each.
        sets: The image sets that are measured on, the synthetic one last.
        missing: Sets that the model was trained on but that were not found here.
        data_sha256: File name -> SHA-256 of what was read; that of `synthetic` is of its images,
            that of `checkpoint` of the model's files.
        layers: Names that a quantization override may use: blocks such as `vision.0` and linear
            layers such as `vision.0.mlp.up`, `decoder.2.attention.query`, `connector`, `head`.
        parts: The images by split and set; of `train` the few that serve calibration.
        training: All training images of each real set.
    """

    name: str
    vlm: "TinyVlm"
    answers: tuple[str, ...]
    sets: tuple[str, ...]
    missing: tuple[str, ...]
    data_sha256: dict[str, str]
    layers: tuple[str, ...]
    parts: dict[Split, tuple[LabelledImages, ...]]
    training: tuple[LabelledImages, ...]

    def describe(self) -> str:
        """What is measured on, in one sentence fit for a run's first line."""
        real = [name for name in self.sets if name != SYNTHETIC]
        if real:
            return (
                f"{self.name} on {' and '.join(real)} (medical images) "
                "and the synthetic set (drawn, not medical data)"
            )
        return f"{self.name} on the synthetic set alone (drawn by formula, not medical data)"

    @property
    def float16_bytes(self) -> int:
        """Bytes of the uncompressed model with two to a parameter."""
        return 2 * sum(each.numel() for each in self.vlm.model.parameters())

    def calibration(self) -> Questions:
        """Training questions for calibration; never scored."""
        return self._asked("train")[0]

    def practice(self, seed: int) -> Questions:
        """One question about each training image, real and synthetic, without its answer.

        Args:
            seed: Chooses questions and phrasings.
        """
        return asked_of((*self.training, _practice()), self.answers, seed)[0]

    def validation(self) -> Questions:
        """The questions that a search sees the scores of."""
        return self._asked("val")[0]

    def test(self) -> Questions:
        """The questions that are scored once, at the end."""
        return self._asked("test")[0]

    def labels(self, split: Split) -> Labels:
        """The true answers of a split's questions, for scoring only."""
        return self._asked(split)[1]

    def score(self, model: "torch.nn.Module", questions: Questions) -> "torch.Tensor":
        """Log-probabilities over the fixed answer set, float32 `[n, answers]`.

        Args:
            model: The uncompressed model, or one that `swopt.plan.compress` made of it.
            questions: What is asked.
        """
        import torch

        from swopt.workloads.tiny_vlm import next_token_logits

        logits = next_token_logits(self.vlm, model, questions)
        tokens = [checkpoints.token_id(self.vlm.tokenizer, answer) for answer in self.answers]
        return torch.log_softmax(logits[:, tokens], -1)

    def score_uncompressed(self, questions: Questions) -> "torch.Tensor":
        """The float model's log-probabilities, as `score` gives them."""
        return self.score(self.vlm.model, questions)

    def _asked(self, split: Split) -> tuple[Questions, Labels]:
        return asked_of(self.parts[split], self.answers, _PHRASING_SEED)


def load_workload(data_dir: Path | None = None, checkpoint: Path | None = None) -> Workload:
    """`tiny-vlm` on the real sets that are found, and always on the synthetic set.

    Args:
        data_dir: Folder of MedMNIST files; `None` looks where `medmnist.find_data_dir` says.
        checkpoint: Folder of another checkpoint than the shipped one.

    Raises:
        swopt.workloads.checkpoint.CheckpointError: The checkpoint cannot be used.
        FileNotFoundError: A data folder was named that does not exist.
        ValueError: A data file is not the published one.
    """
    vlm = checkpoints.load(checkpoint or checkpoints.SHIPPED)
    return _assemble(vlm, medmnist.find_data_dir(data_dir))


PRACTICE_IMAGES = 1024
"""Synthetic training images that a compressed model may learn from."""


@cache
def _synthetic(split: Split) -> LabelledImages:
    return synthetic_images(split, SYNTHETIC_COUNTS[split])


@cache
def _practice() -> LabelledImages:
    return synthetic_images("train", PRACTICE_IMAGES)


@cache
def _synthetic_sha256() -> str:
    drawn = b"".join(_synthetic(split).images.tobytes() for split in SPLITS)
    return hashlib.sha256(drawn).hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when a file does."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=16)
def _read(path: Path, modified_ns: int, size: int) -> tuple[dict[Split, LabelledImages], str]:
    """The images of a file by split, and its SHA-256; read once for as long as it stays."""
    splits = {split: medmnist.read(path, split) for split in SPLITS}
    return splits, hashlib.sha256(path.read_bytes()).hexdigest()


def _assemble(vlm: "TinyVlm", folder: Path | None) -> Workload:
    trained = [name for name in vlm.sets if name != SYNTHETIC]
    files = {name: folder / f"{name}.npz" for name in trained} if folder else {}
    found = {name: _read(path, *_stamp(path)) for name, path in files.items() if path.is_file()}
    parts: dict[Split, tuple[LabelledImages, ...]] = {}
    for split in SPLITS:
        real = [splits[split] for splits, _ in found.values()]
        if split == "train":
            real = [_first(part, CALIBRATION_IMAGES) for part in real]
        parts[split] = (*real, _synthetic(split))
    data_sha256 = {files[name].name: sha256 for name, (_, sha256) in found.items()}
    data_sha256[SYNTHETIC] = _synthetic_sha256()
    data_sha256["checkpoint"] = vlm.sha256
    return Workload(
        name="tiny-vlm",
        vlm=vlm,
        answers=vlm.answers,
        sets=(*found, SYNTHETIC),
        missing=tuple(name for name in trained if name not in found),
        data_sha256=data_sha256,
        layers=vlm.layers,
        parts=parts,
        training=tuple(splits["train"] for splits, _ in found.values()),
    )


def _first(part: LabelledImages, count: int) -> LabelledImages:
    return LabelledImages(part.name, part.images[:count], part.labels[:count])
