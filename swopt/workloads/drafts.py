"""Drafts for speculative decoding: the drafter that knobs name, beside a loaded target."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swopt.techniques import pruning
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import WeightBits
from swopt.techniques.rounding import quantize
from swopt.techniques.speculative import (
    Drafter,
    ModelDrafter,
    PromptLookup,
    SpeculativeKnobs,
    check_tokenizers,
)
from swopt.workloads import language_models
from swopt.workloads.float_decoding import FloatDecoder
from swopt.workloads.language_models import LanguageModel

if TYPE_CHECKING:
    import torch


def drafter(
    knobs: SpeculativeKnobs,
    target: LanguageModel,
    ids: Sequence["torch.Tensor"] = (),
    models: Path | None = None,
) -> Drafter | None:
    """The drafter that knobs name, in float32; None where nothing is drafted.

    Args:
        knobs: Who drafts.
        target: The model whose text is drafted; it is not changed.
        ids: Calibration texts for a compressed draft of fewer than 8 bits, int64 `[tokens]` each.
        models: The models folder, as for `language_models.load`.

    Raises:
        ModelError: A separate draft cannot be loaded.
        ValueError: It has another tokenizer, is not named, or the target has no such block.
    """
    match knobs.draft:
        case "none":
            return None
        case "prompt_lookup":
            return PromptLookup(knobs.ngram)
        case "model":
            if not knobs.draft_model:
                raise ValueError("a draft by a separate model needs draft_model; name one")
            loaded = language_models.load(knobs.draft_model, models)
            check_tokenizers(target.tokenizer, loaded.tokenizer)
            ours, theirs = _embedded(target.model), _embedded(loaded.model)
            if theirs > ours:
                raise ValueError(
                    f"the draft has embeddings of {theirs} tokens and the target of {ours}, so it "
                    "may draft what the target cannot read; take a draft with no more tokens"
                )
            return ModelDrafter(FloatDecoder(loaded.model))
        case "compressed":
            model = without_blocks(target.model, knobs.draft_without_blocks)
            if knobs.draft_bits < SpeculativeKnobs().draft_bits:
                round_weights(model, knobs.draft_bits, ids)
            return ModelDrafter(FloatDecoder(model))


def _embedded(model: Any) -> int:
    """Tokens that a model has embeddings of."""
    return int(model.config.vocab_size)


def without_blocks(model: Any, blocks: tuple[int, ...]) -> Any:
    """A copy of a causal language model that lacks some decoder blocks.

    Args:
        model: `LlamaForCausalLM` or a like one.
        blocks: Their indices, ascending, each once.

    Raises:
        ValueError: The model has no such block, or none would be left.
    """
    knobs = PruningKnobs(decoder_blocks=blocks)
    pruning.check(knobs, 1, len(model.model.layers))  # of vision blocks it names none
    made = copy.deepcopy(model)
    pruning.apply({"decoder": made.model.layers}, {}, knobs, lambda: None)
    # Keys and values are kept by the block's number.
    for index, block in enumerate(made.model.layers):
        block.self_attn.layer_idx = index
    made.config.num_hidden_layers = len(made.model.layers)
    return made


def round_weights(model: Any, bits: WeightBits, ids: Sequence["torch.Tensor"]) -> None:
    """Rounds the weights of the linear layers to so many bits and leaves them in float, in place.

    Args:
        model: `LlamaForCausalLM` or a like one; its head is untied from its embeddings.
        bits: Of a weight.
        ids: Calibration texts, int64 `[tokens]` each, at least one.

    Raises:
        ValueError: There are no texts.
    """
    import torch

    from swopt.compiler.language_model import linear_layers, observe

    if not ids:
        raise ValueError(f"rounding to {bits} bits needs calibration texts, and there are none")
    seen = observe(model, ids)
    layers = linear_layers(model)
    model.config.tie_word_embeddings = False
    for name, layer in layers.items():
        weight = layer.weight.detach().double().numpy()
        rounded = quantize(weight, bits, seen.layers[name].input_power)
        values = torch.from_numpy(rounded.values * rounded.scale[:, None]).float()
        layer.weight = torch.nn.Parameter(values, requires_grad=False)
