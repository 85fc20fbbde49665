"""What the benchmarks that plant bugs have in common: which of many possible ones they take."""

import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import cycle
from typing import TypeVar

M = TypeVar("M")


def spread(
    found: Mapping[str, Mapping[str, Sequence[M]]],
    count: int,
    chance: random.Random,
    identity: Callable[[M], Hashable],
) -> list[M]:
    """`count` different mutants, spread evenly over the kinds, then over the places.

    Args:
        found: Kind -> place -> mutants. A kind with nothing left is passed over.
        count: How many.
        chance: Draws the place and the mutant.
        identity: Two mutants of one identity are not both taken.

    Raises:
        ValueError: There are fewer than `count` different ones.
    """
    every = {
        identity(each) for places in found.values() for some in places.values() for each in some
    }
    if len(every) < count:
        raise ValueError(f"there are {len(every)} different mutants, fewer than {count}")
    chosen: list[M] = []
    taken: set[Hashable] = set()
    for places in cycle(found.values()):
        if len(chosen) == count:
            break
        left = {identity(each) for some in places.values() for each in some} - taken
        while left:
            mutant = chance.choice(places[chance.choice(sorted(places))])
            if identity(mutant) in left:
                chosen.append(mutant)
                taken.add(identity(mutant))
                break
    return chosen
