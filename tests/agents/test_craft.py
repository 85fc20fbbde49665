"""What the offline model's hardware and compression roles answer, and what they expect."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from agents import compression, craft, estimates, hardware
from agents.estimates import area_um2, gain
from agents.mock import read_sections
from agents.planner import Plan
from agents.proposer import Trial
from evaluators import space
from evaluators.design import DesignPoint
from evaluators.target import Target
from tests.agents import toy

TARGET = Target().resolved().model_dump(mode="json")

MEASURED_UM2 = {
    (4, 4, False): 485_000.0,
    (4, 8, False): 514_000.0,
    (8, 4, False): 624_000.0,
    (8, 8, False): 676_588.0,
    (8, 16, False): 783_000.0,
    (8, 8, True): 731_082.0,
}
"""Cells and SRAM of cores by rows, columns and composable, else shipped: `evaluators.silicon.cost`,
Nangate 45 nm."""


def knobs(**changed: object) -> dict[str, Any]:
    """The hardware knobs of the shipped core with some changed."""
    wanted = {f"hardware.{name}": value for name, value in changed.items()}
    values = space.values_of(space.with_changes(DesignPoint(), wanted))
    return {path: value for path, value in values.items() if path.startswith("hardware.")}


def parent(details: Mapping[str, object] = {}, **plan: object) -> dict[str, Any]:
    """A measured row of the history."""
    metrics = {
        "area_um2": 676_588.0, "energy_j": 55e-6, "cycles": 355_919, "clock_hz": 6.4e8,
        "model_bytes": 345_088,
    }  # fmt: skip
    shown = {f"compression.quantization.{name}": value for name, value in plan.items()}
    return {"metrics": metrics, "details": details, "knobs": shown}


def sections(role: str, history: Sequence[Trial], word: str, at: int = 0) -> dict[str, Any]:
    """A role's prompt, as the offline model reads it, for a plan that begins with `word`."""
    plan = Plan(parent_trial=at, hardware=f"{word}: now", rtl="", compression=f"{word}: now",
                why="")  # fmt: skip
    context = toy.context(len(history), DesignPoint(), history)
    ask = {"hardware": hardware.ask, "compression": compression.ask}[role]
    return read_sections(ask(context, toy.LIBRARY, plan, history[at].design)[1]["content"])


def proposed(role: str, design: DesignPoint, word: str) -> list[dict[str, Any]]:
    """Changes by path that the role proposes to a measured `design`, over eight seeds."""
    read = sections(role, [toy.judged(0, design)], word)
    replies = [getattr(craft, role)(read, random.Random(seed)) for seed in range(8)]
    return [{c["path"]: c["value"] for c in reply["changes"]} for reply in replies]


@pytest.mark.parametrize("of", list(MEASURED_UM2))
def test_the_area_expected_from_one_core_is_near_the_others(of: tuple[int, int, bool]):
    base = knobs()
    sizes = [(base, MEASURED_UM2[8, 8, False])]
    wanted = knobs(rows=of[0], columns=of[1], composable=of[2])
    assert area_um2(wanted, sizes) == pytest.approx(MEASURED_UM2[of], rel=0.05)


def test_of_the_measured_cores_the_most_similar_counts():
    sizes = [(knobs(), 600_000.0), (knobs(rows=16), 900_000.0)]
    assert area_um2(knobs(rows=16), sizes) == 900_000.0


def test_columns_speed_the_arrays_share_alone_and_rows_everything():
    """Amdahl's law in its closed form: no link that is waited for, an array of half the time."""
    row = parent({"utilization_array": 0.5, "energy_share_dram": 0.0, "energy_share_sram": 0.0})
    row["metrics"]["area_um2"] = 1e15  # what a row or a column adds does not count
    twice = 2**estimates.SIDE
    assert gain(knobs(rows=16), knobs(), row, TARGET) == pytest.approx(2 * estimates.SIDE)
    expected = -2 * math.log2(0.5 / twice + 0.5)
    assert gain(knobs(columns=16), knobs(), row, TARGET) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("plan", "better"),
    [({}, False), ({"bits": 4}, True), ({"bits": 4, "activation_bits": 4}, True)],
)
def test_composable_elements_gain_where_bits_are_few(plan: dict[str, object], better: bool):
    won = gain(knobs(composable=True), knobs(), parent(**plan), TARGET)
    assert (won > 0.3) == better


