"""The whole array as one unit: its contract, what keeps and what breaks it, and it in the core."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators.core_bench import unit_of
from evaluators.design import DesignPoint
from evaluators.gate.check import judge
from evaluators.gate.netlist import check_netlist, without_start_values
from evaluators.gate.stimuli import Stimulus
from evaluators.gate.vectors import first_mismatch, simulate, simulator
from evaluators.silicon import verilator
from evaluators.silicon.simulation import simulate_core
from hwlib.blocks.cells import instance
from hwlib.blocks.outer_product import GridRow, OuterProductArray
from hwlib.commands import QUEUES, queue_of
from hwlib.config import CoreConfig
from hwlib.contracts.contract import Trace
from hwlib.contracts.table import contract_of
from hwlib.convert import convert
from hwlib.cycles import WAIT_CYCLES, CoreLatencies, command_cycles
from hwlib.edit import RtlEdit
from hwlib.elaborate import UnitNetlist, elaborate_core, latencies_of
from hwlib.reference.core import execute
from hwlib.unit_source import shipped_source, source_to_rtlil
from tests.evaluators.array_rewrites import ARRAYS, PING_PONG, ArrayRewrite
from tests.hwlib.core_programs import random_program

SMALL = CoreConfig(rows=4, columns=4, activation_bytes=8192, weight_bytes=8192)
COMPOSABLE = SMALL.model_copy(update={"composable": True})
LENGTH = 60

pytestmark = [
    pytest.mark.eda,
    pytest.mark.skipif(
        bool(verilator.available()), reason=verilator.available() or "Verilator is here"
    ),
]


def netlist(source: str, config: CoreConfig) -> str:
    """An array's netlist, without initial values."""
    text = source_to_rtlil("array", source, config)
    check_netlist("array", config, text)
    return without_start_values(text)


def in_the_core(config: CoreConfig) -> str:
    """The core's own array, of units, as one netlist."""
    shipped = contract_of(config.element, config)
    array = OuterProductArray(
        config.rows, config.columns, config.composable, config.mac_stages, instance
    )
    row = convert(GridRow(config.columns, config.composable, instance), "grid_row")
    element = source_to_rtlil(shipped.unit, shipped_source(config.element), config)  # type: ignore[arg-type]
    return without_start_values("\n".join([convert(array, "array"), row, element]))


@pytest.mark.parametrize("config", [SMALL, COMPOSABLE], ids=["fixed", "composable"])
def test_the_shipped_file_is_the_cores_own_array_cycle_by_cycle(
    config: CoreConfig, cache_dir: Path
) -> None:
    contract = contract_of("array", config)
    stimuli = [Stimulus(contract.stimulus(4, 5))]
    outputs: list[Trace] = []
    for text in (netlist(shipped_source("array"), config), in_the_core(config)):
        assert not first_mismatch(contract, text, 4, cache_dir)
        (found,) = simulate(contract, simulator(contract, text, cache_dir), stimuli)
        outputs.append(found)
    one, other = outputs
    assert (one["ready"] == other["ready"]).all()
    assert (one["sums_valid"] == other["sums_valid"]).all()
    valid = one["sums_valid"] == 1
    for row in range(config.rows):
        assert (one[f"sum_{row}"] == other[f"sum_{row}"])[valid].all()


@pytest.mark.parametrize("knobs", [{"accumulator_bits": 20}, {"rows": 8, "mac_stages": 3}])
def test_arrays_of_other_sizes_and_stages_keep_the_contract(
    knobs: dict[str, int], cache_dir: Path
) -> None:
    config = SMALL.model_copy(update=knobs)
    latency = config.mac_stages + 2
    assert not first_mismatch(contract_of("array", config), in_the_core(config), latency, cache_dir)


@pytest.mark.parametrize(
    "name",
    [*list(ARRAYS)[:1], *(pytest.param(each, marks=pytest.mark.slow) for each in list(ARRAYS)[1:])],
)
def test_a_true_rewrite_is_accepted(name: str, cache_dir: Path) -> None:
    for config in (SMALL, COMPOSABLE):
        edit = RtlEdit(unit="array", source=ARRAYS[name].source, latency=ARRAYS[name].latency)
        judgement = judge(edit, config, frozenset(), cache_dir)
        assert judgement.accepted, judgement.reason
        assert judgement.shown == "tested"


