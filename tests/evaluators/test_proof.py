"""How far an edit is shown to be right: what is proved, what is not, and what no proof may pass."""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from evaluators.gate import questions, solvers
from evaluators.gate.check import judge
from evaluators.gate.frames import depth_of, frame_of
from evaluators.gate.invariants import BadInvariant, Invariant, invariant_in
from evaluators.gate.netlist import without_start_values
from evaluators.gate.proof import Proof, no_proof, prove
from evaluators.gate.protocols import protocol_of
from evaluators.gate.questions import Pair
from evaluators.gate.vectors import first_mismatch
from evaluators.silicon import verilator
from hwlib.config import CoreConfig
from hwlib.contracts.contract import Trace
from hwlib.contracts.table import contract_of
from hwlib.edit import RtlEdit, UnitName
from hwlib.elaborate import UnitNetlist
from hwlib.unit_source import shipped_source, source_to_rtlil

needs_compiler = pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)
pytestmark = pytest.mark.eda

CORE = CoreConfig()
PLAYBOOK = Path(__file__).parents[2] / "agents" / "playbook"
EXPONENTIAL = shipped_source("exponential")
MAC = shipped_source("mac")

RING = EXPONENTIAL.replace(
    "m.d.sync += self.value.eq((entry + half) >> self.octave)",
    "ring = Signal(2)\n"
    "        m.d.sync += ring.eq(Mux(ring == 2, 0, ring + 1))\n"
    "        m.d.sync += self.value.eq(((entry + half) >> self.octave) ^ (ring == 3))",
).replace("import Const, Module, Signal", "import Const, Module, Mux, Signal")
"""An exponential that is wrong in a state that it never reaches."""


HELD = EXPONENTIAL.replace(
    "m.d.sync += self.value.eq((entry + half) >> self.octave)",
    "kept, far = Signal(7), Signal()\n"
    "        m.d.sync += far.eq(self.octave == 15)\n"
    "        with m.If(self.octave != 15):\n"
    "            m.d.sync += kept.eq((entry + half) >> self.octave)\n"
    "        m.d.comb += self.value.eq(Mux(far, 0, kept))",
).replace("import Const, Module, Signal", "import Const, Module, Mux, Signal")
"""An exponential whose register keeps its value where it is not looked at."""


def changed(source: str, right: str, wrong: str) -> str:
    assert source.count(right) == 1
    return source.replace(right, wrong)


def nothing_differs(stimuli: Sequence[Trace]) -> str:
    return ""


def proof_of(
    unit: UnitName,
    source: str,
    latencies: tuple[int, int],
    cache_dir: Path,
    simulate: Callable[[Sequence[Trace]], str] = nothing_differs,
    config: CoreConfig = CORE,
) -> Proof:
    shipped, edit = (
        UnitNetlist(rtlil=source_to_rtlil(unit, text, config), latency=latency)
        for text, latency in zip((shipped_source(unit), source), latencies, strict=True)
    )
    return prove(contract_of(unit, config), shipped, edit, source, simulate, cache_dir)


@cache
def pair_of(unit: UnitName, source: str, latencies: tuple[int, int]) -> Pair:
    contract = contract_of(unit, CORE)
    shipped, edit = (source_to_rtlil(unit, text, CORE) for text in (shipped_source(unit), source))
    return Pair(
        contract=contract,
        protocol=protocol_of(contract),
        shipped=frame_of(unit, shipped),
        edit=frame_of(unit, edit),
        latencies=latencies,
        invariant=Invariant(),
    )


@pytest.mark.parametrize("source", [EXPONENTIAL, HELD])
def test_a_function_whose_vectors_hold_all_operands_is_shown_exhaustively(
    source: str, tmp_path: Path
) -> None:
    assert proof_of("exponential", source, (1, 1), tmp_path).shown == "exhaustive"


@needs_compiler
def test_a_verdict_says_how_far(cache_dir: Path) -> None:
    edit = RtlEdit(unit="exponential", source=EXPONENTIAL, latency=1)
    judgement = judge(edit, CORE, frozenset(), cache_dir)
    assert judgement.shown == "exhaustive" and "which are all that can come" in judgement.reason
    untried = judge(edit, CORE, frozenset(), cache_dir, no_proof)
    assert untried.shown == "tested" and "no proof was tried" in untried.reason


