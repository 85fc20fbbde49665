"""Modelled energy: sums that can be done by hand, and counts of a program that can."""

from functools import partial

import pytest

from evaluators.energy import Energy, modelled_energy
from evaluators.target import Target
from evaluators.traffic import Traffic, traffic
from hwlib.commands import Add, Load, Matmul, Norm, Rotate, Softmax, Store
from hwlib.config import CoreConfig

# approx has a floor of 1e-12 of its own, which is larger than many a figure in SI units
near = partial(pytest.approx, rel=1e-6, abs=0)

TARGET = Target(dram_energy_j_per_byte=40e-12)


ACTIVATION_J, ACTIVATION_W = (7.30521e-12, 7.46914e-12), 0.4133857e-3
"""A read and a write, and the leakage, of 1024 x 128 bits (itrs-lop)."""

WEIGHT_J, WEIGHT_W = (3.86395e-12, 5.72396e-12), 0.2241858e-3
"""The same of 512 x 128 bits."""

CHANNEL_J, CHANNEL_W = (2.34195e-12, 2.34608e-12), 0.1232047e-3
"""The same of 512 x 64 bits."""


def energy(
    counts: Traffic | None = None, latency_s: float = 0.0, cell_leakage_w: float = 0.0
) -> Energy:
    return modelled_energy(counts or Traffic(), CoreConfig(), TARGET, latency_s, cell_leakage_w)


def test_each_count_goes_to_its_part_with_the_documented_figure() -> None:
    assert energy(Traffic(element_cycles=1000)).logic_j == near(0.3e-9)
    assert energy(Traffic(rescaled=10)).logic_j == near(34e-12)
    assert energy(Traffic(vector_results=10)).logic_j == near(65e-12)
    assert energy(Traffic(dram_bytes=8)).dram_j == near(320e-12)
    assert energy(Traffic(activation_reads=2)).sram_j == near(2 * ACTIVATION_J[0])
    assert energy(Traffic(activation_writes=1)).sram_j == near(ACTIVATION_J[1])
    assert energy(Traffic(weight_reads=1, weight_writes=3)).sram_j == near(
        WEIGHT_J[0] + 3 * WEIGHT_J[1]
    )
    assert energy(Traffic(channel_reads=5, channel_writes=1)).sram_j == near(
        5 * CHANNEL_J[0] + CHANNEL_J[1]
    )


def test_leakage_is_that_of_all_banks_and_cells_over_the_latency() -> None:
    leakage_j = energy(latency_s=1e-3, cell_leakage_w=3e-3).leakage_j
    assert leakage_j == near((4 * ACTIVATION_W + 2 * WEIGHT_W + 2 * CHANNEL_W + 3e-3) * 1e-3)


def test_the_total_is_the_sum_of_the_parts_and_additive_in_the_counts() -> None:
    one, two = Traffic(element_cycles=7, dram_bytes=9), Traffic(rescaled=3, weight_reads=2)
    parts = energy(one + two, latency_s=1e-6)
    assert parts.total_j == near(sum(parts.model_dump().values()))
    assert parts.total_j - energy(latency_s=1e-6).total_j == near(
        energy(one).total_j + energy(two).total_j
    )


def test_an_int8_product_stays_at_the_physical_floor() -> None:
    # 2 operations in 0.3 pJ: 6.7 TOPS/W, the most that 45 nm gives before any memory.
    assert 2 / energy(Traffic(element_cycles=1)).logic_j == pytest.approx(6.67e12, rel=0.01)


def test_the_counts_of_a_program_are_those_done_by_hand() -> None:
    config = CoreConfig(rows=4, columns=8, dma_bytes=8, composable=True)
    program = [
        Load(target="activations", address=0, words=3, dram_address=0),  # 24 bytes: 3 beats
        Load(target="weights", address=0, words=2, dram_address=64, packed_bits=4),  # 16 bytes
        Load(target="vector_channels", address=0, words=4, dram_address=128),  # 32 bytes
        Matmul(activation_address=0, weight_address=0, depth=3, columns=5, out=40),
        Matmul(
            activation_address=0, weight_address=0, depth=3, columns=8, out=50, precision="8x4",
            output="accumulate", first=True,
        ),
        Norm(
            source=0, out=20, count=4, channel=0, multiplier=1, shift=1, base=0, centred=True
        ),
        Rotate(source=0, table=8, out=30, count=2, multiplier=1, shift=1),
        Softmax(source=0, out=60, state=70, count=4, first=True),
        Add(source=0, second=10, out=0, count=6),
        Store(address=0, words=1, dram_address=256),  # 8 bytes
    ]  # fmt: skip
    counts = traffic(program, config)
    # 8x8 takes a word's two channels one after the other, 8x4 together.
    assert counts.element_cycles == (6 + 3) * 4 * 8
    assert counts.rescaled == 5 * 4  # the accumulated sums are not scaled
    assert counts.vector_results == (4 + 4 + 4 + 6) * 4
    assert counts.activation_reads == 3 + 3 + 2 * 4 + (4 + 4) + 2 * 4 + 12 + 1
    assert counts.activation_writes == 3 + 3 + 16 + 2 + 2 + (2 + 4) + 6
    assert (counts.weight_reads, counts.weight_writes) == (3 + 2, 2)
    assert (counts.channel_reads, counts.channel_writes) == (5 + 4, 4)
    assert counts.dram_bytes == 24 + 16 + 32 + 8
