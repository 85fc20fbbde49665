"""Every operator of a pruned Idefics3 model in integers: scales from calibration, then constants.

Residual streams are int16 with one scale for the vision tower and one for the decoder, where image
tokens and words meet. What the array multiplies is int8.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwlib.reference.tables import OCTAVE
from hwlib.reference.vector import ROTARY_BITS, SHIFT_MAX
from swopt.compiler import host
from swopt.compiler.calibration import Seen, rotary_table
from swopt.compiler.clipping import clipped_range
from swopt.compiler.factors import requantizers
from swopt.compiler.host import Host
from swopt.compiler.network import (
    Activate,
    ActivationBits,
    Add,
    Attention,
    Concatenate,
    Gate,
    Input,
    Int16s,
    Int32s,
    Int64s,
    Linear,
    LinearOutput,
    Network,
    Norm,
    Operator,
    Rotate,
    Scale,
    Shuffle,
)
from swopt.compiler.ranges import Range
from swopt.techniques.quantization import EmbeddingBits
from swopt.techniques.rounding import QuantizedWeight, Steps
from swopt.workloads.regridding import grid_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HEADROOM = 2.0
"""An int16 tensor reaches this many times as far as the largest magnitude seen."""

ACTIVATION_STEP = 1 / 64
"""What one step of the input of GELU and SiLU is worth."""

QUOTIENT_STEP = 1 / 256
"""What one step of an activation's or a division's result is worth."""

LOGIT_BITS = 24
"""Bits that the largest logit seen takes, its sign among them."""

FACTOR_MAX = 2.0**15 - 1
"""What one step of a sum can be worth in steps of what a requantizer makes of it."""

NORM_STEPS = 1024
"""One deviation after the first pass of a norm over a power of two of channels."""

EPSILON_MAX = (1 << 32) - 1

NO_RANGES: Mapping[str, Range] = MappingProxyType({})
"""Steps reach as far as calibration saw."""


def integerize(
    model: Any,
    layers: Mapping[str, torch.nn.Linear],
    weights: Mapping[str, QuantizedWeight],
    seen: Seen,
    tokenizer: "Tokenizer",
    attention_block: int,
    exponential_entries: int,
    activation_bits: ActivationBits = 8,
    embedding_bits: EmbeddingBits = 16,
) -> tuple[Network, Host, Mapping[str, Steps]]:
    """The model as integer operators, what the host computes before them, and its tensors' steps.

    A tensor is named after the layer that makes it; `vision` and `decoder` are the streams.

    Args:
        model: `Idefics3ForConditionalGeneration`, already pruned; it is not changed.
        layers: Its linear layers, under the names of the unpruned model.
        weights: Their quantized weights by name.
        seen: What `calibration.observe` saw.
        tokenizer: Of the model.
        attention_block: Keys of one block of the online softmax: 1 or more, for the core even.
        exponential_entries: Entries of the exponential's table: 4, 8, 16 or 32.
        activation_bits: With 4, a tensor that linear layers read has 4 bits if the weights of all
            of them have 4 or fewer; every other one has 8.
        embedding_bits: That the host keeps words in.

    Raises:
        ValueError: A constant does not fit the core's fields.
    """
    vision, text = model.model.vision_model, model.model.text_model
    image, language = (_int16_steps(seen.streams[name]) for name in ("vision", "decoder"))
    writer = _Writer(layers, weights, seen, activation_bits)

    writer.put(Input("patches", "patches", vision.config.hidden_size), image)
    writer.put(Input("positions", "positions", vision.config.hidden_size), image)
    writer.put(Add("patches", "positions", "vision"), image)
    for name, block in _named_blocks(vision.encoder.layers, layers):
        _vision_block(writer, name, block)

    x = writer.norm(vision.post_layernorm, "vision", "vision.norm", "connector")
    x = writer.put(Shuffle(x, "shuffled", grid_of(model).joined), writer.steps[x])
    x = writer.linear("connector", x, "int16", language)
    writer.put(Input("words", "words", text.config.hidden_size), language)
    writer.put(Concatenate(x, "words", "decoder"), language)
    for name, block in _named_blocks(text.layers, layers):
        _decoder_block(writer, name, block, rotary_table(text))

    network = _with_head(writer, text, weights, attention_block, exponential_entries)
    made = host.build(model, image.size, language.size, tokenizer, embedding_bits)
    return network, made, writer.steps


def integerize_block(
    name: str,
    block: Any,
    layers: Mapping[str, torch.nn.Linear],
    weights: Mapping[str, QuantizedWeight],
    seen: Seen,
    rotary: tuple[torch.Tensor, torch.Tensor] | None,
    attention_block: int,
    exponential_entries: int,
    activation_bits: ActivationBits = 8,
) -> tuple[Network, float]:
    """One block alone: its stream comes in as `words`, and is what is left at the end.

    Args:
        name: `vision.0` of an encoder block of SigLIP, `decoder.0` of one of Llama; up to the
            point is the name of the stream.
        block: As transformers builds it.
        layers, weights: Its linear layers and what they were quantized to, by name.
        seen: What `calibration.watch` saw.
        rotary: `calibration.rotary_table`, for a decoder block.
        attention_block, exponential_entries, activation_bits: As for `integerize`.

    Returns:
        The network, which has no logits, and what one step of the stream is worth.

    Raises:
        ValueError: A constant does not fit the core's fields.
    """
    stream = name.split(".")[0]
    steps = _int16_steps(seen.streams[stream])
    writer = _Writer(layers, weights, seen, activation_bits)
    channels = layers[f"{name}.attention.query"].in_features
    writer.put(Input(stream, "words", channels), steps)
    if rotary is None:
        _vision_block(writer, name, block)
    else:
        _decoder_block(writer, name, block, rotary)
    return Network(tuple(writer.operators), attention_block, exponential_entries), steps.size


def integerize_decoder(
    model: Any,
    layers: Mapping[str, torch.nn.Linear],
    weights: Mapping[str, QuantizedWeight],
    seen: Seen,
    attention_block: int,
    exponential_entries: int,
    activation_bits: ActivationBits = 8,
    ranges: Mapping[str, Range] = NO_RANGES,
) -> tuple[Network, Mapping[str, Steps]]:
    """A causal language model without images: its words' embeddings come in as `words`.

    Args:
        model: `LlamaForCausalLM` or a like one; it is not changed.
        layers, weights, seen, attention_block, exponential_entries, activation_bits: As for
            `integerize`.
        ranges: How far the steps of what some layers read reach, by layer; those of others reach as
            far as calibration saw.

    Returns:
        The network, and the steps of each of its tensors.

    Raises:
        ValueError: A constant does not fit the core's fields.
    """
    text = model.model
    language = _int16_steps(seen.streams["decoder"])
    writer = _Writer(layers, weights, seen, activation_bits, ranges)
    writer.put(Input("decoder", "words", text.config.hidden_size), language)
    for name, block in _named_blocks(text.layers, layers):
        _decoder_block(writer, name, block, rotary_table(text))
    network = _with_head(writer, text, weights, attention_block, exponential_entries)
    return network, writer.steps


def steps_read(network: Network, steps: Mapping[str, Steps]) -> dict[str, Steps]:
    """The steps of what each linear layer reads, by layer name.

    Args:
        network: Whose layers.
        steps: Of each of its tensors.
    """
    return {op.name: steps[op.x] for op in network.operators if isinstance(op, Linear)}


def _with_head(
    writer: "_Writer",
    text: Any,
    weights: Mapping[str, QuantizedWeight],
    attention_block: int,
    exponential_entries: int,
) -> Network:
    """The whole network: what is written so far, the last norm and the head."""
    x = writer.norm(text.norm, "decoder", "decoder.norm", "head")
    logit = _logit_steps(writer.seen, writer.steps[x].size * weights["head"].scale)
    x = writer.linear("head", x, "logits", logit)
    return Network(tuple(writer.operators), attention_block, exponential_entries, x, logit.size)


@dataclass
class _Writer:
    """Writes operators one after the other and knows the steps of each tensor."""

    layers: Mapping[str, torch.nn.Linear]
    weights: Mapping[str, QuantizedWeight]
    seen: Seen
    activation_bits: ActivationBits
    ranges: Mapping[str, Range] = field(default_factory=lambda: NO_RANGES)
    operators: list[Operator] = field(default_factory=list)
    steps: dict[str, Steps] = field(default_factory=dict)

    def put(self, operator: Operator, steps: Steps) -> str:
        """Adds an operator; the name of its result."""
        self.operators.append(operator)
        self.steps[operator.y] = steps
        return operator.y

    def read_by(self, *layers: str) -> Steps:
        """Of a tensor that the linear layers `layers`, and they alone, read."""
        seen = self.seen.layers[layers[0]]
        if self.activation_bits == 8 or any(self.weights[name].product_bits > 4 for name in layers):
            return Steps(*self.ranges.get(layers[0], seen.inputs).quantizer())
        return Steps(*clipped_range(seen, 4).quantizer(4), 4)

    def made_by(self, layer: str) -> float:
        """Largest magnitude that `layer` made."""
        return _largest(self.seen.layers[layer].outputs)

    def norm(self, module: Any, x: str, y: str, *readers: str) -> str:
        """A LayerNorm or RMSNorm whose result the linear layers `readers` read."""
        steps = self.read_by(*readers)
        return self.put(norm(module, x, y, self.steps[x], steps), steps)

    def linear(self, name: str, x: str, output: LinearOutput, steps: Steps) -> str:
        """A layer whose result is named like itself."""
        return self.put(self._linear(name, x, name, output, steps), steps)

    def residual(self, name: str, x: str, stream: str) -> None:
        """A layer whose result is added to a stream."""
        steps = self.steps[stream]
        self.put(self._linear(name, x, stream, "residual", steps), steps)

    def _linear(self, name: str, x: str, y: str, output: LinearOutput, steps: Steps) -> Linear:
        layer, weight, source = self.layers[name], self.weights[name], self.steps[x]
        sum_steps = source.size * weight.scale
        bias = np.zeros(len(weight.values))
        if layer.bias is not None:
            bias = layer.bias.detach().double().numpy()
        multiplier, shift = requantizers(sum_steps / steps.size)
        return Linear(
            name=name,
            x=x,
            y=y,
            weight=weight.values,
            bias=_bias(name, bias / sum_steps, source.zero, weight.values),
            multiplier=multiplier,
            shift=shift,
            zero=steps.zero,
            output=output,
            weight_bits=weight.bits,
            across=name.endswith(".attention.value"),
            activation_bits=source.bits,
            groups=weight.groups,
        )

    def attention(self, block: str, qkv: tuple[str, str, str], shape: "_Heads") -> str:
        """Softmax attention whose result the block's output layer reads."""
        q, k, v = qkv
        steps = self.read_by(f"{block}.attention.output")
        octave = OCTAVE * math.log2(math.e) / math.sqrt(shape.head_dim)
        operator = Attention(
            q=q,
            k=k,
            v=v,
            y=f"{block}.attention.heads",
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            causal=shape.causal,
            score=_scale(octave * self.steps[q].size * self.steps[k].size),
            scale=_scale(QUOTIENT_STEP * self.steps[v].size / steps.size, steps.zero),
            bits=steps.bits,
        )
        return self.put(operator, steps)


