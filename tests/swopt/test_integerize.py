"""The integer model stands for the float model, from the first embedding to the logits."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from hwlib.reference import vector
from swopt.compiler import twin
from swopt.compiler.calibration import observe
from swopt.compiler.integer_model import IntegerModel, integer_model, weight_only_model
from swopt.compiler.integerize import Steps, affine, norm
from swopt.compiler.network import (
    Activate,
    Attention,
    Gate,
    Linear,
    Network,
    Norm,
    Operator,
    Rotate,
    Scale,
    Shuffle,
)
from swopt.plan import CompressionPlan
from swopt.techniques.attention import AttentionKnobs
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs
from swopt.workloads.tiny_vlm import TRAINED, linear_layers, pixel_values
from swopt.workloads.vqa import Questions
from swopt.workloads.workload import Workload

BLOCKS = AttentionKnobs(block=16)
"""Fewer keys than there are, so that sums are rescaled on the way."""

EIGHT_BITS = CompressionPlan(attention=BLOCKS)
FOUR_BITS = CompressionPlan(attention=BLOCKS, quantization=QuantizationKnobs(bits=4))
ALL_FOUR_BITS = CompressionPlan(
    attention=BLOCKS, quantization=QuantizationKnobs(bits=4, activation_bits=4)
)
TWO_BITS = CompressionPlan(attention=BLOCKS, quantization=QuantizationKnobs(bits=2))
PRUNED = CompressionPlan(
    attention=BLOCKS,
    pruning=PruningKnobs(vision_blocks=(1,), decoder_blocks=(0,), decoder_mlp_keep=0.5),
    quantization=QuantizationKnobs(bits=4, overrides={"vision.2": 8, "head": 8}),
)


@pytest.fixture(scope="module")
def eight_bits(workload: Workload) -> IntegerModel:
    return integer_model(workload, EIGHT_BITS)


@pytest.fixture(scope="module")
def four_bits(workload: Workload) -> IntegerModel:
    return integer_model(workload, ALL_FOUR_BITS)


@pytest.fixture(scope="module")
def pruned(workload: Workload) -> IntegerModel:
    return integer_model(workload, PRUNED)


def _divergence(p: torch.Tensor, q: torch.Tensor) -> float:
    return float((p.exp() * (p - q)).sum(1).mean())


def test_the_integer_model_answers_as_the_float_model_does(
    workload: Workload, eight_bits: IntegerModel
) -> None:
    questions = workload.validation()
    uncompressed = workload.score_uncompressed(questions)
    scores = eight_bits.score(questions)
    assert 0 < _divergence(uncompressed, scores) < 1e-3
    truth = torch.from_numpy(workload.labels("val").answers)[:, None]
    increase = (uncompressed - scores).gather(1, truth).mean()
    assert abs(float(increase)) < 0.005


def test_two_bits_cost_more_than_eight(workload: Workload, eight_bits: IntegerModel) -> None:
    questions = workload.validation()
    uncompressed = workload.score_uncompressed(questions)
    coarse = integer_model(workload, TWO_BITS)
    near = _divergence(uncompressed, eight_bits.score(questions))
    assert _divergence(uncompressed, coarse.score(questions)) > 20 * near


def test_four_bit_activations_cost_more_than_eight_and_less_than_two_bit_weights(
    workload: Workload, four_bits: IntegerModel
) -> None:
    questions = workload.validation()
    uncompressed = workload.score_uncompressed(questions)
    wide = integer_model(workload, FOUR_BITS)
    coarse = integer_model(workload, TWO_BITS)
    near, made, far = (
        _divergence(uncompressed, model.score(questions)) for model in (wide, four_bits, coarse)
    )
    assert near < made < far


def _bits_of_tensors(network: Network) -> dict[str, int]:
    """Bits of each operator's result that may have 4, passed on by pixel shuffle."""
    bits: dict[str, int] = {}
    for op in network.operators:
        if isinstance(op, (Norm, Activate, Gate, Attention)):
            bits[op.y] = op.bits
        elif isinstance(op, Shuffle):
            bits[op.y] = bits[op.x]
    return bits


