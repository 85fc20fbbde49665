"""The reference of the whole core, against sums done by hand and against floating point."""

import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pytest

from hwlib.assembler import encode_program
from hwlib.commands import (
    KINDS,
    Activate,
    Add,
    AnyCommand,
    Divide,
    Gate,
    Load,
    Matmul,
    MatmulOutput,
    Norm,
    Precision,
    Rotate,
    Softmax,
    Store,
    Waits,
    reads,
    word_bytes,
    writes,
    written_words,
)
from hwlib.config import CoreConfig
from hwlib.reference.core import Core, execute
from hwlib.reference.softmax import EMPTY
from tests.hwlib.core_programs import random_program

ROWS = 4


def small(**knobs: Any) -> CoreConfig:
    sizes = {"activation_bytes": 8192, "weight_bytes": 8192, "channel_entries": 256}
    return CoreConfig(**{"rows": ROWS, "columns": 4, "dma_bytes": 8} | sizes | knobs)


def core_with(
    activations: Sequence[Sequence[int]] = (),
    weights: Sequence[Sequence[Sequence[int]]] = (),
    entries: Sequence[tuple[int, int, int]] = (),
    **knobs: Any,
) -> Core:
    """A core whose first words and entries (both tables; bias, multiplier, shift) are given."""
    core = Core(np.zeros(0, np.uint8), small(**knobs))
    if activations:
        core.activations[: len(activations)] = activations
    if weights:
        core.weights[: len(weights)] = weights
    for table in (core.matmul_channels, core.vector_channels):
        table["shift"] = 1
        for index, (bias, multiplier, shift) in enumerate(entries):
            table[index] = (bias, multiplier, shift, 0)
    return core


def word(even: int, odd: int) -> int:
    """An int16 that holds two int8."""
    return int(np.array([even, odd], np.int8).view(np.int16)[0])


def matmul(**fields: Any) -> Matmul:
    usual = {"activation_address": 0, "weight_address": 0, "depth": 1, "columns": 1, "out": 100}
    return Matmul(**usual | fields)


IDENTITY = (0, 2, 1)
"""A channel entry that changes nothing."""


