"""What calibration questions show of a whole float model: the range of each of its tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from swopt.compiler.integer import Calibration, Observer


@dataclass(frozen=True)
class Seen:
    """What calibration saw of a whole model.

    Attributes:
        layers: Of each linear layer, by name.
        vision: Largest magnitude on the vision stream, all embeddings included.
        decoder: Largest magnitude on the decoder's stream, all token embeddings included.
        rotated: Largest magnitude after the rotary embedding, by name of the layer before it.
    """

    layers: dict[str, Calibration]
    vision: float
    decoder: float
    rotated: dict[str, float]


def observe(
    model: Any, layers: Mapping[str, torch.nn.Linear], calibrate: Callable[[], object]
) -> Seen:
    """Watches `model` in float while `calibrate` asks it calibration questions.

    Args:
        model: `Idefics3ForConditionalGeneration`, already pruned.
        layers: Its linear layers by name.
        calibrate: Runs it.
    """
    vision, text = model.model.vision_model, model.model.text_model
    positions = vision.embeddings.position_embedding.weight.detach()
    magnitudes = {
        "vision": float(positions.abs().max()),
        "decoder": float(text.embed_tokens.weight.detach().abs().max()),
    }

    def see(name: str, tensor: torch.Tensor) -> None:
        magnitudes[name] = max(magnitudes.get(name, 0.0), float(tensor.detach().abs().max()))

    patches = vision.embeddings.patch_embedding
    hooks = [patches.register_forward_hook(lambda _, inputs, output: see("vision", output))]
    # Every norm reads the whole stream, so together they see it at every stage.
    for stream, tower in (("vision", vision), ("decoder", text)):
        hooks += [
            part.register_forward_pre_hook(lambda _, inputs, name=stream: see(name, inputs[0]))
            for part in tower.modules()
            if type(part).__name__.endswith(("LayerNorm", "RMSNorm"))
        ]
    cosine, sine = rotary_table(text)
    turning = [
        name
        for name in layers
        if name.startswith("decoder.") and name.endswith(("attention.query", "attention.key"))
    ]
    hooks += [
        layers[name].register_forward_hook(
            lambda _, inputs, output, name=name: see(name, _rotate(output, cosine, sine))
        )
        for name in turning
    ]
    observer = Observer(layers)
    calibrate()
    for hook in hooks:
        hook.remove()
    return Seen(
        observer.finish(),
        magnitudes["vision"],
        magnitudes["decoder"],
        {name: magnitudes[name] for name in turning},
    )


def rotary_table(text: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of a Llama decoder, float64 `[positions, head_dim / 2]`."""
    positions = torch.arange(text.config.max_position_embeddings).double()
    angles = positions[:, None] * text.rotary_emb.inv_freq.double()
    gain = text.rotary_emb.attention_scaling
    return angles.cos() * gain, angles.sin() * gain


def _rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of `[batch, tokens, heads * head_dim]` in float, half-split.

    What comes back is `[batch, tokens, heads, head_dim]`.
    """
    tokens, half = x.shape[1], cosine.shape[1]
    low, high = x.reshape(*x.shape[:2], -1, 2, half).unbind(-2)  # [batch, tokens, heads, half]
    c, s = cosine[:tokens, None], sine[:tokens, None]
    return torch.cat((low * c - high * s, high * c + low * s), -1)
