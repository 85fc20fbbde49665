"""Synthetic medical-like images: drawn by formula from a seed, never medical data.

Two kinds of picture stand in for two of MedMNIST's: a scan with ultrasound-like speckle and
perhaps one dark lesion, and a round fundus-like disc with bright and dark spots. What was drawn
is known exactly, so every question about it has a true answer.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE = 28
"""Pixels along a side of every image."""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "lesion": ("no", "yes"),
    "margin": ("smooth", "irregular"),
    "side": ("left", "right"),
    "orientation": ("wide", "tall"),
    "size": ("small", "large"),
    "bright": ("none", "few", "many"),
    "dark": ("none", "few", "many"),
    "disc": ("left", "right"),
}
"""What can be asked of a synthetic image, and the answers in the order of their index."""

_FEWEST_SPOTS = np.array([0, 1, 7])
_MOST_SPOTS = np.array([0, 3, 12])

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SyntheticImages:
    """Drawn pictures with what is true of them.

    Attributes:
        images: uint8 `[n, 28, 28, 3]`.
        truth: For each attribute an answer index `[n]`, or -1 where it does not apply.
    """

    images: NDArray[np.uint8]
    truth: dict[str, NDArray[np.int64]]


def draw(seed: int, count: int) -> SyntheticImages:
    """Draws `count` images, scans and discs in turn. Equal arguments give equal bytes."""
    rng = np.random.default_rng(seed)
    scans = (count + 1) // 2
    scan_images, scan_truth = _draw_scans(rng, scans)
    disc_images, disc_truth = _draw_discs(rng, count - scans)
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    images[0::2], images[1::2] = scan_images, disc_images
    truth = {name: np.full(count, -1, np.int64) for name in ATTRIBUTES}
    for name, answers in scan_truth.items():
        truth[name][0::2] = answers
    for name, answers in disc_truth.items():
        truth[name][1::2] = answers
    return SyntheticImages(images, truth)


def _draw_scans(
    rng: np.random.Generator, count: int
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.int64]]]:
    """Tissue layers, a lesion in 3 of 4, its shadow, and Rayleigh speckle over all of it."""
    lesion = (rng.random(count) < 0.75).astype(np.int64)
    margin, side, orientation, size = rng.integers(0, 2, (4, count))
    x, y = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)

    column = _column(np.where(side == 0, rng.uniform(6, 11.5, count), rng.uniform(16.5, 22, count)))
    row = _column(rng.uniform(9, 19, count))
    radius = np.where(size == 0, rng.uniform(2.6, 3.8, count), rng.uniform(5.2, 7.5, count))
    stretch = rng.uniform(1.25, 1.7, count) ** np.where(orientation == 0, 0.5, -0.5)
    across = (x - column) / _column(radius * stretch)
    along = (y - row) / _column(radius / stretch)
    angle = np.arctan2(along, across)
    outline = np.ones((count, SIDE, SIDE))
    roughness = np.where(margin == 0, 0.02, rng.uniform(0.22, 0.36, count))
    for harmonic in (3, 5, 7):
        phase = _column(rng.uniform(0, 2 * np.pi, count))
        outline += _column(roughness * rng.uniform(0.5, 1, count)) * np.cos(
            harmonic * angle + phase
        )
    inside = 1 / (1 + np.exp((np.hypot(across, along) - outline) * _column(radius) * 2.0))
    inside *= _column(lesion)

    wave = np.sin(y * _column(rng.uniform(0.2, 0.7, count)) + _column(rng.uniform(0, 6.3, count)))
    tilt = (x - SIDE / 2) * _column(rng.uniform(-0.02, 0.02, count))
    echo = _column(rng.uniform(0.35, 0.65, count)) * (1 + 0.3 * wave + tilt)
    echo *= 1 - _column(rng.uniform(0.0, 0.6, count)) * y / SIDE
    below = (np.abs(across) < 0.8) & (along > 0) & (lesion[:, None, None] == 1)
    echo *= 1 + below * _column(rng.uniform(-0.4, 0.4, count))
    echo *= 1 - inside * _column(rng.uniform(0.6, 0.9, count))
    field = rng.standard_normal((2, count, SIDE, SIDE))
    for axis in (-1, -1, -2):  # wider across than along the beam, as a probe's resolution is
        field = (field + 0.7 * (np.roll(field, 1, axis) + np.roll(field, -1, axis))) / 1.41
    speckle = np.hypot(*field)
    speckle /= speckle.mean((-1, -2), keepdims=True)
    strength = _column(rng.uniform(0.15, 0.6, count))
    grey = echo * (1 + strength * (speckle - 1))
    images = np.repeat(_to_bytes(grey)[..., None], 3, -1)

    def of_lesion(answers: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(lesion == 1, answers, -1)

    return images, {
        "lesion": lesion,
        "margin": of_lesion(margin),
        "side": of_lesion(side),
        "orientation": of_lesion(orientation),
        "size": of_lesion(size),
    }


def _draw_discs(
    rng: np.random.Generator, count: int
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.int64]]]:
    """A reddish disc with a pale nerve head, dark vessels, and bright and dark spots."""
    disc = rng.integers(0, 2, count)
    bright, dark = rng.integers(0, 3, (2, count))
    x, y = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    middle = SIDE / 2
    tone = _column(rng.uniform(0.35, 0.75, count))
    slope = _column(rng.uniform(-0.015, 0.015, count)) * (x - middle)
    slope = slope + _column(rng.uniform(-0.015, 0.015, count)) * (y - middle)
    light = tone * (1 + slope) * (1 + 0.05 * rng.standard_normal((count, SIDE, SIDE)))

    column = _column(np.where(disc == 0, rng.uniform(4, 8, count), rng.uniform(20, 24, count)))
    row = _column(rng.uniform(11, 17, count))
    reach = _column(rng.uniform(1.6, 2.6, count))
    head = np.exp(-(((x - column) ** 2 + (y - row) ** 2) / reach**2))
    bow = _column(rng.uniform(0.02, 0.05, count))
    vessels = np.zeros((count, SIDE, SIDE))
    for way in (-1.0, 1.0):
        course = row + way * (1 + _column(rng.uniform(1.2, 2.2, count)) * np.abs(x - column) ** 0.6)
        vessels += np.exp(-(((y - course) / 0.7) ** 2)) * np.exp(-bow * np.abs(x - column))

    bright_spots = _spots(rng, bright, x, y)
    dark_spots = _spots(rng, dark, x, y)
    shade = light * (1 - 0.35 * vessels - 0.6 * dark_spots) + 0.45 * head + 0.4 * bright_spots
    colour = np.stack(
        [
            1.15 * shade,
            shade * _column(rng.uniform(0.45, 0.6, count)) + 0.2 * (head + bright_spots),
            shade * _column(rng.uniform(0.2, 0.35, count)) + 0.1 * head,
        ],
        -1,
    )
    rim = _column(rng.uniform(13.2, 16.5, count))
    colour *= (1 / (1 + np.exp((np.hypot(x - middle, y - middle) - rim) * 3)))[..., None]
    return _to_bytes(colour), {"bright": bright, "dark": dark, "disc": disc}


def _spots(rng: np.random.Generator, level: NDArray[np.int64], x: Array, y: Array) -> Array:
    """A field `[n, 28, 28]` of round spots, as many as the level's range allows."""
    count = len(level)
    number = rng.integers(_FEWEST_SPOTS[level], _MOST_SPOTS[level] + 1)
    field = np.zeros((count, SIDE, SIDE))
    for index in range(int(_MOST_SPOTS.max())):
        distance, angle = 10.5 * np.sqrt(rng.random(count)), rng.uniform(0, 2 * np.pi, count)
        column = _column(SIDE / 2 + distance * np.cos(angle))
        row = _column(SIDE / 2 + distance * np.sin(angle))
        reach = _column(rng.uniform(0.6, 1.1, count))
        spot = np.exp(-(((x - column) ** 2 + (y - row) ** 2) / reach**2))
        field += _column((index < number) * rng.uniform(0.7, 1.0, count)) * spot
    return np.minimum(field, 1.0)


def _column(values: NDArray[np.generic]) -> Array:
    """One value an image, shaped to meet a picture: `[n]` -> `[n, 1, 1]`."""
    return np.asarray(values, np.float64)[:, None, None]


def _to_bytes(picture: Array) -> NDArray[np.uint8]:
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
