"""The compression plan: one field a technique, applied in the order of the fields."""

from typing import TYPE_CHECKING

from hwlib.frozen import Frozen
from swopt.techniques import pruning, quantization
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs

if TYPE_CHECKING:
    from swopt.compressed import CompressedModel
    from swopt.workloads.workload import Workload


class CompressionPlan(Frozen):
    """What is done to the model before it is lowered; the default is the w8a8 baseline."""

    pruning: PruningKnobs = PruningKnobs()
    """First, what is removed."""

    quantization: QuantizationKnobs = QuantizationKnobs()
    """Then, how many bits the rest is stored in."""


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


def compress(workload: "Workload", plan: CompressionPlan) -> "CompressedModel":
    """Applies `plan` to a copy of the workload's model: remove, calibrate, quantize, convert.

    Deterministic: equal plans give equal integers. Calibration sees training questions only.

    Raises:
        ValueError: The plan breaks a law of the model, in one sentence.
    """
    from copy import deepcopy

    from swopt.compiler import integer
    from swopt.compressed import CompressedModel
    from swopt.workloads import tiny_vlm

    check(plan, workload.layers)
    questions = workload.calibration()
    model = deepcopy(workload.vlm.model)
    named = tiny_vlm.linear_layers(model)
    pruning.apply(
        tiny_vlm.blocks(model), named, plan.pruning, lambda: workload.score(model, questions)
    )
    left = set(model.modules())
    layers = {name: layer for name, layer in named.items() if layer in left}
    observer = integer.Observer(layers)
    workload.score(model, questions)
    calibration = observer.finish()
    weights = quantization.apply(
        {name: layer.weight.detach().double().numpy() for name, layer in layers.items()},
        {name: seen.input_power for name, seen in calibration.items()},
        plan.quantization,
    )
    converted = integer.convert(model, layers, weights, calibration, frozenset({"head"}))
    return CompressedModel(workload, model, converted)
