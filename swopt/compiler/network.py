"""A whole model in integers: named tensors, and the operators that make one from another.

This is what quantization leaves of a model and what lowering turns into commands. Two things read
it: `swopt.compiler.twin`, which computes many questions at once in torch and gives every accuracy,
and `swopt.compiler.program`, which writes the program of one inference. The arithmetic of each
operator is that of `hwlib.reference` and `hwlib.commands`.

A tensor is `[tokens, channels]`, int8 or int16; one of 4 bits is an int8 array whose values are
-8..7. Image tokens stand in the order of `Shuffle`, so that pixel shuffle costs nothing (see
there).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hwlib.behaviour import Built
from hwlib.config import ENTRY_BITS
from swopt.techniques.quantization import packed_bits
from swopt.techniques.rounding import Groups

Int8s = NDArray[np.int8]
Int16s = NDArray[np.int16]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]

EXPONENTIAL_TABLES = (4, 8, 16, 32)
"""Entries that the exponential's table may have."""

ActivationBits = Literal[4, 8]
"""Bits of what linear layers read."""


@dataclass(frozen=True)
class Scale:
    """A requantizer with one factor for a whole tensor: multiplier / 2^shift, then zero.

    Attributes:
        multiplier: 0..65535.
        shift: 1..47.
        zero: -128..127.
    """

    multiplier: int
    shift: int
    zero: int = 0


@dataclass(frozen=True)
class Input:
    """int16 `[tokens, channels]` that the host brings: embeddings at the scale of their stream.

    Attributes:
        y: The tensor.
        source: What the host puts there: `patches` (patch embeddings, in the order of `Shuffle`),
            `positions` (their position embeddings) or `words` (token embeddings of the text).
        channels: Its width.
    """

    y: str
    source: Literal["patches", "positions", "words"]
    channels: int


@dataclass(frozen=True)
class Add:
    """y = sat16(a + b), int16."""

    a: str
    b: str
    y: str


@dataclass(frozen=True)
class Concatenate:
    """y = the tokens of `first`, then those of `second`; int16 at one scale."""

    first: str
    second: str
    y: str


@dataclass(frozen=True)
class Norm:
    """LayerNorm or RMSNorm, int16 -> int8 or 4 bits: the fields of `hwlib.commands.Norm`.

    Attributes:
        x, y: Tensors.
        gamma: int16 `[channels]`.
        beta: int32 `[channels]`.
        shift: Of the affine part, `[channels]`.
        multiplier, mean_shift, epsilon, base: Of the statistics.
        centred: LayerNorm.
        zero: Zero point of y, in its range.
        bits: Of y.
    """

    x: str
    y: str
    gamma: Int16s
    beta: Int32s
    shift: Int64s
    multiplier: int
    mean_shift: int
    epsilon: int
    base: int
    centred: bool
    zero: int
    bits: ActivationBits = 8


LinearOutput = Literal["int8", "int16", "residual", "logits"]


