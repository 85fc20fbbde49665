"""The target: its DRAM's figures, its limits, and the devices of its SRAM."""

import pytest

from dovetail.loop import told
from evaluators.energy import modelled_energy
from evaluators.latency import dram_of
from evaluators.metrics import Evaluation
from evaluators.target import DRAM, Target
from evaluators.traffic import Traffic
from hwlib.config import CoreConfig

CLOCK_HZ = 6.4e8


def test_a_type_of_dram_has_a_bandwidth_and_an_energy_that_a_target_may_change() -> None:
    assert Target().dram_figures == DRAM["lpddr4"]
    assert Target(dram="hbm2").dram_figures.bytes_per_s == 256e9
    own = Target(dram="ddr3", dram_bytes_per_s=1e9).dram_figures
    assert own.bytes_per_s == 1e9
    assert own.energy_j_per_byte == DRAM["ddr3"].energy_j_per_byte


def test_a_faster_type_makes_a_wide_core_wait_less() -> None:
    config = CoreConfig(dma_bytes=32)  # 20.5 GB/s at this clock
    assert dram_of(Target(), config, CLOCK_HZ).gap_cycles > 0
    assert dram_of(Target(dram="lpddr5"), config, CLOCK_HZ).gap_cycles == 0


def test_dram_and_sram_of_the_target_are_in_the_energy() -> None:
    counts = dict.fromkeys(Traffic.model_fields, 1000)
    moved = Traffic.model_validate(counts)

    def energy(target: Target) -> tuple[float, float, float]:
        found = modelled_energy(moved, CoreConfig(), target, 1e-3, 0.0)
        return found.dram_j, found.sram_j, found.leakage_j

    usual, ddr3, hp = (energy(t) for t in (Target(), Target(dram="ddr3"), Target(sram="itrs-hp")))
    assert ddr3[0] == pytest.approx(usual[0] * 162.5 / 40) and ddr3[1:] == usual[1:]
    assert hp[0] == usual[0] and hp[1] != usual[1] and hp[2] > usual[2]


@pytest.mark.parametrize(
    ("limit_w", "area_um2", "over"),
    [(None, 5e5, -0.5), (None, 2e6, 1.0), (0.1, 5e5, 1.0), (0.1, 4e6, 3.0), (0.4, 5e5, -0.5)],
)
def test_a_design_is_feasible_under_both_limits(
    limit_w: float | None, area_um2: float, over: float
) -> None:
    figures = {"latency_s": 1e-3, "energy_j": 2e-4, "nll_nats": 0.5, "area_um2": area_um2}
    evaluation = Evaluation(design_id="0", evaluator="x", status="ok", metrics=figures)
    assert told(3, evaluation, Target(power_limit_w=limit_w)).violation == pytest.approx(over)
