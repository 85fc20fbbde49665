"""Rotates outliers of a Llama decoder's stream away; in float the answers stay what they were.

Some channels of the stream are hundreds of times as large as the others, so that steps fine enough
for the others do not reach them. An orthogonal matrix spreads each over all channels: RMSNorm's
mean square is that of any rotated stream, once its weights are folded into the layers behind it.
(QuaRot, Ashkboos et al., NeurIPS 2024, section 4, stage 1a.)
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

_SEED = 3
"""Draws the signs, and the factor that is no Hadamard matrix; the same in every run."""


def rotation(channels: int) -> NDArray[np.float64]:
    """An orthogonal matrix whose entries are of about one size, `[channels, channels]`.

    A Hadamard matrix of the largest power of two that divides `channels` (Sylvester), times a drawn
    orthogonal matrix of what is left, with random signs.

    Args:
        channels: Width of the stream, 1 or more.
    """
    rng = np.random.default_rng(_SEED)
    side = channels & -channels
    hadamard = np.ones((1, 1))
    while len(hadamard) < side:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    left, _ = np.linalg.qr(rng.standard_normal((channels // side, channels // side)))
    whole = np.kron(hadamard / np.sqrt(side), left)
    signed: NDArray[np.float64] = whole * rng.choice([-1.0, 1.0], channels)
    return signed


def rotate(model: Any) -> None:
    """Rotates the stream of a causal language model of the Llama family, in place.

    Its norms have weights of 1 afterwards, and its head is no longer tied to its embeddings. The
    answers stay what they were, up to rounding.

    Args:
        model: `LlamaForCausalLM` or a like one.
    """
    import torch

    text = model.model
    turn = torch.from_numpy(rotation(text.config.hidden_size))
    embedded = text.embed_tokens.weight.detach().double()
    head = model.lm_head.weight.detach().double()
    model.config.tie_word_embeddings = False
    text.embed_tokens.weight = _parameter(embedded @ turn)
    model.lm_head.weight = _parameter(_behind(head, text.norm) @ turn)
    for block in text.layers:
        attention, mlp = block.self_attn, block.mlp
        for norm, readers in (
            (block.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
            (block.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj)),
        ):
            for layer in readers:
                weight = _behind(layer.weight.detach().double(), norm)
                layer.weight = _parameter(weight @ turn)
            norm.weight = _parameter(torch.ones_like(norm.weight))
        for layer in (attention.o_proj, mlp.down_proj):
            layer.weight = _parameter(turn.T @ layer.weight.detach().double())
            if layer.bias is not None:
                layer.bias = _parameter(layer.bias.detach().double() @ turn)
    text.norm.weight = _parameter(torch.ones_like(text.norm.weight))


def _behind(weight: "torch.Tensor", norm: Any) -> "torch.Tensor":
    """The weights of a layer that reads a norm, with the norm's own in them, float64."""
    folded: torch.Tensor = weight * norm.weight.detach().double()
    return folded


def _parameter(values: "torch.Tensor") -> "torch.nn.Parameter":
    import torch

    return torch.nn.Parameter(values.float(), requires_grad=False)
