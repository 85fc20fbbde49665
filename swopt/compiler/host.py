"""What the host computes before the core begins: pixels and words to int16 embeddings."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from swopt.compiler.network import Int16s
from swopt.workloads.vqa import Questions

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def _nothing() -> Int16s:
    return np.zeros((0, 1), np.int16)


@dataclass(frozen=True)
class Inputs:
    """The `Input` tensors of one inference, int16; what a network has no `Input` for is left out.

    Attributes:
        patches: Patch embeddings `[patches, channels]`, in the order of `network.Shuffle`.
        positions: Position embeddings `[patches, channels]`, in the same order.
        words: Embeddings of the words behind the image `[words, channels]`, at least one.
    """

    patches: Int16s = field(default_factory=_nothing)
    positions: Int16s = field(default_factory=_nothing)
    words: Int16s = field(default_factory=_nothing)

    def of(self, source: Literal["patches", "positions", "words"]) -> Int16s:
        """The tensor that `network.Input.source` names."""
        tensors: dict[str, Int16s] = {
            "patches": self.patches,
            "positions": self.positions,
            "words": self.words,
        }
        return tensors[source]


@dataclass(frozen=True)
class Host:
    """The embeddings of a model in steps of their streams.

    Attributes:
        patch_weight: Patch convolution, float64 `[channels, 3, side, side]`.
        patch_bias: float64 `[channels]`.
        patch_step: What one step of the vision stream is worth.
        side: Pixels along a side of what the encoder sees; images are mirrored outwards to fit.
        order: Index of the patch, row by row, that each token holds, `[patches]`.
        positions: int16 `[patches, channels]`, in the order of tokens.
        words: int16 `[vocabulary, channels]`.
        tokenizer: Words to their indices.
    """

    patch_weight: NDArray[np.float64]
    patch_bias: NDArray[np.float64]
    patch_step: float
    side: int
    order: NDArray[np.int64]
    positions: Int16s
    words: Int16s
    tokenizer: "Tokenizer"

    def inputs(self, questions: Questions) -> list[Inputs]:
        """The tensors of each question; equal questions give equal integers, alone or together."""
        return [
            Inputs(patches, self.positions, self.words[self.tokenizer.encode(text).ids])
            for patches, text in zip(self._patches(questions.images), questions.texts, strict=True)
        ]

    def _patches(self, images: NDArray[np.uint8]) -> Int16s:
        """uint8 `[n, 28, 28, 3]` -> int16 `[n, patches, channels]`."""
        patch = self.patch_weight.shape[-1]
        border = (self.side - images.shape[1]) // 2
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).double()
        pixels = functional.pad(pixels, (border,) * 4, mode="reflect")
        columns = functional.unfold(pixels, patch, stride=patch).transpose(1, 2)  # [n, patches, K]
        weight = torch.from_numpy(self.patch_weight).flatten(1)
        # A sum of bytes times fp16 weights is exact in float64, so neither the batch nor the
        # order of summation shows. A pixel is its byte / 127.5 - 1.
        sums = columns @ weight.t()
        offset = torch.from_numpy(self.patch_bias) - weight.sum(1)
        steps = (sums / 127.5 + offset) / self.patch_step
        return to_int16(steps[:, torch.from_numpy(self.order)].numpy())


def build(model: Any, vision_step: float, decoder_step: float, tokenizer: "Tokenizer") -> Host:
    """The host's part of an Idefics3 model.

    Args:
        model: `Idefics3ForConditionalGeneration`.
        vision_step: What one step of the vision stream is worth.
        decoder_step: What one step of the decoder's stream is worth.
        tokenizer: Of the model.
    """
    embeddings = model.model.vision_model.embeddings
    convolution = embeddings.patch_embedding
    side = embeddings.num_patches_per_side
    order = token_order(side, model.config.scale_factor)
    table = embeddings.position_embedding.weight.detach().double().numpy()
    words = model.model.text_model.embed_tokens.weight.detach().double().numpy()
    return Host(
        convolution.weight.detach().double().numpy(),
        convolution.bias.detach().double().numpy(),
        vision_step,
        model.config.vision_config.image_size,
        order,
        to_int16(table[_position_ids(side)[order]] / vision_step),
        to_int16(words / decoder_step),
        tokenizer,
    )


def token_order(side: int, factor: int) -> NDArray[np.int64]:
    """Patch, counted row by row, that each token holds so that pixel shuffle is free.

    Args:
        side: Patches along a side of the image.
        factor: Side of the squares that pixel shuffle joins.
    """
    grid = np.arange(side * side).reshape(side // factor, factor, side // factor, factor)
    return grid.transpose(1, 3, 0, 2).reshape(-1)


def _position_ids(side: int) -> NDArray[np.int64]:
    """Idefics3's bucketed position of each patch of a whole image, row by row."""
    boundaries = torch.arange(1 / side, 1.0, 1 / side)
    places = torch.clamp(torch.arange(side, dtype=torch.float32) * (1.0 / side), max=1.0 - 1e-6)
    bucket = torch.bucketize(places, boundaries, right=True)
    ids: NDArray[np.int64] = (bucket[:, None] * side + bucket[None, :]).flatten().numpy()
    return ids


def to_int16(steps: NDArray[np.float64]) -> Int16s:
    """Rounds halves to even, saturating."""
    return np.clip(np.rint(steps), -(1 << 15), (1 << 15) - 1).astype(np.int16)
