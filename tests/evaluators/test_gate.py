"""The gate refuses what it has not been told to trust, and what the netlist does not keep."""

from pathlib import Path

import pytest

from evaluators.gate.check import judge, source_sha256
from evaluators.gate.elaboration import ElaborationError, elaborate_alone
from evaluators.gate.netlist import check_netlist
from evaluators.silicon import verilator
from hwlib.edit import RtlEdit
from hwlib.elaborate import shipped_source

needs_tools = pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)

ELEMENT = shipped_source("element")
REGISTERED = (
    ELEMENT.replace("import Module,", "import Module, Signal,")
    .replace("m = Module()", "m = Module()\n        product = Signal(signed(16))")
    .replace("self.acc_out + self.a_in * self.w_in", "self.acc_out + product")
    .replace(
        "m.d.sync += [self.a_out",
        "m.d.sync += product.eq(self.a_in * self.w_in)\n        m.d.sync += [self.a_out",
        1,
    )
)


def verdict(source: str, latency: int, cache_dir: Path, unit="element"):
    edit = RtlEdit(unit=unit, source=source, latency=latency)
    return judge(edit, frozenset({source_sha256(source)}), cache_dir)


def test_a_source_outside_the_playbook_is_refused_and_never_executed(tmp_path: Path) -> None:
    witness = tmp_path / "executed"
    source = f"open({str(witness)!r}, 'w')\n" + ELEMENT
    judgement = judge(RtlEdit(unit="element", source=source, latency=1), frozenset(), tmp_path)
    assert not judgement.accepted and "playbook" in judgement.reason
    assert not witness.exists() and judgement.netlist is None


@needs_tools
@pytest.mark.eda
def test_the_shipped_element_passes_with_its_latency_alone(cache_dir: Path) -> None:
    accepted = verdict(ELEMENT, 1, cache_dir)
    assert accepted.accepted and accepted.netlist is not None
    assert accepted.netlist.timing.latency == 1
    assert "faster than the claimed" in verdict(ELEMENT, 2, cache_dir).reason


@needs_tools
@pytest.mark.eda
def test_a_registered_product_passes_with_latency_two(cache_dir: Path) -> None:
    assert verdict(REGISTERED, 2, cache_dir).accepted
    assert "latency of 2, not the claimed 1" in verdict(REGISTERED, 1, cache_dir).reason


@needs_tools
@pytest.mark.eda
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("self.a_in * self.w_in", "(self.a_in * self.w_in)[:15].as_signed()"),  # -128 * -128
        pytest.param(
            "self.acc_out.eq(self.acc_in)",
            "self.acc_out.eq(self.acc_in[:31].as_signed())",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "self.w_out.eq(self.w_in)", "self.w_out.eq(self.a_in)", marks=pytest.mark.slow
        ),
    ],
)
def test_a_wrong_unit_is_refused_with_the_cycle(right: str, wrong: str, cache_dir: Path) -> None:
    assert right in ELEMENT
    judgement = verdict(ELEMENT.replace(right, wrong), 1, cache_dir)
    assert not judgement.accepted and "differs from the reference" in judgement.reason


def test_a_missing_port_is_refused() -> None:
    source = ELEMENT.replace("w_out: Out(signed(8))", "w_out: Out(signed(7))")
    text = elaborate_alone("element", source)
    with pytest.raises(ValueError, match=r"port w_out must be an output of 8 bits, not .* 7 bits"):
        check_netlist("element", text)


def test_elaboration_has_no_environment_and_reports_in_one_line() -> None:
    source = "import os\nraise RuntimeError(f'{sorted(os.environ)}\\nsecond line')"
    with pytest.raises(ElaborationError) as caught:
        elaborate_alone("element", source)
    assert "DOVETAIL" not in str(caught.value) and "HOME" not in str(caught.value)
    assert "RuntimeError" in str(caught.value) and "\n" not in str(caught.value)


def test_what_the_source_prints_is_not_the_netlist() -> None:
    assert elaborate_alone("element", "print('netlist')\n" + ELEMENT).startswith("module \\element")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("  cell $print $99", "may not use a cell"),
        ("  cell \\accelerator $99", "may not use a cell"),
        ("  attribute \\blackbox 1", "attribute"),
        ("  memory width 8 size 4 \\m", "memory"),
        ("  wire width 1 \\x;y", "name of a wire"),
        ("autoidx 4", "no statement"),
    ],
)
def test_the_netlist_grammar_refuses(line: str, reason: str) -> None:
    text = elaborate_alone("element", ELEMENT)
    check_netlist("element", text)
    with pytest.raises(ValueError, match=reason):
        check_netlist("element", text.replace("\nend", f"\n{line}\nend", 1))
