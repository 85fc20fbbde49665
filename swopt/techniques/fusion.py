"""Operator fusion: which operators run as one on the core, and which write a tensor between them.

The compiler fuses all that it can. Each knob takes one of these fusions back, so that what it is
worth can be measured and traded: the numbers of the model are the same either way. What an operator
writes then lies in the activation memory until the next one has read it.

Sources: fusion of element-wise operators into the product before them, Chen et al., TVM (OSDI
2018), section 3; legal and profitable fusions of a whole graph, Niu et al., DNNFusion (PLDI 2021);
attention without its matrix of scores, Dao et al., FlashAttention (NeurIPS 2022).
"""

from typing import Literal

from hwlib.frozen import Frozen


class FusionKnobs(Frozen):
    """What runs as one; the default is everything. No knob changes a number of the model."""

    activations: bool = True
    """An activation or a gate takes the drained sums of its layers chunk by chunk; else their int16
    tensors are written whole first."""

    rotations: bool = True
    """A rotary embedding takes the drained sums of its layer head by head; else their int16 tensor
    is written whole first."""

    residuals: bool = True
    """A layer's sums are added to the stream as they are drained; else they are written as int16
    and the vector engine adds them."""

    attention: bool = True
    """Scores, softmax and weighted sums of a block of keys follow each other; else the scores of
    all heads and keys are written before the first softmax."""

    norms: bool = True
    """A norm and the layers that read it may share a pass, block by block; else it is written for
    all tokens first."""

    pieces: Literal[1, 2, 3] = 3
    """Most pieces that a pass takes a block through: a norm with its layers, or attention with its
    output layer, is one; with 1 every piece ends for all tokens before the next begins."""
