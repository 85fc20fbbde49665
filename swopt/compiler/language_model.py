"""A causal language model of the Llama family wholly in integers: written down, ready to score.

The same operators as the decoder of an image-and-text model, with words alone before them
(`swopt.compiler.integerize`). What the host looks up are the embeddings.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hwlib.config import CoreConfig
from swopt.compiler import calibration, host, integerize, twin
from swopt.compiler.calibration import Seen, Stream
from swopt.compiler.host import Inputs
from swopt.compiler.network import Int16s, Network
from swopt.compiler.prefix import Prefix, with_prefix
from swopt.compiler.ranges import Range
from swopt.techniques import compensation, quantization, rounding
from swopt.techniques.attention import AttentionKnobs
from swopt.techniques.quantization import (
    EmbeddingBits,
    Moments,
    QuantizationKnobs,
    WeightBits,
    is_compensated,
)
from swopt.techniques.rounding import QuantizedWeight, Steps

ATTENTION_BLOCK = AttentionKnobs().block


class Answer(NamedTuple):
    """What a call gives, as transformers' causal language models do."""

    logits: torch.Tensor
    """float32 `[1, tokens, vocabulary]`."""


@dataclass(frozen=True)
class IntegerLanguageModel:
    """What quantization leaves of a language model.

    Attributes:
        network: What the core computes.
        words: Embeddings in steps of the stream, int16 `[vocabulary, channels]`.
        embedding_bits: That a channel of a word is kept in.
    """

    network: Network
    words: Int16s
    embedding_bits: EmbeddingBits = 16

    @property
    def model_bytes(self) -> int:
        """Bytes of the packed weights of the linear layers, the head among them."""
        return self.network.weight_bytes

    def __call__(self, input_ids: torch.Tensor, use_cache: bool = False) -> Answer:
        """The logits of every token of one text, for `swopt.workloads.code.score`.

        Args:
            input_ids: int64 `[1, tokens]`.
            use_cache: Has to be false: every call reads its text from the start.
        """
        if use_cache or input_ids.shape[0] != 1:
            raise ValueError("an integer language model reads one text at a time, from its start")
        ids: NDArray[np.int64] = input_ids[0].numpy()
        steps = twin.token_logits(self.network, Inputs(words=self.words[ids]))
        return Answer((steps.double() * self.network.logit_scale).float()[None])


def linear_layers(model: Any) -> Mapping[str, torch.nn.Linear]:
    """The linear layers of a causal language model by name, in order of execution.

    Args:
        model: `LlamaForCausalLM` or a like one.
    """
    from swopt.workloads import tiny_vlm

    named: dict[str, torch.nn.Linear] = {}
    for index, block in enumerate(model.model.layers):
        named |= tiny_vlm.block_layers("decoder", index, block)
    return named | {"head": model.lm_head}


def observe(
    model: Any,
    ids: Sequence[torch.Tensor],
    prefix: Sequence[int] = (),
    layers: Mapping[str, torch.nn.Linear] | None = None,
) -> Seen:
    """What calibration shows of a float model; what it reads is not kept.

    Args:
        model: `LlamaForCausalLM` or a like one, in float32.
        ids: Texts, int64 `[tokens]` each.
        prefix: Tokens that stand in front of every text and that do not count.
        layers: Its linear layers by name; None for `linear_layers`.
    """
    first = torch.tensor(tuple(prefix), dtype=torch.long)
    text = model.model
    norms = tuple(part for part in text.modules() if type(part).__name__.endswith("RMSNorm"))
    stream = Stream(norms, embeddings=(text.embed_tokens.weight,))

    def calibrate() -> None:
        with torch.inference_mode():
            for each in ids:
                texts = torch.cat((first, each))[None]
                model(input_ids=texts, use_cache=False)

    layers = linear_layers(model) if layers is None else layers
    table, streams = calibration.rotary_table(text), {"decoder": stream}
    return calibration.watch_streamed(layers, streams, table, calibrate, len(first))


Remember = Callable[[str, Callable[[], QuantizedWeight]], QuantizedWeight]
"""Gives the weight that is stored under a key, or else makes and stores it."""


Teach = Callable[
    [Mapping[str, QuantizedWeight], Mapping[str, Steps]], Mapping[str, QuantizedWeight]
]
"""Gives taught weights for weights, knowing the steps of what each layer reads."""


