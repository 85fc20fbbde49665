"""`tiny-vlm`: the SmolVLM architecture, transformers' own Idefics3, small enough for seconds."""

import json
from typing import TYPE_CHECKING, Any

import torch

from swopt.workloads import image_grid, regridding
from swopt.workloads.checkpoint import BLOCK_LAYERS, TOWERS, token_id
from swopt.workloads.image_grid import Grid
from swopt.workloads.vqa import IMAGE, PAD, UNKNOWN, Questions, vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

IMAGE_SIDE = 32
PATCH_SIDE = 4
TRAINED = Grid(IMAGE_SIDE // PATCH_SIDE, IMAGE_SIDE // PATCH_SIDE, joined_rows=2, joined_columns=2)
"""What the encoder is trained on."""

CONFIG: dict[str, Any] = {
    "model_type": "idefics3",
    "scale_factor": TRAINED.joined_rows,
    "tie_word_embeddings": False,
    "use_cache": False,
    "vision_config": {
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": IMAGE_SIDE,
        "patch_size": PATCH_SIDE,
        "initializer_range": 0.06,
    },
    "text_config": {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.06,
        "bos_token_id": None,
        "eos_token_id": None,
    },
}
"""What `train_tiny_vlm` builds; vocabulary and special tokens come from the tokenizer."""


def build_tokenizer() -> "Tokenizer":
    """A word-level tokenizer over every question and answer of the tables."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    words = {word: index for index, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(WordLevel(words, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens([PAD, UNKNOWN, IMAGE])
    return tokenizer


def build_model(config: dict[str, Any]) -> torch.nn.Module:
    """The architecture that `config` describes, with fresh weights from torch's generator."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    parsed = Idefics3Config(**{k: v for k, v in config.items() if k != "model_type"})
    parsed._attn_implementation = "eager"
    model: torch.nn.Module = Idefics3ForConditionalGeneration(parsed)
    return model


def config_for(tokenizer: "Tokenizer") -> dict[str, Any]:
    """`CONFIG` with the vocabulary of `tokenizer`, padded to a multiple of 16."""
    config: dict[str, Any] = json.loads(json.dumps(CONFIG))
    size = tokenizer.get_vocab_size()
    config["text_config"]["vocab_size"] = (size + 15) // 16 * 16
    config["text_config"]["pad_token_id"] = tokenizer.token_to_id(PAD)
    config["image_token_id"] = tokenizer.token_to_id(IMAGE)
    return config


def restored(config: dict[str, Any], weights: bytes) -> torch.nn.Module:
    """The architecture with the weights of a safetensors file, in float32 and in eval mode.

    Raises:
        RuntimeError: The file holds other weights than the config's.
    """
    import safetensors.torch

    held = safetensors.torch.load(weights)
    # Not on the meta device: the rotary frequencies are no part of the file.
    with torch.random.fork_rng(devices=[]):
        model = build_model(config)
    model.load_state_dict({k: v.float() for k, v in held.items()}, strict=True)
    return model.eval()


_CONNECTOR, _HEAD = "model.connector.modality_projection.proj", "lm_head"


def blocks(model: torch.nn.Module) -> dict[str, torch.nn.ModuleList]:
    """The list of blocks of each tower: `vision` and `decoder`."""
    found = {tower: model.get_submodule(path) for tower, path in TOWERS.items()}
    return {tower: part for tower, part in found.items() if isinstance(part, torch.nn.ModuleList)}


def linear_layers(model: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """Every linear layer by the name that plans, traces and tables use, in order of execution."""
    named: dict[str, torch.nn.Module] = {}
    for tower, part in blocks(model).items():
        if tower == "decoder":
            named["connector"] = model.get_submodule(_CONNECTOR)
        for index, block in enumerate(part):
            named |= block_layers(tower, index, block)
    named["head"] = model.get_submodule(_HEAD)
    return {name: layer for name, layer in named.items() if isinstance(layer, torch.nn.Linear)}


def block_layers(tower: str, index: int, block: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """The linear layers of one block of a tower, named as in `linear_layers`.

    Args:
        tower: `vision`, for an encoder block of SigLIP, or `decoder`, for one of Llama.
        index: Of the block.
        block: As transformers builds it.
    """
    named = {
        f"{tower}.{index}.{name}": block.get_submodule(path)
        for name, path in BLOCK_LAYERS[tower].items()
    }
    return {name: layer for name, layer in named.items() if isinstance(layer, torch.nn.Linear)}


def pixel_values(images: torch.Tensor, grid: Grid = TRAINED) -> torch.Tensor:
    """Bytes to what the encoder sees: uint8 `[n, 28, 28, 3]` -> float `[n, 1, 3, height, width]`.

    As `image_grid.resized` has them; values are in [-1, 1], as in SmolVLM's image processor.
    """
    size = (grid.rows * PATCH_SIDE, grid.columns * PATCH_SIDE)
    pixels = torch.from_numpy(image_grid.resized(images.numpy(), *size))
    return (pixels.permute(0, 3, 1, 2).float() / 127.5 - 1)[:, None]


def prompt_ids(tokenizer: "Tokenizer", text: str, image_tokens: int = TRAINED.tokens) -> list[int]:
    """The image's tokens, then the question's words; the next token is the answer."""
    image = [token_id(tokenizer, IMAGE)] * image_tokens
    return image + list(tokenizer.encode(text).ids)


def padded_logits(tokenizer: "Tokenizer", model: Any, questions: Questions) -> torch.Tensor:
    """Logits of the answer's token `[n, vocabulary]` with their gradients, all in one batch.

    The decoder looks back only, so padding behind a prompt is seen by no token that counts; the
    last digits may differ from those of `next_token_logits`.
    """
    grid = regridding.grid_of(model)
    prompts = [prompt_ids(tokenizer, text, grid.tokens) for text in questions.texts]
    last = torch.tensor([len(prompt) - 1 for prompt in prompts])
    pad, longest = token_id(tokenizer, PAD), max(map(len, prompts))
    ids = torch.tensor([each + [pad] * (longest - len(each)) for each in prompts])
    seen = model.model(
        input_ids=ids.to(model.device),
        pixel_values=pixel_values(torch.from_numpy(questions.images), grid).to(model.device),
        use_cache=False,
    ).last_hidden_state
    logits: torch.Tensor = model.lm_head(seen[torch.arange(len(prompts)), last])
    return logits


def next_token_logits(tokenizer: "Tokenizer", model: Any, questions: Questions) -> torch.Tensor:
    """Logits of the answer's token `[n, vocabulary]`.

    Prompts of one length go through together, so nothing is padded and nothing masked away: each
    question is computed as it would be alone.
    """
    grid = regridding.grid_of(model)
    prompts = [prompt_ids(tokenizer, text, grid.tokens) for text in questions.texts]
    by_length: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(index)
    pixels = pixel_values(torch.from_numpy(questions.images), grid).to(model.device)
    rows: list[torch.Tensor | None] = [None] * len(prompts)
    with torch.no_grad():
        for indices in by_length.values():
            logits = model(
                input_ids=torch.tensor([prompts[i] for i in indices]).to(model.device),
                pixel_values=pixels[indices],
                use_cache=False,
                logits_to_keep=1,
            ).logits[:, -1]
            for index, row in zip(indices, logits, strict=True):
                rows[index] = row
    return torch.stack([row for row in rows if row is not None])