def test_a_tensor_has_four_bits_where_all_its_readers_have_four_bit_weights(
    workload: Workload,
) -> None:
    mixed = QuantizationKnobs(
        bits=4,
        activation_bits=4,
        overrides={"decoder.0.mlp.up": 8, "decoder.1.attention.value": 5, "vision.1": 3},
    )
    model = integer_model(workload, CompressionPlan(attention=BLOCKS, quantization=mixed))
    bits = _bits_of_tensors(model.network)
    assert {name for name, count in bits.items() if count == 8} == {
        "decoder.0.mlp.norm",
        "decoder.1.attention.norm",
    }
    assert len(bits) == 4 * 4 + 2 + 3 * 4 + 1
    for op in model.network.operators:
        if isinstance(op, Linear):
            assert op.activation_bits == bits[op.x], op.name


def test_weights_of_eight_bits_leave_every_activation_at_eight(
    workload: Workload, eight_bits: IntegerModel
) -> None:
    knobs = QuantizationKnobs(activation_bits=4)
    asked = integer_model(workload, CompressionPlan(attention=BLOCKS, quantization=knobs))
    assert _flat(asked.network) == _flat(eight_bits.network)


def test_tensors_of_four_bits_lie_in_their_range_and_use_it(
    workload: Workload, four_bits: IntegerModel
) -> None:
    inputs = four_bits.host.inputs(workload.validation().take([3]))[0]
    tensors = twin.tensors(four_bits.network, inputs)
    bits = _bits_of_tensors(four_bits.network)
    for name, count in bits.items():
        assert count == 4
        assert tensors[name].dtype == np.int8
        assert tensors[name].min() >= -8 and tensors[name].max() <= 7
    norms = [tensors[op.y] for op in four_bits.network.operators if isinstance(op, Norm)]
    assert all(len(np.unique(tensor)) == 16 for tensor in norms)
    queries = [y for name, y in tensors.items() if name.endswith((".query", ".key", ".value"))]
    assert all(np.abs(y.astype(int)).max() > 8 for y in queries)


def test_a_pruned_model_answers_as_with_its_weights_alone_rounded(
    workload: Workload, pruned: IntegerModel
) -> None:
    questions = workload.validation()
    weight_only = workload.score(weight_only_model(workload, PRUNED), questions)
    assert _divergence(weight_only, pruned.score(questions)) < 0.003
    layers = {op.name: op for op in pruned.network.operators if isinstance(op, Linear)}
    assert "vision.0.mlp.up" in layers
    assert not any(name.startswith(("vision.1.", "decoder.0.")) for name in layers)
    assert layers["decoder.1.mlp.gate"].weight.shape == (64, 64)
    assert layers["decoder.1.mlp.down"].weight.shape == (64, 64)
    assert layers["decoder.1.mlp.down"].bias.any()
    across = {name.rsplit(".", 1)[-1] for name, layer in layers.items() if layer.across}
    assert across == {"value"}
    bits = {name: layers[name].weight_bits for name in ("vision.0.mlp.up", "vision.2.mlp.up")}
    assert bits == {"vision.0.mlp.up": 4, "vision.2.mlp.up": 8}


def test_equal_plans_give_equal_integers(workload: Workload, pruned: IntegerModel) -> None:
    again = integer_model(workload, PRUNED)
    assert _flat(again.network) == _flat(pruned.network)
    question = workload.validation().take([0, 7])
    for mine, theirs in zip(again.host.inputs(question), pruned.host.inputs(question), strict=True):
        assert _flat(mine) == _flat(theirs)
    other = integer_model(workload, EIGHT_BITS)
    assert _flat(other.network) != _flat(pruned.network)


def _flat(value: object) -> object:
    """A dataclass as nested tuples of plain values."""
    if is_dataclass(value) and not isinstance(value, type):
        return tuple(_flat(getattr(value, each.name)) for each in fields(value))
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return tuple(map(_flat, value)) if isinstance(value, tuple) else value


def test_a_question_gives_the_same_integers_alone_and_among_others(
    workload: Workload, eight_bits: IntegerModel
) -> None:
    questions = workload.validation().take(list(range(40)))
    together = eight_bits.logits(questions)
    for index in (0, 17, 39):
        assert torch.equal(eight_bits.logits(questions.take([index]))[0], together[index])


