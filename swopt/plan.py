"""The compression plan: one field a technique, applied in the order of the fields."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

from hwlib.frozen import Frozen
from swopt.compiler.choices import Choices
from swopt.techniques import pruning
from swopt.techniques.attention import AttentionKnobs
from swopt.techniques.dataflow import DataflowKnobs
from swopt.techniques.fusion import FusionKnobs
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs
from swopt.techniques.recovery import RecoveryKnobs
from swopt.techniques.resolution import ResolutionKnobs


class CompressionPlan(Frozen):
    """What is done to the model before it is lowered; the default is the w8a8 baseline."""

    resolution: ResolutionKnobs = ResolutionKnobs()
    """First, how much of a question is read."""

    pruning: PruningKnobs = PruningKnobs()
    """Next, what is removed."""

    recovery: RecoveryKnobs = RecoveryKnobs()
    """Then what is left is taught to answer as the whole did; last but for attention where that is
    behind the rounding."""

    quantization: QuantizationKnobs = QuantizationKnobs()
    """Then, how many bits the rest is stored and read in."""

    attention: AttentionKnobs = AttentionKnobs()
    """Last, how the softmax goes through its keys."""

    fusion: FusionKnobs = FusionKnobs()
    """Which operators run as one on the core; no number of the model depends on it."""

    dataflow: DataflowKnobs = DataflowKnobs()
    """What the mapper is held to; no number of the model depends on it."""

    @property
    def before_rounding(self) -> "CompressionPlan":
        """What is done to the model while it is in float."""
        recovery = RecoveryKnobs() if self.recovery.behind_rounding else self.recovery
        return CompressionPlan(resolution=self.resolution, pruning=self.pruning, recovery=recovery)

    @property
    def taught(self) -> "CompressionPlan":
        """What recovery teaches hangs on this much of the plan; the host's words do not count."""
        if not self.recovery.behind_rounding:
            return self.before_rounding
        return CompressionPlan(
            resolution=self.resolution,
            pruning=self.pruning,
            recovery=self.recovery,
            quantization=self.quantization.model_copy(update={"embedding_bits": 16}),
        )

    @property
    def choices(self) -> Choices:
        """What is for lowering alone: the fields that have the names of `Choices`' own."""
        return Choices(**{name: getattr(self, name) for name in Choices.model_fields})

    def numbers_json(self) -> str:
        """The plan as JSON without what is for lowering alone: what the model's numbers are of."""
        return self.model_dump_json(exclude=set(Choices.model_fields))


ABOUT_IMAGES = (
    "resolution",
    "pruning.vision_blocks",
    "pruning.vision_mlp_keep",
    "pruning.vision_heads_keep",
    "quantization.vision",
    "quantization.connector_bits",
)
"""Fields of a plan, and knobs in them, that a language model alone does not take."""


def reads_images(layers: Sequence[str]) -> bool:
    """Whether a model with blocks and layers of these names has a vision tower."""
    return any(name.startswith("vision.") for name in layers)


def check(plan: CompressionPlan, layers: Sequence[str]) -> None:
    """Holds a plan to a model.

    Args:
        plan: The plan.
        layers: Names of the model's blocks and linear layers.

    Raises:
        ValueError: The plan names a block or a layer that is not there, empties a tower, or speaks
            of images to a model that reads none.
    """
    sees = reads_images(layers)
    if not sees:
        _refuse_images(plan)
    blocks = [name.split(".")[0] for name in layers if name.count(".") == 1]
    pruning.check(plan.pruning, blocks.count("vision") if sees else 1, blocks.count("decoder"))
    for name in plan.quantization.overrides:
        if name not in layers:
            others = "vision.0, connector or head" if sees else "head"
            raise ValueError(
                f"override {name!r} names no block or layer of the model; use names such as "
                f"decoder.0 (blocks are 0 to {blocks.count('decoder') - 1}), decoder.0.mlp.down, "
                f"{others}"
            )


def _refuse_images(plan: CompressionPlan) -> None:
    plain, spoken = CompressionPlan().model_dump(), plan.model_dump()
    if told := [path for path in ABOUT_IMAGES if _at(path, spoken) != _at(path, plain)]:
        raise ValueError(
            "a language model without images has no vision tower and no connector; leave "
            f"{', '.join(told)} out of the plan"
        )


def _at(path: str, document: Any) -> Any:
    """What stands in a document under a path with points."""
    return reduce(lambda part, name: part[name], path.split("."), document)
