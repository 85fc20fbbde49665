"""Attention as commands: scores, the online softmax and weighted sums, block by block of keys."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hwlib.commands import Divide, Matmul, Softmax, Span
from hwlib.config import CoreConfig
from swopt.compiler import network as net
from swopt.compiler.emitter import Atom, Entries
from swopt.compiler.lowering import LoweringError
from swopt.compiler.site import Site, lanes

STATE_WORDS = 4
"""Words of the state of a softmax; the last is alpha."""

PLACES = 2
"""Blocks of keys that a thread has under way: one is in the vector engine while the array works on
the other."""


def attention(site: Site, operator: net.Attention, block: int) -> Iterator[Atom]:
    """All heads of one attention.

    Args:
        site: Where.
        operator: The attention.
        block: Keys of one block.

    Raises:
        LoweringError: The block or the head's width is odd, or the scores have a zero point.
    """
    _check(site, operator, block)
    return _Attention(site, operator, block).atoms()


def _check(site: Site, operator: net.Attention, block: int) -> None:
    if block % 2 or operator.head_dim % 2:
        raise LoweringError(
            f"attention blocks and heads must be even, as a word holds two keys or channels, not "
            f"{block} keys and {operator.head_dim} channels"
        )
    if operator.score.zero:
        raise LoweringError(f"scores have no zero point, but {operator.y} has one")
    for name in (operator.q, operator.k):
        site.take(name, "int8")
    site.take(operator.v, "values")


def attention_words(operator: net.Attention, keys: int, block: int, config: CoreConfig) -> int:
    """Words that an attention over so many keys needs beside its tensors."""
    return PLACES * _place_words(operator, min(keys + keys % 2, block), block, config)


def apart(site: Site, operator: net.Attention, block: int) -> Iterator[Atom]:
    """All heads of one attention, with all scores before the first softmax.

    Arguments and errors as for `attention`.
    """
    _check(site, operator, block)
    return _Attention(site, operator, block).atoms_apart()


def apart_words(operator: net.Attention, keys: int, block: int, groups: int) -> int:
    """Words that `apart` needs beside its tensors, for a block of so many token groups."""
    return groups * operator.heads * _apart_place_words(operator, keys + keys % 2, block)


def _apart_place_words(operator: net.Attention, keys: int, block: int) -> int:
    return keys + min(keys, block) // 2 + STATE_WORDS + 2 * operator.head_dim


def _place_words(operator: net.Attention, held: int, block: int, config: CoreConfig) -> int:
    return _slack(block, config) + held + held // 2 + STATE_WORDS + 2 * operator.head_dim


@dataclass(frozen=True)
class _Place:
    """Scratch words of one block of keys.

    Attributes:
        first: First word of the scores; before it are words for columns that are not wanted.
        keys: Scores that there are words for.
        block: Most keys of a block.
    """

    first: int
    keys: int
    block: int

    @property
    def probabilities(self) -> int:
        return self.first + self.keys

    @property
    def state(self) -> int:
        return self.probabilities + self.block // 2

    @property
    def weighted(self) -> int:
        return self.state + STATE_WORDS


@dataclass(frozen=True)
class _Work:
    """One block of keys for one head and one group of queries.

    Attributes:
        head, group: Which.
        start, count: Keys.
        place: Where.
        scores: First word of theirs.
        last: No block of this head and group follows.
    """

    head: int
    group: int
    start: int
    count: int
    place: _Place
    scores: int
    last: bool


class _Attention:
    """The atoms of one attention on one block of tokens."""

    def __init__(self, site: Site, operator: net.Attention, block: int) -> None:
        self.site = site
        self.operator = operator
        self.block = block
        self.rows = site.e.config.rows
        self.q, self.k = site.tensors[operator.q], site.tensors[operator.k]
        self.v, self.y = site.tensors[operator.v], site.tensors[operator.y]

    def atoms(self) -> Iterator[Atom]:
        """The scores of the next block are computed while the vector engine is at this one.

        A division waits for the array, so the next softmax goes before it.
        """
        works = list(self._works())
        weighed: list[_Work] = []
        yield self._scores(works[0])
        for index, work in enumerate(works):
            yield self._softmax(work)
            yield from (self._divide(done) for done in weighed)
            if index + 1 < len(works):
                yield self._scores(works[index + 1])
            yield self._weigh(work)
            weighed = [work] if work.last else []
        yield from (self._divide(done) for done in weighed)

    def atoms_apart(self) -> Iterator[Atom]:
        """Every head and group has words for all its scores; phase after phase, all of them.

        Tiles that begin before a block of keys compute the scores there once more, as they are.
        """
        keys = self.operator.past + self.k.layout.tokens
        keys += keys % 2
        words = _apart_place_words(self.operator, keys, self.block)
        pairs = [(head, group) for group in self.site.groups for head in range(self.operator.heads)]
        turns = []
        for at, (head, group) in enumerate(pairs):
            place = _Place(self.site.scratch + at * words, keys, min(keys, self.block))
            blocks = self._blocks(head, group, place)
            turns.append([replace(work, scores=place.first + work.start) for work in blocks])
        for turn in turns:
            yield from map(self._scores, turn)
        for index in range(max(len(turn) for turn in turns)):
            together = [turn[index] for turn in turns if index < len(turn)]
            yield from map(self._softmax, together)
            yield from map(self._weigh, together)
        yield from (self._divide(turn[-1]) for turn in turns)

    def _works(self) -> Iterator[_Work]:
        """Every block of keys; as many heads and groups as there are places take turns."""
        keys, config = self.operator.past + self.k.layout.tokens, self.site.e.config
        held = min(keys + keys % 2, self.block)
        words = _place_words(self.operator, held, self.block, config)
        first = self.site.scratch + _slack(self.block, config)
        places = [_Place(first + at * words, held, held) for at in range(PLACES)]
        pairs = [(head, group) for group in self.site.groups for head in range(self.operator.heads)]
        for at in range(0, len(pairs), PLACES):
            turns = [
                list(self._blocks(head, group, place))
                for (head, group), place in zip(pairs[at:], places, strict=False)
            ]
            for index in range(max(len(turn) for turn in turns)):
                yield from (turn[index] for turn in turns if index < len(turn))

    def _blocks(self, head: int, group: int, place: _Place) -> Iterator[_Work]:
        past = self.operator.past
        keys = past + self.k.layout.tokens
        if self.operator.causal:
            # Nobody in the group sees more; a block that nobody sees changes nothing.
            keys = min(keys, past + (group + 1) * self.rows)
        for start in range(0, keys, self.block):
            count = min(self.block, keys - start)
            yield _Work(head, group, start, count, place, place.first, start + count == keys)

    def _scores(self, work: _Work) -> Atom:
        """q k^T of one block, int16."""
        width = self.operator.head_dim // 2
        q = self.q.group(work.group) + work.head * width
        score, past_groups = self.operator.score, self.k.layout.past_groups
        entry = Entries(np.array([0]), np.array([score.multiplier]), np.array([score.shift]))

        def emit() -> None:
            channel = self.site.e.entries("matmul_channels", ("score", id(self.operator)), entry)
            for key, columns in lanes(work.start, work.count, self.site.e.config):
                self.site.e.emit(
                    Matmul(
                        activation_address=q,
                        weight_source="activations",
                        weight_address=self.k.group(key // self.rows - past_groups)
                        + self._kv(work) * width,
                        weight_lane=key % self.rows,
                        depth=width,
                        columns=columns,
                        scale_by="uniform",
                        channel=channel,
                        output="int16",
                        out=work.scores + key - work.start,
                    )
                )

        return Atom("matmul", [("activations", q, width)], self._score_span(work), emit)

    def _softmax(self, work: _Work) -> Atom:
        """Probabilities of one block."""
        first = self.operator.past + work.group * self.rows
        offset = {"offset": first - work.start} if self.operator.causal else {}
        place = work.place

        def emit() -> None:
            self.site.e.emit(
                Softmax(
                    source=work.scores,
                    out=place.probabilities,
                    state=place.state,
                    count=work.count,
                    first=work.start == 0,
                    **offset,
                )
            )

        return Atom("vector", self._score_span(work), self._probability_span(work), emit)

    def _weigh(self, work: _Work) -> Atom:
        """Adds p v of one block."""
        head_dim, rows, place = self.operator.head_dim, self.rows, work.place

        def emit() -> None:
            for channel, columns in lanes(0, head_dim, self.site.e.config):
                values = self.v.head(self._kv(work), channel // rows)
                self.site.e.emit(
                    Matmul(
                        activation_address=place.probabilities,
                        weight_source="activations",
                        weight_address=values + work.start // 2,
                        weight_lane=channel % rows,
                        depth=(work.count + 1) // 2,
                        columns=columns,
                        output="accumulate",
                        out=place.weighted + 2 * channel,
                        first=work.start == 0,
                        alpha_address=place.state + STATE_WORDS - 1,
                    )
                )

        return Atom("matmul", self._probability_span(work), [], emit)

    def _divide(self, work: _Work) -> Atom:
        """The result of one head and group."""
        operator, place = self.operator, work.place
        words = operator.head_dim // self.y.layout.word_channels
        out = self.y.group(work.group) + work.head * words

        def emit() -> None:
            self.site.e.emit(
                Divide(
                    source=place.weighted,
                    state=place.state,
                    out=out,
                    count=operator.head_dim,
                    multiplier=operator.scale.multiplier,
                    shift=operator.scale.shift,
                    zero_point=operator.scale.zero,
                    out_bits=operator.bits,
                )
            )

        read: Span = ("activations", place.weighted, 2 * operator.head_dim)
        return Atom("vector", [read], [("activations", out, words)], emit)

    def _score_span(self, work: _Work) -> list[Span]:
        return [("activations", work.scores, work.count)]

    def _probability_span(self, work: _Work) -> list[Span]:
        return [("activations", work.place.probabilities, (work.count + 1) // 2)]

    def _kv(self, work: _Work) -> int:
        return work.head * self.operator.kv_heads // self.operator.heads


def _slack(block: int, config: CoreConfig) -> int:
    """Most lanes by which the first tile of a block begins before it."""
    width = min(config.rows, config.columns)
    return 0 if block % width == 0 else width - min(block & -block, width)
