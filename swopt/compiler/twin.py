"""The integer model in torch, many questions at once: what every accuracy is measured with.

An implementation of its own of the arithmetic in `hwlib.reference`, tested equal to the bit; only
the constant tables are shared, and those of units that an edit built otherwise. Tensors are
`[..., tokens, channels]`.

Much is computed in floats, since processors shift and multiply 64-bit integers one by one: but
only where every value on the way is one that the float type holds exactly, an integer or one over a
power of two, so no rounding mode and no order of summation is in play. A shift of n bits with
halves up is floor(x / 2^n + 1/2). Functions of one int16 are looked up.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwlib.behaviour import EXACT, Built, product_row
from hwlib.reference import tables
from swopt.compiler.host import Inputs
from swopt.compiler.network import (
    Activate,
    ActivationBits,
    Add,
    Attention,
    Concatenate,
    Gate,
    Input,
    Linear,
    Network,
    Norm,
    Operator,
    Rotate,
    Scale,
    Shuffle,
)

CHUNK = 32
"""Questions that are computed at once: their tensors stay in the caches."""

EMPTY = -(1 << 15)
"""The running maximum of a row that has seen no key."""

_EXACT = {torch.float32: 2**24, torch.float64: 2**53}
"""Largest magnitude up to which a float type holds every integer."""

MOST_PARTS = 4
"""Of a sum in float32; one that takes more is made in float64 at once."""

LOOKED_UP_AT_ONCE = 1 << 18
"""Products that are looked up together; their rows stay in a processor's cache."""


def logits(network: Network, inputs: Sequence[Inputs]) -> torch.Tensor:
    """The logits of each question's last token, int32 `[n, outputs]`.

    Questions of different lengths go through together, padded behind their last word; a token of
    the decoder sees only those before it, so that a question gives what it would alone.

    Raises:
        ValueError: The network has no head.
    """
    if network.logits is None:
        raise ValueError("the network ends without a head, so it has no logits; use twin.tensors")
    rows = []
    for start in range(0, len(inputs), CHUNK):
        part = inputs[start : start + CHUNK]
        longest = max(len(each.words) for each in part)
        padding = [longest - len(each.words) for each in part]
        batch = Inputs(
            np.stack([each.patches for each in part]),
            np.stack([each.positions for each in part]),
            np.stack(
                [np.pad(e.words, ((0, n), (0, 0))) for e, n in zip(part, padding, strict=True)]
            ),
        )
        made: dict[str, torch.Tensor] = {}
        for operator in network.operators:
            made[operator.y] = _result(operator, made, batch, torch.tensor(padding), network)
        rows.append(made[network.logits][:, 0])
    return torch.cat(rows)


def token_logits(network: Network, inputs: Inputs) -> torch.Tensor:
    """The logits of every token of one text, int32 `[tokens, outputs]`.

    Raises:
        ValueError: The network has no head.
    """
    head = network.operators[-1]
    if network.logits is None or not isinstance(head, Linear):
        raise ValueError("the network ends without a head, so it has no logits; use twin.tensors")
    batch = Inputs(inputs.patches[None], inputs.positions[None], inputs.words[None])
    made: dict[str, torch.Tensor] = {}
    for operator in network.operators[:-1]:
        made[operator.y] = _result(operator, made, batch, torch.tensor([0]), network)
    return linear(made[head.x], head, None, network.built)[0]


def results(network: Network, inputs: Inputs) -> list[NDArray[np.generic]]:
    """What each operator of one inference leaves in its tensor y, in the order of the operators.

    Each is int8, int16 or, for the logits, int32, `[tokens, channels]`; that of a residual layer
    is the whole stream after it, that of the logits has one token.
    """
    batch = Inputs(inputs.patches[None], inputs.positions[None], inputs.words[None])
    made: dict[str, torch.Tensor] = {}
    left: list[NDArray[np.generic]] = []
    for operator in network.operators:
        made[operator.y] = _result(operator, made, batch, torch.tensor([0]), network)
        left.append(made[operator.y][0].numpy())
    return left