class TestMatmul:
    def test_sums_over_both_bytes_of_every_word(self) -> None:
        core = core_with(
            activations=[
                [word(1, 2), word(-1, 0), word(127, 127), word(0, -128)],
                [word(3, 4), word(0, 5), word(127, 127), word(-128, -128)],
            ],
            weights=[[[1, 10], [-128, 0]] + [[0, 0]] * 2, [[100, -1], [127, 1]] + [[0, 0]] * 2],
        )
        sums = core.sums(matmul(depth=2, columns=2))
        by_hand = [
            [1 + 20 + 300 - 4, -128 + 381 + 4],
            [-1 - 5, 128 + 5],
            [127 * (1 + 10 + 100 - 1), 127 * (-128 + 127 + 1)],
            [-1280 - 12800 + 128, -128 * 127 - 128],
        ]
        assert sums.tolist() == by_hand

    def test_unsigned_takes_the_activations_bytes_as_0_to_255(self) -> None:
        core = core_with([[word(-1, -128)] * ROWS], [[[-1, 2]] * 4])
        assert core.sums(matmul(unsigned=True)).tolist() == [[-255 + 256]] * ROWS
        assert core.sums(matmul()).tolist() == [[1 - 256]] * ROWS

    def test_second_operand_from_the_activation_memory_begins_at_its_lane(self) -> None:
        lanes = [[word(lane, 1) for lane in range(8)], [word(2, 0)] * 8]
        core = core_with(lanes, rows=8, columns=4)
        command = matmul(
            weight_source="activations", weight_lane=4, activation_address=1, columns=3
        )
        assert core.sums(command).tolist() == [[8, 10, 12]] * 8

    def test_columns_beyond_the_last_lane_are_zero(self) -> None:
        core = core_with([[word(1, 1)] * ROWS], columns=8)
        sums = core.sums(matmul(weight_source="activations", columns=6))
        assert sums.tolist() == [[2, 2, 2, 2, 0, 0]] * ROWS

    def test_bias_wraps_and_scaling_rounds_half_up(self) -> None:
        core = core_with(
            [[word(1, 0), word(3, 0), word(-1, 0), word(-3, 0)]],
            [[[1, 0]] * 4],
            [((1 << 31) - 1, 1, 1), (0, 1, 1), (5, 65535, 16)],
        )
        core.run(matmul(columns=3, output="int32"))
        wide = core.activations[100:106].astype(np.int64)
        values = (wide[1::2] << 16) + (wide[0::2] & 0xFFFF)
        top = 1 << 31
        assert values[0].tolist() == [
            -top // 2, -top // 2 + 1, (top - 2) // 2, (top - 4) // 2,
        ]  # fmt: skip
        assert values[1].tolist() == [1, 2, 0, -1]
        assert values[2].tolist() == [6, 8, 4, 2]

    def test_int8_writes_only_the_halves_and_the_lane_that_it_has(self) -> None:
        core = core_with(
            [[word(1, 0)] * ROWS], [[[10, 0], [20, 0], [30, 0], [0, 0]]], [IDENTITY] * 4
        )
        core.activations[100:103] = word(-7, -8)
        core.run(matmul(columns=2, first_half=1, lane=2, zero_point=5))
        untouched = word(-7, -8)
        assert core.activations[100].tolist() == [untouched, untouched, word(-7, 15), untouched]
        assert core.activations[101].tolist() == [untouched, untouched, word(25, -8), untouched]
        core.run(matmul(columns=3))
        assert core.activations[100].tolist() == [word(10, 20)] * ROWS
        assert core.activations[101].tolist() == [word(30, -8)] * ROWS
        assert core.activations[102].tolist() == [untouched] * ROWS

    def test_int8_and_int16_saturate_after_the_zero_point(self) -> None:
        core = core_with(
            [[word(127, 0), word(-128, 0)] * 2], [[[1, 0]] * 4], [(0, 2, 1), (0, 65535, 8)]
        )
        core.run(matmul(zero_point=1))
        assert core.activations[100].view(np.int8)[::2].tolist() == [127, -127] * 2
        core.run(matmul(columns=2, output="int16", zero_point=-128))
        assert core.activations[100].tolist() == [-1, -256] * 2
        assert core.activations[101].tolist() == [32512 - 128, -32768] * 2

    def test_residual_saturates_the_addend_and_then_the_sum(self) -> None:
        core = core_with([[word(127, 0), word(-128, 0)] * 2], [[[127, 0]] * 4], [(0, 16, 1)])
        core.activations[100] = [1, 1, -32768, 32767]
        core.run(matmul(output="residual"))
        # 127 * 127 * 8 and -128 * 127 * 8 are both beyond int16.
        assert core.activations[100].tolist() == [32767, -32767, -1, -1]

    def test_residual_of_one_lane_leaves_the_others(self) -> None:
        core = core_with([[word(2, 0)] * ROWS], [[[3, 0]] * 4], [IDENTITY])
        core.activations[100] = [10, 20, 30, 40]
        core.run(matmul(output="residual", lane=1))
        assert core.activations[100].tolist() == [10, 26, 30, 40]

    def test_int32_saturates(self) -> None:
        core = core_with(entries=[((1 << 31) - 1, 65535, 1), (-(1 << 31), 65535, 1)])
        core.run(matmul(columns=2, output="int32"))
        assert core.activations[100:104, 0].tolist() == [-1, 32767, 0, -32768]

    def test_accumulate_shifts_what_was_there_by_the_low_five_bits_of_alpha(self) -> None:
        core = core_with([[word(1, 0)] * ROWS], [[[5, 0], [-5, 0], [0, 0], [0, 0]]])
        core.activations[50] = [0, 1, 31, 32]
        core.activations[100:104] = [[-3] * 4, [-1] * 4, [0] * 4, [1 << 14] * 4]  # -3 and 2^30
        core.run(matmul(columns=2, output="accumulate", alpha_address=50))
        assert core.activations[100].tolist() == [2, 3, 4, 2]
        assert core.activations[101].tolist() == [0, 0, 0, 0]
        assert core.activations[102].tolist() == [-5] * 4
        assert core.activations[103].tolist() == [(1 << 14) - 1, (1 << 13) - 1, -1, (1 << 14) - 1]
        core.run(matmul(columns=2, output="accumulate", first=True))
        assert core.activations[100:104, 0].tolist() == [5, 0, -5, -1]

    def test_accumulate_wraps(self) -> None:
        core = core_with([[word(1, 0)] * ROWS], [[[1, 0]] * 4])
        core.activations[100:102] = [[-1] * 4, [32767] * 4]
        core.run(matmul(output="accumulate", alpha_address=60))
        assert core.activations[100:102, 0].tolist() == [0, -32768]

    def test_argmax_keeps_the_first_of_equals_across_commands(self) -> None:
        lanes = [word(1, 0), word(-1, 0), word(0, 0), word(2, 0)]
        weights = [[[3, 0], [7, 0], [7, 0], [-2, 0]], [[7, 0], [8, 0], [0, 0], [-9, 0]]]
        core = core_with([lanes], weights, [IDENTITY] * 4)
        core.run(matmul(columns=4, output="argmax", first=True, index_base=1000))
        assert core.activations[100].tolist() == [1001, 1003, 1000, 1001]
        core.run(matmul(columns=4, output="argmax", weight_address=1, index_base=2000, out=101))
        assert core.activations[101].tolist() == [2001, 2003, 1000, 2001]
        core.run(matmul(columns=2, output="argmax", first=True))
        assert core.activations[100].tolist() == [1, 0, 0, 1]

    @pytest.mark.parametrize(
        "scale_by, expected",
        [
            ("column", [[0, 20], [10, 30], [20, 40], [30, 50]]),
            ("uniform", [[0, 10], [10, 20], [20, 30], [30, 40]]),
            ("lane", [[0, 10], [20, 30], [40, 50], [60, 70]]),
        ],
    )
    def test_entry_is_that_of_the_column_the_command_or_the_lane(
        self, scale_by: str, expected: list[list[int]]
    ) -> None:
        lanes = [word(lane, 1) for lane in range(ROWS)]
        entries = [(0, 0, 1), (0, 2, 1), (10, 2, 1), (20, 2, 1), (30, 2, 1)]
        core = core_with([lanes], [[[10, 0], [10, 10], [0, 0], [0, 0]]], entries)
        core.run(matmul(columns=2, output="int16", scale_by=scale_by, channel=1))
        assert core.activations[100:102].T.tolist() == expected


