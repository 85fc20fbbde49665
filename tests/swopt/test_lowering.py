"""Lowering: any shape, bit for bit the integer product."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwlib.config import AcceleratorConfig, ArrayConfig, DmaConfig, ScratchpadConfig
from hwlib.isa import LoadWeights, check
from hwlib.reference.execute import execute
from swopt.compiler.lowering import LoweringError, PackedBits, lower_matmul, unpack

SMALL = ScratchpadConfig(activation_bytes=8192, weight_bytes=8192)


def independent(x, weight, bias, multiplier, shift, zero_point):
    """The product in Python's own integers."""
    y = []
    for row in x.tolist():
        line = []
        for w, b, m, s in zip(weight.tolist(), bias, multiplier, shift, strict=True):
            acc = sum(p * q for p, q in zip(row, w, strict=True)) + int(b)
            line.append(
                max(-128, min(127, ((acc * int(m) + (1 << (int(s) - 1))) >> int(s)) + zero_point))
            )
        y.append(line)
    return np.array(y)


def operands(M: int, K: int, N: int, bits: PackedBits, seed: int):
    rng = np.random.default_rng(seed)
    half = 1 << (bits - 1)
    return (
        rng.integers(-128, 128, (M, K)).astype(np.int8),
        rng.integers(-half, half, (N, K)).astype(np.int8),
        rng.integers(-50_000, 50_000, N).astype(np.int32),
        rng.integers(0, 65536, N),
        rng.integers(16, 34, N),
    )


@settings(max_examples=20, deadline=None)
@given(
    M=st.integers(1, 40),
    K=st.integers(1, 60),
    N=st.integers(1, 40),
    bits=st.sampled_from([8, 4, 2]),
    rows=st.sampled_from([4, 8, 16]),
    columns=st.sampled_from([4, 8, 16]),
    beat=st.sampled_from([4, 8, 16]),
    seed=st.integers(0, 1000),
)
def test_the_program_computes_the_product(M, K, N, bits, rows, columns, beat, seed) -> None:
    config = AcceleratorConfig(
        array=ArrayConfig(rows=rows, columns=columns),
        dma=DmaConfig(bytes_per_cycle=beat),
        scratchpad=SMALL,
    )
    x, weight, bias, multiplier, shift = operands(M, K, N, bits, seed)
    program = lower_matmul(x, weight, bias, multiplier, shift, -7, "int8", bits, config)
    for index, command in enumerate(program.commands):
        check(index, command, config)
    y = unpack(program, execute(program.commands, program.load_beats, config))
    np.testing.assert_array_equal(y, independent(x, weight, bias, multiplier, shift, -7))

    program = lower_matmul(x, weight, bias, None, None, 0, "int32", bits, config)
    y = unpack(program, execute(program.commands, program.load_beats, config))
    np.testing.assert_array_equal(y, x.astype(np.int64) @ weight.T.astype(np.int64) + bias)


@pytest.mark.parametrize(("M", "K", "N"), [(3, 1500, 5), (300, 100, 9), (9, 100, 300)])
def test_products_larger_than_a_bank(M: int, K: int, N: int) -> None:
    config = AcceleratorConfig(scratchpad=SMALL)  # 1024 words a bank
    x, weight, bias, _, _ = operands(M, K, N, 8, 1)
    program = lower_matmul(x, weight, bias, None, None, 0, "int32", 8, config)
    y = unpack(program, execute(program.commands, program.load_beats, config))
    np.testing.assert_array_equal(y, x.astype(np.int64) @ weight.T.astype(np.int64) + bias)


def test_weights_that_fit_are_loaded_once() -> None:
    x, weight, bias, _, _ = operands(200, 64, 64, 8, 1)
    program = lower_matmul(x, weight, bias, None, None, 0, "int32", 8, AcceleratorConfig())
    loads = [command for command in program.commands if isinstance(command, LoadWeights)]
    assert len(loads) == 8


def test_low_bit_weights_take_fewer_bytes() -> None:
    x, weight, bias, _, _ = operands(8, 64, 64, 2, 1)
    sizes = [
        len(
            lower_matmul(x, weight, bias, None, None, 0, "int32", b, AcceleratorConfig()).load_beats
        )
        for b in (8, 4, 2)
    ]
    assert sizes[0] - sizes[1] == 64 * 32 and sizes[1] - sizes[2] == 64 * 16


@pytest.mark.parametrize(
    ("change", "law"),
    [
        ({"packed_bits": 2}, "do not fit 2 packed bits"),
        ({"shift": np.zeros(4, int)}, "shifts must be 1..47"),
        ({"multiplier": np.full(4, 65536)}, "multipliers must be 0..65535"),
        ({"zero_point": 128}, "zero point must be -128..127"),
        ({"bias": np.full(4, 2**31 - 1, np.int32)}, "beyond the 32-bit accumulators"),
        ({"weight": np.ones((4, 9), np.int8)}, "must share K"),
        ({"shift": None}, "needs a multiplier and a shift"),
    ],
)
def test_a_broken_law_is_named(change: dict[str, object], law: str) -> None:
    arguments = {
        "x_q": np.ones((4, 8), np.int8),
        "weight": np.full((4, 8), 100, np.int8),
        "bias": np.zeros(4, np.int32),
        "multiplier": np.ones(4, int),
        "shift": np.ones(4, int),
        "zero_point": 0,
        "output": "int8",
        "packed_bits": 8,
        "config": AcceleratorConfig(),
    }
    with pytest.raises(LoweringError, match=law):
        lower_matmul(**{**arguments, **change})