def tensors(network: Network, inputs: Inputs) -> dict[str, NDArray[np.generic]]:
    """Every named tensor at the end of one inference; a stream as its last layer left it."""
    left = results(network, inputs)
    return {op.y: y for op, y in zip(network.operators, left, strict=True)}


def operate(
    operator: Operator, made: dict[str, torch.Tensor], batch: Inputs, network: Network
) -> torch.Tensor:
    """What one operator leaves in y, `[questions, tokens, channels]`.

    Args:
        operator: One of the network's.
        made: What those before it left, by name.
        batch: Inputs of questions of one length, with an axis of questions in front.
        network: What it belongs to.
    """
    return _result(operator, made, batch, torch.zeros(len(batch.words), dtype=torch.long), network)


def _result(
    operator: Operator,
    made: dict[str, torch.Tensor],
    batch: Inputs,
    padding: torch.Tensor,
    network: Network,
) -> torch.Tensor:
    """What an operator leaves in y.

    Args:
        operator: The operator.
        made: Earlier tensors `[questions, tokens, channels]`.
        batch: Inputs with an axis of questions in front.
        padding: Tokens behind the last word of each question.
        network: What it belongs to.
    """
    match operator:
        case Input():
            return torch.from_numpy(batch.of(operator.source))
        case Add():
            return _to_int16(made[operator.a].int() + made[operator.b])
        case Concatenate():
            return torch.cat((made[operator.first], made[operator.second]), -2)
        case Norm():
            return norm(made[operator.x], operator, network.built)
        case Linear():
            x = made[operator.x]
            if operator.output == "logits":
                x = x[torch.arange(len(x)), x.shape[1] - 1 - padding][:, None]
            return linear(x, operator, made.get(operator.y), network.built)
        case Activate():
            return _of_int16(made[operator.x], _scaled_activation(operator, network.built))
        case Gate():
            up = made[operator.up]
            product = gate(made[operator.x], up, operator.gate_shift, network.built)
            return scale(product, operator.scale, operator.bits)
        case Rotate():
            return rotate(made[operator.x], operator)
        case Attention():
            return attention(
                (made[operator.q], made[operator.k], made[operator.v]), operator, network
            )
        case Shuffle():
            x = made[operator.x]
            squares = x.reshape(len(x), operator.joined, -1, x.shape[-1])
            return squares.transpose(-3, -2).flatten(-2)  # [questions, tokens, squares * channels]


def linear(
    x: torch.Tensor, op: Linear, stream: torch.Tensor | None, built: Built = EXACT
) -> torch.Tensor:
    """A linear layer: int8 `[..., tokens, K]` -> int8, int16 or int32 `[..., tokens, N]`.

    Args:
        x: Its input.
        op: Weights and requantizers.
        stream: What a residual layer adds to.
        built: Of the core's units.
    """
    weight, inputs = torch.from_numpy(op.weight), op.weight.shape[1]
    product = _product(x, weight.t(), 128 * 128 * inputs, built, exchanged=op.across)
    sums = product.double() + torch.from_numpy(op.bias)
    if 128 * 128 * inputs + int(np.abs(op.bias.astype(np.int64)).max(initial=0)) >= 1 << 31:
        sums = _wrap(sums.long()).double()
    scaled = _rescaled(sums, torch.from_numpy(np.ldexp(op.multiplier.astype(float), -op.shift)))
    if op.output == "int8":
        return _to_int8(scaled.add_(op.zero))
    if op.output == "logits":
        return scaled.clamp(-(1 << 31), (1 << 31) - 1).int()
    whole = scaled.clamp_(-(1 << 15), (1 << 15) - 1)
    return _to_int16(whole if stream is None else whole.add_(stream))


def exact_type(inputs: int) -> type[np.floating[Any]]:
    """The float type in which a linear layer of so many inputs is multiplied exactly."""
    return np.float32 if 128 * 128 * inputs <= _EXACT[torch.float32] else np.float64


