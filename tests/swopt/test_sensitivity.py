"""Sensitivities are measured one layer at a time, and restarting changes nothing."""

import numpy as np
import pytest
import torch

from swopt.compiler.calibration import observe
from swopt.techniques import sensitivity
from swopt.techniques.quantization import QuantizationKnobs, TowerBits, bits_of
from swopt.techniques.rounding import quantize
from swopt.workloads import tiny_vlm
from swopt.workloads.workload import Workload, load_workload

ASKED = list(range(0, 96, 6))


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    return load_workload(tmp_path_factory.mktemp("no images"))


@pytest.fixture(scope="module")
def measured(workload: Workload) -> sensitivity.Sensitivities:
    return _measure(workload, (2, 8))


def _measure(workload: Workload, bits: tuple[int, ...]) -> sensitivity.Sensitivities:
    model, questions = workload.vlm.model, workload.calibration()
    layers = tiny_vlm.linear_layers(model)
    seen = observe(model, layers, lambda: workload.score(model, questions))
    return sensitivity.measure(
        tiny_vlm.blocks(model),
        layers,
        {name: each.input_power for name, each in seen.layers.items()},
        lambda: workload.score(model, questions),
        bits,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "name",
    ["vision.0.attention.query", "vision.3.mlp.down", "connector", "decoder.1.mlp.up", "head"],
)
def test_a_layer_is_measured_as_if_the_whole_model_ran(
    name: str, workload: Workload, measured: sensitivity.Sensitivities
) -> None:
    model, questions = workload.vlm.model, workload.calibration()
    layers = tiny_vlm.linear_layers(model)
    seen = observe(model, layers, lambda: workload.score(model, questions))
    layer = layers[name]
    weight = layer.weight.detach().clone()
    before = workload.score(model, questions).double()
    made = quantize(weight.double().numpy(), 2, seen.layers[name].input_power)
    try:
        layer.weight.data = torch.from_numpy(made.values * made.scale[:, None]).float()
        after = workload.score(model, questions).double()
    finally:
        layer.weight.data = weight
    expected = float((before.exp() * (before - after)).sum(-1).mean())
    assert measured.kl_nats[name][2] == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_the_model_is_left_as_it_was(workload: Workload) -> None:
    before = {name: value.clone() for name, value in workload.vlm.model.state_dict().items()}
    scores = workload.score_uncompressed(workload.calibration())
    _measure(workload, (2,))
    after = workload.vlm.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(scores, workload.score_uncompressed(workload.calibration()))


def test_fewer_bits_cost_more_and_levels_add_up(measured: sensitivity.Sensitivities) -> None:
    assert measured.of("head", 2) > 10 * measured.of("head", 8)
    towers = [measured.of(name, 2) for name in ("vision", "connector", "decoder", "head")]
    assert sum(towers) == pytest.approx(sum(each[2] for each in measured.kl_nats.values()))
    blocks = sum(measured.of(f"vision.{i}", 2) for i in range(4))
    assert blocks == pytest.approx(measured.of("vision", 2))


def test_bits_go_where_it_hurts_and_the_mean_is_kept(
    workload: Workload, measured: sensitivity.Sensitivities
) -> None:
    weights = {n: m.weight.numel() for n, m in tiny_vlm.linear_layers(workload.vlm.model).items()}
    shared = measured.shared_out(weights, 2.5)
    stored = sum(weights[name] * bits for name, bits in shared.items())
    assert stored <= 2.5 * sum(weights.values())
    worst = max(weights, key=lambda name: measured.kl_nats[name][2] / weights[name])
    assert shared[worst] == 8
    assert set(measured.shared_out(weights, 2.0).values()) == {2}
    assert set(measured.shared_out(weights, 8.0).values()) == {8}


def test_a_text_gives_them_back() -> None:
    made = sensitivity.Sensitivities(kl_nats={"head": {2: 0.5, 8: 0.0}})
    assert sensitivity.Sensitivities.model_validate_json(made.model_dump_json()) == made
    with pytest.raises(ValueError, match="Input should be 2, 3, 4"):
        sensitivity.Sensitivities.model_validate_json('{"kl_nats": {"head": {"9": 0.5}}}')


def test_a_level_that_speaks_keeps_its_word() -> None:
    knobs = QuantizationKnobs(mean_bits=3.0, vision=TowerBits(mlp_bits=6), overrides={"head": 8})
    shared = {"vision.0.mlp.up": 2, "vision.0.attention.key": 4, "head": 2}
    assert bits_of(knobs, "vision.0.mlp.up", shared) == 6  # type: ignore[arg-type]
    assert bits_of(knobs, "vision.0.attention.key", shared) == 4  # type: ignore[arg-type]
    assert bits_of(knobs, "head", shared) == 8  # type: ignore[arg-type]
    assert bits_of(knobs, "connector", shared) == 8  # type: ignore[arg-type]


def test_a_model_without_numbers_is_refused() -> None:
    layer = torch.nn.Linear(4, 3)
    with pytest.raises(ValueError, match="no number"):
        sensitivity.measure(
            {}, {"head": layer}, {"head": np.ones(4)}, lambda: torch.full((2, 3), float("nan"))
        )
