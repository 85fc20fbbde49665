"""Tokens in front of every text, of which a model keeps the keys and values as constants.

The first token of a text is an attention sink: heads that have nothing to look for look at it, and
its activations are hundreds of times as large as those of all others ("massive activations", Sun et
al., COLM 2024). Where the same tokens always stand first, nobody has to compute them again: their
keys and values, found once in float, lie in the key-value cache before a text begins, and steps of
activations need not reach what only they reach (PrefixQuant, Chen et al., 2024).

For the core such tokens are a past like any other: whole token groups whose keys and values are in
DRAM (`swopt.compiler.kv_cache`). So there are `TOKENS` of them, a multiple of the rows of any core
up to so many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from swopt.compiler import network as net
from swopt.compiler.network import Int8s, Kept, Network
from swopt.techniques.rounding import Steps

if TYPE_CHECKING:
    import torch

TOKENS = 16
"""Length of a prefix: whole token groups on cores of 4, 8 and 16 rows."""


def with_prefix(network: Network, kept: Mapping[str, Kept]) -> Network:
    """The network for texts behind a prefix.

    Args:
        network: A decoder without a past, for texts that begin at position 0.
        kept: Keys and values of the prefix, by name of the attention's result.

    Raises:
        ValueError: The network has a past already, or an attention has nothing kept for it.
    """
    operators: list[net.Operator] = []
    lengths = {len(each.keys) for each in kept.values()}
    if len(lengths) != 1:
        raise ValueError(f"a prefix has one length in every block, not {sorted(lengths)}")
    (length,) = lengths
    for operator in network.operators:
        match operator:
            case net.Rotate():
                operator = replace(
                    operator, cosine=operator.cosine[length:], sine=operator.sine[length:]
                )
            case net.Attention() if operator.past:
                raise ValueError(f"{operator.y} has a past already; a prefix stands in front")
            case net.Attention() if operator.y not in kept:
                raise ValueError(f"no keys and values of a prefix are there for {operator.y}")
            case net.Attention():
                operator = replace(operator, past=length, kept=kept[operator.y])
        operators.append(operator)
    return replace(network, operators=tuple(operators))


def length_of(network: Network) -> int:
    """Tokens that a network keeps in front of every text."""
    return max((op.past for op in network.operators if isinstance(op, net.Attention)), default=0)


@dataclass(frozen=True)
class Prefix:
    """Tokens in front of every text, and what a float model makes of them.

    Attributes:
        ids: The tokens.
        keys: Of each block, after rotation, `[tokens, kv_heads * head_dim]`.
        values: Of each block, `[tokens, kv_heads * head_dim]`.
        head_dim: Channels of a head.
    """

    ids: tuple[int, ...]
    keys: "tuple[torch.Tensor, ...]"
    values: "tuple[torch.Tensor, ...]"
    head_dim: int

    def past(self) -> Any:
        """A `DynamicCache` of them, for a float model to go on from."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for index, pair in enumerate(zip(self.keys, self.values, strict=True)):
            split = (each.reshape(len(each), -1, self.head_dim).transpose(0, 1) for each in pair)
            cache.update(*(each[None].clone() for each in split), index)
        return cache

    def kept(self, network: Network, steps: Mapping[str, Steps]) -> dict[str, Kept]:
        """Keys and values in integers, by name of the attention's result.

        Args:
            network: A decoder of the same model.
            steps: Of each of its tensors.
        """
        attentions = [op for op in network.operators if isinstance(op, net.Attention)]
        return {
            op.y: Kept(to_int8(keys, steps[op.k].size), to_int8(values, steps[op.v].size))
            for op, keys, values in zip(attentions, self.keys, self.values, strict=True)
        }


def float_prefix(model: Any, ids: Sequence[int]) -> Prefix:
    """What a float model makes of a prefix.

    Args:
        model: `LlamaForCausalLM` or a like one; its blocks may have been pruned.
        ids: The prefix.
    """
    import torch
    from transformers import DynamicCache

    cache = DynamicCache()
    with torch.inference_mode():
        model(input_ids=torch.tensor([list(ids)]), past_key_values=cache, use_cache=True)
    # Of each block [1, kv_heads, tokens, head_dim].
    keys, values = (
        tuple(getattr(layer, name)[0].transpose(0, 1).flatten(1) for layer in cache.layers)
        for name in ("keys", "values")
    )
    return Prefix(tuple(ids), keys, values, cache.layers[0].keys.shape[-1])


def to_int8(tensor: "torch.Tensor", step: float) -> Int8s:
    """Rounds to steps of int8, saturating."""
    steps = np.rint(tensor.double().numpy() / step)
    return np.clip(steps, -128, 127).astype(np.int8)
