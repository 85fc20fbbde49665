"""Attention as commands: values that lie across the lanes, and the online softmax."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hwlib.commands import Divide, Matmul, Softmax
from swopt.compiler import network as net
from swopt.compiler.emitter import Emitter, Tensor
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import Layout

WAYS = 2
"""Pairs of head and query group whose blocks take turns: one is in the vector engine while the
array works on the other."""

STATE_WORDS = 4
"""Words of the state of a softmax; the last is alpha."""


def lower_values(e: Emitter, operator: net.Linear) -> None:
    """A linear layer with its operands exchanged: weights in the lanes, tokens in the columns.

    Raises:
        LoweringError: Its output is not int8.
    """
    if operator.output != "int8":
        raise LoweringError(f"{operator.y} lies across the lanes, so it must be int8")
    rows = e.config.rows
    x, y = e.tensor(operator.x), e.make(operator.y)
    head_dim = y.layout.channels // y.layout.heads
    layout = Layout("int8", rows, x.layout.channels, rows)
    scratch = f"the weights of {operator.name}"
    buffers = WAYS if e.memory.fits(WAYS * layout.words) else 1
    first_buffer = e.memory.allocate(scratch, buffers * layout.words)
    pieces = [
        (head, group) for head in range(y.layout.heads) for group in range(y.layout.head_groups)
    ]
    for index, (head, group) in enumerate(pieces):
        start = head * head_dim + group * rows
        span = slice(start, min(start + rows, (head + 1) * head_dim))
        spare = (0, rows - (span.stop - start))
        buffer = first_buffer + index % buffers * layout.words
        e.load_words(buffer, layout.pack(np.pad(operator.weight[span], (spare, (0, 0)))))
        entries = e.entries(
            "matmul_channels",
            np.pad(operator.bias[span], spare),
            np.pad(operator.multiplier[span], spare),
            np.pad(operator.shift[span], spare, constant_values=1),
        )
        for token, columns in _columns(0, x.layout.tokens, rows, e.config.columns):
            e.emit(
                Matmul(
                    activation_address=buffer,
                    weight_source="activations",
                    weight_address=x.group(token // rows),
                    weight_lane=token % rows,
                    depth=layout.words,
                    columns=columns,
                    scale_by="lane",
                    channel=entries,
                    output="int8",
                    out=y.head(head, group) + token // 2,
                    zero_point=operator.zero,
                )
            )
    e.memory.free(scratch)


def lower_attention(e: Emitter, operator: net.Attention, block: int) -> None:
    """All heads of one attention.

    Args:
        e: Takes the commands.
        operator: The attention.
        block: Keys of one block.

    Raises:
        LoweringError: The block or the head's width is odd, or the scores have a zero point.
    """
    if block % 2 or operator.head_dim % 2:
        raise LoweringError(
            f"attention blocks and heads must be even, as a word holds two keys or channels, not "
            f"{block} keys and {operator.head_dim} channels"
        )
    if operator.score.zero:
        raise LoweringError(f"scores have no zero point, but {operator.y} has one")
    scratch = f"the scores of {operator.y}"
    slack = _slack(block, e.config.rows, e.config.columns)
    words = slack + block + block // 2 + STATE_WORDS + 2 * operator.head_dim
    ways = WAYS if e.memory.fits(WAYS * words) else 1
    first_way = e.memory.allocate(scratch, ways * words)
    entry = e.entries(
        "matmul_channels",
        np.array([0]),
        np.array([operator.score.multiplier]),
        np.array([operator.score.shift]),
    )
    attention = _Attention(e, operator, block, entry)
    y = e.make(operator.y)
    places = [_Place(first_way + way * words + slack, block) for way in range(ways)]
    steps = list(attention.steps(places, y.layout))
    # The scores of the next step are computed while the vector engine is at this one.
    for index, step in enumerate(steps):
        if index == 0:
            attention.scores(step)
        attention.softmax(step)
        if index + 1 < len(steps):
            attention.scores(steps[index + 1])
        attention.weigh(step)
        if step.last:
            attention.divide(step, y)
    e.memory.free(scratch)


@dataclass(frozen=True)
class _Place:
    """Scratch words of one way.

    Attributes:
        scores: First word; before it are words for columns that are not wanted.
        block: Keys of a block.
    """

    scores: int
    block: int

    @property
    def probabilities(self) -> int:
        return self.scores + self.block

    @property
    def state(self) -> int:
        return self.probabilities + self.block // 2

    @property
    def weighted(self) -> int:
        return self.state + STATE_WORDS


@dataclass(frozen=True)
class _Step:
    """One block of keys for one head and one group of queries.

    Attributes:
        head, group: Which.
        start, count: Keys.
        place: Where.
        last: No block of this head and group follows.
    """

    head: int
    group: int
    start: int
    count: int
    place: _Place
    last: bool


class _Attention:
    """The commands of one attention's steps."""

    def __init__(self, e: Emitter, operator: net.Attention, block: int, entry: int) -> None:
        self.e = e
        self.operator = operator
        self.block = block
        self.entry = entry
        self.rows = e.config.rows
        self.q, self.k = e.tensor(operator.q), e.tensor(operator.k)
        self.v = e.tensor(operator.v)

    def steps(self, places: list[_Place], y: Layout) -> Iterator[_Step]:
        """Every step; as many heads and groups as there are places take turns."""
        pairs = [(head, group) for head in range(self.operator.heads) for group in range(y.groups)]
        for first in range(0, len(pairs), len(places)):
            turns = [
                list(self._blocks(head, group, place))
                for (head, group), place in zip(pairs[first:], places, strict=False)
            ]
            for index in range(max(len(turn) for turn in turns)):
                yield from (turn[index] for turn in turns if index < len(turn))

    def _blocks(self, head: int, group: int, place: _Place) -> Iterator[_Step]:
        keys = self.k.layout.tokens
        if self.operator.causal:
            # Nobody in the group sees more; a block that nobody sees changes nothing.
            keys = min(keys, (group + 1) * self.rows)
        for start in range(0, keys, self.block):
            count = min(self.block, keys - start)
            yield _Step(head, group, start, count, place, start + count == keys)

    def scores(self, step: _Step) -> None:
        """q k^T of one block, int16."""
        width = self.operator.head_dim // 2
        for key, columns in _columns(step.start, step.count, self.rows, self.e.config.columns):
            self.e.emit(
                Matmul(
                    activation_address=self.q.group(step.group) + step.head * width,
                    weight_source="activations",
                    weight_address=self.k.group(key // self.rows) + self._kv(step) * width,
                    weight_lane=key % self.rows,
                    depth=width,
                    columns=columns,
                    scale_by="uniform",
                    channel=self.entry,
                    output="int16",
                    out=step.place.scores + key - step.start,
                )
            )

    def softmax(self, step: _Step) -> None:
        """Probabilities of one block."""
        offset = {"offset": step.group * self.rows - step.start} if self.operator.causal else {}
        self.e.emit(
            Softmax(
                source=step.place.scores,
                out=step.place.probabilities,
                state=step.place.state,
                count=step.count,
                first=step.start == 0,
                **offset,
            )
        )

    def weigh(self, step: _Step) -> None:
        """Adds p v of one block."""
        head_dim, rows = self.operator.head_dim, self.rows
        for channel, columns in _columns(0, head_dim, rows, self.e.config.columns):
            values = self.v.head(self._kv(step), channel // rows)
            self.e.emit(
                Matmul(
                    activation_address=step.place.probabilities,
                    weight_source="activations",
                    weight_address=values + step.start // 2,
                    weight_lane=channel % rows,
                    depth=(step.count + 1) // 2,
                    columns=columns,
                    output="accumulate",
                    out=step.place.weighted + 2 * channel,
                    first=step.start == 0,
                    alpha_address=step.place.state + STATE_WORDS - 1,
                )
            )

    def divide(self, step: _Step, y: Tensor) -> None:
        """The result of one head and group."""
        operator = self.operator
        self.e.emit(
            Divide(
                source=step.place.weighted,
                state=step.place.state,
                out=y.group(step.group) + step.head * operator.head_dim // 2,
                count=operator.head_dim,
                multiplier=operator.scale.multiplier,
                shift=operator.scale.shift,
                zero_point=operator.scale.zero,
            )
        )

    def _kv(self, step: _Step) -> int:
        return step.head * self.operator.kv_heads // self.operator.heads


def _columns(start: int, count: int, rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Lanes start .. start + count - 1, counted through the words, in tiles of the array.

    Yields:
        (first lane, lanes). A tile begins where the array can begin to read: the first may begin
        before `start`, by lanes that are not wanted.
    """
    width = min(rows, columns)
    for first in range(start - start % width, start + count, width):
        yield first, min(width, start + count - first)


def _slack(block: int, rows: int, columns: int) -> int:
    """Most lanes by which the first tile of a block begins before it."""
    width = min(rows, columns)
    return 0 if block % width == 0 else width - min(block & -block, width)
