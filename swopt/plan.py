"""The compression plan: one field a technique, applied in the order of the fields."""

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
    """Then what is left is taught to answer as the whole did."""

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
        return CompressionPlan(
            resolution=self.resolution, pruning=self.pruning, recovery=self.recovery
        )

    @property
    def choices(self) -> Choices:
        """What is for lowering alone: the fields that have the names of `Choices`' own."""
        return Choices(**{name: getattr(self, name) for name in Choices.model_fields})

    def numbers_json(self) -> str:
        """The plan as JSON without what is for lowering alone: what the model's numbers are of."""
        return self.model_dump_json(exclude=set(Choices.model_fields))


def check(plan: CompressionPlan, layers: tuple[str, ...]) -> None:
    """Holds a plan to a model.

    Args:
        plan: The plan.
        layers: `Workload.layers` of the model.

    Raises:
        ValueError: The plan names a block or a layer that is not there, or empties a tower.
    """
    named = [name.split(".") for name in layers]
    count = {tower: len([n for n in named if n[0] == tower and len(n) == 2]) for tower, *_ in named}
    pruning.check(plan.pruning, count["vision"], count["decoder"])
    for name in plan.quantization.overrides:
        if name not in layers:
            raise ValueError(
                f"override {name!r} names no block or layer of the model; "
                "use names such as vision.0, decoder.0.mlp.down, connector or head"
            )
