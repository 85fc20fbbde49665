"""What an image may look like as well, for training: moved, in another light, with noise."""

import math

import torch
from torch.nn import functional


def moved(
    pixels: torch.Tensor, generator: torch.Generator, turn: float = 0.2, mirrored: bool = True
) -> torch.Tensor:
    """Turned, mirrored, scaled by up to 15 % and shifted by up to 7 %; mirrored at the border.

    Args:
        pixels: float `[n, 3, height, width]`.
        generator: Draws all of it.
        turn: Largest angle, in radians.
        mirrored: Whether left and right may be exchanged, as half of the images' are.
    """
    count = len(pixels)
    angle = _uniform(count, generator, -turn, turn)
    scale = _uniform(count, generator, 0.85, 1.15)
    mirror = torch.where(_uniform(count, generator, 0, 1) < 0.5, -1.0, 1.0)
    if not mirrored:
        mirror = torch.ones(count)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [cos * mirror, -sin, _uniform(count, generator, -0.15, 0.15)]
    rows += [sin * mirror, cos, _uniform(count, generator, -0.15, 0.15)]
    grid = functional.affine_grid(
        torch.stack(rows, 1).view(count, 2, 3), list(pixels.shape), align_corners=False
    )
    return functional.grid_sample(
        pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def lit(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """In another light: gamma, contrast, brightness, and noise.

    Args:
        pixels: float `[n, 3, height, width]` in [-1, 1], and so is what comes back.
        generator: Draws all of it.
    """
    count = len(pixels)

    def drawn(low: float, high: float) -> torch.Tensor:
        return _uniform(count, generator, low, high).view(-1, 1, 1, 1)

    light = (pixels + 1) / 2
    light = light.clamp(1e-4, 1) ** torch.exp(drawn(-0.35, 0.35))
    mean = light.mean((1, 2, 3), keepdim=True)
    light = mean + (light - mean) * drawn(0.75, 1.3)
    light = light + drawn(-0.1, 0.1)
    noise = torch.randn(light.shape, generator=generator)
    light = light + noise * drawn(0.0, 0.04)
    return (light * 2 - 1).clamp(-1, 1)


FULL_TURN = math.pi
"""For images that have no up and down."""


def _uniform(count: int, generator: torch.Generator, low: float, high: float) -> torch.Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)
