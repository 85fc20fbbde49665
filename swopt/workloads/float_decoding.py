"""A language model in float32, token after token, with transformers' cache of keys and values.

A product about several tokens may be summed in another order than one about a single token, so
logits of the two can differ in their last bits: where the two likeliest tokens lie that near to
each other, a call about several can choose the other one.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class FloatDecoder:
    """A float model in the middle of one text; a `swopt.techniques.speculative.Decoder`.

    Args:
        model: A causal language model of transformers, in eval mode.
    """

    def __init__(self, model: Any) -> None:
        from transformers import DynamicCache

        self._model = model
        self._kept = DynamicCache()
        self._tokens: list[int] = []

    @property
    def tokens(self) -> Sequence[int]:
        """The tokens whose keys and values are kept."""
        return self._tokens

    def cut(self, length: int) -> None:
        """Forgets all tokens but the first `length`."""
        if length < len(self._tokens):
            self._kept.crop(length - len(self._tokens))
            del self._tokens[length:]

    def extend(self, tokens: Sequence[int]) -> list[int]:
        """As `Decoder.extend`.

        Raises:
            ValueError: There are none.
        """
        choices: list[int] = self.logits(tokens).argmax(-1).tolist()
        return choices

    def logits(self, tokens: Sequence[int]) -> "torch.Tensor":
        """Reads tokens behind those that it has.

        Args:
            tokens: One or more.

        Returns:
            The logits behind each, float32 `[len(tokens), vocabulary]`.

        Raises:
            ValueError: There are none.
        """
        import torch

        if not tokens:
            raise ValueError("a text is gone on with by 1 token or more, not 0")
        with torch.inference_mode():
            answer = self._model(
                input_ids=torch.tensor([list(tokens)]), past_key_values=self._kept, use_cache=True
            )
        self._tokens += tokens
        logits: torch.Tensor = answer.logits[0]
        return logits
