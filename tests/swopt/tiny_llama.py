"""A random Llama of two blocks with a byte-level tokenizer, saved as a folder and as GGUF."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from tests.swopt.gguf_bytes import F32, file_of, text, uint32

HIDDEN, HEADS, KV_HEADS, LAYERS = 64, 4, 2, 2
CONTROL = ("<|endoftext|>", "<|im_start|>")
MERGES = (("Ġ", "Ġ"), ("ĠĠ", "ĠĠ"), ("r", "e"), ("1", "2"))


def vocabulary() -> list[str]:
    """Control tokens, every byte, and the merges."""
    return [*CONTROL, *sorted(ByteLevel.alphabet()), *("".join(pair) for pair in MERGES)]


def tokenizer() -> Tokenizer:
    """Byte-level BPE without the rule for digits."""
    words = {token: index for index, token in enumerate(vocabulary())}
    made = Tokenizer(BPE(words, list(MERGES)))
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    made.decoder = ByteLevelDecoder()
    made.add_special_tokens([AddedToken(token, special=True) for token in CONTROL])
    return made


def model(seed: int = 0, **changes: Any) -> torch.nn.Module:
    """A `LlamaForCausalLM` with weights from a seed."""
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {
        "vocab_size": len(vocabulary()),
        "hidden_size": HIDDEN,
        "intermediate_size": 96,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0},
        "tie_word_embeddings": True,
        "initializer_range": 0.2,
        "bos_token_id": 1,
        "eos_token_id": 0,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: torch.nn.Module = LlamaForCausalLM(LlamaConfig(**settings | changes)).eval()
    return made


def save(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """The model and its tokenizer as a folder."""
    made: Any = model(seed, **changes)
    made.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def gguf_bytes(made: torch.nn.Module, pre: str = "smollm") -> bytes:
    """The model as llama.cpp's converter writes it, in float32.

    Rows of queries and keys that transformers turns together, i and half + i, become neighbours.
    """

    def array(values: list[str]) -> bytes:
        return struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(text, values))

    def string(value: str) -> bytes:
        return struct.pack("<I", 8) + text(value)

    kinds = [3] * len(CONTROL) + [1] * (len(vocabulary()) - len(CONTROL))
    pairs = {
        "general.architecture": string("llama"),
        "llama.block_count": uint32(LAYERS),
        "llama.context_length": uint32(512),
        "llama.embedding_length": uint32(HIDDEN),
        "llama.feed_forward_length": uint32(96),
        "llama.attention.head_count": uint32(HEADS),
        "llama.attention.head_count_kv": uint32(KV_HEADS),
        "llama.rope.freq_base": struct.pack("<If", 6, 100_000.0),
        "llama.attention.layer_norm_rms_epsilon": struct.pack("<If", 6, 1e-5),
        "tokenizer.ggml.model": string("gpt2"),
        "tokenizer.ggml.pre": string(pre),
        "tokenizer.ggml.tokens": array(vocabulary()),
        "tokenizer.ggml.token_type": struct.pack(f"<IIQ{len(kinds)}i", 9, 5, len(kinds), *kinds),
        "tokenizer.ggml.merges": array([" ".join(pair) for pair in MERGES]),
        "tokenizer.ggml.bos_token_id": uint32(1),
        "tokenizer.ggml.eos_token_id": uint32(0),
    }
    names = {
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    tensors = []
    for name, parameter in made.state_dict().items():
        weight = parameter.detach().float().numpy()
        if name.startswith("model.layers."):
            _, _, index, part = name.removesuffix(".weight").split(".", 3)
            heads = {"self_attn.q_proj": HEADS, "self_attn.k_proj": KV_HEADS}.get(part)
            if heads:
                side = len(weight) // heads
                turned = [(i, side // 2 + i) for i in range(side // 2)]
                order = [h * side + row for h in range(heads) for pair in turned for row in pair]
                weight = weight[order]
            name = f"blk.{index}.{names[part]}.weight"
        elif name == "lm_head.weight":
            continue
        else:
            ends = {"model.embed_tokens.weight": "token_embd.weight"}
            name = ends.get(name, "output_norm.weight")
        shape = tuple(reversed(weight.shape))
        tensors.append((name, shape, F32, np.ascontiguousarray(weight, "<f4").tobytes()))
    return file_of([text(key) + value for key, value in pairs.items()], tensors)
