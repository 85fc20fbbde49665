"""A causal language model after a plan, wholly in integers.

First what does not hang on bits, once for every pruning (`prepare`): blocks and channels go, what
is left may be taught (`swopt.techniques.recovery`), the stream is rotated
(`swopt.techniques.rotation`), sizes of channels move into weights (`swopt.techniques.smoothing`),
the keys and values of a prefix are computed (`swopt.compiler.prefix`), and calibration looks at
what is left. Then the bits (`compress`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch

from hwlib.config import CoreConfig
from swopt.compiler.calibration import Seen
from swopt.compiler.integerize import NO_RANGES
from swopt.compiler.language_model import (
    IntegerLanguageModel,
    Remember,
    integer_language_model,
    linear_layers,
    make_anew,
    observe,
)
from swopt.compiler.prefix import Prefix, float_prefix
from swopt.compiler.ranges import Range
from swopt.plan import CompressionPlan, check
from swopt.techniques import compensation, pruning, quantization, rotation, sensitivity, smoothing
from swopt.techniques.compensation import Moment
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs, WeightBits
from swopt.techniques.rounding import QuantizedWeight, Steps
from swopt.techniques.sensitivity import Sensitivities
from swopt.techniques.smoothing import SmoothingKnobs

PREFIX_TEXT = '''"""Configuration files are read here, and written again.

