"""The torch twin computes what `hwlib.reference` computes, to the bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwlib.reference import softmax, tables, vector
from swopt.compiler import twin
from swopt.compiler.network import Attention, Linear, LinearOutput, Network, Norm, Rotate, Scale
from tests.swopt.plain_network import Drawer, evaluate, narrowed, tiny_inputs, tiny_model

INT16 = np.arange(-(1 << 15), 1 << 15).astype(np.int16)


def _equal(made: torch.Tensor, expected: np.ndarray) -> bool:
    return np.array_equal(made.numpy().astype(np.int64), expected)


@pytest.mark.parametrize("name", ["gelu", "silu"])
def test_an_activation_equals_the_reference_on_all_of_int16(name: tables.Activation) -> None:
    made = twin.activate(torch.from_numpy(INT16), name)
    assert made.dtype == torch.int16
    assert _equal(made, vector.activate(INT16, name))


@pytest.mark.parametrize("shift", [1, 8, 14])
def test_gate_equals_the_reference_at_corners_and_at_random(shift: int) -> None:
    rng = np.random.default_rng(shift)
    ends = np.array([-32768, -513, -1, 0, 1, 511, 512, 32767])
    corners = np.stack(np.meshgrid(ends, ends)).reshape(2, -1)
    drawn = rng.integers(-1500, 1500, (2, 5000))
    x, up = np.concatenate([corners, drawn], 1).astype(np.int16)
    made = twin.gate(torch.from_numpy(x), torch.from_numpy(up), shift)
    assert _equal(made, vector.gate(x, up, shift))


@pytest.mark.parametrize(
    "by", [Scale(65535, 1, 127), Scale(0, 47, -128), Scale(40000, 20, -3), Scale(1, 1, 0)]
)
def test_scaling_equals_the_reference_on_all_of_int16(by: Scale) -> None:
    made = twin.scale(torch.from_numpy(INT16), by)
    assert made.dtype == torch.int8
    assert _equal(made, vector.scale(INT16, by.multiplier, by.shift, by.zero))


@pytest.mark.parametrize("by", [Scale(65535, 1, 7), Scale(0, 47, -8), Scale(40000, 24, -3)])
def test_scaling_to_four_bits_equals_the_reference_on_all_of_int16(by: Scale) -> None:
    made = twin.scale(torch.from_numpy(INT16), by, 4)
    assert made.dtype == torch.int8
    wide = (INT16.astype(np.int64) * by.multiplier + (1 << by.shift - 1) >> by.shift) + by.zero
    assert _equal(made, np.clip(wide, -8, 7))


def test_roots_and_reciprocals_equal_the_reference_everywhere() -> None:
    v = np.arange(1 << 14, 1 << 16)
    assert _equal(twin.inverse_sqrt(torch.from_numpy(v)), vector.inverse_sqrt(v))
    v = np.arange(1 << 15, 1 << 16)
    assert _equal(twin.reciprocal(torch.from_numpy(v)), vector.reciprocal(v))


@given(st.integers(0, 53), st.integers(-1, 1))
def test_bit_length_is_that_of_python_beside_every_power_of_two(power: int, beside: int) -> None:
    value = min(max((1 << power) + beside, 0), 1 << 53)
    assert int(twin.bit_length(torch.tensor([value]))) == value.bit_length()


@given(st.integers(-(1 << 46), 1 << 46), st.integers(1, 47))
def test_a_rounding_shift_equals_the_reference(value: int, shift: int) -> None:
    made = twin.round_shift(torch.tensor([value]), shift)
    assert _equal(made, vector.round_shift(np.array([value]), shift))


@pytest.mark.parametrize("count", [2, 12, 64, 96, 2048])
@pytest.mark.parametrize("centred", [True, False])
def test_a_norm_equals_the_reference_at_corners_and_at_random(count: int, centred: bool) -> None:
    rng = np.random.default_rng(count)
    op = Drawer(count).norm("x", "y", count, centred)
    op = replace(op, beta=np.append(op.beta[:-2], [-(1 << 31), (1 << 31) - 1]).astype(np.int32))
    alternating = np.where(np.arange(count) % 2, 32767, -32768)
    corners = [np.zeros(count), np.full(count, -32768), np.full(count, 32767), alternating]
    corners += [np.eye(count)[0] * 32767, np.eye(count)[-1] * -1, np.eye(count)[0]]
    drawn = [
        rng.normal(rng.normal(0, 3) * s, s, count) for s in (1, 20, 3000, 20000) for _ in "abc"
    ]
    x = np.clip(np.rint([*corners, *drawn]), -32768, 32767).astype(np.int16)
    for base in (op.base, op.base - 8, -32, 31):
        for epsilon in (1, (1 << 32) - 1):
            here = replace(op, base=base, epsilon=epsilon)
            made = twin.norm(torch.from_numpy(x), here)
            assert made.dtype == torch.int8
            assert _equal(made, _plain_norm(x, here))


def _plain_norm(x: np.ndarray, op: Norm) -> np.ndarray:
    statistics = vector.norm_statistics(
        x.T, op.multiplier, op.mean_shift, op.epsilon, op.base, op.centred
    )
    z = vector.normalize(x.T, *statistics)
    return vector.affine(z, op.gamma[:, None], op.beta[:, None], op.shift[:, None], op.zero).T


@pytest.mark.parametrize("inputs", [2, 64, 1024, 1026])
@pytest.mark.parametrize("output", ["int8", "int16", "residual", "logits"])
def test_a_linear_layer_equals_the_reference(inputs: int, output: LinearOutput) -> None:
    rng = np.random.default_rng(inputs)
    op = Drawer(inputs).linear("x", "y", inputs, 16, output)
    op.weight[0], op.bias[0] = -128, (1 << 31) - 1  # sums that wrap
    op.weight[1], op.bias[1] = -128, -(1 << 31)
    op = replace(op, shift=np.append(op.shift[:-2], [1, 47]))
    x = rng.integers(-128, 128, (1, 9, inputs)).astype(np.int8)
    x[0, 0], x[0, 1] = -128, 127
    stream = rng.integers(-32768, 32768, (1, 9, 16)).astype(np.int16)
    made = twin.linear(
        torch.from_numpy(x), op, torch.from_numpy(stream) if output == "residual" else None
    )
    assert _equal(made[0], _plain_linear(x[0], op, stream[0]))


def _plain_linear(x: np.ndarray, op: Linear, stream: np.ndarray) -> np.ndarray:
    exact = x.astype(np.int64) @ op.weight.astype(np.int64).T + op.bias
    sums = exact.astype(np.int32)  # wraps
    if op.output == "int8":
        return vector.scale(sums.astype(np.int64), op.multiplier, op.shift, op.zero)
    scaled = vector.round_shift(sums.astype(np.int64) * op.multiplier, op.shift)
    if op.output == "logits":
        return vector.saturate(scaled, 32)
    whole = vector.saturate(scaled, 16)
    return vector.add(stream, whole) if op.output == "residual" else whole


def test_sums_beyond_what_float32_holds_stay_exact() -> None:
    ones = np.ones(1, np.int64)
    weight = np.full((1, 1536), -127, np.int8)
    op = Linear("l", "x", "y", weight, np.zeros(1, np.int32), 2 * ones, ones, 0, "logits", 8)
    x = np.full((1, 1536), -127, np.int8)
    x[0, -1] = 0
    assert twin.linear(torch.from_numpy(x), op, None).tolist() == [[1535 * 127 * 127]]


def test_a_rotation_equals_the_reference_at_corners_and_at_random() -> None:
    rng = np.random.default_rng(1)
    ends = np.array([-32768, 32767], np.int16)
    cosine, sine = (rng.integers(-16384, 16385, (20, 4)).astype(np.int16) for _ in "cs")
    op = Rotate("x", "y", 3, 8, cosine, sine, Scale(50000, 22))
    x = rng.integers(-32768, 32768, (2, 9, 24)).astype(np.int16)
    x[1] = rng.choice(ends, (9, 24))
    made = twin.rotate(torch.from_numpy(x), op)
    heads = x.reshape(2, 9, 3, 2, 4)
    c, s = cosine[:9, None], sine[:9, None]
    turned = np.stack(vector.rotate(heads[..., 0, :], heads[..., 1, :], c, s), -2)
    assert _equal(made, vector.scale(turned.reshape(x.shape), 50000, 22, 0))


@pytest.mark.parametrize("entries", [4, 8, 16, 32])
def test_a_block_of_softmax_equals_the_reference_whatever_came_before(entries: int) -> None:
    rng = np.random.default_rng(entries)
    rows, keys = 300, 9
    scores = rng.normal(0, rng.choice([1, 40, 4000], rows)[:, None], (rows, keys))
    scores = np.clip(np.rint(scores), -32768, 32767).astype(np.int16)
    scores[:4] = [[-32768], [32767], [0], [-1]]
    seen = rng.random((rows, keys)) < rng.choice([0, 0.5, 1], rows)[:, None]
    maximum = rng.choice([softmax.EMPTY, -1024, 0, 3, 1024], rows)
    total = np.where(maximum == softmax.EMPTY, 0, rng.integers(0, 1 << 32, rows))
    before = softmax.State(maximum, total, np.zeros(rows, np.int64))
    expected, after = softmax.block(scores.T, seen.T, before, entries)
    made = twin.softmax_block(
        torch.from_numpy(scores),
        torch.from_numpy(seen),
        torch.from_numpy(maximum),
        torch.from_numpy(total),
        entries,
    )
    for mine, theirs in zip(
        made, (expected.T, after.maximum, after.total, after.alpha), strict=True
    ):
        assert _equal(mine, theirs)


def test_a_division_equals_the_reference_at_corners_and_at_random() -> None:
    rng = np.random.default_rng(0)
    powers = 1 << np.arange(32)
    total = np.concatenate([[0, (1 << 32) - 1], powers, powers - 1, rng.integers(0, 1 << 20, 500)])
    weighted = rng.integers(-127, 128, (6, len(total))) * np.minimum(total, 1 << 24)
    weighted = np.concatenate([weighted, np.full((1, len(total)), (1 << 31) - 1)])
    weighted = np.concatenate([weighted, np.full((1, len(total)), -(1 << 31))])
    made = twin.divide(torch.from_numpy(weighted.T), torch.from_numpy(total)[:, None])
    assert _equal(made, softmax.divide(weighted, total).T)


@pytest.mark.parametrize("block", [1, 3, 8, 1000])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_equals_the_reference_whatever_the_block(block: int, causal: bool) -> None:
    rng = np.random.default_rng(block)
    tokens = 21
    drawer = Drawer(block)
    inner = drawer.attention("q", "k", "v", "y", 4, 2, 6, causal)
    q, k, v = (rng.integers(-128, 128, (tokens, n)).astype(np.int8) for n in (24, 12, 12))
    for score in (inner.score, Scale(60000, 1), Scale(0, 1)):
        op = replace(inner, score=score)
        model = Network((op,), block, 16, "y", 1.0)
        made = twin.attention(
            (torch.from_numpy(q), torch.from_numpy(k), torch.from_numpy(v)), op, model
        )
        assert _equal(made, _plain_attention(q, k, v, op, model))


def _plain_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, op: Attention, network: Network
) -> np.ndarray:
    """One row of one head at a time."""
    y = np.zeros(q.shape, np.int64)
    for head in range(op.heads):
        mine = slice(head * op.head_dim, (head + 1) * op.head_dim)
        other = head * op.kv_heads // op.heads
        theirs = slice(other * op.head_dim, (other + 1) * op.head_dim)
        for row in range(len(q)):
            keys = row + 1 if op.causal else len(q)
            sums = k[:, theirs].astype(np.int64) @ q[row, mine]
            scores = vector.round_shift(sums * op.score.multiplier, op.score.shift)
            scores = vector.saturate(scores, 16)
            state, weighted = softmax.empty(()), np.zeros(op.head_dim, np.int64)
            for start in range(0, len(q), network.attention_block):
                some = slice(start, start + network.attention_block)
                seen = np.arange(len(q))[some] < keys
                values, state = softmax.block(
                    scores[some], seen, state, network.exponential_entries
                )
                partial = values @ v[some, theirs].astype(np.int64)
                weighted = softmax.accumulate(weighted, partial, state.alpha)
            quotient = softmax.divide(weighted, state.total)
            y[row, mine] = vector.scale(
                quotient, op.scale.multiplier, op.scale.shift, op.scale.zero
            )
    return y


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("block", "entries"), [(1, 4), (8, 16), (16, 32), (1000, 8)])
def test_every_tensor_of_a_random_model_equals_plain_numpy(
    seed: int, block: int, entries: int
) -> None:
    model = replace(tiny_model(seed), attention_block=block, exponential_entries=entries)
    inputs = tiny_inputs(seed, words=5)
    made = twin.results(model, inputs)
    for operator, mine, theirs in zip(model.operators, made, evaluate(model, inputs), strict=True):
        assert np.array_equal(mine, theirs), operator.y
    assert made[-1].dtype == np.int32
    assert np.array_equal(twin.tensors(model, inputs)["stream"], made[-3])


@pytest.mark.parametrize("seed", range(4))
def test_every_tensor_of_a_random_model_of_four_bits_equals_plain_numpy(seed: int) -> None:
    model, inputs = narrowed(tiny_model(seed)), tiny_inputs(seed, words=5)
    made = twin.results(model, inputs)
    expected = evaluate(model, inputs)
    spread = []
    for operator, mine, theirs in zip(model.operators, made, expected, strict=True):
        assert np.array_equal(mine, theirs), operator.y
        if getattr(operator, "bits", 8) == 4:
            assert mine.dtype == np.int8
            assert mine.min() >= -8 and mine.max() <= 7
            spread.append(len(np.unique(mine)))
    assert len(spread) == 10 and sum(spread) > 60
    assert max(spread) == 16


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 1000))
def test_questions_of_any_lengths_together_give_what_each_gives_alone(
    lengths: list[int], seed: int
) -> None:
    model = tiny_model(seed)
    inputs = [tiny_inputs(seed + i, words) for i, words in enumerate(lengths)]
    together = twin.logits(model, inputs)
    alone = [twin.tensors(model, each)[model.logits][0] for each in inputs]
    assert together.dtype == torch.int32
    assert np.array_equal(together.numpy(), np.stack(alone))


def test_more_questions_than_a_chunk_keep_their_order() -> None:
    model = tiny_model(0)
    inputs = [tiny_inputs(i, 1 + i % 3) for i in range(twin.CHUNK + 3)]
    together = twin.logits(model, inputs)
    last = twin.logits(model, inputs[-1:])
    assert torch.equal(together[-1:], last)
    assert not torch.equal(together[0], together[-1])