def lane(*nibbles: int) -> int:
    """An int16 that holds four int4."""
    value = sum((nibble & 15) << 4 * at for at, nibble in enumerate(nibbles))
    return int(np.array(value, np.uint16).view(np.int16))


def nibbles(words: np.ndarray) -> list[list[int]]:
    """int4 channels `[4 * words][lanes]` of words `[words, lanes]`."""
    raw = words.astype(np.int64)
    channels = np.stack([raw >> 4 * at & 15 for at in range(4)], axis=1)
    return ((channels.reshape(-1, words.shape[1]) ^ 8) - 8).tolist()


class TestFourBits:
    def test_8x4_takes_a_word_of_weights_for_two_words_of_activations(self) -> None:
        core = core_with(
            [[word(1, 10)] * ROWS, [word(100, -128)] * ROWS, [word(127, 2)] * ROWS],
            composable=True,
        )
        for at, four in enumerate([(1, 2, 3, -8), (-1, 7, 5, 5)]):
            core.weights[at, 0] = [four[0] & 15 | four[1] << 4, four[2] & 15 | four[3] << 4]
        assert core.sums(matmul(depth=1, precision="8x4"))[0].tolist() == [21]
        assert core.sums(matmul(depth=2, precision="8x4"))[0].tolist() == [21 + 300 + 1024]
        assert core.sums(matmul(depth=3, precision="8x4"))[0].tolist() == [1345 - 127 + 14]

    def test_4x4_takes_four_channels_of_every_word(self) -> None:
        core = core_with([[lane(1, -8, 7, 3), lane(0, 0, 0, -1), 0, 0]], composable=True)
        core.weights[0, :2] = (
            np.array([lane(5, -8, 2, 1), lane(0, 1, 0, 7)], np.int16).view(np.int8).reshape(2, 2)
        )
        sums = core.sums(matmul(columns=2, precision="4x4"))
        assert sums[:2].tolist() == [[5 + 64 + 14 + 3, -8 + 21], [-1, -7]]

    def test_weights_of_4_bits_are_loaded_in_the_order_of_their_channels(self) -> None:
        config = small(composable=True)
        core = Core(np.arange(64, dtype=np.uint8) * 37, config)
        core.run(Load(target="weights", address=1, words=1, dram_address=0, packed_bits=4,
                      memory_bits=4))  # fmt: skip
        assert core.weights[1].view(np.uint8).ravel().tolist() == core.dram[:8].tolist()
        core.dram[:4] = [0b11_10_01_00, 0b01_00_00_10, 0, 0xFF]
        core.run(Load(target="weights", address=2, words=1, dram_address=0, packed_bits=2,
                      memory_bits=4))  # fmt: skip
        words = core.weights[2:3].copy().view("<i2").reshape(1, -1)
        assert np.transpose(nibbles(words)).tolist() == [
            [0, 1, -2, -1], [-2, 0, 0, 1], [0] * 4, [-1] * 4,
        ]  # fmt: skip

    def test_results_of_4_bits_are_those_of_8_bits_saturated(self) -> None:
        """Rounding and zero point come before, so that nothing else differs."""
        rng = np.random.default_rng(3)
        x = rng.integers(-900, 900, (16, ROWS)).astype(np.int16)
        entries = [(0, 9000, 20)] * 8
        scale = {"multiplier": 40, "shift": 12, "zero_point": 2}
        commands: list[Any] = [
            Norm(source=0, out=100, count=8, channel=0, multiplier=(1 << 18) // 8, shift=14,
                 base=5, centred=True, zero_point=2),
            Activate(source=0, out=100, count=8, function="gelu", **scale),
            Gate(source=0, second=8, out=100, count=8, gate_shift=9, **scale),
            Divide(source=0, state=200, out=100, count=8, **scale),
        ]  # fmt: skip
        for command in commands:
            core = core_with(x.tolist(), entries=entries, composable=True)
            core.activations[201:203] = [[30000] * 4, [200] * 4]
            core.run(command)
            wide = core.activations[100:104].view(np.int8).reshape(4, ROWS, 2)
            wide = wide.transpose(0, 2, 1).reshape(8, ROWS).astype(int)
            core.run(command.model_copy(update={"out_bits": 4}))
            assert nibbles(core.activations[100:102]) == np.clip(wide, -8, 7).tolist()
            assert ((wide > 7) | (wide < -8)).any()
            assert len(np.unique(np.clip(wide, -8, 7))) > 2


