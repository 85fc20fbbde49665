"""A workload's model after a plan, wholly in integers: compressed, written down, ready to score."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import torch

from hwlib.behaviour import EXACT, Built
from hwlib.config import CoreConfig
from swopt import plan as plans
from swopt.compiler import twin
from swopt.compiler.calibration import Seen, observe
from swopt.compiler.host import Host
from swopt.compiler.integerize import integerize, steps_read
from swopt.compiler.network import Network
from swopt.plan import CompressionPlan
from swopt.techniques import (
    compensation,
    pruning,
    quantization,
    quantization_aware,
    recovery,
    resolution,
    sensitivity,
)
from swopt.techniques.quantization import Moments, WeightBits
from swopt.techniques.recovery import Taught
from swopt.techniques.rounding import QuantizedWeight, Steps
from swopt.techniques.sensitivity import Sensitivities
from swopt.workloads import tiny_vlm
from swopt.workloads.checkpoint import token_id
from swopt.workloads.lessons import distillation
from swopt.workloads.vqa import Questions
from swopt.workloads.workload import Workload

Keep = Callable[[CompressionPlan, Callable[[], Taught]], Taught]
"""Gives what recovery made under a plan, which it may have kept, or calls for it to be made."""


@dataclass(frozen=True)
class IntegerModel:
    """The integer model that a plan leaves of a workload's model.

    Attributes:
        workload: Whose model it was.
        network: What the core computes.
        host: What is computed before it.
    """

    workload: Workload
    network: Network
    host: Host

    @property
    def model_bytes(self) -> int:
        """Bytes of the packed weights of the linear layers."""
        return self.network.weight_bytes

    @property
    def memory_bytes(self) -> int:
        """Bytes of all that is kept of the model: `model_bytes`, scales, biases, norms, rotary
        tables, embeddings and the patch convolution."""
        return self.network.constant_bytes + self.host.constant_bytes

    def logits(self, questions: Questions) -> torch.Tensor:
        """Logits of the answer's token in steps of `network.logit_scale`, int32 `[n, words]`."""
        return twin.logits(self.network, self.host.inputs(questions))

    def score(self, questions: Questions) -> torch.Tensor:
        """Log-probabilities over the workload's answer set, float32 `[n, answers]`."""
        tokenizer = self.workload.vlm.tokenizer
        tokens = [token_id(tokenizer, answer) for answer in self.workload.answers]
        nats = self.logits(questions)[:, tokens].double() * self.network.logit_scale
        return torch.log_softmax(nats, -1).float()


def integer_model(
    workload: Workload,
    plan: CompressionPlan,
    exponential_entries: int = CoreConfig().exponential_entries,
    built: Built = EXACT,
    sensitivities: Callable[[], Sensitivities] | None = None,
    taught: Keep | None = None,
) -> IntegerModel:
    """Applies `plan` to a copy of the workload's model and writes what is left in integers.

    Deterministic: equal arguments give equal integers. Calibration sees training questions only.

    Args:
        workload: The model and its questions.
        plan: What is done to it.
        exponential_entries: Entries of the core's table of the exponential: 4, 8, 16 or 32.
        built: What the core's units give that do not give what the reference does.
        sensitivities: Gives those of the workload's model, asked only where the plan shares bits
            out; None measures them.
        taught: Gives what recovery makes of the weights, or has it made; None has it made.

    Raises:
        ValueError: The plan breaks a law of the model, or a constant does not fit the core.
    """
    compressed = _compress(workload, plan, sensitivities, taught)
    network, host, _ = _written(workload, compressed, plan, exponential_entries)
    host = replace(host, resolution=plan.resolution)
    return IntegerModel(workload, replace(network, built=built), host)


def weight_only_model(workload: Workload, plan: CompressionPlan) -> torch.nn.Module:
    """The float model after `plan`, with its weights rounded and nothing else in integers.

    What quantizing the weights alone costs: the integer model is compared with it.

    Raises:
        ValueError: The plan breaks a law of the model.
    """
    compressed = _compress(workload, plan, None, None)
    for name, layer in compressed.layers.items():
        weight = compressed.weights[name]
        rounded = torch.from_numpy(weight.values * weight.scale[:, None])
        layer.weight.data = rounded.to(layer.weight.dtype)
    return compressed.model


@dataclass(frozen=True)
class _Compressed:
    """A copy of the workload's model after a plan, with its weights in integers beside it.

    Attributes:
        model: The pruned model in float.
        layers: Its linear layers by name; removed ones are missing.
        weights: Their weights in integers.
        seen: What calibration saw of it.
        moments: Gives those of what its layers read.
    """

    model: torch.nn.Module
    layers: Mapping[str, torch.nn.Linear]
    weights: Mapping[str, QuantizedWeight]
    seen: Seen
    moments: Moments


