"""Keys and values of all tokens so far, kept in DRAM from one program to the next.

A token group is the unit: a step of generation computes the group of its token anew, which gives
the group's earlier tokens the same numbers again, and takes everything before it from here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hwlib.config import LANE_BYTES, CoreConfig
from swopt.compiler import network as net
from swopt.compiler.dram import DramImage
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import Layout, Placed


@dataclass(frozen=True)
class Piece:
    """Words of keys or values.

    Attributes:
        word: The first, counted in the tensor.
        words: How many.
        dram_address: Their first byte in the cache.
    """

    word: int
    words: int
    dram_address: int


@dataclass(frozen=True)
class KeyValueCache:
    """Room for the keys and values of a network's attentions.

    Attributes:
        tokens: Most tokens, a multiple of the core's rows.
        rows: Of the core.
        addresses: First byte of each tensor, by its name.
    """

    tokens: int
    rows: int
    addresses: Mapping[str, int]

    def pieces(self, name: str, layout: Layout, groups: range) -> Iterator[Piece]:
        """Where some token groups of a tensor lie; groups of its past have negative numbers."""
        base, word_bytes = self.addresses[name], LANE_BYTES * self.rows
        for number, (word, words) in enumerate(layout.pieces(groups)):
            # Each row of values has room for all tokens to come.
            spare = self.tokens // 2 - layout.head_words if layout.kind == "values" else 0
            yield Piece(word, words, base + (word + number * spare) * word_bytes)


def reserve(
    network: net.Network,
    placed: Mapping[str, Placed],
    config: CoreConfig,
    tokens: int,
    dram: DramImage,
) -> KeyValueCache:
    """Room for the causal attentions of a network.

    Args:
        network: The model.
        placed: Layout of its tensors.
        config: The core.
        tokens: Most tokens that the model will see.
        dram: Where.

    Raises:
        LoweringError: Token groups are no whole beats.
    """
    rows, addresses = config.rows, {}
    tokens = -(-tokens // rows) * rows
    word_bytes = LANE_BYTES * rows
    for operator in network.operators:
        if not isinstance(operator, net.Attention) or not operator.causal:
            continue
        keys, values = placed[operator.k].layout, placed[operator.v].layout
        for words in (keys.group_words, rows // 2):
            if words * word_bytes % config.dma_bytes:
                raise LoweringError(
                    f"keys and values are kept by token groups, whose {words * word_bytes} bytes "
                    f"must be a multiple of the beat of {config.dma_bytes}; use a core with more "
                    "rows or narrower beats"
                )
        addresses[operator.k] = dram.reserve(tokens // rows * keys.group_words * word_bytes)
        parts = values.heads * values.head_groups
        addresses[operator.v] = dram.reserve(parts * tokens // 2 * word_bytes)
    return KeyValueCache(tokens, rows, addresses)