@pytest.mark.parametrize(
    ("source", "asked"),
    [(EXPONENTIAL, ["pipeline"]), (HELD, ["reset", "step"])],
)
def test_vectors_with_a_gap_are_not_exhaustive(
    source: str, asked: list[str], tmp_path: Path
) -> None:
    contract = contract_of("exponential", CORE)

    def gap(latency: int, seed: int) -> Trace:
        trace = contract.stimulus(latency, seed)
        last = (trace["octave"] == 15) & (trace["fraction"] == 31)
        return {name: np.where(last, 0, values) for name, values in trace.items()}

    shipped, edit = (
        UnitNetlist(rtlil=source_to_rtlil("exponential", text, CORE), latency=1)
        for text in (EXPONENTIAL, source)
    )
    thinned = replace(contract, stimulus=gap)
    proof = prove(thinned, shipped, edit, source, nothing_differs, tmp_path)
    assert proof.shown == "proved"
    assert [each.question for each in proof.asked] == asked


def test_a_sum_in_two_halves_is_proved_without_an_invariant(tmp_path: Path) -> None:
    source = (PLAYBOOK / "mac_late_upper.py").read_text()
    proof = proof_of("mac", source, (2, 2), tmp_path, config=CoreConfig(accumulator_bits=20))
    assert proof.shown == "proved", proof


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "name", "latencies", "shown"),
    [
        ("composable_mac", "composable_mac_late_upper", (2, 2), "proved"),
        ("composable_mac", "", (2, 2), "proved"),
        ("composable_mac", "composable_mac_late_upper", (3, 2), "proved"),
        ("inverse_sqrt", "inverse_sqrt_one_cycle", (2, 1), "exhaustive"),
        ("mac", "mac_booth_unregistered", (2, 1), "proved"),
        ("mac", "mac_booth_unregistered", (3, 1), "proved"),
        ("mac", "mac_late_upper", (2, 2), "proved"),
        ("mac", "", (3, 3), "proved"),
        ("rescaler", "", (4, 4), "proved"),
        ("activation", "", (1, 1), "exhaustive"),
        ("reciprocal", "", (2, 2), "exhaustive"),
        ("inverse_sqrt", "", (2, 2), "exhaustive"),
    ],
)
def test_units_are_shown_as_far_as_the_documentation_says(
    unit: UnitName, name: str, latencies: tuple[int, int], shown: str, tmp_path: Path
) -> None:
    stages = latencies[0] if "mac" in unit else 2
    config = CoreConfig(composable=unit == "composable_mac", mac_stages=stages)
    source = (PLAYBOOK / f"{name}.py").read_text() if name else shipped_source(unit)
    assert proof_of(unit, source, latencies, tmp_path, config=config).shown == shown


def late(source: str, after: int) -> str:
    """A unit whose result is wrong from so many cycles after the reset on."""
    return changed(
        source,
        "m.d.sync += self.value.eq((entry + half) >> self.octave)",
        "age = Signal(32)\n"
        f"        m.d.sync += age.eq(age + (age != {after}))\n"
        "        m.d.sync += self.value.eq("
        f"((entry + half) >> self.octave) ^ (age == {after}))",
    )


def test_a_unit_that_fails_after_2_to_the_30_cycles_is_not_proved(tmp_path: Path) -> None:
    proof = proof_of("exponential", late(EXPONENTIAL, 1 << 30), (1, 1), tmp_path)
    assert (proof.shown, proof.difference) == ("tested", "")
    assert "'step' does not hold" in proof.note


@pytest.mark.slow
def test_an_element_that_fails_after_2_to_the_30_cycles_is_not_proved(tmp_path: Path) -> None:
    source = changed(
        MAC,
        "        m.d.comb += self.drain_out.eq(drained)\n",
        "        age = Signal(32)\n"
        "        m.d.sync += age.eq(age + (age != 1 << 30))\n"
        "        m.d.comb += self.drain_out.eq(drained ^ (age == 1 << 30))\n",
    )
    proof = proof_of("mac", source, (2, 2), tmp_path)
    assert (proof.shown, proof.difference) == ("tested", "")


def test_a_difference_is_found_early_and_driven_from_a_reset_on(tmp_path: Path) -> None:
    driven: list[Trace] = []

    def simulate(stimuli: Sequence[Trace]) -> str:
        driven.extend(stimuli)
        return "value is 1, not 0" if any(len(each["octave"]) > 3 for each in stimuli) else ""

    proof = proof_of("exponential", late(EXPONENTIAL, 3), (1, 1), tmp_path, simulate)
    assert "value is 1, not 0; from a reset on, cycle by cycle: fraction" in proof.difference
    assert driven