def _flipped(operator: Operator, name: str) -> Operator:
    """The operator with one bit of one of its integers changed."""
    value = getattr(operator, name)
    if isinstance(value, Scale):
        return replace(operator, **{name: replace(value, multiplier=value.multiplier ^ 1 << 13)})
    if isinstance(value, int):
        return replace(operator, **{name: value ^ 8})
    changed = value.copy()
    bit = {"weight": 6, "bias": 12, "beta": 22, "gamma": 12, "shift": 1, "sine": 13, "cosine": 13}
    at = (min(18, len(changed) - 1), *[0] * (changed.ndim - 1))
    changed[at] ^= 1 << bit.get(name, 12)
    return replace(operator, **{name: changed})


PARAMETERS: list[tuple[type[Operator], str]] = [
    *((Norm, name) for name in ("gamma", "beta", "shift", "multiplier", "base", "zero")),
    *((Linear, name) for name in ("weight", "bias", "multiplier", "shift", "zero")),
    *((Rotate, name) for name in ("cosine", "sine", "scale")),
    *((Attention, name) for name in ("score", "scale")),
    (Activate, "scale"),
    (Gate, "scale"),
    (Gate, "gate_shift"),
]


@pytest.mark.parametrize(("kind", "name"), PARAMETERS)
def test_one_flipped_integer_shows_in_the_logits(
    workload: Workload, eight_bits: IntegerModel, kind: type[Operator], name: str
) -> None:
    inputs = eight_bits.host.inputs(workload.validation().take(list(range(4))))
    operators = list(eight_bits.network.operators)
    index = next(i for i, operator in enumerate(operators) if isinstance(operator, kind))
    operators[index] = _flipped(operators[index], name)
    changed = replace(eight_bits.network, operators=tuple(operators))
    before = twin.logits(eight_bits.network, inputs)
    assert not torch.equal(before, twin.logits(changed, inputs))


def test_the_host_brings_the_embeddings_of_the_float_model(
    workload: Workload, eight_bits: IntegerModel
) -> None:
    questions = workload.validation().take([0, 1, 2])
    model = workload.vlm.model.model
    pixels = pixel_values(torch.from_numpy(questions.images))[:, 0]
    with torch.no_grad():
        whole = model.vision_model.embeddings(pixels, torch.ones(3, 8, 8, dtype=torch.bool))
        words = model.text_model.embed_tokens(
            torch.tensor(workload.vlm.tokenizer.encode(questions.texts[0]).ids)
        )
    made = eight_bits.host.inputs(questions)
    step = eight_bits.host.patch_step
    for each, expected in zip(made, whole.numpy(), strict=True):
        total = each.patches.astype(float) + each.positions
        assert np.abs(total * step - expected[eight_bits.host.grid.order()]).max() < 1.01 * step
    ratio = made[0].words.astype(float) / words.numpy()
    large = np.abs(made[0].words) > 50
    assert np.ptp(ratio[large]) < 0.03 * np.mean(ratio[large])


def test_token_order_makes_pixel_shuffle_a_concatenation() -> None:
    from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector

    x = torch.arange(64 * 3).reshape(1, 64, 3)
    expected = Idefics3Connector.pixel_shuffle(None, x, 2)
    ordered = x[:, torch.from_numpy(TRAINED.order())]
    assert torch.equal(torch.cat(ordered.split(16, 1), -1), expected)


def test_the_streams_follow_those_of_the_float_model_and_keep_their_headroom(
    workload: Workload, eight_bits: IntegerModel
) -> None:
    question = workload.validation().take([5])
    seen = _watched(workload, question)
    tensors = twin.tensors(eight_bits.network, eight_bits.host.inputs(question)[0])
    image = seen["vision"][eight_bits.host.grid.order()]
    for name, expected in (("vision", image), ("decoder", seen["decoder"])):
        made = tensors[name].astype(float)
        step = float((made * expected).sum() / (made * made).sum())
        assert np.abs(made).max() < 32767 / 1.2
        error = np.sqrt(((made * step - expected) ** 2).mean() / (expected**2).mean())
        assert error < 0.03, name


def _watched(workload: Workload, question: Questions) -> dict[str, np.ndarray]:
    """What the last norm of each tower reads in the float model."""
    seen: dict[str, np.ndarray] = {}
    inner = workload.vlm.model.model
    norms = {"vision": inner.vision_model.post_layernorm, "decoder": inner.text_model.norm}
    hooks = [
        norm.register_forward_pre_hook(
            lambda _, inputs, name=name: seen.update({name: inputs[0][0].numpy()})
        )
        for name, norm in norms.items()
    ]
    workload.score_uncompressed(question)
    for hook in hooks:
        hook.remove()
    return seen


