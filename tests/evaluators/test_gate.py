"""The gate judges any source, and refuses what breaks a unit's contract or a netlist's grammar."""

from pathlib import Path

import pytest

from evaluators.gate import check, elaboration
from evaluators.gate.check import Judgement, judge, source_sha256
from evaluators.gate.elaboration import ElaborationError, elaborate_alone
from evaluators.gate.proof import no_proof
from evaluators.gate.self_test import SandboxMissing
from evaluators.silicon import verilator
from hwlib.config import CoreConfig
from hwlib.edit import RtlEdit, UnitName
from hwlib.unit_source import shipped_source

needs_tools = pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)

CORE = CoreConfig()
COMPOSABLE = CoreConfig(composable=True)
EXPONENTIAL = shipped_source("exponential")
MAC = shipped_source("mac")
REGISTERED = EXPONENTIAL.replace(
    "m.d.sync += self.value.eq((entry + half) >> self.octave)",
    "result = Signal(7)\n"
    "        m.d.sync += [result.eq((entry + half) >> self.octave), self.value.eq(result)]",
)
"""The exponential with one more register."""


def verdict(
    unit: UnitName, source: str, latency: int, cache_dir: Path, config: CoreConfig = CORE
) -> Judgement:
    edit = RtlEdit(unit=unit, source=source, latency=latency)
    return judge(edit, config, frozenset(), cache_dir, no_proof)


def test_without_a_sandbox_only_vetted_sources_are_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "sandbox_missing", lambda: "the kernel offers no Landlock")
    witness = tmp_path / "executed"
    source = f"import os; os.mkdir({str(witness)!r})\n" + MAC.replace("In(1)", "In(2)")
    edit = RtlEdit(unit="mac", source=source, latency=2)
    with pytest.raises(SandboxMissing, match=r"no sandbox here \(the kernel .* not byte-equal"):
        judge(edit, CORE, frozenset(), tmp_path)
    assert not witness.exists()
    judgement = judge(edit, CORE, frozenset({source_sha256(source)}), tmp_path)
    assert "port capture must be" in judgement.reason
    assert witness.exists()


@pytest.mark.parametrize(
    ("unit", "config"), [("mac", COMPOSABLE), ("composable_mac", CORE)], ids=["mac", "composable"]
)
def test_a_unit_that_the_core_has_not_is_refused(
    unit: UnitName, config: CoreConfig, tmp_path: Path
) -> None:
    judgement = verdict(unit, shipped_source(unit), 2, tmp_path, config)
    assert not judgement.accepted and f"this core has no unit {unit}; it has" in judgement.reason


@needs_tools
@pytest.mark.eda
@pytest.mark.parametrize(
    ("unit", "latency", "config"),
    [
        ("mac", 3, CoreConfig(accumulator_bits=20, mac_stages=3)),
        ("composable_mac", 3, COMPOSABLE.model_copy(update={"mac_stages": 3})),
        ("exponential", 1, CoreConfig(exponential_entries=4)),
        *(
            pytest.param(unit, latency, CORE, marks=pytest.mark.slow)
            for unit, latency in (
                ("mac", 2), ("rescaler", 4), ("activation", 1), ("inverse_sqrt", 2),
                ("reciprocal", 2),
            )
        ),
    ],
    ids=str,
)  # fmt: skip
def test_every_shipped_unit_passes_with_the_parameters_of_its_core(
    unit: UnitName, latency: int, config: CoreConfig, cache_dir: Path
) -> None:
    judgement = verdict(unit, shipped_source(unit), latency, cache_dir, config)
    assert judgement.accepted, judgement.reason
    assert judgement.netlist is not None and judgement.netlist.latency == latency


@needs_tools
@pytest.mark.eda
def test_a_verdict_names_the_parameters_that_it_holds_for(cache_dir: Path) -> None:
    reason = verdict("exponential", EXPONENTIAL, 1, cache_dir).reason
    assert "judged as Exponential(16), and for these arguments only" in reason
    fixed = EXPONENTIAL.replace("self.entries = entries", "self.entries = 16")
    assert verdict("exponential", fixed, 1, cache_dir).accepted
    other = CoreConfig(exponential_entries=32)
    judgement = verdict("exponential", fixed, 1, cache_dir, other)
    assert "off the reference by up to 2 for " in judgement.reason