SHIPPED = ArrayRewrite(4, shipped_source("array"))

WRONG = {
    "takes what is not valid": (
        "taken.eq(self.valid & self.ready),",
        "taken.eq(self.ready),",
        "sums_valid is 1 in cycle",
    ),
    "takes a tile's last operands while columns wait": (
        "self.ready.eq(~self.last | ~(under_way.any() | settled | left.any())),",
        "self.ready.eq(1),",
        "column 1 of tile 1",
    ),
    "forgets a column that nobody took": (
        "shift.eq(self.sums_valid & self.sums_ready),",
        "shift.eq(self.sums_valid),",
        "column 0 of tile",
    ),
    "gives all columns, wanted or not": (
        "m.d.sync += left.eq(next_left)",
        "m.d.sync += left.eq(self.columns)",
        "sums_valid is 1 in cycle",
    ),
    "gives a column too few": (
        "m.d.sync += left.eq(next_left)",
        "m.d.sync += left.eq(next_left - (next_left == 3))",
        "column 2 of tile",
    ),
    "keeps its sum in a reset": (
        "total, drained = Signal(signed(self.bits)), Signal(signed(self.bits))",
        "total, drained = Signal(signed(self.bits), reset_less=True), Signal(signed(self.bits))",
        "in cycle 4: column 0 of tile 0",
    ),
    "is wrong for one pair of operands": (
        "element.w.eq(getattr(self, f'w_{column}')),".replace("'", '"'),
        "element.w.eq(Mux((a == -77) & (getattr(self, f'w_{column}') == 33), 32, "
        "getattr(self, f'w_{column}'))),",
        r"sum_\d is -?\d+, not -?\d+, in cycle \d{6}",
    ),
    "shows a column a cycle too early": (
        "m.d.sync += [under_way.eq(Cat(ends, under_way[0])), settled.eq(under_way[1])]",
        "m.d.sync += under_way.eq(Cat(ends, under_way[0]))\n"
        "        m.d.comb += settled.eq(under_way[1])",
        "has a latency of 3, not the claimed 4",
    ),
    "refuses operands for ever after 200 cycles": (
        "self.ready.eq(~self.last | ~(under_way.any() | settled | left.any())),",
        "self.ready.eq((~self.last | ~(under_way.any() | settled | left.any())) & ~age[7]),\n"
        "            age.eq(count),",
        "operands are refused for more than 4 cycles",
    ),
    "never gives a second tile": (
        "self.sums_valid.eq(left.any()),",
        "self.sums_valid.eq(left.any() & ~age[7]),\n            age.eq(count),",
        "the first column of the tile that ended in cycle 125 never came",
    ),
}
"""What is changed in the shipped file, and what the gate says of it."""

_AGE = """\
        age, count = Signal(8), Signal(8)
        m.d.sync += count.eq(Mux(count == 200, 200, count + 1))
"""


@pytest.mark.parametrize("name", WRONG)
def test_a_broken_array_is_refused(name: str, cache_dir: Path) -> None:
    old, new, why = WRONG[name]
    shipped = shipped_source("array")
    assert shipped.count(old) == 1
    source = shipped.replace(old, new)
    if "age" in new:
        begin = "        taken, ends, shift = Signal(), Signal(), Signal()\n"
        source = source.replace(begin, begin + _AGE)
    edit = RtlEdit(unit="array", source=source, latency=4)
    judgement = judge(edit, SMALL, frozenset(), cache_dir)
    assert not judgement.accepted
    assert re.search(why, judgement.reason), judgement.reason