class _RmsNorm(torch.nn.Module):
    """As in transformers (Zhang & Sennrich 2019)."""

    def __init__(self, count: int, epsilon: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(count))
        self.variance_epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.rms_norm(x, x.shape[-1:], self.weight, self.variance_epsilon)


@pytest.mark.parametrize("count", [12, 48, 64, 576])
@pytest.mark.parametrize("centred", [True, False])
def test_the_constants_of_a_norm_give_the_float_norm_to_a_step(count: int, centred: bool) -> None:
    rng = np.random.default_rng(count)
    epsilon = 1e-3
    module = torch.nn.LayerNorm(count, epsilon) if centred else _RmsNorm(count, epsilon)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(rng.normal(1, 1, count)))
        if centred:
            module.bias.copy_(torch.from_numpy(rng.normal(0, 1, count)))
    source, target = Steps(2e-3), Steps(0.08, zero=7)
    op = norm(module, "x", "y", source, target)
    # The smallest deviations are those of epsilon, which the last column is far below.
    size = np.array([4000] * 20 + [100] * 20 + [16] * 20 + [8] * 20)
    x = np.rint(rng.normal(0, 1, (count, 80)) * size).astype(np.int64)
    statistics = vector.norm_statistics(
        x, op.multiplier, op.mean_shift, op.epsilon, op.base, op.centred
    )
    columns = (part[:, None] for part in (op.gamma, op.beta, op.shift))
    y = vector.affine(vector.normalize(x, *statistics), *columns, op.zero)
    with torch.no_grad():
        expected = module(torch.from_numpy(x.T * source.size).float()).numpy().T
    error = y - np.clip(expected / target.size + target.zero, -128, 127)
    assert np.abs(error)[:, :40].max() < 0.7
    assert np.abs(error).max() < 1.0


def test_rotated_ranges_are_those_of_transformers(workload: Workload) -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    model = workload.vlm.model
    layers = {n: m for n, m in linear_layers(model).items() if n.startswith("decoder.1.att")}
    question = workload.calibration().take([4])
    made: list[torch.Tensor] = []
    hook = layers["decoder.1.attention.query"].register_forward_hook(
        lambda _, inputs, output: made.append(output)
    )
    seen = observe(model, layers, lambda: workload.score(model, question))
    hook.remove()
    heads = made[0].unflatten(-1, (4, 16)).transpose(1, 2)
    cosine, sine = model.model.text_model.rotary_emb(heads, torch.arange(heads.shape[2])[None])
    expected = float(apply_rotary_pos_emb(heads, heads, cosine, sine)[0].abs().max())
    assert seen.rotated["decoder.1.attention.query"] == pytest.approx(expected, rel=1e-5)
    assert float(made[0].abs().max()) != pytest.approx(expected, rel=1e-3)


@example(1 - 2.0**-20, 0.0)
@example(0.0, 1 - 2.0**-40)
@given(
    st.floats(-200, 200, allow_subnormal=False),
    st.floats(-100000, 100000, allow_subnormal=False),
)
def test_integer_gamma_and_beta_meet_the_floats_as_far_as_they_fit(
    gamma: float, beta: float
) -> None:
    g, b, shift = affine(np.array([gamma]), np.array([beta]))
    assert 1 <= int(shift[0]) <= 47
    step = 2.0 ** -int(shift[0])
    assert abs(int(g[0]) * step - gamma) <= step / 2
    assert abs(int(b[0]) * step - beta) <= step / 2
    assert step <= max(abs(gamma) * 2.0**-12, abs(beta) * 2.0**-28, 2.0**-47)


def test_a_norm_beyond_the_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit 16 and 32 bits"):
        affine(np.array([1.0, 20000.0]), np.zeros(2))


def test_the_largest_logit_takes_about_twenty_four_bits(
    workload: Workload, eight_bits: IntegerModel
) -> None:
    network: Network = eight_bits.network
    largest = int(eight_bits.logits(workload.calibration()).abs().max())
    assert 2**22.8 < largest < 2**23.2
    nats = largest * network.logit_scale
    assert 1 < nats < 100
