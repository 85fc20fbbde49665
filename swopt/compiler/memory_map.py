"""Where tensors lie: their words, which of them share words, and who has which addresses when."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from swopt.compiler import network as net
from swopt.compiler.lowering import LoweringError
from swopt.compiler.network import read_by

if TYPE_CHECKING:
    from swopt.compiler.host import Inputs

Words = npt.NDArray[np.int16]
"""Words of the activation memory, `[words, rows]`."""


Kind = Literal["int4", "int8", "int16", "values"]

BYTES: Mapping[int, Kind] = {4: "int4", 8: "int8"}
"""Kind of a tensor of so many bits."""


@dataclass(frozen=True)
class Layout:
    """How a tensor `[tokens, channels]` lies in words.

    `int4`, `int8` and `int16` are those of `hwlib.commands`, a group of `rows` tokens after the
    other.
    `values` are attention values, int8: for each key-value head and each group of `rows` of its
    channels one word for two tokens, with a lane for each channel.

    Attributes:
        kind: Which.
        tokens, channels: Of the tensor.
        rows: Lanes of a word.
        order: Place of each token group, or None for one after the other.
        heads: Key-value heads, for values.
        stride: Words from one token group to the next, or 0 for those that it takes.
        past: Tokens in front of the tensor's own, in whole groups: of keys and values.
    """

    kind: Kind
    tokens: int
    channels: int
    rows: int
    order: tuple[int, ...] | None = None
    heads: int = 1
    stride: int = 0
    past: int = 0

    @cached_property
    def groups(self) -> int:
        """Groups of `rows` tokens of the tensor's own."""
        return -(-self.tokens // self.rows)

    @cached_property
    def past_groups(self) -> int:
        """Groups of tokens in front of them."""
        return self.past // self.rows

    @cached_property
    def word_channels(self) -> int:
        """Channels of a token that share a word."""
        return {"int16": 1, "int8": 2, "int4": 4, "values": 1}[self.kind]

    @cached_property
    def group_words(self) -> int:
        """Words of one group of tokens."""
        return -(-self.channels // self.word_channels)

    @cached_property
    def head_words(self) -> int:
        """Words of one group of channels of a head, for values."""
        return (self.past + self.tokens + 1) // 2

    @cached_property
    def head_groups(self) -> int:
        """Groups of channels of one head, for values."""
        return -(-self.channels // self.heads // self.rows)

    @cached_property
    def words(self) -> int:
        """All of them."""
        if self.kind == "values":
            return self.heads * self.head_groups * self.head_words
        return (self.past_groups + self.groups) * (self.stride or self.group_words)

    def group(self, group: int) -> int:
        """First word of a token group; those of the past have negative numbers."""
        place = group if self.order is None or group < 0 else self.order[group]
        return (self.past_groups + place) * (self.stride or self.group_words)

    def head(self, head: int, group: int) -> int:
        """First word of a group of channels of a head, for values, the past included."""
        return (head * self.head_groups + group) * self.head_words

    def pieces(self, groups: range) -> Iterator[tuple[int, int]]:
        """First word, and words, of each piece of some token groups, heads in turn for values."""
        if self.kind != "values":
            yield from ((self.group(group), self.group_words) for group in groups)
            return
        first = (self.past + groups.start * self.rows) // 2
        words = min((self.past + groups.stop * self.rows) // 2, self.head_words) - first
        for head in range(self.heads):
            for part in range(self.head_groups):
                yield self.head(head, part) + first, words

    def pack(self, tensor: npt.NDArray[np.integer[Any]]) -> Words:
        """Words of an int16 or int8 tensor; lanes beyond the last token are 0."""
        dtype = np.int16 if self.kind == "int16" else np.int8
        shape = (self.groups * self.rows, self.word_channels * self.group_words)
        padded = np.zeros(shape, dtype)
        padded[: self.tokens, : self.channels] = tensor
        grouped = padded.view(np.int16).reshape(self.groups, self.rows, self.group_words)
        words = np.empty((self.groups, self.group_words, self.rows), np.int16)
        words[list(self.order or range(self.groups))] = grouped.transpose(0, 2, 1)
        return words.reshape(self.words, self.rows)

    def unpack(self, words: Words) -> npt.NDArray[np.integer[Any]]:
        """int16 or int8 `[tokens, channels]` out of the words; int4 values come as int8."""
        if self.kind == "values":
            shape = (self.heads, self.head_groups, self.head_words, self.rows, 2)
            by_token = words.view(np.int8).reshape(shape).transpose(2, 4, 0, 1, 3)
            per_head = by_token.reshape(2 * self.head_words, self.heads, -1)
            own = slice(self.past, self.past + self.tokens)
            kept = per_head[own, :, : self.channels // self.heads]
            return kept.reshape(self.tokens, self.channels)
        grouped = words.reshape(self.past_groups + self.groups, -1, self.rows)
        grouped = grouped[self.past_groups :, : self.group_words]
        ordered = grouped[list(self.order or range(self.groups))]
        flat = np.ascontiguousarray(ordered.transpose(0, 2, 1)).reshape(-1, self.group_words)
        tensor: npt.NDArray[np.integer[Any]] = flat if self.kind == "int16" else flat.view(np.int8)
        if self.kind == "int4":
            # The high nibble by an arithmetic shift, the low one after a shift to the top.
            tensor = np.stack([tensor << 4 >> 4, tensor >> 4], axis=-1).reshape(len(tensor), -1)
        return tensor[: self.tokens, : self.channels]


@dataclass(frozen=True)
class Placed:
    """A tensor's place in what it shares with others.

    Attributes:
        layout: Its own.
        region: Name of the tensor whose words these are.
        offset: Its first word in there.
    """

    layout: Layout
    region: str
    offset: int = 0


@dataclass(frozen=True)
class Tensor:
    """A tensor, or some token groups of one, in the activation memory.

    Attributes:
        layout: How the whole tensor lies.
        address: First word of what is there.
        first: First token group that is there.
    """

    layout: Layout
    address: int
    first: int = 0

    def group(self, group: int) -> int:
        """First word of a token group."""
        return self.address + self.layout.group(group) - self.layout.group(self.first)

    def head(self, head: int, group: int) -> int:
        """First word of a group of channels of a head, for values."""
        return self.address + self.layout.head(head, group)


class Ring:
    """Addresses of a memory that is filled round and round, and what is still there.

    Args:
        capacity: Words or entries.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._next = 0
        self._held: dict[Hashable, tuple[int, int]] = {}

    def find(self, key: Hashable) -> int | None:
        """First word of what is there under a key, if it is."""
        return self._held[key][0] if key in self._held else None

    def take(self, key: Hashable, words: int) -> int:
        """The next `words` side by side, at most all there are; what they held is forgotten."""
        at = self._next if self._next + words <= self.capacity else 0
        self._next = at + words
        self._held = {
            other: (first, size)
            for other, (first, size) in self._held.items()
            if first + size <= at or at + words <= first
        }
        self._held[key] = (at, words)
        return at


class ActivationMemory:
    """Addresses of the activation memory: the lowest or the highest that fit.

    Args:
        words: How many there are.
    """

    def __init__(self, words: int) -> None:
        self.capacity = words
        self.most = 0
        """The most words that were taken at once."""
        self._taken: dict[str, tuple[int, int]] = {}
        self._kept: dict[str, int] = {}  # at the low end: until when

    def keep(self, name: str, words: int, until: int) -> None:
        """Takes words at the low end, or at the high one where others at the low end go before.

        What is free then stays in one piece.

        Args:
            name: Of what is taken.
            words: How many.
            until: When it is given back, in what counts for all that is kept.

        Raises:
            LoweringError: There are none.
        """
        top = any(goes < until for goes in self._kept.values())
        self.allocate(name, words, top=top)
        if not top:
            self._kept[name] = until

    def allocate(self, name: str, words: int, *, top: bool = False) -> int:
        """Takes words until `free`; the first of them. Arguments and errors as for `find`."""
        at = self.find(name, words, top=top)
        self._taken[name] = (at, words)
        self.most = max(self.most, self._live())
        return at

    def find(self, name: str, words: int, *, top: bool = False) -> int:
        """The first of `words` free words side by side.

        Args:
            name: Of what they are for.
            words: How many.
            top: The highest that fit; else the lowest.

        Raises:
            LoweringError: There are none.
        """
        gaps = [(first, end) for first, end in self._gaps() if end - first >= words]
        if not gaps:
            raise LoweringError(
                f"{name} takes {words} words beside {self._live()} that are in use, in all "
                f"{self._live() + words} words of an activation memory of {self.capacity}; use a "
                "larger activation memory"
            )
        return gaps[-1][1] - words if top else gaps[0][0]

    def _live(self) -> int:
        """Words that are in use."""
        return sum(size for _, size in self._taken.values())

    def __contains__(self, name: str) -> bool:
        return name in self._taken

    def address(self, name: str) -> int:
        """First word of what is taken under a name."""
        return self._taken[name][0]

    def free(self, name: str) -> None:
        """Gives words back."""
        del self._taken[name]
        self._kept.pop(name, None)

    def _gaps(self) -> Iterator[tuple[int, int]]:
        """First word of what is free side by side, and the one behind the last."""
        at = 0
        for first, size in sorted(self._taken.values()):
            if at < first:
                yield at, first
            at = first + size
        if at < self.capacity:
            yield at, self.capacity


def place(network: net.Network, inputs: "Inputs", rows: int) -> dict[str, Placed]:
    """Layout and place of every tensor but the logits.

    Args:
        network: The model.
        inputs: The question's tensors.
        rows: Lanes of a word.

    Raises:
        LoweringError: Shapes do not fit, or pixel shuffle or concatenation would have to move
            lanes; the message has law, value and remedy.
    """
    placed: dict[str, Placed] = {}
    for index, operator in enumerate(network.operators):
        for name in read_by(operator):
            if name not in placed:
                raise LoweringError(f"operator {index} reads {name}, which nothing has made")
        layout = _result(operator, index, placed, network, inputs, rows)
        made = operator.y
        if layout is None or made in placed:
            continue
        placed[made] = Placed(layout, made)
        match operator:
            case net.Shuffle():
                placed[made] = Placed(layout, operator.x)
                placed[operator.x] = _shuffled(operator, placed[operator.x], layout)
            case net.Attention() if _last_reader(network, operator.q) == index:
                q = placed[operator.q]
                if q.region == operator.q and q.layout.order is None:
                    # Each head and group of queries is done with when its result is written.
                    stride = q.layout.group_words
                    placed[made] = Placed(replace(layout, stride=stride), operator.q)
            case net.Concatenate():
                first = placed[operator.first].layout
                for name, offset in ((operator.first, 0), (operator.second, first.words)):
                    _move(placed, name, made, offset)
    _check_shared(network, placed)
    return placed


def _last_reader(network: net.Network, name: str) -> int:
    """Index of the last operator that reads a tensor."""
    return max(index for index, op in enumerate(network.operators) if name in read_by(op))


def _result(
    operator: net.Operator,
    index: int,
    placed: Mapping[str, Placed],
    network: net.Network,
    inputs: "Inputs",
    rows: int,
) -> Layout | None:
    """Layout of what an operator makes; None for the logits and for a stream that exists."""
    match operator:
        case net.Input():
            tokens = len(inputs.of(operator.source))
            return Layout("int16", tokens, operator.channels, rows)
        case net.Add():
            return placed[operator.a].layout
        case net.Concatenate():
            first, second = (placed[name].layout for name in (operator.first, operator.second))
            if first.tokens % rows:
                raise LoweringError(
                    f"the first part of {operator.y} has {first.tokens} tokens, which must be a "
                    f"multiple of the {rows} rows; use a core with fewer rows"
                )
            return replace(first, tokens=first.tokens + second.tokens)
        case net.Shuffle():
            x, squares = placed[operator.x].layout, operator.joined
            if x.channels % x.word_channels or x.tokens % (squares * rows):
                raise LoweringError(
                    f"pixel shuffle of {operator.x} makes {x.tokens / squares:g} tokens of "
                    f"{squares} x {x.channels} channels: tokens must be a multiple of the {rows} "
                    f"rows and channels of {x.word_channels}; use a core with fewer rows"
                )
            return replace(x, tokens=x.tokens // squares, channels=x.channels * squares)
        case net.Linear():
            x = placed[operator.x].layout
            channels = operator.weight.shape[0]
            if operator.output in ("residual", "logits"):
                return None
            if operator.across:
                heads = _value_heads(operator, network.operators[index + 1 :])
                past = past_of(network, operator.y)
                return Layout("values", x.tokens, channels, rows, heads=heads, past=past)
            return Layout(operator.output, x.tokens, channels, rows)  # type: ignore[arg-type]
        case net.Attention():
            return replace(placed[operator.q].layout, kind=BYTES[operator.bits])
        case net.Rotate():
            past = past_of(network, operator.y)
            return replace(placed[operator.x].layout, kind="int8", past=past)
        case _:
            return replace(placed[operator.x].layout, kind=BYTES[operator.bits])


def past_of(network: net.Network, name: str) -> int:
    """Tokens in front of a tensor's own: of keys and values that an attention continues."""
    for operator in network.operators:
        if isinstance(operator, net.Attention) and name in (operator.k, operator.v):
            return operator.past
    return 0


def _value_heads(operator: net.Linear, later: Sequence[net.Operator]) -> int:
    """Key-value heads of attention values."""
    readers = [other for other in later if operator.y in read_by(other)]
    for reader in readers:
        if not isinstance(reader, net.Attention) or reader.v != operator.y:
            raise LoweringError(
                f"{operator.y} lies across the lanes and can only be the values of attention"
            )
        return reader.kv_heads
    raise LoweringError(f"{operator.y} lies across the lanes, but no attention reads it")


def _shuffled(operator: net.Shuffle, x: Placed, y: Layout) -> Placed:
    """x with its groups interleaved so that y's groups are each in one piece."""
    if x.region != operator.x or x.layout.order is not None:
        raise LoweringError(f"{operator.x} shares its words already and cannot be shuffled")
    squares = operator.joined
    order = tuple(
        group * squares + square for square in range(squares) for group in range(y.groups)
    )
    return replace(x, layout=replace(x.layout, order=order))


def _move(placed: dict[str, Placed], name: str, region: str, offset: int) -> None:
    """Puts a tensor, and what shares its words, into a region."""
    if placed[name].region != name or placed[name].layout.order is not None:
        raise LoweringError(f"{name} shares its words already and cannot be joined again")
    for other, place in placed.items():
        if place.region == name and other != region:
            placed[other] = replace(place, region=region, offset=place.offset + offset)


def _check_shared(network: net.Network, placed: Mapping[str, Placed]) -> None:
    """Nothing may read a tensor after another that shares its words was added to."""
    stale: dict[str, str] = {}
    for operator in network.operators:
        for name in read_by(operator):
            if name in stale:
                raise LoweringError(
                    f"{name} is read after {stale[name]}, which shares its words, was added to"
                )
        made = operator.y
        if isinstance(operator, net.Linear) and operator.output == "residual":
            shared = (name for name in placed if _overlap(placed[name], placed[made]))
            stale |= dict.fromkeys(shared, made)
        stale.pop(made, None)


def _overlap(a: Placed, b: Placed) -> bool:
    """Whether two tensors have words in common."""
    low, high = sorted((a, b), key=lambda place: place.offset)
    return a.region == b.region and low.offset + low.layout.words > high.offset


def last_readers(network: net.Network, placed: Mapping[str, Placed]) -> dict[str, int]:
    """Region -> index of the last operator that reads or writes it."""
    last: dict[str, int] = {}
    for index, operator in enumerate(network.operators):
        touched: Iterable[str] = (*read_by(operator), operator.y)
        for name in touched:
            if name in placed:
                last[placed[name].region] = index
    return last
