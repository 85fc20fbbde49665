"""Memory-efficient attention: the online softmax goes through the keys block by block."""

from typing import Literal

from hwlib.frozen import Frozen


class AttentionKnobs(Frozen):
    """How the integer attention is cut; part of the numbers, since probabilities have 7 bits."""

    block: Literal[16, 32, 64, 128, 256] = 64
    """Keys of one block of the online softmax; its buffers grow with it, not with the sequence."""