def measure_sensitivities(
    workload: Workload, on_layer: Callable[[str], None] = lambda name: None
) -> Sensitivities:
    """What rounding each layer of the workload's model alone costs, on calibration questions."""
    questions = workload.calibration()
    model = deepcopy(workload.vlm.model)
    layers = tiny_vlm.linear_layers(model)

    def answers() -> torch.Tensor:
        return workload.score(model, questions)

    seen = observe(model, layers, answers)
    power = {name: each.input_power for name, each in seen.layers.items()}
    return sensitivity.measure(tiny_vlm.blocks(model), layers, power, answers, on_layer=on_layer)


def _compress(
    workload: Workload,
    plan: CompressionPlan,
    sensitivities: Callable[[], Sensitivities] | None,
    taught: Keep | None,
) -> _Compressed:
    plans.check(plan, workload.layers)
    questions = resolution.worded(workload.calibration(), plan.resolution)
    model = deepcopy(workload.vlm.model)
    resolution.apply(model, plan.resolution)
    named = tiny_vlm.linear_layers(model)

    def calibrate() -> None:
        workload.score(model, questions)

    pruning.apply(tiny_vlm.blocks(model), named, plan.pruning, calibrate)
    left = set(model.modules())
    layers = {name: layer for name, layer in named.items() if layer in left}
    _recover(workload, model, layers, plan.before_rounding, taught)
    seen = observe(model, layers, calibrate)
    moments = partial(compensation.second_moments, layers, calibrate)
    weights = quantization.apply(
        {name: layer.weight.detach().double().numpy() for name, layer in layers.items()},
        {name: each.input_power for name, each in seen.layers.items()},
        moments,
        plan.quantization,
        _shared(plan, layers, sensitivities or (lambda: measure_sensitivities(workload))),
    )
    compressed = _Compressed(model, layers, weights, seen, moments)
    if not plan.recovery.behind_rounding:
        return compressed
    return replace(compressed, weights=_recovered(workload, compressed, plan, taught))


def _written(
    workload: Workload,
    compressed: _Compressed,
    plan: CompressionPlan,
    exponential_entries: int = CoreConfig().exponential_entries,
) -> tuple[Network, Host, Mapping[str, Steps]]:
    """The compressed model in integers: network, host, and the steps of the network's tensors."""
    return integerize(
        compressed.model,
        compressed.layers,
        compressed.weights,
        compressed.seen,
        workload.vlm.tokenizer,
        plan.attention.block,
        exponential_entries,
        plan.quantization.activation_bits,
        plan.quantization.embedding_bits,
    )


def _recover(
    workload: Workload,
    model: torch.nn.Module,
    layers: Mapping[str, torch.nn.Linear],
    plan: CompressionPlan,
    taught: Keep | None,
) -> None:
    """Teaches the model in float, or gives it what it learnt when it was taught."""
    if not plan.recovery.steps:
        return

    def teach() -> Taught:
        lesson = distillation(workload, model, plan.resolution)
        return recovery.teach(model, layers, plan.recovery, lesson)

    (taught(plan.taught, teach) if taught else teach()).into(layers)


def _recovered(
    workload: Workload, compressed: _Compressed, plan: CompressionPlan, taught: Keep | None
) -> Mapping[str, QuantizedWeight]:
    """The weights after the model was taught behind its rounding."""
    model, layers, weights = compressed.model, compressed.layers, compressed.weights

    def teach() -> Taught:
        network, _, steps = _written(workload, compressed, plan)
        return quantization_aware.teach(
            model,
            layers,
            weights,
            steps_read(network, steps),
            quantization.compensated(weights, compressed.moments, plan.quantization),
            plan.recovery,
            distillation(workload, model, plan.resolution),
        )

    found = taught(plan.taught, teach) if taught else teach()
    return quantization_aware.apply(weights, found)


def _shared(
    plan: CompressionPlan,
    layers: Mapping[str, torch.nn.Linear],
    sensitivities: Callable[[], Sensitivities],
) -> dict[str, WeightBits]:
    """What `mean_bits` gives to the layers that no deeper level speaks for."""
    knobs = plan.quantization
    if knobs.mean_bits == quantization.QuantizationKnobs().mean_bits:
        return {}
    weights = {
        name: layer.weight.numel()
        for name, layer in layers.items()
        if quantization.spoken_bits(knobs, name) is None
    }
    return sensitivities().shared_out(weights, knobs.mean_bits) if weights else {}
