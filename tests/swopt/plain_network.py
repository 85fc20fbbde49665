"""Models of random integers, and what they compute without a core: whole tensors in plain numpy."""

import collections.abc
from dataclasses import replace

import numpy as np

from hwlib.reference import softmax, vector
from swopt.compiler import network as net
from swopt.compiler.host import Inputs
from swopt.compiler.lowering import LoweringError
from swopt.compiler.mapping import Mapping, cut_points
from swopt.compiler.memory_map import place
from swopt.compiler.passes import Pass, check_pass
from swopt.techniques.rounding import Groups, most_factor


def evaluate(network: net.Network, inputs: Inputs) -> list[np.ndarray]:
    """What each operator makes or adds to, `[tokens, channels]`, in the order of operators."""
    tensors: dict[str, np.ndarray] = {}
    made = []
    for operator in network.operators:
        tensors[operator.y] = _result(operator, tensors, inputs, network)
        made.append(tensors[operator.y])
    return made


def _result(
    operator: net.Operator,
    tensors: collections.abc.Mapping[str, np.ndarray],
    inputs: Inputs,
    network: net.Network,
) -> np.ndarray:
    match operator:
        case net.Input():
            return inputs.of(operator.source)
        case net.Add():
            return vector.add(tensors[operator.a], tensors[operator.b])
        case net.Concatenate():
            return np.concatenate([tensors[operator.first], tensors[operator.second]])
        case net.Norm():
            return _norm(operator, tensors[operator.x])
        case net.Linear():
            return _linear(operator, tensors)
        case net.Activate():
            y = vector.activate(tensors[operator.x], operator.function)
            return _scale(y, operator.scale, operator.bits)
        case net.Gate():
            x, up = tensors[operator.x], tensors[operator.up]
            y = vector.gate(x, up, operator.gate_shift)
            return _scale(y, operator.scale, operator.bits)
        case net.Rotate():
            return _rotate(operator, tensors[operator.x])
        case net.Attention():
            return _attention(operator, tensors, network)
        case net.Shuffle():
            x = tensors[operator.x]
            squares = operator.joined
            parts = x.reshape(squares, len(x) // squares, -1)
            return np.concatenate(list(parts), axis=1)


def _scale(value: np.ndarray, scale: net.Scale, bits: int = 8) -> np.ndarray:
    product = value.astype(np.int64) * scale.multiplier
    return vector.saturate(vector.round_shift(product, scale.shift) + scale.zero, bits)


def _norm(operator: net.Norm, x: np.ndarray) -> np.ndarray:
    statistics = vector.norm_statistics(
        x.T,
        operator.multiplier,
        operator.mean_shift,
        operator.epsilon,
        operator.base,
        operator.centred,
    )
    z = vector.normalize(x.T, *statistics)
    product = z.T * operator.gamma.astype(np.int64) + operator.beta
    whole = vector.round_shift(product, operator.shift) + operator.zero
    return vector.saturate(whole, operator.bits)


def _linear(operator: net.Linear, tensors: collections.abc.Mapping[str, np.ndarray]) -> np.ndarray:
    x = tensors[operator.x].astype(np.int64)
    if operator.output == "logits":
        x = x[-1:]
    sums = x @ operator.weight.astype(np.int64).T + operator.bias
    wrapped = sums.astype(np.int32).astype(np.int64)
    scaled = vector.round_shift(wrapped * operator.multiplier, operator.shift)
    match operator.output:
        case "int8":
            return vector.saturate(scaled + operator.zero, 8)
        case "int16":
            return vector.saturate(scaled, 16)
        case "residual":
            return vector.add(tensors[operator.y], vector.saturate(scaled, 16))
        case "logits":
            return vector.saturate(scaled, 32)


def _rotate(operator: net.Rotate, x: np.ndarray) -> np.ndarray:
    heads = x.reshape(len(x), operator.heads, 2, operator.head_dim // 2)
    cosine, sine = (table[: len(x), None] for table in (operator.cosine, operator.sine))
    first, second = vector.rotate(heads[:, :, 0], heads[:, :, 1], cosine, sine)
    return _scale(np.stack([first, second], axis=2).reshape(x.shape), operator.scale)


def _attention(
    operator: net.Attention, tensors: collections.abc.Mapping[str, np.ndarray], network: net.Network
) -> np.ndarray:
    dim = operator.head_dim
    tokens = len(tensors[operator.q])
    heads = []
    for head in range(operator.heads):
        kv = head * operator.kv_heads // operator.heads
        q = tensors[operator.q][:, head * dim : (head + 1) * dim].astype(np.int64)
        k = tensors[operator.k][:, kv * dim : (kv + 1) * dim].astype(np.int64)
        v = tensors[operator.v][:, kv * dim : (kv + 1) * dim].astype(np.int64)
        products = k @ q.T  # [keys, queries]
        scores = vector.saturate(
            vector.round_shift(products * operator.score.multiplier, operator.score.shift), 16
        )
        key, query = np.indices(scores.shape)
        seen = key <= query if operator.causal else np.ones(scores.shape, bool)
        state = softmax.empty((tokens,))
        weighted = np.zeros((dim, tokens), np.int64)
        for start in range(0, tokens, network.attention_block):
            span = slice(start, start + network.attention_block)
            p, state = softmax.block(scores[span], seen[span], state, network.exponential_entries)
            weighted = softmax.accumulate(weighted, v[span].T @ p, state.alpha)
        quotient = softmax.divide(weighted, state.total)
        heads.append(_scale(quotient, operator.scale, operator.bits).T)
    return np.concatenate(heads, axis=1)


class Drawer:
    """Operators with random integers whose results neither vanish nor mostly saturate."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def tensor(self, tokens: int, channels: int, size: int = 2000) -> np.ndarray:
        """int16, mostly within `size`, some at the ends."""
        drawn = np.rint(self.rng.normal(0, size, (tokens, channels)))
        ends = self.rng.random(drawn.shape) < 0.01
        return np.where(ends, self.rng.choice([-32768, 32767], drawn.shape), drawn).astype(np.int16)

    def scale(self, factor: float, zero: int = 0) -> net.Scale:
        """The requantizer nearest to a factor."""
        shift = int(np.floor(np.log2(65535 / factor)))
        return net.Scale(int(factor * 2**shift), shift, zero)

    def norm(self, x: str, y: str, channels: int, centred: bool = True) -> net.Norm:
        multiplier, shift = int((1 << 18) / channels), 14
        return net.Norm(
            x=x,
            y=y,
            gamma=self.rng.integers(-32768, 32768, channels).astype(np.int16),
            beta=self.rng.integers(-(1 << 24), 1 << 24, channels).astype(np.int32),
            shift=self.rng.integers(19, 22, channels),
            multiplier=multiplier,
            mean_shift=shift,
            epsilon=int(self.rng.integers(1, 1000)),
            base=int(np.ceil(7 - np.log2(channels) + 3)),
            centred=centred,
            zero=int(self.rng.integers(-20, 20)),
        )

    def linear(
        self,
        x: str,
        y: str,
        inputs: int,
        outputs: int,
        output: net.LinearOutput = "int8",
        weight_bits: int = 8,
        across: bool = False,
    ) -> net.Linear:
        low = -(1 << (weight_bits - 1))
        spread = 70 * np.sqrt(inputs) * max(1.0, -low / np.sqrt(3))
        wanted = {"int8": 40, "int16": 300, "residual": 300, "logits": 1e5}[output]
        scale = self.scale(wanted / spread)
        return net.Linear(
            name=f"{y} from {x}",
            x=x,
            y=y,
            weight=self.rng.integers(low, -low, (outputs, inputs)).astype(np.int8),
            bias=self.rng.integers(-int(spread), int(spread), outputs).astype(np.int32),
            multiplier=(scale.multiplier * self.rng.uniform(0.5, 1, outputs)).astype(np.int64),
            shift=np.full(outputs, scale.shift) - self.rng.integers(0, 2, outputs),
            zero=int(self.rng.integers(-10, 10)) if output == "int8" else 0,
            output=output,
            weight_bits=weight_bits,
            across=across,
        )

    def rotate(self, x: str, y: str, heads: int, head_dim: int, positions: int) -> net.Rotate:
        angle = self.rng.uniform(0, 2 * np.pi, (positions, head_dim // 2))
        cosine, sine = (np.rint(f(angle) * 16384).astype(np.int16) for f in (np.cos, np.sin))
        return net.Rotate(x, y, heads, head_dim, cosine, sine, self.scale(40 / 300))

    def attention(
        self, q: str, k: str, v: str, y: str, heads: int, kv_heads: int, dim: int, causal: bool
    ) -> net.Attention:
        score, scale = self.scale(80 / (1600 * dim**0.5)), self.scale(1 / 128, zero=3)
        return net.Attention(q, k, v, y, heads, kv_heads, dim, causal, score, scale)

    def block(self, stream: str, name: str, heads: int, dim: int) -> list[net.Operator]:
        """Norm and attention over a stream, added to it, in the manner of a vision tower."""
        width = heads * dim
        q, k, v, y = (f"{name}.{part}" for part in ("q", "k", "v", "attention"))
        x = f"{name}.normed"
        return [
            self.norm(stream, x, width),
            self.linear(x, q, width, width),
            self.linear(x, k, width, width),
            self.linear(x, v, width, width, across=True),
            self.attention(q, k, v, y, heads, heads, dim, causal=False),
            self.linear(y, stream, width, width, "residual"),
        ]


def tiny_model(seed: int, vision_heads: int = 2) -> net.Network:
    """Every operator once or more, in the manner of a vision tower, a connector and a decoder."""
    d = Drawer(seed)
    width, heads, kv_heads, dim, hidden, words = 24, 4, 2, 8, 20, 40
    operators: list[net.Operator] = [
        net.Input("patches", "patches", 12),
        net.Input("positions", "positions", 12),
        net.Add("patches", "positions", "image"),
        *d.block("image", "vision", heads=vision_heads, dim=12 // vision_heads),
        d.norm("image", "image.normed", 12),
        d.linear("image.normed", "image.up", 12, hidden, "int16"),
        net.Activate("image.up", "image.hidden", "gelu", d.scale(1 / 10, zero=-5)),
        d.linear("image.hidden", "image", hidden, 12, "residual"),
        d.norm("image", "image.last", 12),
        net.Shuffle("image.last", "image.squares", 4),
        d.linear("image.squares", "image.tokens", 48, width, "int16", weight_bits=4),
        net.Input("words", "words", width),
        net.Concatenate("image.tokens", "words", "stream"),
        d.norm("stream", "normed", width, centred=False),
        d.linear("normed", "q", width, heads * dim, "int16", weight_bits=2),
        d.linear("normed", "k", width, kv_heads * dim, "int16"),
        d.linear("normed", "v", width, kv_heads * dim, across=True),
        d.rotate("q", "q.rotated", heads, dim, 64),
        d.rotate("k", "k.rotated", kv_heads, dim, 64),
        d.attention("q.rotated", "k.rotated", "v", "attended", heads, kv_heads, dim, causal=True),
        d.linear("attended", "stream", heads * dim, width, "residual"),
        d.norm("stream", "normed.again", width, centred=False),
        d.linear("normed.again", "gate", width, hidden, "int16"),
        d.linear("normed.again", "up", width, hidden, "int16"),
        net.Gate("gate", "up", "hidden", 8, d.scale(40 / 1500)),
        d.linear("hidden", "stream", hidden, width, "residual"),
        d.norm("stream", "last", width, centred=False),
        d.linear("last", "logits", width, words, "logits"),
    ]
    return net.Network(tuple(operators), 8, 16, "logits", 1e-4)


def few_bit_weights(model: net.Network, bits: int = 4) -> net.Network:
    """The model with weights of at most so many bits, whose sums are as large as before."""

    def narrow(operator: net.Operator) -> net.Operator:
        if not isinstance(operator, net.Linear) or operator.weight_bits <= bits:
            return operator
        shift = operator.shift - (operator.weight_bits - bits)
        weight = (operator.weight >> (operator.weight_bits - bits)).astype(np.int8)
        return replace(operator, weight=weight, weight_bits=bits, shift=shift)

    return replace(model, operators=tuple(narrow(operator) for operator in model.operators))


def grouped(model: net.Network, inputs: int, seed: int = 0) -> net.Network:
    """The model with weights of at most 4 bits in groups, whose sums are about as large."""
    rng = np.random.default_rng(seed)

    def scaled(operator: net.Operator) -> net.Operator:
        if not isinstance(operator, net.Linear) or operator.weight_bits > 4:
            return operator
        outputs, length = operator.weight.shape
        most = most_factor(operator.weight_bits)
        factors = rng.integers(1, most + 1, (outputs, -(-length // inputs))).astype(np.uint8)
        groups = Groups(inputs, factors)
        return replace(
            operator,
            weight=operator.weight * groups.spread(length),
            shift=operator.shift + most.bit_length() - 2,
            groups=groups,
        )

    return replace(model, operators=tuple(scaled(operator) for operator in model.operators))


def random_mapping(model: net.Network, inputs: Inputs, rows: int, seed: int) -> Mapping:
    """Lawful passes of random cuts, sizes of blocks, and blocks under way."""
    rng = np.random.default_rng(seed)
    placed = place(model, inputs, rows)
    cuts, passes = [*cut_points(model), len(model.operators)], []
    while len(cuts) > 1:
        end = int(rng.integers(1, min(4, len(cuts))))
        taken = Pass(cuts[0], cuts[end], int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        try:
            check_pass(model, taken, placed)
        except LoweringError:
            taken = Pass(cuts[0], cuts[1], 1 << 16)
        passes.append(taken)
        cuts = cuts[cuts.index(taken.end) :]
    return Mapping(tuple(passes))


def narrowed(model: net.Network) -> net.Network:
    """The model with 4 bits before linear layers, steps 4 times as large: much saturates."""
    return replace(model, operators=tuple(_narrow(operator) for operator in model.operators))


def _narrow(operator: net.Operator) -> net.Operator:
    match operator:
        case net.Norm():
            zero = operator.zero // 3
            return replace(operator, shift=operator.shift + 2, zero=zero, bits=4)
        case net.Activate() | net.Gate() | net.Attention():
            scale = replace(operator.scale, shift=operator.scale.shift + 2)
            return replace(operator, scale=scale, bits=4)
        case net.Linear():
            return replace(operator, shift=operator.shift - 2, activation_bits=4)
    return operator


def tiny_inputs(seed: int, words: int) -> Inputs:
    """Inputs of `tiny_model`."""
    d = Drawer(seed)
    return Inputs(d.tensor(64, 12), d.tensor(64, 12, 500), d.tensor(words, 24))


def brought(**tensors: np.ndarray) -> Inputs:
    """Inputs by their source; what a model does not ask for may be left out."""
    nothing = np.zeros((0, 1), np.int16)
    return Inputs(**dict.fromkeys(("patches", "positions", "words"), nothing) | tensors)
