"""Questions of the tables about MedMNIST's images and the synthetic set."""

import hashlib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from swopt.workloads import medmnist
from swopt.workloads.vqa import (
    SPLITS,
    SYNTHETIC,
    LabelledImages,
    Labels,
    Questions,
    Split,
    asked_of,
    synthetic_images,
)

SYNTHETIC_COUNTS: dict[Split, int] = {"train": 32, "val": 100, "test": 200}
"""Synthetic images in each batch; those of `train` serve calibration."""

CALIBRATION_IMAGES = 32
"""Training images of each real set that ranges are calibrated on."""

PRACTICE_IMAGES = 1024
"""Synthetic training images that a compressed model may learn from."""

_PHRASING_SEED = 5
"""Chooses the phrasing of each question, the same in every run."""


@dataclass(frozen=True)
class ImageSets:
    """A `QuestionBank` of labelled images: one question each, by the tables of `vqa`.

    Attributes:
        answers: The fixed answer set.
        sets: The image sets that are measured on, the synthetic one last.
        missing: Sets that the model was trained on but that were not found here.
        sha256: File name -> SHA-256 of what was read; that of `synthetic` is of its images.
        parts: The images by split and set; of `train` the few that serve calibration.
        training: All training images of each real set.
    """

    answers: tuple[str, ...]
    sets: tuple[str, ...]
    missing: tuple[str, ...]
    sha256: dict[str, str]
    parts: dict[Split, tuple[LabelledImages, ...]]
    training: tuple[LabelledImages, ...]

    def describe(self) -> str:
        """Which sets there are."""
        real = [name for name in self.sets if name != SYNTHETIC]
        if real:
            return (
                f"{' and '.join(real)} (medical images) "
                "and the synthetic set (drawn, not medical data)"
            )
        return "the synthetic set alone (drawn by formula, not medical data)"

    def asked(self, split: Split) -> tuple[Questions, Labels]:
        """One question about each image of a split."""
        return asked_of(self.parts[split], self.answers, _PHRASING_SEED)

    def practice(self, seed: int) -> Questions:
        """One question about each training image, real and synthetic, without its answer."""
        return asked_of((*self.training, _practice()), self.answers, seed)[0]


def find(trained: tuple[str, ...], answers: tuple[str, ...], folder: Path | None) -> ImageSets:
    """The sets of a model that are found, and always the synthetic one.

    Args:
        trained: Names of the sets that the model was trained on.
        answers: The fixed answer set.
        folder: Of MedMNIST files; None where there is none.

    Raises:
        ValueError: A data file is not the published one.
    """
    real_sets = [name for name in trained if name != SYNTHETIC]
    files = {name: folder / f"{name}.npz" for name in real_sets} if folder else {}
    found = {name: _read(path, *_stamp(path)) for name, path in files.items() if path.is_file()}
    parts: dict[Split, tuple[LabelledImages, ...]] = {}
    for split in SPLITS:
        real = [splits[split] for splits, _ in found.values()]
        if split == "train":
            real = [_first(part, CALIBRATION_IMAGES) for part in real]
        parts[split] = (*real, _synthetic(split))
    sha256 = {files[name].name: digest for name, (_, digest) in found.items()}
    return ImageSets(
        answers=answers,
        sets=(*found, SYNTHETIC),
        missing=tuple(name for name in real_sets if name not in found),
        sha256=sha256 | {SYNTHETIC: _synthetic_sha256()},
        parts=parts,
        training=tuple(splits["train"] for splits, _ in found.values()),
    )


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


def _first(part: LabelledImages, count: int) -> LabelledImages:
    return LabelledImages(part.name, part.images[:count], part.labels[:count])
