"""Leaves whole blocks out of a step of training at random (Huang et al., ECCV 2016).

It makes their removal kinder later.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from swopt.workloads.checkpoint import TOWERS


@contextmanager
def left_out(model: torch.nn.Module, chance: float, generator: torch.Generator) -> Iterator[None]:
    """The model without some of its blocks for a while; no tower is left without any.

    Args:
        model: Of the architecture of `tiny_vlm`.
        chance: That a block is left out.
        generator: Draws which.
    """
    whole: dict[str, torch.nn.Module] = {
        path: model.get_submodule(path) for path in TOWERS.values()
    }
    try:
        for path, blocks in whole.items():
            each = list(blocks.children())
            kept = torch.rand(len(each), generator=generator) >= chance
            chosen = [block for block, keep in zip(each, kept.tolist(), strict=True) if keep]
            model.set_submodule(path, torch.nn.ModuleList(chosen or each))
        yield
    finally:
        for path, blocks in whole.items():
            model.set_submodule(path, blocks)