@dataclass(frozen=True)
class _Heads:
    heads: int
    kv_heads: int
    head_dim: int
    causal: bool


def _heads(writer: _Writer, block: Any, query: str, key: str, causal: bool) -> _Heads:
    """The heads that are left in a block's attention."""
    size = block.self_attn.head_dim
    heads, kv_heads = (writer.layers[name].out_features // size for name in (query, key))
    return _Heads(heads, kv_heads, size, causal)


def _vision_block(writer: _Writer, name: str, block: Any) -> None:
    attention, mlp = f"{name}.attention", f"{name}.mlp"
    query, key, value = (f"{attention}.{part}" for part in ("query", "key", "value"))
    x = writer.norm(block.layer_norm1, "vision", f"{attention}.norm", query, key, value)
    for layer in (query, key, value):
        writer.linear(layer, x, "int8", _symmetric_steps(writer.made_by(layer)))
    shape = _heads(writer, block, query, key, causal=False)
    x = writer.attention(name, (query, key, value), shape)
    writer.residual(f"{attention}.output", x, "vision")

    x = writer.norm(block.layer_norm2, "vision", f"{mlp}.norm", f"{mlp}.up")
    x = writer.linear(f"{mlp}.up", x, "int16", Steps(ACTIVATION_STEP))
    steps = writer.read_by(f"{mlp}.down")
    scale = _scale(QUOTIENT_STEP / steps.size, steps.zero)
    x = writer.put(Activate(x, f"{mlp}.gelu", "gelu", scale, steps.bits), steps)
    writer.residual(f"{mlp}.down", x, "vision")


def _decoder_block(
    writer: _Writer, name: str, block: Any, table: tuple[torch.Tensor, torch.Tensor]
) -> None:
    attention, mlp = f"{name}.attention", f"{name}.mlp"
    query, key, value = (f"{attention}.{part}" for part in ("query", "key", "value"))
    shape = _heads(writer, block, query, key, causal=True)
    cosine, sine = (host.to_int16(part.numpy() * 2**ROTARY_BITS) for part in table)
    x = writer.norm(block.input_layernorm, "decoder", f"{attention}.norm", query, key, value)
    for layer, heads in ((query, shape.heads), (key, shape.kv_heads)):
        turned = writer.seen.rotated[layer]
        before = _int16_steps(max(writer.made_by(layer), turned))
        after = _symmetric_steps(turned)
        writer.linear(layer, x, "int16", before)
        scale = _scale(before.size / after.size)
        rotated = f"{layer}.rotated"
        writer.put(Rotate(layer, rotated, heads, shape.head_dim, cosine, sine, scale), after)
    writer.linear(value, x, "int8", _symmetric_steps(writer.made_by(value)))
    x = writer.attention(name, (f"{query}.rotated", f"{key}.rotated", value), shape)
    writer.residual(f"{attention}.output", x, "decoder")

    readers = (f"{mlp}.gate", f"{mlp}.up")
    x = writer.norm(block.post_attention_layernorm, "decoder", f"{mlp}.norm", *readers)
    up_steps = _int16_steps(writer.made_by(f"{mlp}.up"))
    gate = writer.linear(f"{mlp}.gate", x, "int16", Steps(ACTIVATION_STEP))
    up = writer.linear(f"{mlp}.up", x, "int16", up_steps)
    steps, product = writer.read_by(f"{mlp}.down"), QUOTIENT_STEP * up_steps.size
    gate_shift = _gate_shift(_largest(writer.seen.layers[f"{mlp}.down"].inputs) / product)
    scale = _scale(product * 2**gate_shift / steps.size, steps.zero)
    x = writer.put(Gate(gate, up, f"{mlp}.product", gate_shift, scale, steps.bits), steps)
    writer.residual(f"{mlp}.down", x, "decoder")


def _gate_shift(largest: float) -> int:
    """The smallest shift, at least 1, after which a product of `largest` steps has its headroom."""
    return max(1, math.ceil(math.log2(max(HEADROOM * largest / (2**15 - 1), 1.0))))


def norm(module: Any, x: str, y: str, source: Steps, target: Steps) -> Norm:
    """A norm in integers, whose first pass gives deviations times NORM_STEPS 2^power / count.

    Args:
        module: LayerNorm, or an RMSNorm of transformers.
        x, y: Names of its input and output.
        source, target: Their steps; the input's zero is 0.

    Raises:
        ValueError: Weight and bias are too large for the steps of the output.
    """
    centred = isinstance(module, torch.nn.LayerNorm)
    gamma = module.weight.detach().double().numpy()
    count = len(gamma)
    beta = module.bias.detach().double().numpy() if centred else np.zeros(count)
    power = count.bit_length() - 1
    mean = _scale(16 / count)
    epsilon = module.eps if centred else module.variance_epsilon
    integers = affine(gamma * (count / 2**power) / NORM_STEPS / target.size, beta / target.size)
    return Norm(
        x=x,
        y=y,
        gamma=integers[0],
        beta=integers[1],
        shift=integers[2],
        multiplier=mean.multiplier,
        mean_shift=mean.shift,
        epsilon=min(max(round(epsilon * (count / source.size) ** 2), 1), EPSILON_MAX),
        base=9 - power,
        centred=centred,
        zero=target.zero,
        bits=target.bits,
    )


def affine(gamma: NDArray[np.float64], beta: NDArray[np.float64]) -> tuple[Int16s, Int32s, Int64s]:
    """Integer gamma and beta, and the shift that undoes them, of each channel.

    The shift is the largest of 1..47 that leaves one bit free in int16 and in int32.

    Args:
        gamma: `[channels]`, steps of the result for one of z.
        beta: `[channels]`, in steps of the result.

    Raises:
        ValueError: One is too large at a shift of 1.
    """
    gamma_bits, beta_bits = (np.frexp(values)[1].astype(np.int64) for values in (gamma, beta))
    shift = np.full(len(gamma), SHIFT_MAX)
    shift = np.where(gamma == 0, shift, np.minimum(shift, 14 - gamma_bits))
    shift = np.where(beta == 0, shift, np.minimum(shift, 30 - beta_bits))
    if shift.min() < 1:
        worst = int(shift.argmin())
        raise ValueError(
            f"gamma {gamma[worst]:g} and beta {beta[worst]:g} of a norm do not fit 16 and 32 bits"
        )
    return (
        np.rint(np.ldexp(gamma, shift)).astype(np.int16),
        np.rint(np.ldexp(beta, shift)).astype(np.int32),
        shift,
    )


def _scale(factor: float, zero: int = 0) -> Scale:
    """The requantizer nearest to `factor`."""
    multiplier, shift = requantizers(np.array([factor]))
    return Scale(int(multiplier[0]), int(shift[0]), zero)


def _bias(name: str, bias: NDArray[np.float64], zero: int, weight: NDArray[np.int8]) -> Int32s:
    whole = np.rint(bias).astype(np.int64) - zero * weight.astype(np.int64).sum(1)
    wrapped: Int32s = whole.astype(np.int32)
    if not np.array_equal(wrapped, whole):
        raise ValueError(
            f"a bias of {np.abs(whole).max()} steps in {name} does not fit 32 bits; "
            "the layer's weights are too small for its bias"
        )
    return wrapped


def _logit_steps(seen: Seen, sum_steps: NDArray[np.float64]) -> Steps:
    """Steps of the logits: as fine as `LOGIT_BITS` allows, and the requantizer of each channel.

    Args:
        seen: Of the head.
        sum_steps: What one step of its sums is worth, `[outputs]`.
    """
    finest = _largest(seen.layers["head"].outputs) / 2 ** (LOGIT_BITS - 1)
    return Steps(max(finest, float(sum_steps.max()) / FACTOR_MAX))


def _largest(seen: Range) -> float:
    return max(-seen.low, seen.high)


def _int16_steps(largest: float) -> Steps:
    return Steps(HEADROOM * largest / (2**15 - 1) or 1.0)


def _symmetric_steps(largest: float) -> Steps:
    return Steps(largest / 127 or 1.0)


def _named_blocks(
    blocks: torch.nn.ModuleList, layers: Mapping[str, torch.nn.Linear]
) -> list[tuple[str, Any]]:
    """The blocks that are left, under the names that they had before pruning."""
    names = {layer: name for name, layer in layers.items()}
    parts: list[Any] = list(blocks)
    return [(".".join(names[b.self_attn.q_proj].split(".")[:2]), b) for b in parts]
