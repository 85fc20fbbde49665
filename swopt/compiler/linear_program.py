"""Linear layers as commands: tiles of weights stream past all tokens; the head, the last alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwlib.commands import Matmul, MatmulOutput, Store
from hwlib.core_config import LANE_BYTES
from swopt.compiler import network as net
from swopt.compiler.emitter import Emitter, PackedBits
from swopt.compiler.lowering import LoweringError, pack_weights


@dataclass(frozen=True)
class Logits:
    """Where the head's results lie in DRAM after the program.

    Attributes:
        name: Of the tensor.
        dram_address: First byte of the words of int32 `[1, channels]`, in one of their lanes.
        token_address: First byte of the word whose lane holds the index of the greatest.
        channels: How many.
        lane: That of the last token.
    """

    name: str
    dram_address: int
    token_address: int
    channels: int
    lane: int


def lower_linear(e: Emitter, operator: net.Linear) -> None:
    """A layer of all tokens: every tile of weights meets every group of them.

    Raises:
        LoweringError: A tile does not fit, or weights do not fit their bits.
    """
    x, y = e.tensor(operator.x), e.make(operator.y)
    output: MatmulOutput = "int8"
    zero_point, pairs = operator.zero, 2
    if operator.output != "int8":
        output = "residual" if operator.output == "residual" else "int16"
        zero_point, pairs = 0, 1
    for tile in _tiles(e, operator, x.layout.group_words):
        for group in range(x.layout.groups):
            out = y.group(group) + tile.column // pairs
            e.emit(tile.product(x.group(group), output, out, zero_point=zero_point))


def lower_head(e: Emitter, operator: net.Linear) -> Logits:
    """The head, for the last token's group: each tile's logits, and the greatest so far.

    Raises:
        LoweringError: As for `lower_linear`, or there are more logits than argmax counts.
    """
    x = e.tensor(operator.x)
    rows, columns = e.config.rows, e.config.columns
    N, last = operator.weight.shape[0], x.layout.tokens - 1
    if N > 1 << 16:
        raise LoweringError(f"argmax counts to 65536 logits, not {N}")
    buffer_words = 2 * columns
    scratch = f"the tiles of {operator.y}"
    first = e.memory.allocate(scratch, 2 * buffer_words + 1)
    token_word = first + 2 * buffer_words
    word_bytes = LANE_BYTES * rows
    at = e.reserve(2 * N * word_bytes)
    for index, tile in enumerate(_tiles(e, operator, x.layout.group_words)):
        buffer = first + index % 2 * buffer_words
        source = x.group(last // rows)
        e.emit(tile.product(source, "int32", buffer))
        e.emit(tile.product(source, "argmax", token_word, first=index == 0))
        place = at + 2 * tile.column * word_bytes
        e.emit(Store(address=buffer, words=2 * tile.columns, dram_address=place))
    token_address = e.store(token_word, 1)
    e.memory.free(scratch)
    return Logits(operator.y, at, token_address, N, last % rows)


@dataclass(frozen=True)
class _Tile:
    """Columns of a layer that are in the weight memory.

    Attributes:
        column, columns: Which.
        address: First word.
        depth: Words.
        channel: First channel entry.
    """

    column: int
    columns: int
    address: int
    depth: int
    channel: int

    def product(
        self,
        activation_address: int,
        output: MatmulOutput,
        out: int,
        *,
        zero_point: int = 0,
        first: bool = False,
    ) -> Matmul:
        """The product of one group of tokens with them."""
        return Matmul(
            activation_address=activation_address,
            weight_address=self.address,
            depth=self.depth,
            columns=self.columns,
            channel=self.channel,
            output=output,
            out=out,
            zero_point=zero_point,
            first=first,
            index_base=self.column if output == "argmax" else 0,
        )


def _tiles(e: Emitter, operator: net.Linear, depth: int) -> Iterator[_Tile]:
    """Loads weights and channel entries, as many tiles at once as half of the memory holds."""
    bits = _packed_bits(operator)
    config, N = e.config, operator.weight.shape[0]
    columns = config.columns
    room = min(config.weight_words // 2 // depth, config.channel_entries // 2 // columns)
    together = max(1, room) * columns
    for first in range(0, N, together):
        span = slice(first, min(first + together, N))
        tiles = -(-(span.stop - first) // columns)
        address = e.weights(tiles * depth)
        channel = e.entries(
            "matmul_channels",
            operator.bias[span],
            operator.multiplier[span],
            operator.shift[span],
        )
        data = pack_weights(_columns_of(operator.weight[span], columns), bits).tobytes()
        e.load("weights", address, tiles * depth, data, bits)
        for tile in range(tiles):
            column = first + tile * columns
            yield _Tile(
                column,
                min(columns, N - column),
                address + tile * depth,
                depth,
                channel + tile * columns,
            )


def _columns_of(weight: npt.NDArray[np.int8], columns: int) -> npt.NDArray[np.int8]:
    """Weights `[N, K]` as words of the weight memory, `[tiles, depth, columns, 2]`, with zeros."""
    N, K = weight.shape
    tiles = -(-N // columns)
    padded = np.pad(weight, ((0, tiles * columns - N), (0, K % 2)))
    words = padded.reshape(tiles, columns, -1, 2).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(words)


def _packed_bits(operator: net.Linear) -> PackedBits:
    """The narrowest packing that holds the layer's weights."""
    bits: PackedBits = 8
    if operator.weight_bits <= 4:
        bits = 2 if operator.weight_bits <= 2 else 4
    limit = 1 << (bits - 1)
    low, high = int(operator.weight.min()), int(operator.weight.max())
    if low < -limit or high >= limit:
        raise LoweringError(
            f"weights {low}..{high} of {operator.name} do not fit {operator.weight_bits} bits"
        )
    return bits