RARE = {
    "after one power-on in 32": """\
        s, bad = Signal(5, reset_less=True), Signal()
        m.d.sync += s.eq(Cat(s[-1], s[:-1]))
        m.d.comb += bad.eq(s.all())
""",
    "in tiles of 192 pairs": """\
        n, bad = Signal(16), Signal()
        with m.If(self.valid & self.ready):
            m.d.sync += n.eq(Mux(self.last, 0, n + 1))
            with m.If(self.last):
                m.d.sync += bad.eq(n == 191)
""",
    "when a column has waited for 1,000 cycles": """\
        n, bad = Signal(16), Signal()
        m.d.sync += n.eq(Mux(self.sums_valid & ~self.sums_ready, n + 1, 0))
        m.d.comb += bad.eq(n >= 1000)
""",
}
"""When the sums of the first row are wrong in one bit, as logic."""


@pytest.mark.parametrize("when", RARE)
def test_an_array_that_is_wrong_now_and_then_is_refused(when: str, cache_dir: Path) -> None:
    controls = "        taken, capture, shift = self.control(m)\n"
    sums = '            m.d.comb += getattr(self, f"sum_{row}").eq(right)\n'
    source = shipped_source("array")
    assert source.count(controls) == source.count(sums) == 1
    source = source.replace(controls, controls + RARE[when])
    source = source.replace(sums, sums.replace("right", "right ^ (bad & (row == 0))"))
    edit = RtlEdit(unit="array", source=source, latency=4)
    judgement = judge(edit, SMALL, frozenset(), cache_dir)
    assert not judgement.accepted
    assert re.search(r"sum_0 is -?\d+, not", judgement.reason), judgement.reason


@pytest.mark.parametrize("name", ARRAYS)
def test_the_core_gives_the_same_bytes_with_another_array(name: str, cache_dir: Path) -> None:
    """Random programs, and where columns come without a pause exactly the formulas' cycles."""
    for config in (SMALL, COMPOSABLE):
        rewrite = ARRAYS[name]
        rtlil = source_to_rtlil("array", rewrite.source, config)
        units: dict[Any, UnitNetlist] = {"array": UnitNetlist(rtlil=rtlil, latency=rewrite.latency)}
        core = elaborate_core(config, units)
        assert "module \\grid_row" not in core and f"module \\{config.element}\n" not in core
        latencies = CoreLatencies.of(latencies_of(config, units))
        for seed in range(400, 403):
            program, dram = random_program(config, LENGTH, seed)
            run = simulate_core(core, program, dram, config, cache_dir)
            assert (np.frombuffer(run.dram, np.uint8) == execute(program, dram, config)).all()
            if "in two cycles" not in name:
                hold_to_formulas(program, run.completed, config, latencies)


def hold_to_formulas(
    program: Any, completed: Any, config: CoreConfig, latencies: CoreLatencies
) -> None:
    """Every command of a program whose commands wait for each other takes its formula's cycles."""
    from evaluators.silicon.simulation import Dram

    ends = {queue: iter(completed[queue]) for queue in QUEUES}
    before = None
    for command in program:
        end = next(ends[queue_of(command)])
        if before is not None:
            alone = command_cycles(command, config, Dram(), latencies)
            assert end - before == WAIT_CYCLES + alone, command
        before = end


def test_an_array_and_an_element_do_not_go_together() -> None:
    array = RtlEdit(unit="array", source=PING_PONG.source, latency=2)
    mac = RtlEdit(unit="mac", source=shipped_source("mac"), latency=2)
    with pytest.raises(ValueError, match="an edit of `array` brings elements of its own"):
        DesignPoint(edits=(array, mac))
    netlist_of_mac = UnitNetlist(rtlil=source_to_rtlil("mac", mac.source, SMALL), latency=2)
    rtlil = source_to_rtlil("array", PING_PONG.source, SMALL)
    units: dict[Any, UnitNetlist] = {
        "array": UnitNetlist(rtlil=rtlil, latency=2), "mac": netlist_of_mac
    }  # fmt: skip
    with pytest.raises(ValueError, match="brings elements of its own; leave out mac"):
        elaborate_core(SMALL, units)


def test_modules_are_told_by_their_unit() -> None:
    modules = ("array", "grid_row", "array.element_0_7", "mac", "core.drain", "core")
    assert [unit_of(name) for name in modules] == [
        "array", "array", "array", "mac", "core.drain", "core"
    ]  # fmt: skip
