"""Plans are tried on a loaded language model, and what they have in common is done once."""

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.language_model import LanguageBench, remembered_weights
from swopt.compiler import prefix
from swopt.compiler.language_model import make_anew
from swopt.plan import CompressionPlan
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs
from swopt.techniques.recovery import RecoveryKnobs
from swopt.techniques.rounding import QuantizedWeight, quantize
from swopt.workloads import language_models
from tests.swopt import tiny_llama


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> LanguageBench:
    folder = tmp_path_factory.mktemp("bench")
    loaded = language_models.load(str(tiny_llama.save(folder / "tiny")))
    return LanguageBench(loaded, folder / "store", windows=1)


def test_plans_are_compressed_and_scored(bench: LanguageBench) -> None:
    made = bench.compress(CompressionPlan())
    assert len(bench.prefix_ids) == prefix.TOKENS
    score = bench.score(made)
    assert score.bits_per_byte > 0 and len(score.bits) == 1
    other = bench.score(made, "test")
    assert other.byte_counts[0] != score.byte_counts[0] or other.bits[0] != score.bits[0]
    assert bench.prepared(CompressionPlan()) is bench.prepared(CompressionPlan())


TAUGHT = {
    "before rounding": CompressionPlan(
        pruning=PruningKnobs(decoder_mlp_keep=0.25), recovery=RecoveryKnobs(steps=50, rank=4)
    ),
    "behind it": CompressionPlan(
        quantization=QuantizationKnobs(bits=2, rounding="compensated"),
        recovery=RecoveryKnobs(steps=50, rank=4, quantization_aware=True),
    ),
}


@pytest.mark.parametrize("when", TAUGHT)
def test_a_model_is_taught_once_and_answers_more_like_the_whole(
    bench: LanguageBench, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr("evaluators.language_model.LEARNING_RATE_BEHIND", 5e-3)  # it is small
    plan = TAUGHT[when]
    ids = torch.from_numpy(np.array(bench.text("val")))[None, :64]
    whole = torch.log_softmax(bench.uncompressed()(ids).logits[0].double(), -1).detach()

    def apart(bench: LanguageBench, plan: CompressionPlan) -> float:
        ours = torch.log_softmax(bench.compress(plan)(ids).logits[0].double(), -1)
        return float((whole.exp() * (whole - ours)).sum(-1).mean())

    told: list[str] = []
    bench.on_stage = told.append
    taught = apart(bench, plan)
    assert [told[0], told[-1]] == ["recovery, step 1 of 50", "recovery, step 50 of 50"]
    assert taught < 0.9 * apart(bench, plan.model_copy(update={"recovery": RecoveryKnobs()}))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was taught already")

    monkeypatch.setattr("evaluators.language_model.recovery.teach", refuse)
    monkeypatch.setattr("evaluators.language_model.quantization_aware.teach", refuse)
    assert apart(LanguageBench(bench.loaded, bench.cache_dir, windows=1), plan) == taught


def test_sensitivities_are_measured_once(
    bench: LanguageBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = CompressionPlan(quantization=QuantizationKnobs(mean_bits=4.0))
    made = bench.compress(plan)
    assert made.model_bytes < bench.compress(CompressionPlan()).model_bytes / 1.9

    def refuse(*_: object) -> None:
        raise AssertionError("they were measured already")

    monkeypatch.setattr("evaluators.language_model.measure_sensitivities", refuse)
    assert bench.compress(plan).model_bytes == made.model_bytes


@pytest.mark.parametrize("group", [None, 8])
def test_weights_come_back_as_they_were_stored(tmp_path: Path, group: int | None) -> None:
    rng = np.random.default_rng(1)
    made = quantize(rng.standard_normal((8, 12)), 3, np.ones(12), group)
    remember = remembered_weights(tmp_path)

    def refuse() -> QuantizedWeight:
        raise AssertionError("it is there")

    remember("a", lambda: made)
    back = remember("a", refuse)
    assert np.array_equal(back.values, made.values) and back.values.dtype == np.int8
    assert np.array_equal(back.scale, made.scale) and back.bits == 3
    if made.groups is None or back.groups is None:
        assert made.groups is back.groups
    else:
        assert back.groups.inputs == 8
        assert np.array_equal(back.groups.factors, made.groups.factors)
    with pytest.raises(AssertionError, match="it is there"):
        remember("b", refuse)
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:-30])
    assert remember("a", lambda: made) is made
    assert make_anew("a", lambda: made) is made
