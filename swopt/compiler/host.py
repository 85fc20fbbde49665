"""What the host computes before the core begins: pixels and words to int16 embeddings."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from swopt.compiler.network import Int16s
from swopt.techniques.quantization import EmbeddingBits
from swopt.techniques.resolution import ResolutionKnobs, worded
from swopt.techniques.rounding import quantize
from swopt.workloads.image_grid import Grid, resized
from swopt.workloads.vqa import Questions

if TYPE_CHECKING:
    from tokenizers import Tokenizer


NEUTRAL = ResolutionKnobs()


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
        grid: Patches that the encoder sees.
        positions: int16 `[patches, channels]`, in the order of tokens.
        words: int16 `[vocabulary, channels]`.
        tokenizer: Words to their indices.
        embedding_bits: That a channel of a word is kept in.
        resolution: Of which the wording of questions counts here.
    """

    patch_weight: NDArray[np.float64]
    patch_bias: NDArray[np.float64]
    patch_step: float
    grid: Grid
    positions: Int16s
    words: Int16s
    tokenizer: "Tokenizer"
    embedding_bits: EmbeddingBits = 16
    resolution: ResolutionKnobs = NEUTRAL

    @property
    def constant_bytes(self) -> int:
        """Bytes of the embeddings as they are kept, and of the patch convolution in float16."""
        half = np.dtype(np.float16).itemsize
        count, channels = self.words.shape
        words = embedding_bytes(count, channels, self.embedding_bits)
        convolution = (self.patch_weight.size + self.patch_bias.size) * half
        return convolution + self.positions.nbytes + words

    def inputs(self, questions: Questions) -> list[Inputs]:
        """The tensors of each question; equal questions give equal integers, alone or together."""
        questions = worded(questions, self.resolution)
        return [
            Inputs(patches, self.positions, self.words[self.tokenizer.encode(text).ids])
            for patches, text in zip(self._patches(questions.images), questions.texts, strict=True)
        ]

    def _patches(self, images: NDArray[np.uint8]) -> Int16s:
        """uint8 `[n, 28, 28, 3]` -> int16 `[n, patches, channels]`."""
        patch = self.patch_weight.shape[-1]
        seen = resized(images, self.grid.rows * patch, self.grid.columns * patch)
        squares = seen.reshape(-1, self.grid.rows, patch, self.grid.columns, patch, 3)
        channels = len(self.patch_weight)
        weight = self.patch_weight.reshape(channels, -1)
        # [n, patches, K], with K as in the convolution: colours, then rows, then columns.
        columns = squares.transpose(0, 1, 3, 5, 2, 4).reshape(
            len(images), self.grid.rows * self.grid.columns, -1
        )
        # A sum of bytes times fp16 weights is exact in float64, so neither the batch nor the
        # order of summation shows. A pixel is its byte / 127.5 - 1.
        sums = columns.astype(np.float64) @ weight.T
        offset = self.patch_bias - weight.sum(1)
        steps = (sums / 127.5 + offset) / self.patch_step
        return to_int16(steps[:, self.grid.order()])


def words_of(weight: NDArray[np.float64], step: float, bits: EmbeddingBits) -> Int16s:
    """Embeddings of a vocabulary as the core reads them, int16 `[vocabulary, channels]`.

    Args:
        weight: `[vocabulary, channels]`.
        step: What one step of the stream is worth.
        bits: That a channel is kept in; fewer than 16 have a scale for each word.
    """
    if bits < 16:
        kept = quantize(weight, bits, np.ones(weight.shape[1]))
        weight = kept.values * kept.scale[:, None]
    return to_int16(weight / step)


def embedding_bytes(words: int, channels: int, bits: EmbeddingBits) -> int:
    """Bytes that the embeddings of so many words take, their float32 scales among them."""
    scales = np.dtype(np.float32).itemsize if bits < 16 else 0
    return words * (channels * bits // 8 + scales)


def build(
    model: Any,
    vision_step: float,
    decoder_step: float,
    tokenizer: "Tokenizer",
    embedding_bits: EmbeddingBits,
) -> Host:
    """The host's part of an Idefics3 model.

    Args:
        model: `Idefics3ForConditionalGeneration`.
        vision_step: What one step of the vision stream is worth.
        decoder_step: What one step of the decoder's stream is worth.
        tokenizer: Of the model.
        embedding_bits: That words are kept in.
    """
    from swopt.workloads.regridding import grid_of, positions_of

    embeddings = model.model.vision_model.embeddings
    convolution = embeddings.patch_embedding
    grid = grid_of(model)
    positions = positions_of(model).numpy()[grid.order()]
    words = model.model.text_model.embed_tokens.weight.detach().double().numpy()
    return Host(
        convolution.weight.detach().double().numpy(),
        convolution.bias.detach().double().numpy(),
        vision_step,
        grid,
        to_int16(positions / vision_step),
        words_of(words, decoder_step, embedding_bits),
        tokenizer,
        embedding_bits,
    )


def to_int16(steps: NDArray[np.float64]) -> Int16s:
    """Rounds halves to even, saturating."""
    return np.clip(np.rint(steps), -(1 << 15), (1 << 15) - 1).astype(np.int16)
