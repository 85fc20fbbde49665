"""A language model after a plan: pruned, rotated, smoothed, quantized, behind a prefix."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from swopt.compiler.compressed_language_model import (
    PreparedLanguageModel,
    block_influence,
    compress,
    measure_sensitivities,
    prepare,
)
from swopt.compiler.prefix import TOKENS
from swopt.plan import CompressionPlan
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs, TowerBits
from swopt.techniques.recovery import RecoveryKnobs
from swopt.techniques.rounding import QuantizedWeight
from swopt.techniques.sensitivity import Sensitivities
from swopt.techniques.smoothing import SmoothingKnobs
from tests.swopt import tiny_llama

CALIBRATION = [torch.arange(start, start + 60) % 260 for start in (2, 70, 140)]
PREFIX = (261, *range(3, 2 + TOKENS))
IDS = torch.arange(5, 45)


def outlier_model() -> Any:
    """A model the first of whose tokens have MLP channels that are far too large."""
    model: Any = tiny_llama.model()
    with torch.no_grad():
        model.model.embed_tokens.weight[PREFIX[0]] *= 30
        for block in model.model.layers:
            block.mlp.up_proj.weight[7] *= 30
    return model


def pruned(**knobs: Any) -> CompressionPlan:
    return CompressionPlan(pruning=PruningKnobs(**knobs))


@pytest.fixture(scope="module")
def prepared() -> PreparedLanguageModel:
    return prepare(outlier_model(), CALIBRATION, prefix=PREFIX)


@pytest.fixture(scope="module")
def sensitivities(prepared: PreparedLanguageModel) -> Sensitivities:
    return measure_sensitivities(prepared)


def float_nats(model: Any, prefix: tuple[int, ...] = PREFIX) -> torch.Tensor:
    ids = torch.cat((torch.tensor(prefix, dtype=torch.long), IDS))
    with torch.inference_mode():
        logits = model(input_ids=ids[None]).logits[0, len(prefix) :]
    return torch.log_softmax(logits.double(), -1)


def apart(reference: torch.Tensor, made: Any) -> float:
    ours = torch.log_softmax(made(IDS[None]).logits[0].double(), -1)
    return float((reference.exp() * (reference - ours)).sum(-1).mean())


def test_preparing_changes_no_answer_of_the_float_model(prepared: PreparedLanguageModel) -> None:
    model = outlier_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ready = prepare(model, CALIBRATION, prefix=PREFIX, smoothed=SmoothingKnobs(output=0.5))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for each in (prepared, ready):
        assert torch.allclose(float_nats(each.model), float_nats(model), atol=2e-3)


def test_smoothed_integers_follow_a_model_with_outliers_more_closely() -> None:
    model, away = outlier_model(), []
    for smoothed in (SmoothingKnobs(down=0.0), SmoothingKnobs()):
        ready = prepare(model, CALIBRATION, prefix=PREFIX, smoothed=smoothed)
        away.append(apart(float_nats(model), compress(ready, CompressionPlan())))
    assert away[1] < away[0]


def test_what_only_a_prefix_reaches_takes_no_steps() -> None:
    model = outlier_model()
    texts = [torch.cat((torch.tensor(PREFIX), text)) for text in CALIBRATION]
    computed, kept = prepare(model, texts), prepare(model, CALIBRATION, prefix=PREFIX)
    name = "decoder.0.mlp.down"
    whole, own = (each.seen.layers[name].inputs for each in (computed, kept))
    assert whole.high - whole.low > own.high - own.low
    assert kept.seen.layers[name].histogram.sum() == 3 * 60 * kept.layers[name].in_features


@pytest.mark.parametrize(
    "knobs",
    [
        PruningKnobs(decoder_blocks=(0,)),
        PruningKnobs(decoder_mlp_keep=0.5),
        PruningKnobs(decoder_blocks=(1,), decoder_mlp_keep=0.75),
    ],
)
def test_a_pruned_model_is_followed_too(knobs: PruningKnobs) -> None:
    model: Any = tiny_llama.model()
    ready = prepare(model, CALIBRATION, CompressionPlan(pruning=knobs), PREFIX)
    made = compress(ready, CompressionPlan(pruning=knobs))
    assert len(ready.model.model.layers) == tiny_llama.LAYERS - len(knobs.decoder_blocks)
    assert apart(float_nats(ready.model), made) < 0.02
    whole = compress(prepare(model, CALIBRATION, prefix=PREFIX), CompressionPlan())
    assert made.model_bytes < whole.model_bytes
    left = {name for name in ready.layers if name != "head"}
    assert not any(name.startswith(f"decoder.{i}.") for name in left for i in knobs.decoder_blocks)
    with pytest.raises(ValueError, match="prepare it anew"):
        compress(ready, CompressionPlan())


def test_weights_are_solved_for_on_more_texts_where_channels_leave() -> None:
    asked: list[int] = []

    def practice() -> list[torch.Tensor]:
        asked.append(1)
        return [torch.arange(start, start + 60) % 260 for start in range(0, 240, 20)]

    whole = float_nats(tiny_llama.model())

    def lost(compensation: Any, **knobs: Any) -> float:
        plan = pruned(compensation=compensation, **knobs)
        ready = prepare(tiny_llama.model(), CALIBRATION, plan, PREFIX, practice=practice)
        ours = float_nats(ready.model)
        return float((whole.exp() * (whole - ours)).sum(-1).mean())

    solved = lost("least_squares", decoder_mlp_keep=0.5)
    assert len(asked) == 1
    assert solved < lost("mean", decoder_mlp_keep=0.5)
    lost("least_squares", decoder_blocks=(0,))
    assert len(asked) == 1


def test_what_is_left_is_taught_before_it_is_rotated() -> None:
    plan = CompressionPlan(
        pruning=PruningKnobs(decoder_blocks=(0,)), recovery=RecoveryKnobs(steps=50)
    )
    asked: list[str] = []

    def recover(model: Any, layers: Mapping[str, torch.nn.Linear]) -> None:
        asked.extend(layers)
        assert len(model.model.layers) == 1
        layers["decoder.1.mlp.down"].weight.data.zero_()

    ready = prepare(tiny_llama.model(), CALIBRATION, plan, PREFIX, recover=recover)
    assert all(name.startswith("decoder.1.") for name in asked) and "head" not in asked
    assert not ready.layers["decoder.1.mlp.down"].weight.any()
    assert apart(float_nats(ready.model), compress(ready, plan)) < 0.02
    with pytest.raises(ValueError, match="prepare it anew"):
        compress(ready, CompressionPlan(pruning=plan.pruning))
    with pytest.raises(ValueError, match="nothing was given that teaches"):
        prepare(tiny_llama.model(), CALIBRATION, plan)


def test_bits_follow_levels_and_overrides(prepared: PreparedLanguageModel) -> None:
    knobs = QuantizationKnobs(
        bits=4, decoder=TowerBits(mlp_bits=3), overrides={"decoder.1": 6, "decoder.0.mlp.down": 2}
    )
    made = compress(prepared, CompressionPlan(quantization=knobs))
    bits = {op.name: op.weight_bits for op in made.network.operators if hasattr(op, "weight_bits")}
    assert bits["head"] == bits["decoder.0.attention.query"] == 4
    assert bits["decoder.0.mlp.up"] == 3 and bits["decoder.0.mlp.down"] == 2
    assert {bits[name] for name in bits if name.startswith("decoder.1.")} == {6}


def test_mean_bits_go_where_it_hurts(
    prepared: PreparedLanguageModel, sensitivities: Sensitivities
) -> None:
    plan = CompressionPlan(quantization=QuantizationKnobs(mean_bits=4.0))
    made = compress(prepared, plan, sensitivities=lambda: sensitivities)
    weights = {name: layer.weight.numel() for name, layer in prepared.layers.items()}
    assert made.model_bytes <= 4 * sum(weights.values()) // 8
    dealt = dict(zip(sensitivities.kl_nats, reversed(sensitivities.kl_nats.values()), strict=True))
    shuffled = compress(prepared, plan, sensitivities=lambda: Sensitivities(kl_nats=dealt))
    reference = float_nats(prepared.model)
    assert apart(reference, made) < apart(reference, shuffled)


def test_sensitivities_are_what_rounding_a_layer_alone_costs(
    prepared: PreparedLanguageModel, sensitivities: Sensitivities
) -> None:
    assert set(sensitivities.kl_nats) == set(prepared.layers)
    for losses in sensitivities.kl_nats.values():
        assert losses[8] < losses[2]
    again = measure_sensitivities(prepared, bits=(4,))
    name = "decoder.1.attention.output"
    assert again.kl_nats[name][4] == sensitivities.kl_nats[name][4]


def test_weights_are_quantized_once(prepared: PreparedLanguageModel) -> None:
    kept: dict[str, QuantizedWeight] = {}
    made: list[str] = []

    def remember(key: str, make: Any) -> QuantizedWeight:
        if key not in kept:
            made.append(key)
            kept[key] = make()
        return kept[key]

    first = compress(prepared, CompressionPlan(), remember=remember)
    assert len(made) == len(prepared.layers)
    second = compress(prepared, CompressionPlan(), remember=remember)
    assert len(made) == len(prepared.layers)
    plain = compress(prepared, CompressionPlan())
    for each in (second, plain):
        assert torch.equal(first(IDS[None]).logits, each(IDS[None]).logits)
    other = CompressionPlan(quantization=QuantizationKnobs(overrides={"head": 4}))
    compress(prepared, other, remember=remember)
    assert len(made) == len(prepared.layers) + 1


def test_influence_is_that_of_the_stream_before_and_after() -> None:
    model: Any = tiny_llama.model()
    found = block_influence(model, [IDS])
    with torch.inference_mode():
        streams = model(input_ids=IDS[None], output_hidden_states=True).hidden_states
    # The last of transformers' hidden states is behind the last norm.
    before, after = streams[0][0].double().numpy(), streams[1][0].double().numpy()
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    assert found[0] == pytest.approx(float((1 - (before * after).sum(1) / lengths).mean()))
    assert len(found) == tiny_llama.LAYERS and all(0 < each < 2 for each in found)


def test_what_speaks_of_images_or_of_nothing_is_refused() -> None:
    model: Any = tiny_llama.model()
    with pytest.raises(ValueError, match=r"leave pruning.vision_blocks out of the plan"):
        prepare(model, CALIBRATION, pruned(vision_blocks=(0,)))
    with pytest.raises(ValueError, match="names block 2, but the decoder tower has blocks 0 to 1"):
        prepare(model, CALIBRATION, pruned(decoder_blocks=(2,)))
    with pytest.raises(ValueError, match="leave at least one"):
        prepare(model, CALIBRATION, pruned(decoder_blocks=(0, 1)))
    ready = prepare(model, CALIBRATION)
    for knobs, message in (
        (QuantizationKnobs(connector_bits=4), "leave quantization.connector_bits out"),
        (QuantizationKnobs(vision=TowerBits(bits=4)), "leave quantization.vision out"),
        (QuantizationKnobs(overrides={"vision.0": 4}), "'vision.0' names no block or layer"),
        (QuantizationKnobs(overrides={"decoder.2": 4}), "blocks are 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            compress(ready, CompressionPlan(quantization=knobs))
    ready = prepare(model, CALIBRATION, pruned(decoder_blocks=(0,)))
    with pytest.raises(ValueError, match="measured on the unpruned model"):
        measure_sensitivities(ready)
