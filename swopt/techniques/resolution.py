"""How much of a question the model reads: pixels of the image, tokens made of them, words asked.

The encoder's tokens grow with the image's pixels and the decoder's with the squares of patches that
the connector joins, so sizes, joining and wording are chosen together. Position embeddings are
interpolated between those of the trained grid (Dosovitskiy et al., ICLR 2021, section 3.2). Larger
squares keep the trained connector: it is applied to each trained square inside and the results are
averaged, which is one linear layer of more inputs (token pooling).
"""

from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import model_validator

from hwlib.frozen import Frozen
from swopt.workloads.image_grid import Grid
from swopt.workloads.vqa import Questions, shortest

PATCH = 4
"""Pixels along a side of a patch of `tiny-vlm`."""

Pixels = Literal[16, 24, 32]
Joined = Literal[2, 4]


class ResolutionKnobs(Frozen):
    """What is read of a question. The neutral default is what the model was trained on."""

    image_height: Pixels = 32
    """Pixels from top to bottom that the encoder sees."""

    image_width: Pixels = 32
    """Pixels from left to right that the encoder sees."""

    joined_rows: Joined = 2
    """Rows of patches that pixel shuffle makes one image token of."""

    joined_columns: Joined = 2
    """Columns of patches that pixel shuffle makes one image token of."""

    wording: Literal["asked", "shortest"] = "asked"
    """The question as it was asked, or the shortest way to ask it."""

    @model_validator(mode="after")
    def _whole_squares(self) -> Self:
        for along, pixels, joined in (
            ("image_height", self.image_height, self.joined_rows),
            ("image_width", self.image_width, self.joined_columns),
        ):
            if pixels % (PATCH * joined):
                raise ValueError(
                    f"{along} {pixels} is {pixels // PATCH} patches of {PATCH} pixels, which must "
                    f"be a multiple of the {joined} that pixel shuffle joins; use "
                    f"{PATCH * joined * max(1, pixels // PATCH // joined)}, or join 2"
                )
        return self


def grid_of(knobs: ResolutionKnobs) -> Grid:
    """The grid of patches that the encoder sees."""
    rows, columns = knobs.image_height // PATCH, knobs.image_width // PATCH
    return Grid(rows, columns, knobs.joined_rows, knobs.joined_columns)


def image_tokens(knobs: ResolutionKnobs) -> int:
    """Tokens that an image takes in the decoder."""
    return grid_of(knobs).tokens


def apply(model: Any, knobs: ResolutionKnobs) -> None:
    """Makes an Idefics3 model read images of the knobs' size, in place.

    The default leaves the model as it is.

    Args:
        model: `Idefics3ForConditionalGeneration`, as it was trained.
        knobs: What is read.
    """
    from swopt.workloads import regridding

    grid = grid_of(knobs)
    if grid != regridding.grid_of(model):
        regridding.regrid(model, grid)


def worded(questions: Questions, knobs: ResolutionKnobs) -> Questions:
    """The questions in the knobs' wording; one that no table has stays as it was asked."""
    if knobs.wording == "asked":
        return questions
    return replace(questions, texts=tuple(map(shortest, questions.texts)))