def test_more_memory_for_weights_gains_until_each_comes_once():
    thirsty, sated = parent({"energy_share_dram": 0.7}), parent({"energy_share_dram": 0.2})
    more = knobs(weight_bytes=32768)
    assert gain(more, knobs(), thirsty, TARGET) > 0 > gain(more, knobs(), sated, TARGET)


def test_a_wider_link_than_the_dram_feeds_gains_nothing():
    row = parent({"energy_share_dram": 0.7})
    row["metrics"]["clock_hz"] = Target().dram_figures.bytes_per_s / 8
    assert gain(knobs(dma_bytes=32), knobs(), row, TARGET) == gain(knobs(), knobs(), row, TARGET)


def test_a_stage_in_the_elements_is_for_their_worst_path_and_a_free_clock():
    on, off = parent({"worst_path_unit": "mac"}), parent({"worst_path_unit": "core.drain"})
    clocked = {**TARGET, "clock_hz": 5e8}
    more = knobs(mac_stages=3)
    still = gain(knobs(), knobs(), off, TARGET)
    assert gain(more, knobs(), on, TARGET) > still
    assert gain(more, knobs(), off, TARGET) == gain(more, knobs(), on, clocked) == still


def refused(reason: str) -> tuple[dict[str, Any], list[tuple[dict[str, Any], str]]]:
    """The parent's knobs, and the cores tried where one with 16 KiB of activations was refused."""
    small = space.with_changes(toy.BAD_START, {"hardware.activation_bytes": 16384})
    row = toy.judged(1, small)
    assert row.evaluation.status == "invalid"
    history = [toy.judged(0, toy.BAD_START), replaced(row, reason)]
    read = sections("hardware", history, "grow")
    return craft._values(read), craft._tried_hardware(read)


def replaced(trial: Trial, reason: str) -> Trial:
    """A trial that was refused for another reason."""
    verdict = trial.evaluation.model_copy(update={"reason": reason})
    return trial.model_copy(update={"evaluation": verdict})


def test_a_memory_that_was_refused_is_not_tried_smaller():
    """Every other move of that array is left open."""
    values, tried = refused("the core refuses this")
    smaller = {**values, "hardware.activation_bytes": 8192}
    assert craft._hardware_known(smaller, tried)
    assert not craft._hardware_known({**smaller, "hardware.rows": 8}, tried)
    assert not craft._hardware_known({**values, "hardware.activation_bytes": 65536}, tried)
    assert not craft._hardware_known({**smaller, "hardware.accumulator_bits": 24}, tried)


def test_a_memory_that_the_model_did_not_fit_is_tried_again_with_fewer_rows_alone():
    values, tried = refused("norm takes 9,000 words of an activation memory of 4,096; use a larger")
    tight = {**values, "hardware.activation_bytes": 16384}
    for same in ({"hardware.columns": 8}, {"hardware.accumulator_bits": 24}, {"hardware.rows": 8}):
        more_rows = {**tight, **same, "hardware.rows": max(values["hardware.rows"], 8)}
        assert craft._hardware_known(more_rows, tried)
        assert not craft._hardware_known({**more_rows, "hardware.activation_bytes": 32768}, tried)
    assert not craft._hardware_known({**tight, "hardware.rows": 2}, tried)


NARROW = {"compression.quantization.bits": 4}
COMPOSED = {"hardware.composable": True}
ACTIVATION_BITS = "compression.quantization.activation_bits"


def shipped(**changes: object) -> DesignPoint:
    """The shipped design with some knobs changed."""
    return space.with_changes(DesignPoint(), changes)


def test_elements_are_tried_composable_when_the_planner_asks_for_it():
    replies = proposed("hardware", shipped(**NARROW), "compose")
    assert all(changes["hardware.composable"] is True for changes in replies)


def test_what_hardware_proposes_is_expected_within_the_area_limit_and_changes_few_knobs():
    read = sections("hardware", [toy.judged(0, DesignPoint())], "grow")
    values, sizes = craft._values(read), craft._measured_areas(read)
    for changes in proposed("hardware", DesignPoint(), "grow"):
        assert len(changes) <= craft.MOST_CHANGES
        assert area_um2(values | changes, sizes) <= 0.96e6


def test_activations_get_four_bits_where_elements_and_weights_have_them():
    both = proposed("compression", shipped(**NARROW, **COMPOSED), "narrow")
    assert any(changes.get(ACTIVATION_BITS) == 4 for changes in both)
    for one in (NARROW, COMPOSED):
        assert not any(
            ACTIVATION_BITS in c for c in proposed("compression", shipped(**one), "narrow")
        )