@needs_tools
@pytest.mark.eda
def test_a_sum_wider_or_narrower_than_the_cores_is_refused(cache_dir: Path) -> None:
    fixed = MAC.replace("self.bits = bits", "self.bits = 24")
    for bits in (20, 24, 28):
        config = CoreConfig(accumulator_bits=bits)
        assert verdict("mac", fixed, 2, cache_dir, config).accepted == (bits == 24)


@needs_tools
@pytest.mark.eda
def test_a_latency_is_the_one_claimed(cache_dir: Path) -> None:
    assert verdict("exponential", REGISTERED, 2, cache_dir).accepted
    late = verdict("exponential", REGISTERED, 1, cache_dir)
    assert not late.accepted and "latency of 2, not the claimed 1" in late.reason
    early = verdict("exponential", EXPONENTIAL, 2, cache_dir)
    assert not early.accepted and "latency of 1, not the claimed 2" in early.reason
    beyond = verdict("exponential", EXPONENTIAL, 5, cache_dir)
    assert not beyond.accepted and "a latency of 1 to 4 cycles, not 5" in beyond.reason


@needs_tools
@pytest.mark.eda
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("product.eq(a * w)", "product.eq((a * w)[:16].as_signed())"),  # -256 * -128
        pytest.param(
            "drained.eq(self.drain_in)", "drained.eq(self.drain_in[:31].as_signed())",
            marks=pytest.mark.slow,
        ),
        pytest.param("total.eq(product)]", "total.eq(0)]", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_wrong_unit_is_refused_with_the_cycle(right: str, wrong: str, cache_dir: Path) -> None:
    assert MAC.count(right) == 1
    judgement = verdict("mac", MAC.replace(right, wrong), 2, cache_dir)
    assert not judgement.accepted and "differs from the reference" in judgement.reason


def test_a_port_of_another_width_is_refused(tmp_path: Path) -> None:
    source = EXPONENTIAL.replace('"value": Out(7)', '"value": Out(8)')
    judgement = verdict("exponential", source, 1, tmp_path)
    assert "port value must be an output of 7 bits, not an output of 8 bits" in judgement.reason


def test_a_class_of_another_name_is_refused(tmp_path: Path) -> None:
    source = EXPONENTIAL.replace("class Exponential", "class Exponent")
    assert "must define the class Exponential" in verdict("exponential", source, 1, tmp_path).reason


def test_a_memory_is_refused(tmp_path: Path) -> None:
    source = EXPONENTIAL.replace(
        "from amaranth.lib import wiring",
        "from amaranth.lib import wiring\nfrom amaranth.lib.memory import Memory",
    ).replace(
        "        entry = Signal(7)\n",
        "        m.submodules.table = Memory(shape=7, depth=32, init=[])\n"
        "        entry = Signal(7)\n"
        "        port = m.submodules.table.read_port()\n"
        "        m.d.comb += port.addr.eq(self.fraction)\n",
    ).replace("(entry + half)", "(entry + half + port.data)")  # fmt: skip
    judgement = verdict("exponential", source, 1, tmp_path)
    assert not judgement.accepted and "may not hold a memory" in judgement.reason


def test_an_endless_loop_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elaboration, "DEADLINE_S", 2.0)
    judgement = verdict("mac", "while True:\n    pass\n", 2, tmp_path)
    assert not judgement.accepted and "longer than 2 s" in judgement.reason


def test_elaboration_has_no_environment_and_reports_in_one_line() -> None:
    source = "import os\nraise RuntimeError(f'{sorted(os.environ)}\\nsecond line')"
    with pytest.raises(ElaborationError) as caught:
        elaborate_alone(RtlEdit(unit="mac", source=source, latency=2), CORE)
    assert "DOVETAIL" not in str(caught.value) and "HOME" not in str(caught.value)
    assert "RuntimeError" in str(caught.value) and "\n" not in str(caught.value)


def test_what_the_source_prints_is_not_the_netlist() -> None:
    edit = RtlEdit(unit="mac", source="print('netlist')\n" + MAC, latency=2)
    assert elaborate_alone(edit, CORE).startswith("module \\mac")