def test_a_faster_unit_is_held_to_the_operands_of_the_first_cycle(tmp_path: Path) -> None:
    # Its results come a cycle before the shipped unit's, whose reset is asked a cycle earlier.
    last = "m.d.sync += self.value.eq((entry + half) >> self.octave)"
    slower = changed(
        EXPONENTIAL,
        last,
        "result = Signal(7)\n"
        "        m.d.sync += [result.eq((entry + half) >> self.octave), self.value.eq(result)]",
    )
    hasty = changed(
        EXPONENTIAL,
        last,
        "begun = Signal()\n"
        "        m.d.sync += begun.eq(1)\n"
        "        m.d.sync += self.value.eq(((entry + half) >> self.octave) ^ ~begun)",
    )
    shipped, edit = (
        UnitNetlist(rtlil=source_to_rtlil("exponential", source, CORE), latency=latency)
        for source, latency in ((slower, 2), (hasty, 1))
    )
    contract = contract_of("exponential", CORE)
    proof = prove(contract, shipped, edit, hasty, lambda stimuli: "it differs", tmp_path)
    assert proof.asked[1].question == "reset" and proof.difference.startswith("it differs")


@needs_compiler
@pytest.mark.slow
def test_a_rare_operand_is_found_and_refused_with_its_values(
    tmp_path: Path, cache_dir: Path
) -> None:
    source = changed(
        shipped_source("rescaler"),
        "shifts[0].eq(self.shift),",
        "shifts[0].eq(self.shift ^ ((self.acc == 987654321) & (self.multiplier == 54321))),",
    )
    rtlil = without_start_values(source_to_rtlil("rescaler", source, CORE))
    assert not first_mismatch(contract_of("rescaler", CORE), rtlil, 4, cache_dir)
    edit = RtlEdit(unit="rescaler", source=source, latency=4)
    judgement = judge(edit, CORE, frozenset(), cache_dir)
    assert not judgement.accepted and judgement.shown is None
    assert re.search(r"y is -?\d+, not -?\d+, .*acc .*987654321.*54321", judgement.reason)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        # Of two cycles, one after the other.
        ("w.eq(self.w)", "w.eq(self.w ^ ((a == 93) & (w == -71) & (self.a == -200)))"),
    ],
)
def test_a_rare_product_is_found_and_refused(right: str, wrong: str, cache_dir: Path) -> None:
    source = changed(MAC, right, wrong)
    judgement = judge(RtlEdit(unit="mac", source=source, latency=2), CORE, frozenset(), cache_dir)
    assert not judgement.accepted and judgement.shown is None
    assert re.search(r"drain_out is -?\d+, not -?\d+", judgement.reason)


def test_a_unit_that_depends_on_undefined_bits_is_not_exhaustive(tmp_path: Path) -> None:
    netlist = UnitNetlist(rtlil=source_to_rtlil("exponential", EXPONENTIAL, CORE), latency=1)
    # The last case of the table's switch goes, and the default before it.
    text = changed(netlist.rtlil, "    assign \\entry [6:0] 7'0000000\n", "")
    last = "      case 4'1111\n        assign \\entry [6:0] 7'1000010\n"
    text = changed(text, last, "")
    torn = netlist.model_copy(update={"rtlil": text})
    contract = contract_of("exponential", CORE)
    proof = prove(contract, netlist, torn, EXPONENTIAL, nothing_differs, tmp_path)
    assert proof.shown == "tested"


def test_an_invariant_closes_what_would_stay_open(tmp_path: Path) -> None:
    brought = f"# invariant: ring != 3\n{RING}"
    assert proof_of("exponential", brought, (1, 1), tmp_path).shown == "proved"


@pytest.mark.parametrize(
    "line",
    [
        "ring == 0",  # in the first cycle alone
        "ring != 3) || (1 == 1",  # as good as none, and with brackets that open what is around it
    ],
)
def test_an_invariant_that_is_none_proves_nothing(line: str, tmp_path: Path) -> None:
    proof = proof_of("exponential", f"# invariant: {line}\n{RING}", (1, 1), tmp_path)
    assert (proof.shown, proof.difference) == ("tested", "")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("rings != 3", "names rings, which is no register of the edit"),
        ("shipped.ring != 3", "names ring, which is no register of the shipped unit"),
        ("ring != $random", r"may not hold '\$'"),
        ("ring = 3", "may not hold '='"),
        ("ring != {999{ring}}", "may not repeat bits"),
        ("ring != 3; assign bad = 0", "may not hold ';'"),
    ],
)
def test_an_invariant_is_a_few_words_and_signs(line: str, reason: str) -> None:
    brought = invariant_in(f"# invariant: {line}\n{RING}")
    pair = replace(pair_of("exponential", RING, (1, 1)), invariant=brought)
    with pytest.raises(BadInvariant, match=reason):
        questions.from_agreement(pair)


def test_an_invariant_that_is_no_expression_proves_nothing(tmp_path: Path) -> None:
    proof = proof_of("exponential", f"# invariant: ring !=\n{RING}", (1, 1), tmp_path)
    assert (proof.shown, proof.note) == (
        "tested",
        "Yosys cannot read a question with the edit's invariant",
    )