def test_fewer_channels_come_with_least_squares_and_a_loss_asks_for_them():
    compensation = "compression.pruning.compensation"
    for changes in proposed("compression", DesignPoint(), "prune"):
        narrower = any(path.endswith("_mlp_keep") for path in changes)
        assert changes.get(compensation) == ("least_squares" if narrower else None)
    narrow = shipped(**{"compression.pruning.decoder_heads_keep": 0.5})
    assert any(
        c == {compensation: "least_squares"} for c in proposed("compression", narrow, "restore")
    )


def test_fewer_bits_come_with_compensated_rounding_and_a_loss_asks_for_it():
    rounding = "compression.quantization.rounding"
    for changes in proposed("compression", DesignPoint(), "narrow"):
        fewer = any("bits" in path for path in changes)
        assert changes.get(rounding) == ("compensated" if fewer else None)
    assert any(
        c == {rounding: "compensated"}
        for c in proposed("compression", shipped(**NARROW), "restore")
    )
    for design in (DesignPoint(), shipped(**NARROW, **{rounding: "compensated"})):
        for changes in proposed("compression", design, "restore"):
            assert changes.get(rounding) != "compensated"


def test_a_suggestion_is_merged_without_what_the_parents_elements_refuse():
    """Its activations of 4 bits are lawful on its own core, not on the parent's."""
    read = sections("compression", [toy.judged(0, DesignPoint())], "merge")
    read["suggestion"] = {"edits": [], "knobs": {ACTIVATION_BITS: 4, **NARROW, **COMPOSED}}
    moved = craft.compression(read, random.Random(0))["changes"]
    assert {c["path"]: c["value"] for c in moved} == NARROW


def test_fixed_elements_are_not_proposed_to_a_model_of_four_bit_activations():
    four = space.with_changes(toy.BAD_START, {ACTIVATION_BITS: 4, **NARROW, **COMPOSED})
    assert not any("hardware.composable" in c for c in proposed("hardware", four, "grow"))


def told_of(rewrite: str, feasible: bool) -> dict[str, Any]:
    """A measured row off the front whose design has the rewrite."""
    edits = [{"unit": "mac", "latency": 2, "rewrite": rewrite}]
    return {"trial": 1, "status": "ok", "feasible": feasible, "on_front": False, "edits": edits,
            "metrics": {}, "details": {}, "knobs": {}}  # fmt: skip


def rewritten(
    worst: str, rows: Sequence[dict[str, Any]] = (), clock_hz: float | None = None
) -> str | None:
    """The source that the RTL role sends from a playbook of three rewrites of `mac`."""
    entries = [("fast", ["clock"], []), ("short", ["cycles"], ["clock"]), ("small", ["area"], [])]
    reply = craft.rtl(
        {
            "worst path": {"worst_path_unit": worst, "unit_shown": "mac"},
            "target": {"clock_hz": clock_hz},
            "plan": {"parent_trial": None, "direction": "rewrite: now"},
            "history": list(rows),
            "under measurement now": [],
            "playbook": [
                {"name": name, "unit": "mac", "latency": 2, "helps": helps, "costs": costs}
                for name, helps, costs in entries
            ],
            **{f"playbook {name}": name for name, *_ in entries},
        }
    )
    source = reply["source"]
    assert source is None or isinstance(source, str)
    return source


def test_a_unit_is_rewritten_for_the_clock_on_the_worst_path_and_for_area_elsewhere():
    assert rewritten("mac") == "fast"
    assert rewritten("core.drain") == "small"
    assert rewritten("mac", clock_hz=5e8) == "small"


def test_a_rewrite_is_given_up_when_two_feasible_designs_with_it_missed_the_front():
    missed, large = told_of("small", feasible=True), told_of("small", feasible=False)
    assert rewritten("core.drain", [missed]) == "small"
    assert rewritten("core.drain", [large, large]) == "small"
    assert rewritten("core.drain", [missed, missed]) == "short"


def test_where_the_unit_limits_the_clock_nothing_that_costs_it_is_taken():
    gone = [told_of("small", feasible=True)] * 2
    refused = {**told_of("fast", feasible=False), "status": "failed"}
    assert rewritten("core.drain", [*gone, refused]) == "short"
    assert rewritten("mac", [*gone, refused]) is None
