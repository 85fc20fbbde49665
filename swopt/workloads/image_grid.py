"""The grid of patches that a small Idefics3 model sees, and images at its size."""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FRACTION_BITS = 12
"""Of the weights that images are made smaller with."""


class Grid(NamedTuple):
    """Patches of an image, and the rectangles of them that pixel shuffle joins.

    `rows` and `columns` are multiples of `joined_rows` and `joined_columns`.
    """

    rows: int
    """Patches from top to bottom."""
    columns: int
    """Patches from left to right."""
    joined_rows: int
    """Rows of patches in a rectangle."""
    joined_columns: int
    """Columns of patches in a rectangle."""

    @property
    def joined(self) -> int:
        """Patches of a rectangle."""
        return self.joined_rows * self.joined_columns

    @property
    def tokens(self) -> int:
        """Tokens that an image takes in the decoder."""
        return self.rows * self.columns // self.joined

    def order(self) -> NDArray[np.int64]:
        """Patch, counted row by row, that each token holds so that pixel shuffle is free."""
        shape = (-1, self.joined_rows, self.columns // self.joined_columns, self.joined_columns)
        grid = np.arange(self.rows * self.columns).reshape(shape)
        ordered: NDArray[np.int64] = grid.transpose(1, 3, 0, 2).reshape(-1)
        return ordered


def resized(images: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Images `[n, side, side, 3]` as bytes of another size, `[n, height, width, 3]`.

    Exact integers whatever the batch. An image smaller than 32 pixels is mirrored outwards to
    32 x 32, so that 8 x 8 patches of 4 cover it; then each pixel is the mean around it with the
    weights of a triangle as wide as the pixels are far apart, rows first.

    Args:
        images: Of 28 to 32 pixels a side.
        height: 1 to 32.
        width: 1 to 32.
    """
    border = (WHOLE - images.shape[1]) // 2
    whole = np.pad(images, ((0, 0), (border,) * 2, (border,) * 2, (0, 0)), mode="reflect")
    if (height, width) == (WHOLE, WHOLE):
        return whole
    down = _weighted(whole.astype(np.int64), "nyxc,hy->nhxc", height)
    return _weighted(down, "nhxc,wx->nhwc", width).astype(np.uint8)


def fitted(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image of any size as `resized` takes it whole, uint8 `[32, 32, 3]`.

    A square one of 28 to 32 pixels is mirrored outwards. Any other is made a square with black on
    both sides, of which each pixel is the mean of what it covers.

    Args:
        image: uint8 `[height, width, 3]`.
    """
    height, width = image.shape[:2]
    side = max(height, width)
    if height == width and side in range(28, WHOLE + 1, 2):
        mirrored: NDArray[np.uint8] = resized(image[None], WHOLE, WHOLE)[0]
        return mirrored
    above, left = (side - height) // 2, (side - width) // 2
    rows, columns = _covering(side)[:, above:][:, :height], _covering(side)[:, left:][:, :width]
    mean = np.stack([rows @ image[..., channel] @ columns.T for channel in range(3)], -1)
    small: NDArray[np.uint8] = np.rint(mean).astype(np.uint8)
    return small


def _covering(side: int) -> NDArray[np.float64]:
    """Share of each of `side` pixels in the mean of each of 32 that cover them, `[32, side]`."""
    step = side / WHOLE
    begin, pixel = np.arange(WHOLE)[:, None] * step, np.arange(side)
    covered = np.minimum(begin + step, pixel + 1) - np.maximum(begin, pixel)
    shares: NDArray[np.float64] = np.maximum(covered, 0.0) / step
    return shares


WHOLE = 32
"""Pixels along a side of an image that nothing is left out of."""


def _weighted(values: NDArray[np.int64], along: str, size: int) -> NDArray[np.int64]:
    summed = np.einsum(along, values, triangle(size), optimize=True)
    rounded: NDArray[np.int64] = (summed + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS
    return rounded


@cache
def triangle(size: int) -> NDArray[np.int64]:
    """Weights of the 32 pixels of a row in each of `size`, `[size, 32]`; each row adds up to 1.

    One is `2 ** FRACTION_BITS`.
    """
    step = WHOLE / size
    centre = (np.arange(size)[:, None] + 0.5) * step
    weight = np.maximum(0.0, 1 - np.abs(np.arange(WHOLE) + 0.5 - centre) / step)
    steps = np.rint(weight / weight.sum(1, keepdims=True) * (1 << FRACTION_BITS))
    whole: NDArray[np.int64] = steps.astype(np.int64)
    whole[np.arange(size), whole.argmax(1)] += (1 << FRACTION_BITS) - whole.sum(1)
    return whole
