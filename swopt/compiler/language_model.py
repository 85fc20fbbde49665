"""A causal language model of the Llama family wholly in integers: written down, ready to score.

The same operators as the decoder of an image-and-text model, with words alone before them
(`swopt.compiler.integerize`). What the host looks up are the embeddings.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hwlib.config import CoreConfig
from swopt.compiler import calibration, host, integerize, twin
from swopt.compiler.calibration import Seen, Stream
from swopt.compiler.host import Inputs
from swopt.compiler.network import ActivationBits, Int16s, Network
from swopt.techniques import quantization
from swopt.techniques.attention import AttentionKnobs
from swopt.techniques.quantization import QuantizationKnobs, QuantizedWeight

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
    """

    network: Network
    words: Int16s

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


def observe(model: Any, ids: Sequence[torch.Tensor], prefix: Sequence[int] = ()) -> Seen:
    """What calibration shows of a float model; what it reads is not kept.

    Args:
        model: `LlamaForCausalLM` or a like one, in float32.
        ids: Texts, int64 `[tokens]` each.
        prefix: Tokens that stand in front of every text and that do not count.
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

    layers, table = linear_layers(model), calibration.rotary_table(text)
    streams = {"decoder": stream}
    return calibration.watch_streamed(layers, streams, table, calibrate, len(first))


def integer_language_model(
    model: Any,
    seen: Seen,
    knobs: QuantizationKnobs,
    attention_block: int = ATTENTION_BLOCK,
    exponential_entries: int = CoreConfig().exponential_entries,
    on_layer: Callable[[str], None] = lambda name: None,
) -> IntegerLanguageModel:
    """Quantizes a language model and writes it in integers.

    Args:
        model: `LlamaForCausalLM` or a like one, in float32; it is not changed.
        seen: What `observe` saw of it.
        knobs: Bits of weights and activations; `mean_bits` is not shared out here.
        attention_block: Keys of one block of the online softmax.
        exponential_entries: Entries of the exponential's table: 4, 8, 16 or 32.
        on_layer: Told each layer as it is quantized.

    Raises:
        ValueError: A constant does not fit the core's fields, or bits are to be shared out.
    """
    if knobs.mean_bits != QuantizationKnobs().mean_bits:
        raise ValueError("mean_bits is not shared out in language models yet; name bits by level")
    layers = linear_layers(model)
    weights: dict[str, QuantizedWeight] = {}
    for name, layer in layers.items():
        on_layer(name)
        weights[name] = quantization.quantize(
            layer.weight.detach().double().numpy(),
            quantization.bits_of(knobs, name),
            seen.layers[name].input_power,
        )
    bits: ActivationBits = knobs.activation_bits
    network, step = integerize.integerize_decoder(
        model, layers, weights, seen, attention_block, exponential_entries, bits
    )
    words = model.model.embed_tokens.weight.detach().double().numpy()
    return IntegerLanguageModel(network, host.to_int16(words / step))