A module of Python.
"""

import re
'''
"""Text whose first `prefix.TOKENS` tokens stand in front of every text: of no module that scores
are taken of."""


HEAD = "head"
"""The layer that is not taught: its weights may be the embeddings, too."""

NO_TEACHER = "the plan has steps of recovery, and nothing was given that teaches"

Recover = Callable[[Any, Mapping[str, torch.nn.Linear]], None]
"""Teaches a pruned model, whose linear layers it is given by name, in place."""

Recovered = Callable[
    ["PreparedLanguageModel", Mapping[str, QuantizedWeight], Mapping[str, Steps]],
    Mapping[str, QuantizedWeight],
]
"""Gives weights that were taught behind the rounding for weights and the steps of what is read."""


@dataclass(frozen=True)
class PreparedLanguageModel:
    """A float model that is ready to be quantized: pruned, taught, and with the same answers since.

    Attributes:
        model: `LlamaForCausalLM` or a like one, pruned, rotated and smoothed.
        layers: Its linear layers, under the names of the unpruned model.
        unpruned: Names of all linear layers before pruning.
        done: The plan's part that is done to it: what is removed, and how long it was taught.
        seen: What calibration saw of it.
        ranges: How far the steps of what layers read reach, where that is not as far as calibration
            saw.
        prefix: What stands in front of every text; None for nothing.
        calibration: Texts that it was calibrated on, int64 `[tokens]` each.
    """

    model: Any
    layers: Mapping[str, torch.nn.Linear]
    unpruned: tuple[str, ...]
    done: CompressionPlan
    seen: Seen
    ranges: Mapping[str, Range]
    prefix: Prefix | None
    calibration: tuple[torch.Tensor, ...]

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """Tokens that stand in front of every text."""
        return () if self.prefix is None else self.prefix.ids

    @cached_property
    def moments(self) -> Mapping[str, Moment]:
        """Moments of what each layer reads on the calibration texts, for compensated rounding."""
        calibrate = partial(run, self.model, self.calibration, self.prefix_ids, logits=0)
        return compensation.second_moments(self.layers, calibrate, len(self.prefix_ids))


def layer_names(layers: Collection[str]) -> tuple[str, ...]:
    """Names of blocks and linear layers, as a plan may name them: the blocks come first."""
    blocks = dict.fromkeys(".".join(n.split(".")[:2]) for n in layers if n.startswith("decoder."))
    return (*blocks, *layers)


def prepare(
    model: Any,
    calibration: Sequence[torch.Tensor],
    plan: CompressionPlan = CompressionPlan(),  # noqa: B008
    prefix: Sequence[int] = (),
    smoothed: SmoothingKnobs = SmoothingKnobs(),  # noqa: B008
    recover: Recover | None = None,
    practice: Callable[[], Sequence[torch.Tensor]] | None = None,
) -> PreparedLanguageModel:
    """Prunes, teaches, rotates and smooths a copy of a model, and calibrates it.

    Args:
        model: `LlamaForCausalLM` or a like one, in float32; it is not changed.
        calibration: Texts, int64 `[tokens]` each.
        plan: What is done to it before anything is rounded; the rest does not matter here.
        prefix: Tokens that stand in front of every text; with none, the first token of each text is
            computed like all others.
        smoothed: How far sizes move into weights.
        recover: Teaches what is left, in place; asked where the plan has steps of recovery.
        practice: More texts, for weights that are solved for by least squares; None for
            `calibration` alone, which is fewer tokens than a layer has inputs.

    Raises:
        ValueError: What is to be removed is not there, or nothing is there that teaches.
    """
    done = plan.before_rounding
    check(done, layer_names(linear_layers(model)))
    if done.recovery.steps and recover is None:
        raise ValueError(NO_TEACHER)
    made, skip = deepcopy(model), len(prefix)
    named = linear_layers(made)
    unpruned = tuple(named)
    calibrate = partial(run, made, calibration, prefix)
    show = calibrate
    if practice and done.pruning.narrows and done.pruning.compensation == "least_squares":
        show = partial(run, made, practice(), prefix)
    layers = _pruned(made, named, done.pruning, show, skip)
    if recover is not None and done.recovery.steps:
        recover(made, {name: layer for name, layer in layers.items() if name != HEAD})
    rotation.rotate(made)
    readers = {n: m for n, m in layers.items() if n.endswith(("attention.output", "mlp.down"))}
    if smoothed != SmoothingKnobs(down=0.0, output=0.0):
        config = made.config
        smoothing.smooth(
            layers,
            smoothing.largest_inputs(readers, calibrate, skip),
            config.num_attention_heads,
            config.num_key_value_heads,
            smoothed,
        )
    seen = observe(made, calibration, prefix, layers)
    return PreparedLanguageModel(
        made,
        layers,
        unpruned,
        done,
        seen,
        NO_RANGES,
        float_prefix(made, prefix) if prefix else None,
        tuple(calibration),
    )


def _pruned(
    model: Any,
    layers: Mapping[str, torch.nn.Linear],
    removed: PruningKnobs,
    calibrate: Callable[[], object],
    skip: int,
) -> dict[str, torch.nn.Linear]:
    """Prunes a model in place; of its linear layers those that are left."""
    pruning.apply({"decoder": model.model.layers}, layers, removed, calibrate, skip)
    for index, block in enumerate(model.model.layers):
        block.self_attn.layer_idx = index
    model.config.num_hidden_layers = len(model.model.layers)
    left = set(model.modules())
    return {name: layer for name, layer in layers.items() if layer in left}


def run(
    model: Any,
    texts: Sequence[torch.Tensor],
    prefix: Sequence[int] = (),
    logits: int = 1,
) -> None:
    """Runs a float model on texts, for what watches its layers.

    Args:
        model: `LlamaForCausalLM` or a like one.
        texts: int64 `[tokens]` each.
        prefix: Tokens that stand in front of every text.
        logits: Last tokens of each text that the head answers; 0 for all.
    """
    with torch.inference_mode():
        for text in texts:
            ids = torch.cat((torch.tensor(tuple(prefix), dtype=torch.long), text))
            model(input_ids=ids[None], use_cache=False, logits_to_keep=logits)


def compress(
    prepared: PreparedLanguageModel,
    plan: CompressionPlan,
    exponential_entries: int = CoreConfig().exponential_entries,
    sensitivities: Callable[[], Sensitivities] | None = None,
    remember: Remember = make_anew,
    recovered: Recovered | None = None,
) -> IntegerLanguageModel:
    """The integer model that a plan leaves of a prepared one.

    Deterministic: equal arguments give equal integers.

    Args:
        prepared: The model, pruned as the plan has it.
        plan: What is done to it.
        exponential_entries: Entries of the core's table of the exponential: 4, 8, 16 or 32.
        sensitivities: Gives those of the unpruned model, asked only where the plan shares bits out;
            None measures them.
        remember: Where quantized weights are kept.
        recovered: Teaches behind the rounding; asked where the plan has it so.

    Raises:
        ValueError: The plan breaks a law of the model, the model was pruned otherwise, or nothing
            is there that teaches.
    """
    check(plan, layer_names(prepared.unpruned))
    if plan.before_rounding != prepared.done:
        raise ValueError(
            f"the model was prepared for {prepared.done!r}, not for {plan.before_rounding!r}; "
            "prepare it anew"
        )
    behind = plan.recovery.behind_rounding
    if behind and recovered is None:
        raise ValueError(NO_TEACHER)
    return integer_language_model(
        prepared.model,
        prepared.seen,
        plan.quantization,
        plan.attention.block,
        exponential_entries,
        layers=prepared.layers,
        shared=_shared(plan.quantization, prepared, sensitivities),
        prefix=prepared.prefix,
        ranges=prepared.ranges,
        moments=lambda: prepared.moments,
        remember=remember,
        teach=partial(recovered, prepared) if behind and recovered else None,
    )


def _shared(
    knobs: QuantizationKnobs,
    prepared: PreparedLanguageModel,
    sensitivities: Callable[[], Sensitivities] | None,
) -> dict[str, WeightBits]:
    """What `mean_bits` gives to the layers that no deeper level speaks for."""
    if knobs.mean_bits == QuantizationKnobs().mean_bits:
        return {}
    weights = {
        name: layer.weight.numel()
        for name, layer in prepared.layers.items()
        if quantization.spoken_bits(knobs, name) is None
    }
    if not weights:
        return {}
    found = sensitivities() if sensitivities else measure_sensitivities(prepared)
    return found.shared_out(weights, knobs.mean_bits)


SENSITIVITY_TEXTS = 2
"""Calibration texts that sensitivities are measured on."""

SENSITIVITY_TOKENS = 64
"""First tokens of each that are read; the answers of every second one are compared."""


def measure_sensitivities(
    prepared: PreparedLanguageModel,
    bits: Sequence[WeightBits] = sensitivity.MEASURED_BITS,
    on_layer: Callable[[str], None] = lambda name: None,
) -> Sensitivities:
    """What rounding each layer alone costs: divergence of the next token's distribution.

    Args:
        prepared: The float model; it is left as it was.
        bits: What is tried.
        on_layer: Told each layer as it begins.

    Raises:
        ValueError: The model was pruned or taught.
    """
    if prepared.done != CompressionPlan():
        raise ValueError(
            "sensitivities are measured on the unpruned model, whose layers they name; prepare it "
            "without pruning and recovery"
        )
    model, first = prepared.model, torch.tensor(prepared.prefix_ids, dtype=torch.long)
    texts = torch.stack(
        [
            torch.cat((first, text[:SENSITIVITY_TOKENS]))
            for text in prepared.calibration[:SENSITIVITY_TEXTS]
        ]
    )
    asked = torch.arange(len(first), texts.shape[1], 2)

    def answers() -> torch.Tensor:
        with torch.inference_mode():
            logits = model(input_ids=texts, use_cache=False, logits_to_keep=asked).logits
        return torch.log_softmax(logits.flatten(0, 1), -1)  # [texts * asked, vocabulary]

    power = {name: each.input_power for name, each in prepared.seen.layers.items()}
    towers = {"decoder": model.model.layers}
    return sensitivity.measure(towers, prepared.layers, power, answers, bits, on_layer)


def block_influence(model: Any, texts: Sequence[torch.Tensor]) -> tuple[float, ...]:
    """How much each decoder block changes the direction of its stream: 1 - mean cosine.

    The block influence of ShortGPT (Men et al., 2024, equation 1): the mean over tokens of 1 less
    the cosine between what comes into a block and what leaves it.

    Args:
        model: `LlamaForCausalLM` or a like one.
        texts: Calibration texts, int64 `[tokens]` each.
    """
    turned: list[list[torch.Tensor]] = [[] for _ in model.model.layers]

    def see(index: int, before: torch.Tensor, after: torch.Tensor) -> None:
        cosine = torch.cosine_similarity(before.double(), after.double(), dim=-1)
        turned[index].append(1 - cosine.flatten())

    hooks = [
        block.register_forward_hook(
            lambda _, inputs, output, index=index: see(index, inputs[0], output)
        )
        for index, block in enumerate(model.model.layers)
    ]
    run(model, texts)
    for hook in hooks:
        hook.remove()
    return tuple(float(torch.cat(each).mean()) for each in turned)