def _product(
    a: torch.Tensor, b: torch.Tensor, largest: int, built: Built, exchanged: bool = False
) -> torch.Tensor:
    """a @ b, exactly but for the products that elements make otherwise.

    Args:
        a: int8 `[..., M, K]`; what the array takes as activations, unless `exchanged`.
        b: int8 `[..., K, N]`; what it takes as weights, unless `exchanged`.
        largest: Magnitude that exact sums can reach.
        built: Of the core's units.
        exchanged: Whether the array has the operands the other way round.
    """
    if "mac" in built:
        return _looked_up(a, b, torch.from_numpy(built["mac"]), exchanged)
    parts = -(-largest // _EXACT[torch.float32])
    if parts > MOST_PARTS:
        return a.double() @ b.double()
    if parts == 1:
        return a.float() @ b.float()
    # Sums over a part of K are exact in float32, which multiplies twice as fast.
    pieces = zip(a.float().chunk(parts, -1), b.float().chunk(parts, -2), strict=True)
    first, *others = [(left @ right).double() for left, right in pieces]
    return sum(others, first)


def _looked_up(
    a: torch.Tensor, b: torch.Tensor, products: torch.Tensor, exchanged: bool
) -> torch.Tensor:
    """As `_product`, every product out of a table; int64 `[..., M, N]`.

    A row of `a` at a time goes through all of `b`: some nanoseconds for each product.
    """
    table = products.int()
    left, right = a.long(), b.long()
    if exchanged:
        left, right = right.mT, left.mT
    # Rows of the table are those of the left operand, and places in a row the right one's.
    rows, places = product_row(left, torch.tensor(-128)), right + 128
    batch = np.broadcast_shapes(rows.shape[:-2], places.shape[:-2])
    rows = rows.expand(*batch, *rows.shape[-2:]).reshape(-1, *rows.shape[-2:])
    places = places.expand(*batch, *places.shape[-2:]).reshape(-1, *places.shape[-2:])
    sums = torch.empty(len(rows), rows.shape[1], places.shape[2], dtype=torch.int64)
    step = max(1, LOOKED_UP_AT_ONCE // (places.shape[1] * places.shape[2]))
    for k in range(len(rows)):
        for at in range(0, rows.shape[1], step):
            index = rows[k, at : at + step, :, None] + places[k][None]
            found = table.take(index)
            sums[k, at : at + step] = found.sum(1)
    result = sums.reshape(*batch, *sums.shape[1:])
    return result.mT if exchanged else result


def _wrap(value: torch.Tensor) -> torch.Tensor:
    """int64 wrapped to 32 bits, as the accumulators do."""
    return value.int().long()


def round_shift(value: torch.Tensor, shift: torch.Tensor | int) -> torch.Tensor:
    """int64 `value` / 2^shift, halves up, for a shift of 1 bit or more."""
    return (value + (torch.as_tensor(1) << (shift - 1))) >> shift


def _rescaled(value: torch.Tensor, factor: torch.Tensor | float) -> torch.Tensor:
    """float64 integers times a factor, halves up: float64 integers.

    Exact where the factor is an integer over a power of two and the product takes 52 bits or fewer.
    """
    return (value * factor).add_(0.5).floor_()


def scale(value: torch.Tensor, by: Scale, bits: ActivationBits = 8) -> torch.Tensor:
    """The lanes' requantizer: int16 -> int8 or 4 bits."""
    return _to_int8(_rescaled(value.double(), by.multiplier * 2.0**-by.shift).add_(by.zero), bits)


def _to_int8(value: torch.Tensor, bits: ActivationBits = 8) -> torch.Tensor:
    """Saturates to `bits` bits, held in int8; what it is given is not left as it was."""
    return value.clamp_(-(1 << (bits - 1)), (1 << (bits - 1)) - 1).to(torch.int8)


def _to_int16(value: torch.Tensor) -> torch.Tensor:
    """Saturates; what it is given is not left as it was."""
    return value.clamp_(-(1 << 15), (1 << 15) - 1).to(torch.int16)


def bit_length(value: torch.Tensor) -> torch.Tensor:
    """Bits of int64 values from 0 to 2^53."""
    return torch.frexp(value.double()).exponent.long()


def _shift_by(value: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """value >> down, or << -down where `down` is negative."""
    return (value >> down.clamp(min=0)) << -down.clamp(max=0)


def norm(x: torch.Tensor, op: Norm, built: Built = EXACT) -> torch.Tensor:
    """LayerNorm or RMSNorm: int16 `[..., channels]` -> int8 or 4 bits."""
    wide = x.double()
    squares = (wide * wide).sum(-1, keepdim=True).long()
    total = wide.sum(-1, keepdim=True).long() if op.centred else torch.zeros_like(squares)
    mean = round_shift(total * op.multiplier, op.mean_shift)
    variance = x.shape[-1] * squares - total * total + op.epsilon
    half = (bit_length(variance) + 1) >> 1
    r = inverse_sqrt(_shift_by(variance, 2 * half - 16), built)
    factor = torch.ldexp(r.double(), -(op.base + half).clamp(min=1))
    z = _rescaled(wide.mul_(16).sub_(mean), factor).clamp_(-(1 << 15), (1 << 15) - 1)
    product = z.mul_(torch.from_numpy(op.gamma)).add_(torch.from_numpy(op.beta))
    down = torch.from_numpy(np.ldexp(1.0, -op.shift))
    return _to_int8(_rescaled(product, down).add_(op.zero), op.bits)


def inverse_sqrt(v: torch.Tensor, built: Built = EXACT) -> torch.Tensor:
    """About 2^23 / sqrt(v) for v in 2^14..2^16-1."""
    if "inverse_sqrt" in built:
        return torch.from_numpy(built["inverse_sqrt"])[v]
    starts, falls = (torch.from_numpy(table) for table in tables.inverse_sqrt())
    segment = (v >> 10) - 16
    return starts[segment] - ((falls[segment] * (v & 1023)) >> 10)


def reciprocal(v: torch.Tensor, built: Built = EXACT) -> torch.Tensor:
    """About 2^31 / v for v in 2^15..2^16-1."""
    if "reciprocal" in built:
        return torch.from_numpy(built["reciprocal"])[v]
    starts, falls = (torch.from_numpy(table) for table in tables.reciprocal())
    segment = (v >> 9) - 64
    return starts[segment] - ((falls[segment] * (v & 511)) >> 9)


def activate(x: torch.Tensor, name: tables.Activation, built: Built = EXACT) -> torch.Tensor:
    """GELU or SiLU: int16 in 1/64 -> int16 in 1/256."""
    return _of_int16(x, _activation(name, built))


def _of_int16(x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """What a function has for int16 `x`, out of its table for all of int16, the least one first."""
    return table.index_select(0, (x.int() + (1 << 15)).flatten()).reshape(x.shape)


def _scaled_activation(op: Activate, built: Built) -> torch.Tensor:
    """The table of an activation with its requantizer, int8 `[65536]`."""
    if "activation" in built:
        return scale(_activation(op.function, built), op.scale, op.bits)
    return _shipped_scaled_activation(op.function, op.scale, op.bits)


@lru_cache(maxsize=64)
def _shipped_scaled_activation(
    name: tables.Activation, by: Scale, bits: ActivationBits
) -> torch.Tensor:
    return scale(_shipped_activation(name), by, bits)


def _activation(name: tables.Activation, built: Built) -> torch.Tensor:
    """The table of an activation, int16 `[65536]`."""
    if "activation" not in built:
        return _shipped_activation(name)
    rows = np.arange(-(1 << 15), 1 << 15) & 0xFFFF
    results = built["activation"][rows + (name == "silu") * (1 << 16)]
    return torch.from_numpy(results.astype(np.int16))


@lru_cache(maxsize=2)
def _shipped_activation(name: tables.Activation) -> torch.Tensor:
    # Beyond the table the function is relu: one entry of 0 stands for all of it.
    table = torch.from_numpy(np.append(tables.activation(name), 0)).int()
    wide = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32)
    return _to_int16(4 * wide.clamp(min=0) - table[wide.abs().clamp(max=len(table) - 1)])


def gate(x: torch.Tensor, up: torch.Tensor, shift: int, built: Built = EXACT) -> torch.Tensor:
    """silu(x) * up: int16 in 1/64 and int16 -> int16."""
    return _to_int16(_rescaled(activate(x, "silu", built).double() * up, 2.0**-shift))


def rotate(x: torch.Tensor, op: Rotate) -> torch.Tensor:
    """Rotary embedding of every head: int16 `[..., tokens, heads * head_dim]` -> int8."""
    tokens = x.shape[-2]
    halves = x.double().reshape(*x.shape[:-1], op.heads, 2, -1)
    low, high = halves.unbind(-2)  # [..., tokens, heads, half]
    cosine, sine = (torch.from_numpy(t[:tokens]).double()[:, None] for t in (op.cosine, op.sine))
    turned = torch.stack((low * cosine - high * sine, high * cosine + low * sine), -2)
    return scale(_to_int16(_rescaled(turned, 2.0**-14)), op.scale).flatten(-3)


def attention(
    qkv: tuple[torch.Tensor, torch.Tensor, torch.Tensor], op: Attention, network: Network
) -> torch.Tensor:
    """Online softmax over blocks of keys for every head, `[..., tokens, channels]`.

    Blocks begin at multiples of the network's `attention_block`, what is kept among the keys.
    """
    if op.past and op.kept is None:
        raise ValueError(
            f"{op.y} continues {op.past} tokens that are not there; ask the whole network about "
            "all tokens"
        )
    return attend(qkv, op, network)


def attend(
    qkv: tuple[torch.Tensor, torch.Tensor, torch.Tensor], op: Attention, network: Network
) -> torch.Tensor:
    """As `attention`, for the last tokens of a text: there may be fewer queries than keys.

    Blocks of keys begin where they do for the whole text, so that a token gives the same numbers
    with whichever others it is asked about. What the network keeps stands in front of the keys.
    """
    q, k, v = qkv
    if op.kept is not None:
        k, v = _behind(op.kept.keys, k), _behind(op.kept.values, v)
    queries, keys, values = (
        t.reshape(*t.shape[:-1], -1, op.head_dim).transpose(-3, -2) for t in (q, k, v)
    )  # [..., heads, tokens, head_dim]
    used = torch.arange(op.heads) * op.kv_heads // op.heads
    keys, values = keys[..., used, :, :], values[..., used, :, :]
    tokens, rows = keys.shape[-2], queries.shape[:-1]
    maximum, total = torch.full(rows, EMPTY), torch.zeros(rows, dtype=torch.int64)
    weighted = torch.zeros(queries.shape, dtype=torch.int64)
    position = torch.arange(tokens)
    at = position[tokens - rows[-1] :]
    for start in range(0, tokens, network.attention_block):
        block = position[start : start + network.attention_block]
        # A block changes nothing for queries that see none of its keys.
        see = slice(int((at < start).sum()) if op.causal else 0, None)
        largest = 128 * 128 * op.head_dim
        sums = _product(
            queries[..., see, :], keys[..., block, :].mT, largest, network.built
        ).double()
        scores = _rescaled(sums, op.score.multiplier * 2.0**-op.score.shift)
        scores.clamp_(-(1 << 15), (1 << 15) - 1)
        seen = (block <= at[see, None]) | (not op.causal)
        probabilities, maximum[..., see], total[..., see], alpha = softmax_block(
            scores,
            seen,
            maximum[..., see],
            total[..., see],
            network.exponential_entries,
            network.built,
        )
        largest = 128 * tables.PROBABILITY_MAX * len(block)
        partial = _product(probabilities, values[..., block, :], largest, network.built).long()
        weighted[..., see, :] = _wrap((weighted[..., see, :] >> alpha[..., None]) + partial)
    heads = scale(divide(weighted, total[..., None], network.built), op.scale, op.bits)
    return heads.transpose(-3, -2).flatten(-2)


def _behind(kept: NDArray[np.int8], own: torch.Tensor) -> torch.Tensor:
    """`[..., tokens, channels]` with the tokens of `kept` in front."""
    first = torch.from_numpy(kept).expand(*own.shape[:-2], *kept.shape)
    return torch.cat((first, own), -2)


def softmax_block(
    scores: torch.Tensor,
    seen: torch.Tensor,
    maximum: torch.Tensor,
    total: torch.Tensor,
    entries: int,
    built: Built = EXACT,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """One block of keys of the online softmax.

    Args:
        scores: Integers of 16 bits in 1/32 octave, of any type, `[..., rows, keys]`.
        seen: Whether a row looks at a key, `[rows, keys]`.
        maximum: Running maximum in octaves or `EMPTY`, int64 `[..., rows]`.
        total: Running sum, int64 `[..., rows]`.
        entries: Of the exponential's table.
        built: Of the core's units.

    Returns:
        Unnormalised probabilities, float32 `[..., rows, keys]`, the new maximum and total, and by
        how many bits what was summed before is shifted, `[..., rows]`.
    """
    all_seen = bool(seen.all())
    shown = scores if all_seen else scores.masked_fill(~seen, EMPTY)
    octaves = (shown.amax(-1).long() + tables.OCTAVE - 1) >> 5
    best = torch.where(seen.any(-1), torch.maximum(octaves, maximum), maximum)
    alpha = (best - maximum).clamp(max=31).masked_fill(maximum == EMPTY, 0)
    # An unseen key may lie above the maximum; its probability is taken away below.
    distance = ((best[..., None] << 5) - scores).clamp_(min=0)
    values = exponential(distance, entries, built)
    if not all_seen:
        values = values.masked_fill(~seen, 0)
    return values, best, (total >> alpha) + values.sum(-1).long(), alpha


def exponential(distance: torch.Tensor, entries: int, built: Built = EXACT) -> torch.Tensor:
    """127 * 2^(-distance / 32), rounded, by a table of `entries` over one octave; float32."""
    table, rows = _shipped_exponential(entries), distance.clamp(max=16 * tables.OCTAVE - 1).int()
    if "exponential" in built:
        table = torch.from_numpy(built["exponential"]).float()
        wide = distance.long()
        fraction, octave = wide & (tables.OCTAVE - 1), (wide >> 5).clamp(max=15)
        rows = (octave * tables.OCTAVE + fraction).int()
    return table.index_select(0, rows.flatten()).reshape(distance.shape)


@lru_cache(maxsize=4)
def _shipped_exponential(entries: int) -> torch.Tensor:
    """By distance up to 16 octaves, where it is 0, float32 `[512]`."""
    distance = torch.arange(16 * tables.OCTAVE)
    fraction, octave = distance & (tables.OCTAVE - 1), distance >> 5
    entry = torch.from_numpy(tables.exponential(entries))[fraction // (tables.OCTAVE // entries)]
    return ((entry + ((torch.as_tensor(1) << octave) >> 1)) >> octave).float()


def divide(weighted: torch.Tensor, total: torch.Tensor, built: Built = EXACT) -> torch.Tensor:
    """Weighted sums over totals: int32 values -> int16 in 1/256; a total of 0 gives 0."""
    excess = bit_length(total) - 16
    r = reciprocal(_shift_by(total, excess).clamp(min=1 << 15), built)
    aligned = _shift_by(weighted, excess + 3).clamp(-(1 << 22), (1 << 22) - 1)
    return _to_int16(round_shift(aligned * r, 20)).masked_fill(total == 0, 0)
