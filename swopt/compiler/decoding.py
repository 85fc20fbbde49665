"""A language model in integers, token after token: keys and values of the text so far are kept.

Every operator but attention takes a token by itself, and attention goes through blocks of keys that
begin at positions of the text, not of the call. So a token's integers hang on the tokens before it
alone: asked about several tokens at once, the model gives each the bytes that it gives it alone,
and those of `twin.token_logits` about the whole text.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from swopt.compiler import twin
from swopt.compiler.host import Inputs
from swopt.compiler.language_model import IntegerLanguageModel
from swopt.compiler.network import Attention, Linear, Network, Rotate


class IntegerTexts:
    """An integer model in the middle of some texts of one length.

    Args:
        model: What it computes.
        texts: How many.

    Raises:
        ValueError: The network has no head, or its attention looks at tokens to come.
    """

    def __init__(self, model: IntegerLanguageModel, texts: int) -> None:
        head = model.network.operators[-1]
        if model.network.logits is None or not isinstance(head, Linear):
            raise ValueError("a text is gone on with by logits, and the network has no head")
        attentions = [op for op in model.network.operators if isinstance(op, Attention)]
        if not all(op.causal for op in attentions):
            raise ValueError("a text is gone on with by causal attention, and one sees all tokens")
        self._network, self._words = _widened(model.network), model.words
        turns = [len(op.cosine) for op in model.network.operators if isinstance(op, Rotate)]
        self._positions = min(turns, default=None)
        # Keys and values of each attention, int8 [texts, tokens, kv_heads * head_dim].
        self._kept: dict[str, torch.Tensor] = {}
        self._texts, self._length = texts, 0

    @property
    def length(self) -> int:
        """Tokens of each text whose keys and values are kept."""
        return self._length

    def cut(self, length: int) -> None:
        """Forgets all tokens but the first `length`."""
        self._length = min(length, self._length)
        self._kept = {name: kept[:, :length] for name, kept in self._kept.items()}

    def logits(self, ids: NDArray[np.int64]) -> torch.Tensor:
        """Reads tokens behind those that it has.

        Args:
            ids: int64 `[texts, tokens]`, one token or more.

        Returns:
            The logits behind each, int32 `[texts, tokens, vocabulary]`.

        Raises:
            ValueError: There are none, or more than the model has positions for.
        """
        network, first = self._network, self._length
        if ids.ndim != 2 or len(ids) != self._texts or not ids.shape[1]:
            raise ValueError(
                f"{self._texts} texts are gone on with by 1 token or more each, not by "
                f"{list(ids.shape)}"
            )
        if self._positions is not None and first + ids.shape[1] > self._positions:
            raise ValueError(
                f"{first + ids.shape[1]} tokens are more than the {self._positions} positions that "
                "the model has"
            )
        batch = Inputs(words=self._words[ids])
        made: dict[str, torch.Tensor] = {}
        for operator in network.operators[:-1]:
            match operator:
                case Attention():
                    keys, values = (self._keep(each, made) for each in (operator.k, operator.v))
                    qkv = (made[operator.q], keys, values)
                    made[operator.y] = twin.attend(qkv, operator, network)
                case Rotate():
                    cosine, sine = operator.cosine[first:], operator.sine[first:]
                    turned = replace(operator, cosine=cosine, sine=sine)
                    made[operator.y] = twin.operate(turned, made, batch, network)
                case _:
                    made[operator.y] = twin.operate(operator, made, batch, network)
        self._length += ids.shape[1]
        head = network.operators[-1]
        assert isinstance(head, Linear)
        return twin.linear(made[head.x], head, None, network.built)

    def _keep(self, name: str, made: dict[str, torch.Tensor]) -> torch.Tensor:
        """Keys or values of the whole texts, the new ones behind those that were kept."""
        new = made[name]
        self._kept[name] = torch.cat((self._kept.get(name, new[:, :0]), new), 1)
        return self._kept[name]


class IntegerDecoder:
    """An integer model in the middle of one text; a `swopt.techniques.speculative.Decoder`.

    Args:
        model: What it computes.

    Raises:
        ValueError: As for `IntegerTexts`.
    """

    def __init__(self, model: IntegerLanguageModel) -> None:
        self._text = IntegerTexts(model, 1)
        self._tokens: list[int] = []

    @property
    def tokens(self) -> Sequence[int]:
        """The tokens whose keys and values are kept."""
        return self._tokens

    def cut(self, length: int) -> None:
        """Forgets all tokens but the first `length`."""
        del self._tokens[length:]
        self._text.cut(length)

    def extend(self, tokens: Sequence[int]) -> list[int]:
        """As `Decoder.extend`; of equal logits the first is the greatest, as on the core.

        Raises:
            ValueError: There are none, or more than the model has positions for.
        """
        choices: list[int] = self.logits(tokens).argmax(-1).tolist()
        return choices

    def logits(self, tokens: Sequence[int]) -> torch.Tensor:
        """Reads tokens behind those that it has.

        Args:
            tokens: One or more.

        Returns:
            The logits behind each, int32 `[len(tokens), vocabulary]`.

        Raises:
            ValueError: There are none, or more than the model has positions for.
        """
        found = self._text.logits(np.array([tokens], np.int64))[0]
        self._tokens += tokens
        return found


def _widened(network: Network) -> Network:
    """The same with weights in the float type in which `twin` multiplies them.

    That type holds every sum exactly, so the numbers stay what they are. A step about one token
    takes about half as long where it need not convert all weights.
    """
    if "mac" in network.built:
        return network
    operators = tuple(
        replace(op, weight=op.weight.astype(twin.exact_type(op.weight.shape[1])))
        if isinstance(op, Linear)
        else op
        for op in network.operators
    )
    return replace(network, operators=operators)
