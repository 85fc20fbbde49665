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
    "MLP channels pruned": {"pruning": {"vision_mlp_keep": 0.25, "decoder_mlp_keep": 0.25}},
    "shortest wording": {"resolution": {"wording": "shortest"}},
    "recovery by adapters": {"recovery": {"steps": 200}},
}


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
        name: both(FOUR, change)
        if name in ("compensated rounding", "4-bit activations")
        else change
        for name, change in STACK.items()
        if name != "recovery by adapters"
    },
    usual={
        "4 bits in every layer": (FOUR, "the equal bits that mixed precision is compared with"),
        "a quarter of the vision blocks": (
            {"pruning": {"vision_blocks": (2,)}},
            "25 % of the blocks (ShortGPT)",
        ),
        "a quarter of the MLP channels": (
            {"pruning": {"vision_mlp_keep": 0.75, "decoder_mlp_keep": 0.75}},
            "20 to 25 % of the channels (LLM-Pruner)",
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
)