@pytest.mark.parametrize(
    "command, composable, message",
    [
        (matmul(precision="8x4"), False, "precision 8x4 takes a core whose elements are composab"),
        (matmul(precision="4x4"), False, "precision 4x4 takes a core whose elements are composab"),
        (
            matmul(precision="4x4", weight_source="activations"),
            True,
            "precision 4x4 takes its second operand from the weight memory",
        ),
        (matmul(precision="8x4", unsigned=True), True, "8x4 has no unsigned activations"),
        (
            Load(target="weights", address=0, words=1, dram_address=0, packed_bits=4,
                 memory_bits=4),
            False,
            "memory_bits 4 takes a core whose elements are composable",
        ),
        (
            Load(target="weights", address=0, words=1, dram_address=0, memory_bits=4),
            True,
            "weights of 8 bits in DRAM do not fit memory_bits 4",
        ),
        (
            Load(target="activations", address=0, words=1, dram_address=0, memory_bits=4),
            True,
            "only weights can have memory_bits below 8",
        ),
        (
            Activate(source=0, out=50, count=4, function="silu", multiplier=1, shift=1, out_bits=4),
            False,
            "out_bits 4 takes a core whose elements are composable",
        ),
        (
            Gate(source=0, second=9, out=50, count=6, gate_shift=1, multiplier=1, shift=1,
                 out_bits=4),
            True,
            "count must be a multiple of 4 at out_bits 4, not 6",
        ),
        (
            Divide(source=0, state=90, out=50, count=4, multiplier=1, shift=1, zero_point=8,
                   out_bits=4),
            True,
            "zero_point must be -8..7 at out_bits 4, not 8",
        ),
        (
            Norm(source=0, out=50, count=4, channel=0, multiplier=1, shift=1, base=0, centred=True,
                 zero_point=-9, out_bits=4),
            True,
            "zero_point must be -8..7 at out_bits 4, not -9",
        ),
    ],
)  # fmt: skip
def test_laws_of_four_bits(command: AnyCommand, composable: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_program([command], small(composable=composable))


@pytest.mark.parametrize(
    "changes, grouped, message",
    [
        ({}, False, "group_words 8 takes a core with grouped weights; this one has none"),
        ({"packed_bits": 8}, True, "only weights that are widened stand in groups"),
        ({"target": "activations", "packed_bits": 8}, True, "only weights that are widened stand"),
        ({"words": 10}, True, "the last header has no words behind it; leave it out"),
    ],
)
def test_laws_of_groups(changes: dict[str, Any], grouped: bool, message: str) -> None:
    fields = {"target": "weights", "address": 0, "words": 9, "dram_address": 0, "packed_bits": 4}
    load = Load(**fields | changes, group_words=8)
    with pytest.raises(ValueError, match=message):
        encode_program([load], small(grouped_weights=grouped))


def test_what_commands_of_four_bits_touch() -> None:
    config = small(composable=True)
    odd = matmul(precision="8x4", depth=5, weight_address=7)
    assert ("activations", 0, 5) in reads(odd) and ("weights", 7, 3) in reads(odd)
    assert ("weights", 0, 5) in reads(matmul(precision="4x4", depth=5))
    narrow = Activate(
        source=0, out=50, count=12, function="gelu", multiplier=1, shift=1, out_bits=4
    )
    assert writes(narrow) == [("activations", 50, 3)]
    for packed_bits, wide, thin in ((4, 4, 8), (2, 2, 4)):
        load = Load(target="weights", address=0, words=1, dram_address=0, packed_bits=packed_bits)
        assert word_bytes(load, config) == wide
        assert word_bytes(load.model_copy(update={"memory_bits": 4}), config) == thin


class TestDma:
    def run(self, command: AnyCommand, data: bytes) -> Core:
        core = Core(np.frombuffer(data.ljust(64, b"\xee"), np.uint8), small())
        core.run(command)
        return core

    def test_loads_lanes_lowest_first_and_little_endian(self) -> None:
        command = Load(target="activations", address=3, words=1, dram_address=8)
        core = self.run(command, bytes(8) + bytes([1, 2, 3, 4, 0xFF, 0xFF, 0, 0x80]))
        assert core.activations[3].tolist() == [0x0201, 0x0403, -1, -32768]

    def test_loads_packed_weights_even_channel_first(self) -> None:
        command = Load(target="weights", address=1, words=1, dram_address=0, packed_bits=4)
        core = self.run(command, bytes([0x21, 0xF8, 0x07, 0x70]))
        assert core.weights[1].tolist() == [[1, 2], [-8, -1], [7, 0], [0, 7]]
        command = Load(target="weights", address=0, words=2, dram_address=0, packed_bits=2)
        core = self.run(command, bytes([0b11_10_01_00, 0, 0b01_01_01_01, 0xFF]))
        assert core.weights[0].tolist() == [[0, 1], [-2, -1], [0, 0], [0, 0]]
        assert core.weights[1].tolist() == [[1, 1], [1, 1], [-1, -1], [-1, -1]]
        command = Load(target="weights", address=0, words=1, dram_address=0)
        assert self.run(command, bytes([1, 0x80])).weights[0, 0].tolist() == [1, -128]

    def test_the_header_of_a_group_says_what_its_weights_are_multiplied_by(self) -> None:
        config = small(grouped_weights=True)
        core = Core(np.zeros(64, np.uint8), config)
        core.dram[:4] = [0xF0 | 1, 15, 0, 4]  # four more bits, which do not matter
        core.dram[4:20] = np.tile(np.array([0x21, 0xF8, 0x07, 0x70], np.uint8), 4)
        core.dram[20:24] = [0, 2, 0, 0]
        core.dram[24:28] = [0x21, 0xF8, 0x07, 0x70]
        load = Load(target="weights", address=1, words=7, dram_address=0, packed_bits=4,
                    group_words=4)  # fmt: skip
        core.run(load)
        assert writes(load) == [("weights", 1, 5)] and written_words(load) == 5
        for word in range(1, 5):
            assert core.weights[word].tolist() == [[2, 4], [-128, -16], [7, 0], [0, 35]]
        assert core.weights[5].tolist() == [[1, 2], [-24, -3], [7, 0], [0, 7]]
        assert not core.weights[6].any()

    def test_weights_of_2_bits_in_groups_have_room_in_4(self) -> None:
        core = Core(np.zeros(64, np.uint8), small(composable=True, grouped_weights=True))
        core.dram[:8] = [0, 1, 2, 3, *[0b11_10_01_00] * 4]
        core.run(Load(target="weights", address=0, words=2, dram_address=0, packed_bits=2,
                      memory_bits=4, group_words=8))  # fmt: skip
        word = core.weights[:1].copy().view("<i2").reshape(1, -1)
        assert np.transpose(nibbles(word)).tolist() == [
            [0, 1, -2, -1], [0, 2, -4, -2], [0, 3, -6, -3], [0, 4, -8, -4],
        ]  # fmt: skip

    @pytest.mark.parametrize("target", ["matmul_channels", "vector_channels"])
    def test_loads_channel_entries_into_their_table(self, target: Any) -> None:
        data = bytes([0xFE, 0xFF, 0xFF, 0xFF, 0x34, 0x12, 47, 99])
        core = self.run(Load(target=target, address=7, words=1, dram_address=0), data)
        table = getattr(core, target)
        assert table[["bias", "multiplier", "shift"]][7].item() == (-2, 0x1234, 47)
        assert np.count_nonzero(core.matmul_channels) + np.count_nonzero(core.vector_channels) == 1

    def test_store_pads_the_last_beat_with_zeros(self) -> None:
        core = Core(np.full(64, 0xEE, np.uint8), small(dma_bytes=16))
        core.activations[5:8] = [[1, -1, 256, 0], [2] * 4, [3] * 4]
        core.run(Store(address=5, words=3, dram_address=16))
        stored = [1, 0, 255, 255, 0, 1, 0, 0] + [2, 0] * 4 + [3, 0] * 4 + [0] * 8
        assert core.dram.tolist() == [0xEE] * 16 + stored + [0xEE] * 16


class TestVector:
    def test_norm_is_that_of_floating_point_within_a_step(self) -> None:
        rng = np.random.default_rng(1)
        count = 12
        x = rng.normal(100, 700, (count, ROWS)).astype(np.int16)
        gamma, beta = rng.integers(-20000, 20000, count), rng.integers(-9, 9, count)
        entries = [(int(b) << 19, int(g) & 0xFFFF, 19) for g, b in zip(gamma, beta, strict=True)]
        # In a norm's first half, 16 (x - mean) 2^(15 - base) / (count * deviation) is rounded.
        unit = 2 ** (4 + 15 - 5) / count
        for centred in (True, False):
            core = core_with(x.tolist(), entries=entries)
            command = Norm(
                source=0, out=100, count=count, channel=0, multiplier=(1 << 18) // count, shift=14,
                base=5, centred=centred, zero_point=4,
            )  # fmt: skip
            core.run(command)
            deviation = x - (x.mean(0) if centred else 0.0)
            z = deviation / np.sqrt((deviation**2).mean(0))
            wanted = z * unit * gamma[:, None] / 2**19 + beta[:, None] + 4
            got = core.activations[100 : 100 + count // 2].view(np.int8)
            got = got.reshape(-1, ROWS, 2).transpose(0, 2, 1).reshape(count, ROWS)
            assert np.abs(got).max() > 20
            assert np.abs(got - wanted).max() < 1

    def test_activate_is_gelu_and_silu_within_a_step(self) -> None:
        x = np.array([[-640, -64, 0, 64], [100, 200, -200, 600]], np.int16)
        for function in ("gelu", "silu"):
            core = core_with(x.tolist())
            core.run(
                Activate(
                    source=0,
                    out=100,
                    count=2,
                    function=function,
                    multiplier=2,
                    shift=5,
                    zero_point=1,
                )
            )
            v = x / 64
            gelu = 0.5 * v * (1 + np.vectorize(math.erf)(v / math.sqrt(2)))
            wanted = (gelu if function == "gelu" else v / (1 + np.exp(-v))) * 16 + 1
            got = core.activations[100].view(np.int8).reshape(ROWS, 2).T
            assert np.abs(got - np.clip(wanted, -128, 127)).max() < 0.6

    def test_gate_multiplies_silu_by_the_other_operand(self) -> None:
        core = core_with([[64, -64, 0, 512]] * 2 + [[10, 10, 10, -3]] * 2)
        core.run(Gate(source=0, second=2, out=100, count=2, gate_shift=4, multiplier=2, shift=1))
        silu = [1 / (1 + math.exp(-1)), -1 / (1 + math.exp(1)), 0, 8]
        wanted = [s * 256 * up / 16 for s, up in zip(silu, [10, 10, 10, -3], strict=True)]
        got = core.activations[100].view(np.int8)[::2]
        assert np.abs(got - np.clip(wanted, -128, 127)).max() <= 1

    def test_rotate_by_a_quarter_turn_and_by_nothing(self) -> None:
        one, zero = 1 << 14, 0
        turns = [[one, zero, zero, one], [zero, one, -one, zero]]
        x = [[10, 10, 10, 10], [1, 2, 3, 4], [20, 20, 20, 20], [5, 6, 7, 8]]
        core = core_with([*x, *turns, *turns])
        core.run(Rotate(source=0, table=4, out=100, count=2, multiplier=2, shift=1))
        got = core.activations[100:102].view(np.int8).reshape(2, ROWS, 2)
        # Lanes turn by 0, a quarter, minus a quarter and 0.
        assert got[0].tolist() == [[10, 1], [-20, -6], [20, 7], [10, 4]]
        assert got[1].tolist() == [[20, 5], [10, 2], [-10, -3], [20, 8]]
        core.activations[100:102] = 77
        core.run(Rotate(source=0, table=4, out=100, count=2, multiplier=2, shift=1, lane=1))
        assert core.activations[101].tolist() == [77, word(10, 2), 77, 77]

    def test_add_saturates_and_may_write_over_an_operand(self) -> None:
        core = core_with([[1, 32767, -32768, 5], [2, 1, -1, -5]])
        core.run(Add(source=0, second=1, out=1, count=1))
        assert core.activations[1].tolist() == [3, 32767, -32768, 0]

    def test_softmax_of_one_block_by_hand(self) -> None:
        # Octaves 0, 1 and 2 below the maximum; entry 0 of the table is 127 * 2^(-1/64), 126.
        core = core_with([[64] * 4, [32] * 4, [0] * 4], exponential_entries=16)
        core.activations[200:204] = 9
        core.run(Softmax(source=0, out=100, state=200, count=3, first=True))
        assert core.activations[100:102, 0].tolist() == [word(126, 63), word(32, 0)]
        assert core.activations[200:204, 0].tolist() == [2, 126 + 63 + 32, 0, 0]
        # A greater maximum shifts what was there: 3 octaves.
        core.activations[0:2] = [[160] * 4, [130] * 4]
        core.run(Softmax(source=0, out=100, state=200, count=1))
        assert core.activations[200:204, 0].tolist() == [5, (126 + 63 + 32 >> 3) + 126, 0, 3]

    def test_softmax_sees_up_to_the_offset_and_a_blind_row_keeps_its_state(self) -> None:
        core = core_with([[32] * 4] * 3)
        core.run(Softmax(source=0, out=100, state=200, count=3, first=True, offset=-1))
        seen = core.activations[100:102].view(np.int8).reshape(2, ROWS, 2) > 0
        assert seen.transpose(1, 0, 2).reshape(ROWS, 4).sum(1).tolist() == [0, 1, 2, 3]
        assert core.activations[200].tolist() == [EMPTY, 1, 1, 1]
        assert core.activations[201].tolist() == [0, 126, 252, 378]
        core.run(Softmax(source=0, out=100, state=200, count=3, offset=-4))
        assert core.activations[200:204].T.tolist() == [
            [EMPTY, 0, 0, 0], [1, 126, 0, 0], [1, 252, 0, 0], [1, 378, 0, 0],
        ]  # fmt: skip

    def test_divide_gives_the_quotient_in_256ths_and_0_for_a_total_of_0(self) -> None:
        core = core_with([[3000, -3000, 5, 127], [0, -1, 0, 0], [0] * 4, [1] * 4])
        core.activations[201:203] = [[2000, 2000, 0, 1], [0, 0, 0, 0]]
        core.run(Divide(source=0, state=200, out=100, count=2, multiplier=4, shift=4, zero_point=1))
        quotients = core.activations[100].view(np.int8).reshape(ROWS, 2)
        assert quotients[:, 0].tolist() == [97, -95, 1, 127]
        # The odd channel is 65536.
        assert quotients[:, 1].tolist() == [127, 127, 1, 127]


def test_waits_and_laws_are_checked_with_the_index() -> None:
    late = Add(source=0, second=0, out=0, count=1, waits=Waits(load=1))
    with pytest.raises(ValueError, match=r"command 0, add: waits for 1 load"):
        execute([late], np.zeros(0, np.uint8), small())


def test_refuses_what_lies_beyond_the_dram_image() -> None:
    commands = [
        Store(address=0, words=1, dram_address=0),
        Store(address=0, words=1, dram_address=8),
    ]
    with pytest.raises(
        ValueError, match=r"command 1, store: bytes 8 to 15 reach beyond .* 8 bytes"
    ):
        execute(commands, np.zeros(8, np.uint8), small())


@pytest.mark.parametrize("image", [b"\0" * 8, np.zeros(8, np.int8), np.zeros((2, 4), np.uint8)])
def test_refuses_what_is_no_image(image: Any) -> None:
    with pytest.raises(ValueError, match="must be a numpy array of uint8"):
        execute([], image, small())


def test_refuses_a_channel_entry_without_a_shift() -> None:
    with pytest.raises(ValueError, match=r"command 0, matmul: channel entry 0 has a shift of 0"):
        execute([matmul()], np.zeros(0, np.uint8), small())


def test_leaves_the_image_that_it_is_given_alone() -> None:
    dram = np.full(8, 9, np.uint8)
    after = execute([Store(address=0, words=1, dram_address=0)], dram, small())
    assert dram.tolist() == [9] * 8
    assert after.tolist() == [0] * 8


@pytest.mark.parametrize("composable", [False, True])
@pytest.mark.parametrize("rows, columns", [(4, 4), (8, 4), (4, 8), (16, 4)])
def test_random_programs_are_lawful_and_use_everything(
    rows: int, columns: int, composable: bool
) -> None:
    config = small(rows=rows, columns=columns, composable=composable)
    commands, dram = random_program(config, 120, seed=rows + columns)
    assert len(encode_program(commands, config)) == len(commands)
    assert {type(command) for command in commands} == set(KINDS)
    outputs = {command.output for command in commands if isinstance(command, Matmul)}
    assert outputs == set(get_args(MatmulOutput))
    precisions = {command.precision for command in commands if isinstance(command, Matmul)}
    assert precisions == (set(get_args(Precision)) if composable else {"8x8"})
    kinds = (Norm, Activate, Gate, Divide)
    narrow = {type(c) for c in commands if isinstance(c, kinds) and c.out_bits == 4}
    assert narrow == (set(kinds) if composable else set())
    assert (4 in {c.memory_bits for c in commands if isinstance(c, Load)}) == composable
    after = execute(commands, dram, config)
    core = Core(dram, config)
    for command in commands:
        core.run(command)
    shown = after[-config.activation_bytes :].view(np.int16).reshape(-1, rows)
    np.testing.assert_array_equal(shown, core.activations)
    assert len(np.unique(shown)) > 500


def test_random_programs_follow_from_their_seed() -> None:
    one, other = (random_program(small(), 60, seed=5) for _ in range(2))
    assert one[0] == other[0]
    np.testing.assert_array_equal(one[1], other[1])
    assert random_program(small(), 60, seed=6)[0] != one[0]
