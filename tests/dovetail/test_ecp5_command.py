"""`dovetail evaluate --target ecp5`: what it prints, what it refuses, and its exit codes."""

import json
from pathlib import Path

import pytest

from agents.rewrites import PLAYBOOK
from dovetail.cli import main
from dovetail.errors import ExitCode
from evaluators.fpga import ecp5, nextpnr
from evaluators.silicon import verilator
from hwlib.config import CoreConfig
from hwlib.elaborate import elaborate_core
from tests.evaluators.fake_nextpnr import REPORT, needs_nextpnr, with_tool, writes

COUNTER = """
module counter (input clk, rst, output reg [7:0] q);
  always @(posedge clk) if (rst) q <= 0; else q <= q + 1;
endmodule
"""

NOT_STARTED = "raise SystemExit('it must not be started')"


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--target", "ecp5", *arguments])
    return int(str(ended.value.code))


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOVETAIL_CACHE_DIR", str(tmp_path / "store"))


@pytest.fixture
def file(tmp_path: Path) -> list[str]:
    (tmp_path / "counter.v").write_text(COUNTER)
    return ["--verilog", str(tmp_path / "counter.v"), "--top", "counter"]


@pytest.fixture
def design(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A design whose core is taken for mapped to the cells of `mapped_to`."""
    path = tmp_path / "design.json"
    path.write_text('{"hardware": {"rows": 4, "columns": 4}}')
    mapped_to(monkeypatch, {"TRELLIS_FF": 2, "LUT4": 30_000})
    return str(path)


def mapped_to(monkeypatch: pytest.MonkeyPatch, counts: dict[str, int]) -> list[str]:
    """The netlists that were asked for."""
    asked: list[str] = []
    cells = {
        f"{kind}.{i}": {"type": kind, "parameters": {}, "connections": {}}
        for kind, count in counts.items()
        for i in range(count)
    }
    module = {"cells": cells, "ports": {}, "netnames": {}}

    def synthesize(rtlil: str, top: str, directory: Path) -> object:
        assert top == "core"
        asked.append(rtlil)
        (directory / "netlist.json").write_text("{}")
        return module

    monkeypatch.setattr(ecp5, "synthesize", synthesize)
    return asked


@pytest.mark.eda
@needs_nextpnr
def test_a_file_is_placed_and_routed(file: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*file, "--json") == ExitCode.OK
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["flip_flops"] == {"used": 8, "available": 24288}
    assert found["fmax_hz"] > 50e6 and found["seed"] == 1
    assert "mapping counter" in captured.err and "placing and routing" in captured.err
    assert call(*file) == ExitCode.OK
    captured = capsys.readouterr()
    assert not captured.err, "it was measured a second time"
    assert "counter: LFE5U-25F, speed grade 6, placed and routed, out of context" in captured.out
    assert "fmax_hz" in captured.out and "MHz" in captured.out


def test_the_core_of_a_design_is_measured_and_kept(
    design: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_tool(monkeypatch, f"assert '--45k' in sys.argv; {writes(REPORT)}")
    assert call(design) == ExitCode.OK
    captured = capsys.readouterr()
    assert "30,000 LUT4; placing and routing on LFE5U-45F" in captured.err
    assert "124 MHz" in captured.out and "1 of      2  50.0%" in captured.out
    with_tool(monkeypatch, NOT_STARTED)
    assert call(design, "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["fmax_hz"] == 123.5e6


@pytest.mark.parametrize(
    ("counts", "program", "code", "said"),
    [
        ({"MULT18X18D": 157}, NOT_STARTED, ExitCode.BAD_INPUT, "core does not fit: the largest"),
        ({}, "sys.exit('no room left')", ExitCode.EVALUATOR, "failed: no room left"),
        ({}, "sys.exit('one\\ntwo')", ExitCode.EVALUATOR, "failed: one two"),
        ({}, "print('\\033[2J')", ExitCode.EVALUATOR, "without a report"),
    ],
)
def test_a_core_that_cannot_be_measured_is_one_sentence(
    counts: dict[str, int], program: str, code: ExitCode, said: str, design: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    mapped_to(monkeypatch, counts)
    with_tool(monkeypatch, program)
    assert call(design) == code
    captured = capsys.readouterr()
    *progress, last = captured.err.splitlines()
    assert last.startswith("dovetail: ") and said in last and "\033" not in last
    assert all(line.startswith(("mapping", "mapped")) for line in progress)
    assert not captured.out


@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "it is there")
def test_an_edit_that_the_gate_refuses_is_not_linked_in(
    tmp_path: Path, design: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with_tool(monkeypatch, NOT_STARTED)
    path = tmp_path / "edited.json"
    edit = {"unit": "mac", "source": "print('gain')\n", "latency": 1}
    path.write_text(json.dumps({"edits": [edit]}))
    assert call(str(path)) == ExitCode.BAD_INPUT
    captured = capsys.readouterr()
    assert "edit of mac refused" in captured.err.splitlines()[-1]
    assert "mapping" not in captured.err


@pytest.mark.slow
@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "it is there")
def test_an_edit_that_the_gate_accepts_is_linked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (PLAYBOOK / "inverse_sqrt_one_cycle.py").read_text()
    edit = {"unit": "inverse_sqrt", "source": source, "latency": 1}
    path = tmp_path / "edited.json"
    path.write_text(json.dumps({"edits": [edit]}))
    asked = mapped_to(monkeypatch, {})
    with_tool(monkeypatch, writes(REPORT))
    assert call(str(path)) == ExitCode.OK
    (core,) = asked
    assert "module \\inverse_sqrt" in core and core != elaborate_core(CoreConfig())


def test_without_the_wheel_it_says_what_to_type(
    file: list[str], design: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(nextpnr, "WHEELS", ("a-wheel-that-is-nowhere",))
    for arguments in (file, [design]):
        assert call(*arguments) == ExitCode.MISSING
        said = capsys.readouterr().err
        assert said.endswith("pip install 'dovetail[ecp5]'\n") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["absent.json"], ExitCode.BAD_INPUT, "absent.json cannot be read"),
        (["--verilog", "absent.v", "--top", "a"], ExitCode.BAD_INPUT, "absent.v cannot be read"),
        (["--verilog", "absent.v"], ExitCode.BAD_INPUT, "go together"),
        ([], ExitCode.BAD_INPUT, "name a design"),
        (["--verilog", "latch.v", "--top", "latch"], ExitCode.BAD_INPUT, "is a latch"),
        (["absent.json", "--test"], ExitCode.BAD_INPUT, "goes without --test"),
        (["absent.json", "--data-dir", "."], ExitCode.BAD_INPUT, "goes without"),
        (["--recipe", "plain"], ExitCode.BAD_INPUT, "goes without"),
        (["--target", "sky130", "absent.json"], ExitCode.USAGE, "sky130"),
    ],
)
def test_a_mistake_is_one_sentence_and_its_code(
    arguments: list[str], code: ExitCode, said: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("latch.v").write_text(
        "module latch (input g, a, output reg q); always @* if (g) q = a; endmodule\n"
    )
    with_tool(monkeypatch, NOT_STARTED)
    assert call(*arguments) == code
    *progress, found = capsys.readouterr().err.splitlines()
    assert found.startswith("dovetail: ") and said in found
    assert all(line.startswith("mapping latch") for line in progress)