@dataclass(frozen=True)
class Linear:
    """A linear layer, int8 or 4 bits `[tokens, K]` -> `[tokens, N]`.

    sum = x @ weight.T + bias in wrapping 32 bits;
    scaled = (sum * multiplier + 2^(shift-1)) >> shift.

    Attributes:
        name: The layer's name in plans and tables.
        x: Its input.
        y: Its output; for `residual` a stream that exists and that sat16(scaled) is added to.
        weight: int8 `[N, K]`.
        bias: int32 `[N]`, with the input's zero point folded in.
        multiplier, shift: `[N]`.
        zero: Added after scaling, for int8.
        output: `int8` sat8(scaled + zero), `int16` sat16(scaled), `residual`, or `logits`
            sat32(scaled), int32.
        weight_bits: Bits that the weights were quantized to, and are stored in.
        across: Attention values: computed with the operands exchanged, so that the result lies
            token by token in the activation memory. The numbers are the same.
        activation_bits: Bits of x.
        groups: What groups of weights are multiplied by in `weight`.
    """

    name: str
    x: str
    y: str
    weight: Int8s
    bias: Int32s
    multiplier: Int64s
    shift: Int64s
    zero: int
    output: LinearOutput
    weight_bits: int
    across: bool = False
    activation_bits: ActivationBits = 8
    groups: Groups | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where factors are not of all groups of the weights."""
        if self.groups is None:
            return
        outputs, inputs = self.weight.shape
        shape = (outputs, -(-inputs // self.groups.inputs))
        if self.groups.factors.shape != shape:
            raise ValueError(
                f"{self.name}: factors of groups must be {list(shape)}, not "
                f"{list(self.groups.factors.shape)}"
            )

    @cached_property
    def stored(self) -> Int8s:
        """The weights without their groups' factors, int8 `[N, K]`."""
        if self.groups is None:
            return self.weight
        return self.weight // self.groups.spread(self.weight.shape[1])

    @property
    def weight_bytes(self) -> int:
        """Bytes of its packed weights, a byte for each group among them."""
        size = -(-self.weight.size * packed_bits(self.weight_bits) // 8)
        return size + (0 if self.groups is None else self.groups.factors.size)


@dataclass(frozen=True)
class Activate:
    """y = scale(activate(x)): int16 in 1/64 -> int8 or, with `bits` 4, -8..7."""

    x: str
    y: str
    function: Literal["gelu", "silu"]
    scale: Scale
    bits: ActivationBits = 8


@dataclass(frozen=True)
class Gate:
    """y = scale(round(silu(x) * up >> gate_shift)): int16 in 1/64 and int16 -> int8 or, with
    `bits` 4, -8..7."""

    x: str
    up: str
    y: str
    gate_shift: int
    scale: Scale
    bits: ActivationBits = 8


@dataclass(frozen=True)
class Rotate:
    """Rotary embedding of every head, int16 -> int8, half-split as in transformers.

    Attributes:
        x, y: `[tokens, heads * head_dim]`.
        heads, head_dim: Of this tensor.
        cosine, sine: Q1.14 `[positions, head_dim / 2]`; token t has position t.
        scale: To int8, zero 0.
    """

    x: str
    y: str
    heads: int
    head_dim: int
    cosine: Int16s
    sine: Int16s
    scale: Scale


@dataclass(frozen=True)
class Kept:
    """Keys and values that are constants of a model: those of tokens in front of every text.

    Attributes:
        keys: After their rotation, int8 `[past, kv_heads * head_dim]`, in steps of `k`.
        values: int8 `[past, kv_heads * head_dim]`, in steps of `v`.
    """

    keys: Int8s
    values: Int8s


@dataclass(frozen=True)
class Attention:
    """softmax(q k^T) v for every head, online over blocks of keys, all int8 but perhaps y.

    For each block: score = sat16(round(q . k * score)), then `hwlib.reference.softmax.block`, and
    the weighted sums accumulate; at the end `divide` and `scale`.

    Attributes:
        q, k, v, y: Tensors; q and y `[tokens, heads * head_dim]`, k and v
            `[tokens, kv_heads * head_dim]`.
        heads, kv_heads, head_dim: A head uses key-value head `h * kv_heads // heads`.
        causal: Token t sees tokens 0..t; else all.
        past: Tokens before these whose keys and values are kept: token t of q is token past + t.
        kept: Those of the past where they are constants; None where a program before left them.
        score: From q . k to 1/32 octave; zero 0.
        scale: From the quotient in 1/256 to y.
        bits: Of y.
    """

    q: str
    k: str
    v: str
    y: str
    heads: int
    kv_heads: int
    head_dim: int
    causal: bool
    score: Scale
    scale: Scale
    bits: ActivationBits = 8
    past: int = 0
    kept: Kept | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where what is kept is not of `past` tokens."""
        if self.kept is None:
            return
        shape = (self.past, self.kv_heads * self.head_dim)
        for name, tensor in (("keys", self.kept.keys), ("values", self.kept.values)):
            if tensor.shape != shape:
                raise ValueError(
                    f"{self.y}: {name} that are kept must be {list(shape)}, not "
                    f"{list(tensor.shape)}"
                )


@dataclass(frozen=True)
class Shuffle:
    """Pixel shuffle: y[t] = the channels of x[b * tokens + t] for b = 0 .. joined - 1, in turn.

    Image tokens are ordered so that this is all there is to it: patch (row, column) of the grid is
    token b * tokens + t with b its place in its rectangle of patches and t that of the rectangle
    among all of them, both row by row. Attention over all image tokens does not mind.

    Attributes:
        x, y: Tensors of int8 or of 4 bits, y of as many as x.
        joined: Patches of a rectangle.
    """

    x: str
    y: str
    joined: int


Operator = (
    Input | Add | Concatenate | Norm | Linear | Activate | Gate | Rotate | Attention | Shuffle
)


def read_by(operator: Operator) -> tuple[str, ...]:
    """Names of the tensors that an operator reads."""
    match operator:
        case Input():
            return ()
        case Add():
            return (operator.a, operator.b)
        case Concatenate():
            return (operator.first, operator.second)
        case Gate():
            return (operator.x, operator.up)
        case Attention():
            return (operator.q, operator.k, operator.v)
        case Linear() if operator.output == "residual":
            return (operator.x, operator.y)
        case _:
            return (operator.x,)


@dataclass(frozen=True)
class Network:
    """The operators in order of execution.

    Attributes:
        operators: All of them; each reads tensors that earlier ones made.
        attention_block: Keys of one block of the online softmax: part of the numbers.
        exponential_entries: Entries of the exponential's table: part of the numbers.
        built: Results of units that are not the reference's (`hwlib.behaviour`): part of the
            numbers.
        logits: Name of the int32 tensor that the last operator makes, for the last token alone;
            None where the operators end without a head.
        logit_scale: What one step of it is worth, in nats.
    """

    operators: tuple[Operator, ...]
    attention_block: int
    exponential_entries: int
    logits: str | None = None
    logit_scale: float = 1.0
    built: Built = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError where the softmax has no keys in a block, or no such table."""
        if self.attention_block < 1:
            raise ValueError(
                f"an attention block must have at least 1 key, and an even number of them for the "
                f"core, not {self.attention_block}"
            )
        if self.exponential_entries not in EXPONENTIAL_TABLES:
            raise ValueError(
                "the exponential's table has 4, 8, 16 or 32 entries, not "
                f"{self.exponential_entries}"
            )

    @property
    def weight_bytes(self) -> int:
        """Bytes of the packed weights of the linear layers."""
        return sum(layer.weight_bytes for layer in self.operators if isinstance(layer, Linear))

    @property
    def constant_bytes(self) -> int:
        """Bytes of all that the core reads of the model: packed weights, an entry of a channel
        table for each channel of a linear layer or norm, and each rotary table once."""
        channels, rotary = 0, dict[tuple[bytes, bytes], int]()
        for operator in self.operators:
            match operator:
                case Linear():
                    channels += len(operator.weight)
                case Norm():
                    channels += len(operator.gamma)
                case Rotate():
                    key = (operator.cosine.tobytes(), operator.sine.tobytes())
                    rotary[key] = operator.cosine.nbytes + operator.sine.nbytes
        return self.weight_bytes + channels * ENTRY_BITS // 8 + sum(rotary.values())

    @cached_property
    def touches(self) -> Mapping[str, tuple[int, ...]]:
        """Indices of the operators that read or write each tensor, in order."""
        found: dict[str, list[int]] = {}
        for index, operator in enumerate(self.operators):
            for name in {*read_by(operator), operator.y}:
                found.setdefault(name, []).append(index)
        return {name: tuple(indices) for name, indices in found.items()}
