"""What is known of a workload by its name alone: the design that its others are compared with."""

from evaluators.design import DesignPoint
from hwlib.config import CoreConfig

TINY_VLM = "tiny-vlm"
"""The image-and-text model that comes with Dovetail; every other name is of a language model."""

ROOM = CoreConfig(activation_bytes=131072, channel_entries=1024, dma_bytes=16)
"""A core for a language model: 336 tokens of keys and values go through it. With so much memory no
array of more than 64 elements stays under a square millimetre, and four rows are too few."""


def baseline(workload: str) -> DesignPoint:
    """The neutral design: w8a8 on the default core, or on one with room for a language model."""
    return DesignPoint() if workload == TINY_VLM else DesignPoint(hardware=ROOM)
