"""Single transformer blocks in integers, to try the core on without a model or a data set.

A `FloatBlock` is built by transformers' own classes, with weights drawn here or out of a file;
`integer_block` calibrates it on its streams and writes it as the compiler writes a whole model. The
network takes the stream as `words` and leaves it, one block later, under its own name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from swopt.compiler import calibration, integerize
from swopt.compiler.calibration import Seen, Stream
from swopt.compiler.host import Inputs, to_int16
from swopt.compiler.network import ActivationBits, Network
from swopt.techniques.quantization import WeightBits
from swopt.techniques.rounding import quantize
from swopt.workloads import tiny_vlm

ATTENTION_BLOCK = 64
"""Keys of one block of the online softmax."""

EXPONENTIAL_ENTRIES = 16
"""Entries of the exponential's table: the core's default."""

CALIBRATION_STREAMS = 8
"""Drawn streams that a block is calibrated on."""

SMOLLM2_CHANNELS = 576


@dataclass(frozen=True)
class FloatBlock:
    """One block in float32, and streams for it.

    Attributes:
        name: `vision.0` or `decoder.0`: what its layers' names begin with.
        module: The block itself, of transformers.
        run: A stream through it, `[n, tokens, channels]` -> the same shape.
        rotary: `calibration.rotary_table` of a decoder.
        streams: float32 `[n, tokens, channels]`; the first is what the core is asked, the others
            calibrate.
    """

    name: str
    module: torch.nn.Module
    run: Callable[[torch.Tensor], torch.Tensor]
    rotary: tuple[torch.Tensor, torch.Tensor] | None
    streams: torch.Tensor


@dataclass(frozen=True)
class IntegerBlock:
    """A block in integers with one stream to send through it.

    Attributes:
        network: Its operators, without a head.
        inputs: The stream that comes in.
        step: What one step of the stream is worth, before the block and after it.
    """

    network: Network
    inputs: Inputs
    step: float


def deit_tiny_block(
    seed: int,
    weight_bits: WeightBits = 8,
    activation_bits: ActivationBits = 8,
    tokens: int = 197,
) -> tuple[Network, Inputs]:
    """An encoder block of the shape of DeiT-tiny (Touvron et al. 2021), see `deit_tiny`.

    Args:
        seed: Of weights and streams.
        weight_bits: Of every linear layer.
        activation_bits: Of what linear layers read, if their weights have 4 bits or fewer.
        tokens: 197 are those of a 224 x 224 image.
    """
    made = integer_block(deit_tiny(seed, tokens), weight_bits, activation_bits)
    return made.network, made.inputs


def smollm2_block(
    seed: int,
    weight_bits: WeightBits = 8,
    activation_bits: ActivationBits = 8,
    tokens: int = 72,
    weights: Path | None = None,
) -> tuple[Network, Inputs]:
    """A decoder block of the shape of SmolLM2-135M, see `smollm2`.

    Args:
        seed: Of weights and streams, where no file brings them.
        weight_bits: Of every linear layer.
        activation_bits: Of what linear layers read, if their weights have 4 bits or fewer.
        tokens: Of the stream.
        weights: A file with a real block and its streams.
    """
    made = integer_block(smollm2(seed, tokens, weights), weight_bits, activation_bits)
    return made.network, made.inputs


def deit_tiny(seed: int, tokens: int = 197) -> FloatBlock:
    """Pre-norm, 192 channels, 3 heads, MLP of 768, LayerNorm, tanh-GELU, attention without a mask.

    No trained weight is in it. They are normal with the deviations that keep a stream's size:
    attention scores have a deviation of about 1.7, inputs of GELU of about 1. The stream is normal
    with a mean and a deviation of its own in each channel.
    """
    _check_tokens(tokens)
    from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
    from transformers.models.idefics3.modeling_idefics3 import Idefics3EncoderLayer

    channels = 192
    config = Idefics3VisionConfig(
        hidden_size=channels, intermediate_size=768, num_attention_heads=3
    )
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        block = Idefics3EncoderLayer(config).eval()
    rng = np.random.default_rng(seed)
    gains = {"q_proj": 1.3, "k_proj": 1.3, "v_proj": 1.0, "out_proj": 0.7, "fc1": 1.0, "fc2": 1.0}
    _draw(block, gains, rng)
    mean, size = rng.normal(0, 0.5, channels), rng.lognormal(0, 0.5, channels)
    streams = rng.normal(mean, size, (1 + CALIBRATION_STREAMS, tokens, channels))
    return FloatBlock(
        "vision.0",
        block,
        lambda stream: block(stream, attention_mask=None),
        None,
        torch.from_numpy(streams).float(),
    )


def smollm2(seed: int, tokens: int = 72, weights: Path | None = None) -> FloatBlock:
    """576 channels, 9 heads, 3 key-value heads, MLP of 1536, RMSNorm, rotary, SiLU gate, causal.

    Without a file no trained weight is in it: weights and streams are normal, with the deviations
    that were measured in block 8 of SmolLM2-135M, and three channels of the stream are 20 to 50
    times as large as the others, as there. Unlike there, nothing has learned to live with them.

    Args:
        seed: Of weights and streams.
        tokens: Of a stream, 1 or more.
        weights: A safetensors file as `benchmarks/smollm2_block.py` writes it: the parameters of
            one block under the names that they have inside it, and `streams` `[n, tokens, 576]`,
            what real text made of the stream before it. The seed is then without effect.

    Raises:
        ValueError: The file does not hold such a block, or too short streams; or there is no token.
    """
    _check_tokens(tokens)
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=1,
        hidden_size=SMOLLM2_CHANNELS,
        intermediate_size=1536,
        num_hidden_layers=1,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=tokens,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        model = LlamaModel(config).eval()
    model.norm = torch.nn.Identity()  # what is wanted is the stream behind the block
    block = model.layers[0]
    if weights is None:
        streams = _draw_smollm2(block, tokens, np.random.default_rng(seed))
    else:
        streams = _read(weights, block, tokens)
    return FloatBlock(
        "decoder.0",
        block,
        lambda stream: model(inputs_embeds=stream).last_hidden_state,
        calibration.rotary_table(model),
        streams,
    )


def _check_tokens(tokens: int) -> None:
    if tokens < 1:
        raise ValueError(f"a stream has at least 1 token, not {tokens}")


def _draw_smollm2(block: torch.nn.Module, tokens: int, rng: np.random.Generator) -> torch.Tensor:
    """Fills a block of SmolLM2's shape; streams for it."""
    gains = dict.fromkeys(("q_proj", "k_proj", "gate_proj", "up_proj"), 4.7)
    _draw(block, gains | {"v_proj": 3.9, "o_proj": 3.7, "down_proj": 7.5}, rng, gamma=0.28)
    size = 2.3 * rng.lognormal(0, 0.45, SMOLLM2_CHANNELS)
    size[rng.choice(SMOLLM2_CHANNELS, 3, replace=False)] = 2.3 * rng.uniform(20, 50, 3)
    streams = rng.normal(0, size, (1 + CALIBRATION_STREAMS, tokens, SMOLLM2_CHANNELS))
    return torch.from_numpy(streams).float()


