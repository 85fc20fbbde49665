"""The GEMMs that every tool is asked for, and what a DeiT-tiny block is made of.

Plain Python without imports, as both environments read it.
"""

GEMMS = (
    (197, 192, 192),
    (197, 192, 768),
    (197, 768, 192),
    (197, 64, 197),
    (197, 197, 64),
    (64, 576, 576),
    (64, 576, 1536),
    (64, 1536, 576),
)
"""(tokens, inputs, outputs): DeiT-tiny's layers and one head's two products of 197 tokens; three
layers of SmolLM2-135M at 64 tokens."""

DEIT_TINY_BLOCK = {
    (197, 192, 192): 4,
    (197, 192, 768): 1,
    (197, 768, 192): 1,
    (197, 64, 197): 3,
    (197, 197, 64): 3,
}
"""How often an encoder block of DeiT-tiny computes each: queries, keys, values and the output
layer, the MLP, and three heads."""


def name_of(gemm: tuple[int, int, int]) -> str:
    """What a GEMM is called in files and tables."""
    return "x".join(map(str, gemm))
