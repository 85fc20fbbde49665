"""Dataflow: the mapper's choices of blocks and loop orders, as knobs that override it.

The mapper searches every size of block and number of blocks under way by its cost model, as
Parashar et al., Timeloop (ISPASS 2019), search a mapping for an architecture that is given. A knob
that is set leaves it the rest to choose. The numbers of the model are the same for all of them.
"""

from collections.abc import Sequence
from typing import Literal

from hwlib.frozen import Frozen

WAYS = 3
"""Most blocks under way at once."""


class DataflowKnobs(Frozen):
    """What the mapper is held to; the default leaves it everything that it searches."""

    groups: Literal[1, 2, 4, 8, 16, 32] | None = None
    """Token groups (of as many tokens as the core has rows) of a block, wherever operators can be
    cut into blocks; none: the mapper's choice, pass by pass."""

    ways: Literal[1, 2, 3] | None = None
    """Blocks under way at once, where there are so many; none: the mapper's choice, pass by
    pass."""

    stationary: Literal["weights", "activations"] = "weights"
    """What stays where a block meets a linear layer: a tile of weights meets all groups of the
    block, or a group of activations meets all tiles."""

    chunk_channels: Literal[16, 32, 64, 128, 256] = 64
    """Channels that an activation or a gate takes from the drain at once; at least the array's
    columns."""

    chunk_buffers: Literal[1, 2] = 2
    """Chunks that have words of their own: with 2 the array fills one while the vector engine is
    at the other."""


def apply(knobs: DataflowKnobs, sizes: Sequence[int]) -> list[tuple[int, range]]:
    """Sizes of blocks that are left to choose from, and how many of each may be under way.

    Args:
        knobs: What is chosen already.
        sizes: Token groups of a block that the mapper would try, ascending; the last is all.
    """
    total = sizes[-1]
    left = sizes if knobs.groups is None else [min(knobs.groups, total)]
    found = []
    for groups in left:
        most = min(knobs.ways or WAYS, -(-total // groups))
        found.append((groups, range(most if knobs.ways else 1, most + 1)))
    return found
