"""A design on the core that runs the whole model: its knobs, and how the model becomes integers."""

from typing import Annotated, Literal

from pydantic import Field

from evaluators.design import Identified
from hwlib.core_config import CoreConfig
from swopt.plan import CompressionPlan


class CoreDesign(Identified):
    """One whole-model core and the model that runs on it."""

    hardware: CoreConfig = CoreConfig()
    """The core's knobs."""

    compression: CompressionPlan = CompressionPlan()
    """What is done to the model."""

    attention_block: Annotated[int, Field(ge=2, le=1024, multiple_of=2)] = 64
    """Keys of one block of the online softmax: part of the numbers."""

    activation_bits: Literal[8, 4] = 8
    """Bits of what linear layers read whose weights have 4 bits or fewer."""
