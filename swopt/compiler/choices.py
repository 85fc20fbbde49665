"""What a plan chooses of a lowering. It changes commands and cycles, and no number of the model."""

from hwlib.frozen import Frozen
from swopt.techniques.dataflow import DataflowKnobs
from swopt.techniques.fusion import FusionKnobs


class Choices(Frozen):
    """Fusion and dataflow; the default leaves all of it to the mapper."""

    fusion: FusionKnobs = FusionKnobs()
    """Which operators run as one."""

    dataflow: DataflowKnobs = DataflowKnobs()
    """What the mapper is held to."""


MAPPER = Choices()
"""Everything is fused and the mapper chooses."""