def _read(file: Path, block: torch.nn.Module, tokens: int) -> torch.Tensor:
    """Fills a block out of a file; the file's streams, cut to `tokens`."""
    import safetensors.torch

    try:
        held = safetensors.torch.load_file(file)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{file} is no safetensors file ({error}); write one with benchmarks/smollm2_block.py"
        ) from None
    streams = held.pop("streams", torch.zeros(0))
    if streams.ndim != 3 or len(streams) < 2 or streams.shape[1] < tokens:
        raise ValueError(
            f"{file} must hold 2 or more streams of {tokens} tokens or more, not "
            f"{list(streams.shape)}; write it with benchmarks/smollm2_block.py"
        )
    try:
        block.load_state_dict({name: tensor.float() for name, tensor in held.items()})
    except RuntimeError as error:
        first = " ".join(str(error).split())
        raise ValueError(f"{file} is not a block of SmolLM2-135M: {first}") from None
    return streams[:, :tokens].float()


def _draw(
    block: torch.nn.Module, gains: dict[str, float], rng: np.random.Generator, gamma: float = 1.0
) -> None:
    """Fills a block with normal weights.

    Args:
        block: Its linear layers and norms are filled, in their order.
        gains: Deviation of a layer's outputs over that of its inputs, by the end of its name.
        rng: Where the numbers come from.
        gamma: Mean weight of a norm, five times its deviation.
    """
    with torch.no_grad():
        for name, part in block.named_modules():
            if isinstance(part, torch.nn.Linear):
                deviation = gains[name.rsplit(".", 1)[-1]] / part.in_features**0.5
                part.weight.copy_(_normal(rng, 0, deviation, part.weight))
            elif "norm" in name:
                part.weight.copy_(_normal(rng, gamma, gamma / 5, part.weight))
            bias = getattr(part, "bias", None)
            if bias is not None:
                bias.copy_(_normal(rng, 0, 0.1, bias))


def _normal(
    rng: np.random.Generator, mean: float, deviation: float, like: torch.Tensor
) -> torch.Tensor:
    return torch.from_numpy(rng.normal(mean, deviation, tuple(like.shape)))


def integer_block(
    block: FloatBlock,
    weight_bits: WeightBits = 8,
    activation_bits: ActivationBits = 8,
    attention_block: int = ATTENTION_BLOCK,
    exponential_entries: int = EXPONENTIAL_ENTRIES,
) -> IntegerBlock:
    """The block in integers, calibrated on its own streams, with the first of them as its input.

    Args:
        block: In float.
        weight_bits: Of every linear layer.
        activation_bits: Of what linear layers read, if their weights have 4 bits or fewer.
        attention_block: Keys of one block of the online softmax: 1 or more, for the core even.
        exponential_entries: Entries of the exponential's table: 4, 8, 16 or 32.

    Raises:
        ValueError: A constant does not fit the core's fields.
    """
    tower, index = block.name.split(".")
    layers = tiny_vlm.block_layers(tower, int(index), block.module)
    seen = _seen(block, tower, layers)
    weights = {
        name: quantize(
            layer.weight.detach().double().numpy(), weight_bits, seen.layers[name].input_power
        )
        for name, layer in layers.items()
    }
    network, step = integerize.integerize_block(
        block.name,
        block.module,
        layers,
        weights,
        seen,
        block.rotary,
        attention_block,
        exponential_entries,
        activation_bits,
    )
    stream: NDArray[np.float64] = block.streams[0].double().numpy()
    return IntegerBlock(network, Inputs(words=to_int16(stream / step)), step)


def _seen(block: FloatBlock, tower: str, layers: dict[str, torch.nn.Linear]) -> Seen:
    norms = tuple(part for name, part in block.module.named_children() if "norm" in name)
    stream = Stream(readers=norms, makers=(block.module,))

    def calibrate() -> None:
        with torch.no_grad():
            block.run(block.streams[1:])

    return calibration.watch(layers, {tower: stream}, block.rotary, calibrate)
