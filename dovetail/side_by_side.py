"""Calls side by side that Ctrl-C ends at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    function: Callable[[Item], Result], items: Iterable[Item], most: int
) -> list[Result]:
    """What `function` gives for each item, in their order.

    What a call raises, and Ctrl-C, comes through at once: nothing more is begun, and whoever owns
    what the calls wait for ends it.

    Args:
        function: Called in a thread.
        items: Its arguments.
        most: Calls at once.
    """
    pool = ThreadPoolExecutor(most)
    try:
        return list(pool.map(function, items))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
