"""The list of `smollm2-135m`: code, a prompt of 256 tokens and 64 tokens after it."""

from collections.abc import Mapping

from dovetail.study.entries import Change, StudyList, both
from evaluators.workloads import ROOM

FOUR: Change = {"quantization": {"bits": 4, "head_bits": 8}, "hardware": {"composable": True}}

BITS = "bits by sensitivity, composable elements"

TAUGHT = "taught behind the rounding"

STACK: Mapping[str, Change] = {
    BITS: {"quantization": {"bits": 4, "mean_bits": 5.0}, "hardware": {"composable": True}},
    "compensated rounding": {"quantization": {"rounding": "compensated"}},
    "8-bit embeddings": {"quantization": {"embedding_bits": 8}},
    TAUGHT: {"recovery": {"steps": 50, "rank": 16, "quantization_aware": True}},
}

GROUPED: Change = {
    "quantization": {"group": 64},
    "hardware": {"grouped_weights": True, "composable": False},
}
"""Weights of groups are multiplied as 8-bit ones, for which composable elements are no faster."""

EIGHTH: Change = {"pruning": {"decoder_mlp_keep": 0.875}}

SOLVED: Change = {"pruning": {"compensation": "least_squares"}}

EVERY: Change = {"quantization": {"mean_bits": 8.0}}
"""What shares nothing out: every layer has the 4 bits of the stack, the head among them."""

SMOLLM2 = StudyList(
    workload="smollm2-135m",
    asked="a prompt of 256 tokens and 64 tokens after it, batch 1",
    scored="bits per byte",
    cores=(ROOM.model_dump(exclude_defaults=True),),
    stack=STACK,
    alone={
        BITS: STACK[BITS],
        "compensated rounding": both(FOUR, STACK["compensated rounding"]),
        "compensated rounding, groups of 64": both(
            both(FOUR, STACK["compensated rounding"]), GROUPED
        ),
        "8-bit embeddings": STACK["8-bit embeddings"],
        TAUGHT: STACK[TAUGHT],
        "an eighth of the MLP channels pruned, least squares": both(EIGHTH, SOLVED),
        "a block pruned": {"pruning": {"decoder_blocks": (16,)}},
    },
    usual={
        "4 bits in every layer, 8 in the head": (FOUR, "nearest steps, a scale a channel"),
        "4 bits in groups of 64, 8 in the head": (both(FOUR, GROUPED), "nearest steps"),
        "an eighth of the MLP channels": (EIGHTH, "what leaves on average in the bias"),
    },
    controls={
        "composable elements under w8a8": ({"hardware": {"composable": True}}, "hardware alone"),
    },
    rewrites=("array_shared_operands", "rescaler_booth", "inverse_sqrt_one_cycle"),
    ladder={
        **{
            f"{bits:g} bits in the mean": {"quantization": {"mean_bits": bits}}
            for bits in (7.0, 6.0, 4.5)
        },
        "4 bits in every layer": EVERY,
        "4 bits in every layer and word": both(EVERY, {"quantization": {"embedding_bits": 4}}),
        "6 bits in the mean, groups of 64": both({"quantization": {"mean_bits": 6.0}}, GROUPED),
        "4 bits in every layer and word, groups of 64": both(
            both(EVERY, {"quantization": {"embedding_bits": 4}}), GROUPED
        ),
        "4 bits in every layer, an eighth of the MLP channels pruned": both(
            both(EVERY, EIGHTH), SOLVED
        ),
        "3.75 bits in the mean": {"quantization": {"mean_bits": 3.75}},
    },
)
