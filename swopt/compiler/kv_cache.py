"""Keys and values of all tokens so far, kept in DRAM from one program to the next.

A token group is the unit: a step of generation computes the group of its token anew, which gives
the group's earlier tokens the same numbers again, and takes everything before it from here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from hwlib.config import LANE_BYTES, CoreConfig
from swopt.compiler import network as net
from swopt.compiler.dram import DramImage
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import Layout, Placed, Words


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
    """Room for the causal attentions of a network; what they have of constants is put there.

    Args:
        network: The model.
        placed: Layout of its tensors.
        config: The core.
        tokens: Most tokens that the model will see, those in front of every text among them.
        dram: Where.

    Raises:
        LoweringError: Token groups are no whole beats, or a past is no whole number of them.
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
    cache = KeyValueCache(tokens, rows, addresses)
    for operator in network.operators:
        if isinstance(operator, net.Attention) and operator.kept is not None:
            _preload(operator, operator.kept, placed, cache, dram)
    return cache


def has_prefix(network: net.Network) -> bool:
    """Whether tokens stand in front of every text, whose keys and values are constants."""
    return any(isinstance(op, net.Attention) and op.kept is not None for op in network.operators)


def _preload(
    operator: net.Attention,
    kept: net.Kept,
    placed: Mapping[str, Placed],
    cache: KeyValueCache,
    dram: DramImage,
) -> None:
    """Puts constant keys and values where a program loads those of its past from."""
    if operator.past % cache.rows:
        raise LoweringError(
            f"the {operator.past} tokens in front of every text must be a multiple of the "
            f"{cache.rows} rows; use a core with fewer rows or a prefix of as many tokens"
        )
    for name, tensor in ((operator.k, kept.keys), (operator.v, kept.values)):
        layout = placed[name].layout
        words = packed_past(layout, tensor)
        for piece in cache.pieces(name, layout, range(-layout.past_groups, 0)):
            part = words[piece.word : piece.word + piece.words]
            dram.write(piece.dram_address, part.astype("<i2").tobytes())


def packed_past(layout: Layout, past: net.Int8s) -> Words:
    """The words of a whole tensor of keys or values of which the past is filled in.

    Args:
        layout: Of the tensor, its past included.
        past: Of the tokens in front of its own, int8 `[past, channels]`.
    """
    words = np.zeros((layout.words, layout.rows), np.int16)
    if layout.kind != "values":
        alone = replace(layout, tokens=layout.past, past=0, order=None, stride=0)
        own = alone.pack(past)
        words[: len(own)] = own
        return words
    width = layout.channels // layout.heads
    for head in range(layout.heads):
        for part in range(layout.head_groups):
            lanes = past[:, head * width : (head + 1) * width][:, part * layout.rows :]
            lanes = lanes[:, : layout.rows]
            padded = np.zeros((len(past) + len(past) % 2, layout.rows), np.int8)
            padded[: len(past), : lanes.shape[1]] = lanes
            pairs = padded.reshape(-1, 2, layout.rows).transpose(0, 2, 1)  # [words, rows, 2]
            at = layout.head(head, part)
            words[at : at + len(pairs)] = np.ascontiguousarray(pairs).view(np.int16)[..., 0]
    return words