def test_an_invariant_of_many_lines_is_refused() -> None:
    with pytest.raises(BadInvariant, match="at most 16 lines"):
        invariant_in("invariant: a\n" * 17)


def test_a_proof_that_does_not_see_a_planted_bug_does_not_count() -> None:
    pair = pair_of("exponential", EXPONENTIAL, (1, 1))
    question = questions.after_its_depth(pair)
    assert not solvers.answer(pair, question).possible
    # The table of 16 entries does not look at the lowest bit.
    blind = question._replace(plant=("fraction", 0))
    with pytest.raises(solvers.Unanswered, match="bitwuzla does not see a planted bug"):
        solvers.answer(pair, blind)


def test_an_unfulfillable_assumption_does_not_count() -> None:
    pair = pair_of("exponential", EXPONENTIAL, (1, 1))
    question = questions.after_its_depth(pair)
    vacuous = question._replace(verilog=question.verilog.replace("bad = ", "bad = 1'b0 && "))
    assert vacuous != question
    with pytest.raises(solvers.Unanswered, match="does not see a planted bug"):
        solvers.answer(pair, vacuous)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print('unsat')", "bitwuzla does not see a planted bug"),
        ("print('Status = 1  Frames = -1')", "abc does not see a planted bug"),
        ("print('Status = 0  Frames = -1')", "abc gave no answer to the planted"),
        ("import os; os.abort()", "gave no answer to the planted"),
        ("while True: print('unsat')", "gave no answer to the planted"),
        ("while True: pass", "gave no answer to the planted"),
    ],
)
def test_a_tool_that_lies_rambles_or_breaks_proves_nothing(
    program: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solvers, "PROCESSOR_S", 1)
    monkeypatch.setattr(solvers, "_command", lambda tool: [sys.executable, "-c", program])
    pair = pair_of("exponential", EXPONENTIAL, (1, 1))
    with pytest.raises(solvers.Unanswered, match=reason):
        solvers.answer(pair, questions.after_its_depth(pair))


def test_a_tool_killed_from_outside_says_nothing_of_the_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr(solvers, "_command", lambda tool: [sys.executable, "-c", program])
    pair = pair_of("exponential", EXPONENTIAL, (1, 1))
    with pytest.raises(solvers.SolverKilled, match="bitwuzla was killed"):
        solvers.answer(pair, questions.after_its_depth(pair))


@pytest.mark.slow
def test_a_unit_that_does_not_stand_without_enable_is_not_proved() -> None:
    source = changed(
        shipped_source("rescaler"),
        "        with m.If(self.enable):\n",
        "        m.d.sync += shifts[0].eq(self.shift)\n        with m.If(self.enable):\n",
    )
    pair = pair_of("rescaler", source, (4, 4))
    assert solvers.answer(pair, questions.standing(pair)).possible


def test_depth_counts_flip_flops() -> None:
    def depth(unit: UnitName, source: str, tied: dict[str, int]) -> int | None:
        return depth_of(unit, source_to_rtlil(unit, source, CORE), tied)

    assert depth("exponential", EXPONENTIAL, {}) == 1
    uneven = changed(
        EXPONENTIAL,
        "        m.d.sync += self.value.eq(",
        "        before = Signal(4)\n"
        "        m.d.sync += before.eq(self.octave)\n"
        "        m.d.sync += self.value.eq(before[0] ^ ",
    )
    assert depth("exponential", uneven, {}) == 2
    assert depth("exponential", RING, {}) is None
    rescaler = shipped_source("rescaler")
    assert depth("rescaler", rescaler, {}) is None
    assert depth("rescaler", rescaler, {"enable": 1}) == 4
    assert depth("reciprocal", shipped_source("reciprocal"), {}) is None


@pytest.mark.parametrize(
    "hangs",
    [
        "before = Signal(4)\n"
        "        m.d.sync += [before.eq(self.octave), self.value.eq(result ^ (before == 9))]",
        "early = Signal(7)\n"
        "        m.d.sync += early.eq(result)\n"
        "        m.d.comb += self.value.eq(early ^ (self.octave == 9))",
        "age = Signal(32)\n"
        "        m.d.sync += [age.eq(age + 1), self.value.eq(result ^ (age == 1 << 30))]",
    ],
    ids=["operands before", "operands after", "age"],
)
def test_a_function_of_more_than_its_operands_is_not_exhaustive(hangs: str, tmp_path: Path) -> None:
    source = changed(
        EXPONENTIAL,
        "m.d.sync += self.value.eq((entry + half) >> self.octave)",
        f"result = (entry + half) >> self.octave\n        {hangs}",
    )
    assert proof_of("exponential", source, (1, 1), tmp_path).shown == "tested"
