"""A small Idefics3 model on another grid of patches than the one that it was trained on."""

from typing import Any

import torch
from torch.nn import functional

from swopt.workloads.image_grid import Grid


class GridEmbeddings(torch.nn.Module):
    """Patch and position embeddings of one grid, in the place of Idefics3's."""

    def __init__(self, patches: torch.nn.Module, positions: torch.Tensor, grid: Grid) -> None:
        super().__init__()
        self.patch_embedding = patches
        self.position_embedding = torch.nn.Embedding(
            len(positions), positions.shape[1], _weight=positions
        )
        self.grid = grid

    def forward(
        self, pixel_values: torch.Tensor, patch_attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """float `[n, 3, height, width]` -> `[n, patches, channels]`; the mask is all ones."""
        patches = self.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        embedded: torch.Tensor = patches + self.position_embedding.weight
        return embedded


class GridConnector(torch.nn.Module):
    """Pixel shuffle of the rectangles of a grid, then the projection, in Idefics3's place."""

    def __init__(self, projection: torch.nn.Module, grid: Grid) -> None:
        super().__init__()
        self.modality_projection = projection
        self.grid = grid

    def forward(self, image_hidden_states: torch.Tensor) -> torch.Tensor:
        """float `[n, patches, channels]` -> `[n, tokens, decoder channels]`."""
        n, _, channels = image_hidden_states.shape
        ordered = image_hidden_states[:, torch.from_numpy(self.grid.order())]
        parts = ordered.view(n, self.grid.joined, self.grid.tokens, channels)
        joined: torch.Tensor = self.modality_projection(parts.transpose(1, 2).flatten(2))
        return joined


def grid_of(model: Any) -> Grid:
    """The grid that an Idefics3 model sees."""
    embeddings = model.model.vision_model.embeddings
    if isinstance(embeddings, GridEmbeddings):
        return embeddings.grid
    side, factor = embeddings.num_patches_per_side, model.config.scale_factor
    return Grid(side, side, factor, factor)


def positions_of(model: Any) -> torch.Tensor:
    """Position embedding of each patch, row by row, float64 `[patches, channels]`."""
    embeddings = model.model.vision_model.embeddings
    table: torch.Tensor = embeddings.position_embedding.weight.detach().double()
    return table if isinstance(embeddings, GridEmbeddings) else table[_bucketed(grid_of(model))]


def _bucketed(grid: Grid) -> torch.Tensor:
    """Idefics3's bucketed position of each patch of a whole square image, row by row."""
    side = grid.rows
    boundaries = torch.arange(1 / side, 1.0, 1 / side)
    places = torch.clamp(torch.arange(side, dtype=torch.float32) * (1.0 / side), max=1.0 - 1e-6)
    bucket = torch.bucketize(places, boundaries, right=True)
    return (bucket[:, None] * side + bucket[None, :]).flatten()


def regrid(model: Any, grid: Grid) -> None:
    """Gives an Idefics3 model another grid, in place.

    Position embeddings are interpolated (bilinear). Where a rectangle holds several of the trained
    squares, the projection is applied to each and the results are averaged, as one linear layer.

    Args:
        model: With the grid that it was trained on.
        grid: Whose rectangles hold whole trained ones.
    """
    trained, embeddings = grid_of(model), model.model.vision_model.embeddings
    table = positions_of(model).view(1, trained.rows, trained.columns, -1).permute(0, 3, 1, 2)
    positions = functional.interpolate(
        table, size=(grid.rows, grid.columns), mode="bilinear", align_corners=False
    )
    positions = positions.flatten(2)[0].t().contiguous()
    projection = model.model.connector.modality_projection
    _widen(projection.proj, trained, grid)
    model.model.vision_model.embeddings = GridEmbeddings(
        embeddings.patch_embedding, positions.to(embeddings.position_embedding.weight.dtype), grid
    )
    model.model.connector = GridConnector(projection, grid)


def _widen(layer: torch.nn.Linear, trained: Grid, grid: Grid) -> None:
    """Lets a projection of the trained squares read the patches of a larger rectangle."""
    rows = torch.arange(grid.joined_rows) % trained.joined_rows
    columns = torch.arange(grid.joined_columns) % trained.joined_columns
    part = (rows[:, None] * trained.joined_columns + columns).flatten()
    parts = layer.weight.detach().view(len(layer.weight), trained.joined, -1)
    share = trained.joined / grid.joined
    layer.weight = torch.nn.Parameter((parts[:, part] * share).flatten(1))
    layer.in_features = layer.weight.shape[1]