def make_anew(key: str, make: Callable[[], QuantizedWeight]) -> QuantizedWeight:
    """A `Remember` that remembers nothing."""
    return make()


def integer_language_model(
    model: Any,
    seen: Seen,
    knobs: QuantizationKnobs,
    attention_block: int = ATTENTION_BLOCK,
    exponential_entries: int = CoreConfig().exponential_entries,
    on_layer: Callable[[str], None] = lambda name: None,
    *,
    layers: Mapping[str, torch.nn.Linear] | None = None,
    shared: Mapping[str, WeightBits] | None = None,
    prefix: Prefix | None = None,
    ranges: Mapping[str, Range] = integerize.NO_RANGES,
    moments: Moments = dict,
    remember: Remember = make_anew,
    teach: Teach | None = None,
) -> IntegerLanguageModel:
    """Quantizes a language model and writes it in integers.

    Args:
        model: `LlamaForCausalLM` or a like one, in float32; it is not changed.
        seen: What `observe` saw of it, behind the same prefix.
        knobs: Bits of weights and activations.
        attention_block: Keys of one block of the online softmax.
        exponential_entries: Entries of the exponential's table: 4, 8, 16 or 32.
        on_layer: Told each layer as it is quantized.
        layers: Its linear layers by name; None for `linear_layers`, which names those of a pruned
            model otherwise than they were named before.
        shared: What `mean_bits` gave to layers.
        prefix: What stands in front of every text; None for nothing.
        ranges: How far the steps of what some layers read reach, by layer.
        moments: Gives the moments of what each layer reads, where `knobs` round by them.
        remember: Where quantized weights are kept, under a hash of all that they depend on.
        teach: Teaches the model behind its rounding.

    Raises:
        ValueError: A constant does not fit the core's fields, or `mean_bits` was not shared out.
    """
    if shared is None and knobs.mean_bits != QuantizationKnobs().mean_bits:
        raise ValueError(
            "mean_bits is shared out by sensitivities; use "
            "swopt.compiler.compressed_language_model, or name bits by level"
        )
    layers = linear_layers(model) if layers is None else layers
    weights: dict[str, QuantizedWeight] = {}
    named_bits = {name: quantization.bits_of(knobs, name, shared) for name in layers}
    made_up = {name for name, bits in named_bits.items() if is_compensated(knobs, bits)}
    of_pairs = moments() if made_up else {}
    for name, layer in layers.items():
        on_layer(name)
        weight, bits = layer.weight.detach().numpy(), named_bits[name]
        group = quantization.group_of(knobs, bits)
        make: Callable[[], QuantizedWeight]
        if name in made_up:
            moment = of_pairs[name]
            key = weight_key(weight, bits, moment.mean, group)
            make = partial(compensation.quantize, weight.astype(np.float64), bits, moment, group)
        else:
            power = seen.layers[name].input_power
            key = weight_key(weight, bits, power, group)
            make = partial(rounding.quantize, weight.astype(np.float64), bits, power, group)
        weights[name] = remember(key, make)
    write = partial(
        integerize.integerize_decoder,
        model,
        layers,
        seen=seen,
        attention_block=attention_block,
        exponential_entries=exponential_entries,
        activation_bits=knobs.activation_bits,
        ranges=ranges,
    )
    network, steps = write(weights=weights)
    if teach is not None:
        network, steps = write(weights=teach(weights, integerize.steps_read(network, steps)))
    if prefix is not None:
        network = with_prefix(network, prefix.kept(network, steps))
    words = model.model.embed_tokens.weight.detach().double().numpy()
    bits = knobs.embedding_bits
    return IntegerLanguageModel(network, host.words_of(words, steps["decoder"].size, bits), bits)


def weight_key(
    weight: NDArray[np.float32], bits: int, seen: NDArray[Any], group: int | None = None
) -> str:
    """Content address of a quantized weight: SHA-256 of it, the bits and what its inputs are like.

    Args:
        weight: `[outputs, inputs]`.
        bits: It is rounded to.
        seen: Powers of the inputs, `[inputs]`, or moments, `[inputs, inputs]`.
        group: Inputs that have a factor of their own.
    """
    head = f"{weight.shape} {weight.dtype} {bits} {seen.shape} {group}"
    digest = hashlib.sha256(head.encode())
    digest.update(np.ascontiguousarray(weight).data)
    digest.update(np.ascontiguousarray(seen).data)
    return digest.hexdigest()
