"""A unit that is off its reference: the gate tabulates it, and the model is scored with it."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.rewrites import PLAYBOOK, read_playbook
from evaluators.bench import DesignBench
from evaluators.design import DesignPoint
from evaluators.gate.check import Judgement, judge
from evaluators.pipeline import Pipeline
from evaluators.silicon import verilator
from evaluators.silicon.simulation import simulate_core
from evaluators.target import Target
from hwlib.behaviour import Behaviour, FunctionUnit, built_of
from hwlib.config import CoreConfig
from hwlib.contracts.table import contract_of
from hwlib.edit import RtlEdit
from hwlib.elaborate import UnitNetlist, elaborate_core
from hwlib.reference import tables, vector
from hwlib.reference.core import execute
from hwlib.unit_source import shipped_source
from swopt.compiler import twin
from swopt.compiler.lowering import LoweringError, check_sums, slack_of
from swopt.compiler.program import lower, unpack
from tests.swopt.plain_network import tiny_inputs, tiny_model

pytestmark = [
    pytest.mark.eda,
    pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "it is here"),
]

SMALL = CoreConfig(rows=4, columns=4, activation_bytes=8192, weight_bytes=8192, channel_entries=256)

ROUGH: dict[FunctionUnit, tuple[int, str, str]] = {
    "exponential": (1, "(entry + half) >> self.octave", "entry >> self.octave"),
    "activation": (1, "curve.eq(int(value))", "curve.eq(int(value) & 0x70)"),
    "inverse_sqrt": (2, "(fall * fraction) >> 10", "(fall * fraction[6:]) >> 4"),
    "reciprocal": (2, "(fall * fraction) >> 9", "(fall * fraction[6:]) >> 3"),
    # Not the same with its operands exchanged.
    "mac": (2, "product.eq(a * w)", "product.eq(((a >> 2) * w) << 2)"),
}
"""Unit -> latency, what its shipped file says, and what a rougher one says."""


def judged(unit: FunctionUnit, source: str, cache_dir: Path, latency: int = 1) -> Judgement:
    edit = RtlEdit(unit=unit, source=source, latency=latency)
    return judge(edit, SMALL, frozenset(), cache_dir)


def rough(unit: FunctionUnit, cache_dir: Path) -> UnitNetlist:
    latency, old, new = ROUGH[unit]
    source = shipped_source(unit)
    assert old in source
    judgement = judged(unit, source.replace(old, new), cache_dir, latency)
    assert judgement.netlist is not None, judgement.reason
    return judgement.netlist


def test_a_table_survives_its_packing() -> None:
    table = np.random.default_rng(0).integers(-(1 << 15), 1 << 16, 1000)
    assert np.array_equal(Behaviour.of(table).table, table)


def test_what_a_rough_unit_gives_is_tabulated(cache_dir: Path) -> None:
    built = built_of({"activation": rough("activation", cache_dir)})
    x = np.arange(-(1 << 15), 1 << 15)
    for name in ("gelu", "silu"):
        curve = np.zeros(1 << 16, np.int64)
        near = abs(x) < tables.ACTIVATION_ENTRIES
        curve[near] = tables.activation(name)[abs(x[near])] & 0x70
        right = np.minimum(4 * np.maximum(x, 0) - curve, 32767)
        assert np.array_equal(vector.activate(x, name, built), right)
        assert not np.array_equal(vector.activate(x, name), right)


def test_a_shipped_unit_gives_what_the_reference_does(cache_dir: Path) -> None:
    judgement = judged("exponential", shipped_source("exponential"), cache_dir)
    assert judgement.netlist is not None and judgement.netlist.behaviour is None
    assert "equal to the reference on all vectors" in judgement.reason


def test_a_unit_that_is_off_by_more_than_its_contract_allows_is_refused(cache_dir: Path) -> None:
    source = shipped_source("exponential").replace("entry + half", "entry + half - 9")
    assert "within 8, in cycle" in judged("exponential", source, cache_dir).reason
    approximation = contract_of("exponential", SMALL).approximation
    assert approximation is not None and approximation.tolerance == 8


def test_a_unit_whose_result_hangs_on_more_than_its_inputs_is_refused(cache_dir: Path) -> None:
    # Within the tolerance in every cycle, but each second result is one more.
    source = shipped_source("exponential").replace(
        "m.d.sync += self.value.eq((entry + half) >> self.octave)",
        "odd = Signal()\n"
        "        less = ((entry + half) >> self.octave)[1:]\n"
        "        m.d.sync += [odd.eq(~odd), self.value.eq((less << 1) | odd)]",
    )
    assert "for equal inputs" in judged("exponential", source, cache_dir).reason


def test_the_products_of_a_rough_element_are_tabulated(cache_dir: Path) -> None:
    netlist = rough("mac", cache_dir)
    assert netlist.behaviour is not None
    a, w = np.meshgrid(np.arange(-256, 256), np.arange(-128, 128), indexing="ij")
    assert np.array_equal(netlist.behaviour.table, ((a >> 2 << 2) * w).ravel())
    assert slack_of(built_of({"mac": netlist})) == 3 * 128


@pytest.mark.parametrize(
    ("product", "why"),
    [
        ("((a >> 3) * w) << 3", "a product is .*, not .* within 512"),
        ("a * w + (w == 5)", "product .* has an operand of 0 and is 1, not 0"),
        # What is right alone, and in a sum is not.
        ("a * w + (total[6] & (a != 0) & (w != 0))", "drain_out is"),
        # Another product after a tile of another depth.
        ("a * w + (~odd & (a == 99) & (w == 1))", "drain_out is"),
    ],
)
def test_an_element_that_is_wrong_in_more_than_its_products_is_refused(
    product: str, why: str, cache_dir: Path
) -> None:
    source = shipped_source("mac").replace("product.eq(a * w)", f"product.eq({product})")
    source = source.replace(
        "        m = Module()\n",
        "        m = Module()\n        odd = Signal(2)\n        m.d.sync += odd.eq(odd + 1)\n",
    )
    judgement = judged("mac", source, cache_dir, latency=2)
    assert not judgement.accepted
    assert re.search(why, judgement.reason), judgement.reason


def test_sums_of_rough_products_need_room(cache_dir: Path) -> None:
    """A layer whose exact sums just fit the accumulators does not with products that are off."""
    weight, bias = np.full((1, 64), 63, np.int8), np.zeros(1, np.int32)
    check_sums(weight, bias, accumulator_bits=20)
    check_sums(weight, bias, accumulator_bits=20, slack=1)
    with pytest.raises(LoweringError, match="beyond the 20-bit accumulators"):
        check_sums(weight, bias, accumulator_bits=20, slack=512)


def test_core_reference_and_twin_agree_on_rough_units(cache_dir: Path) -> None:
    units = {unit: rough(unit, cache_dir) for unit in ROUGH}
    built = built_of(units)
    rtlil = elaborate_core(SMALL, dict(units))
    for seed in range(2):
        inputs = tiny_inputs(seed, 6)
        network = replace(tiny_model(seed), built=built)
        program = lower(network, inputs, SMALL, trace=True)
        run = simulate_core(rtlil, program.commands, program.dram, SMALL, cache_dir)
        found = np.frombuffer(run.dram, np.uint8)
        assert np.array_equal(found, execute(program.commands, program.dram, SMALL, built))
        assert not np.array_equal(found, execute(program.commands, program.dram, SMALL))
        tensors = unpack(program, found)
        for name, tensor in twin.tensors(network, inputs).items():
            assert np.array_equal(tensors[name], tensor), name


def test_the_score_of_a_design_is_that_of_its_units(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bench gives the model the tables that the gate found, and stage keys tell them apart."""
    (entry,) = [e for e in read_playbook(PLAYBOOK) if e.name == "exponential_truncated"]
    edit = RtlEdit(unit=entry.unit, source=entry.source, latency=entry.latency)
    design = DesignPoint(edits=(edit,))
    seen = {}

    def score(bench: DesignBench, workload: object, inputs: dict[str, str]) -> None:
        seen["inputs"] = inputs
        seen["built"] = bench._model(workload).network.built
        raise ValueError("far enough")

    monkeypatch.setattr(DesignBench, "_score", score)
    got = Pipeline(cache_dir=cache_dir).evaluate(design, Target(), lambda stage: None)
    assert got.reason == "far enough"
    table = seen["built"]["exponential"]
    entries = tables.exponential(CoreConfig().exponential_entries)
    steps = np.arange(512)
    assert np.array_equal(table, entries[steps % 32 // 2] >> (steps // 32))
    assert "built_exponential" in seen["inputs"]
