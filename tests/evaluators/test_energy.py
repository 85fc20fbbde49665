"""Modelled energy: sums that can be done by hand."""

from functools import partial

import pytest

from evaluators.energy import modelled_energy
from evaluators.target import Target
from hwlib.config import AcceleratorConfig
from hwlib.traffic import Traffic

# approx has a floor of 1e-12 of its own, which is larger than many a figure in SI units
near = partial(pytest.approx, rel=1e-6, abs=0)

TARGET = Target(dram_energy_j_per_byte=40e-12)


def energy(traffic=None, latency_s=0.0, cell_leakage_w=0.0):
    return modelled_energy(
        traffic or Traffic(), AcceleratorConfig(), TARGET, latency_s, cell_leakage_w
    )


def test_each_count_goes_to_its_part_with_the_documented_figure():
    assert energy(Traffic(products=1000)).products_j == near(0.3e-9)
    assert energy(Traffic(requantized=10)).requantizer_j == near(34e-12)
    assert energy(Traffic(loaded_bytes=3, stored_bytes=5)).dram_j == near(320e-12)
    # sram_2048x64, itrs-lop: 6.03378 pJ a read, 4.41967 pJ a write
    banks = Traffic(activation_reads=2, weight_reads=1, activation_writes=1, weight_writes=3)
    assert energy(banks).sram_j == near((3 * 6.03378 + 4 * 4.41967) * 1e-12)


def test_leakage_grows_with_the_latency():
    # two banks of 0.4063057 mW
    leakage_j = energy(latency_s=1e-3, cell_leakage_w=3e-3).leakage_j
    assert leakage_j == near((2 * 0.4063057e-3 + 3e-3) * 1e-3)


def test_the_total_is_the_sum_of_the_parts_and_additive_in_the_counts():
    one, two = Traffic(products=7, loaded_bytes=9), Traffic(requantized=3, weight_reads=2)
    parts = energy(one + two, latency_s=1e-6)
    assert parts.total_j == near(sum(parts.model_dump().values()))
    assert parts.total_j - energy(latency_s=1e-6).total_j == near(
        energy(one).total_j + energy(two).total_j
    )


def test_an_int8_product_stays_at_the_physical_floor():
    # 2 operations in 0.3 pJ: 6.7 TOPS/W, the most that 45 nm gives before any memory.
    assert 2 / energy(Traffic(products=1)).products_j == pytest.approx(6.67e12, rel=0.01)
