"""A model of the Llama family out of a GGUF file: configuration, weights and tokenizer.

Names and metadata are those of llama.cpp's converter; names that come out are transformers'.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from swopt.workloads.gguf import GgufFile

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}

_CONTROL = 3
"""`token_type` of a token that text never becomes."""


def config(file: GgufFile) -> dict[str, Any]:
    """What transformers' `config.json` says of the model.

    Raises:
        ValueError: The file's architecture is another one, or a value is missing.
    """
    found = file.metadata
    if found.get("general.architecture") != "llama":
        raise ValueError(
            f"{file.path} holds the architecture {found.get('general.architecture')}, not llama"
        )
    try:
        heads = found["llama.attention.head_count"]
        hidden = found["llama.embedding_length"]
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": hidden,
            "intermediate_size": found["llama.feed_forward_length"],
            "num_hidden_layers": found["llama.block_count"],
            "num_attention_heads": heads,
            "num_key_value_heads": found.get("llama.attention.head_count_kv", heads),
            "head_dim": hidden // heads,
            "hidden_act": "silu",
            "max_position_embeddings": found["llama.context_length"],
            "rms_norm_eps": _decimal(found["llama.attention.layer_norm_rms_epsilon"]),
            "rope_theta": _decimal(found.get("llama.rope.freq_base", 10_000.0)),
            "vocab_size": len(found["tokenizer.ggml.tokens"]),
            "tie_word_embeddings": "output.weight" not in file.tensors,
            "bos_token_id": found.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": found.get("tokenizer.ggml.eos_token_id"),
            "pad_token_id": found.get("tokenizer.ggml.padding_token_id"),
        }
    except KeyError as error:
        raise ValueError(f"{file.path} does not give {error.args[0]}") from None


def weights(file: GgufFile) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Every tensor under transformers' name, one after the other.

    Raises:
        ValueError: A tensor has a name that no Llama has.
    """
    heads = file.metadata["llama.attention.head_count"]
    of = {"attn_q": heads, "attn_k": file.metadata.get("llama.attention.head_count_kv", heads)}
    for name in file.tensors:
        _, _, inside = name.partition("blk.")
        index, _, rest = inside.partition(".")
        part = rest.removesuffix(".weight")
        if name in _OUTSIDE:
            yield _OUTSIDE[name], file.read(name)
        elif part in _BLOCK and rest.endswith(".weight"):
            tensor = file.read(name)
            turned = half_split(tensor, of[part]) if part in of else tensor
            yield f"model.layers.{index}.{_BLOCK[part]}.weight", turned
        else:
            raise ValueError(f"{file.path}: a Llama has no tensor {name}")


def half_split(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of a query or key layer in the order that transformers' rotary embedding wants.

    Derived here: llama.cpp turns rows 2i and 2i + 1 of a head by angle i, transformers rows i and
    half + i. So row i is row 2i of the file, and row half + i is row 2i + 1.

    Args:
        weight: `[heads * head_dim, channels]`, as the file has it.
        heads: Of this layer.
    """
    pairs = weight.reshape(heads, -1, 2, weight.shape[1])  # [heads, half, 2, channels]
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(weight.shape)


def tokenizer(file: GgufFile) -> "Tokenizer":
    """Byte-level BPE as SmolLM2 has it: each digit for itself, then GPT-2's pieces.

    Raises:
        ValueError: The file's tokenizer is another one.
    """
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence

    found = file.metadata
    kind = (found.get("tokenizer.ggml.model"), found.get("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise ValueError(
            f"{file.path} has a tokenizer of kind {kind[0]}/{kind[1]}; gpt2/smollm is read"
        )
    tokens = found["tokenizer.ggml.tokens"]
    pairs = [tuple(merge.split(" ")) for merge in found["tokenizer.ggml.merges"]]
    made = Tokenizer(BPE({token: index for index, token in enumerate(tokens)}, pairs))
    digits: PreTokenizer = Digits(individual_digits=True)
    made.pre_tokenizer = Sequence([digits, ByteLevel(add_prefix_space=False)])
    made.decoder = ByteLevelDecoder()
    kinds = found.get("tokenizer.ggml.token_type", [])
    control = [token for token, each in zip(tokens, kinds, strict=False) if each == _CONTROL]
    made.add_special_tokens([AddedToken(token, special=True) for token in control])
    return made


def _decimal(value: float) -> float:
    """A number that went through float32, as it was written: 1e-05, not 9.999999747378752e-06."""
    return float(f"{value:.7g}")
