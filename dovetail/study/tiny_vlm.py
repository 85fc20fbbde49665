"""The list of `tiny-vlm`: medical images as questions, the whole inference on the core."""

from collections.abc import Mapping
from typing import Any

from dovetail.study.entries import Change, StudyList, both
from evaluators import workloads

FOUR: Change = {"quantization": {"bits": 4}, "hardware": {"composable": True}}
"""What 4-bit products need: weights of 4 bits, and elements that are composed of such products."""

STACK: Mapping[str, Change] = {
    "bits by sensitivity, composable elements": {
        "quantization": {"bits": 4, "mean_bits": 3.5},
        "hardware": {"composable": True},
    },
    "compensated rounding": {"quantization": {"rounding": "compensated"}},
    "4-bit activations": {"quantization": {"activation_bits": 4}},
    "vision blocks pruned": {"pruning": {"vision_blocks": (1, 2, 3)}},
    "a decoder block pruned": {"pruning": {"decoder_blocks": (1,)}},
    "MLP channels pruned": {"pruning": {"vision_mlp_keep": 0.125, "decoder_mlp_keep": 0.125}},
    "attention heads pruned": {
        "pruning": {"vision_heads_keep": 0.75, "decoder_heads_keep": 0.75},
    },
    "least squares": {"pruning": {"compensation": "least_squares"}},
    "shortest wording": {"resolution": {"wording": "shortest"}},
    "recovery by adapters": {"recovery": {"steps": 200}},
    "8-bit embeddings": {"quantization": {"embedding_bits": 8}},
}

TWO: Change = {
    "quantization": {"bits": 2, "mean_bits": 8.0, "rounding": "compensated"},
    "hardware": {"composable": True},
    "recovery": {"steps": 200, "quantization_aware": True},
}
"""Weights of 2 bits need to be taught behind their rounding."""

NEEDS: Mapping[str, Change] = {
    "compensated rounding": FOUR,
    "4-bit activations": FOUR,
    "least squares": {"pruning": {"vision_mlp_keep": 0.25, "decoder_mlp_keep": 0.25}},
}
"""What a technique that does nothing by itself is measured with."""

WIDE: Mapping[str, Any] = {"dma_bytes": 16, "activation_bytes": 32768}

TINY_VLM = StudyList(
    workload=workloads.TINY_VLM,
    asked="one answered question, batch 1",
    scored="answers",
    cores=(
        {},
        {"dma_bytes": 16},
        {"columns": 16, "dma_bytes": 16},
        {"rows": 16, **WIDE},
        {"rows": 16, "columns": 16, "weight_bytes": 8192, **WIDE},
    ),
    stack=STACK,
    # Recovery alone has nothing to win back.
    alone={
        name: both(NEEDS[name], change) if name in NEEDS else change
        for name, change in STACK.items()
        if name != "recovery by adapters"
    }
    | {"2 bits, taught behind the rounding": TWO},
    usual={
        "4 bits in every layer": (FOUR, "the equal bits that mixed precision is compared with"),
        "2 bits in every layer": (
            {
                "quantization": {"bits": 2, "rounding": "compensated"},
                "hardware": {"composable": True},
            },
            "compensated rounding (GPTQ), no teaching",
        ),
        "a quarter of the vision blocks": (
            {"pruning": {"vision_blocks": (2,)}},
            "25 % of the blocks (ShortGPT)",
        ),
        "a quarter of the MLP channels": (
            {"pruning": {"vision_mlp_keep": 0.75, "decoder_mlp_keep": 0.75}},
            "20 to 25 % of the channels (LLM-Pruner)",
        ),
        "three quarters of the MLP channels": (
            NEEDS["least squares"],
            "what leaves on average in the bias, nothing else",
        ),
        "half of the pixels": (
            {"resolution": {"image_width": 16}},
            "fewer pixels without other training",
        ),
    },
    controls={
        "other vision blocks pruned": (
            {"pruning": {"vision_blocks": (0, 1)}},
            "two blocks, but not those whose influence is least",
        ),
        "composable elements under w8a8": ({"hardware": {"composable": True}}, "hardware alone"),
    },
    rewrites=(
        "array_shared_operands",
        "rescaler_booth",
        "inverse_sqrt_one_cycle",
        "activation_coarse_table",
    ),
    # Elements of 8-bit products can do nothing with narrow activations.
    together={"bits by sensitivity, composable elements": ("4-bit activations",)},
    ladder={"2 bits, taught behind the rounding": TWO},
)
