"""Edits in Verilog: what Yosys makes of a file is written down as it is, and judged like any."""

from pathlib import Path

import pytest

from evaluators.gate import verilog_unit
from evaluators.gate.check import judge
from evaluators.gate.elaboration import ElaborationError, elaborate_alone
from evaluators.gate.netlist import check_laws
from evaluators.gate.proof import no_proof
from evaluators.gate.verilog import read_verilog
from evaluators.silicon.yosys import run_yosys
from hwlib.config import CoreConfig
from hwlib.edit import RtlEdit
from hwlib.rtlil import modules, registers
from tests.hostile.machine import needs_sandbox
from tests.hostile.verilog import with_attack

pytestmark = needs_sandbox

CORE = CoreConfig()

EVERYTHING = """
module leaf #(parameter N = 3) (input clk, input [7:0] d, output reg [7:0] q);
  always @(posedge clk) q <= d + N;
endmodule
module whole(input clk, rst, input signed [7:0] a, input [7:0] b, input [3:0] s,
             output reg [7:0] y, output [7:0] z, output [0:3] reversed, output flags, fixed);
  function automatic [7:0] larger(input [7:0] p, input [7:0] q);
    larger = p > q ? p : q;
  endfunction
  reg [7:0] memory [0:3];
  reg [7:0] chosen;
  wire [7:0] of_leaf;
  leaf #(.N(5)) one(.clk(clk), .d(b), .q(of_leaf));
  always @* begin
    casez (s)
      4'b1???: chosen = a >>> s[1:0];
      4'b01??: chosen = a <<< s[1:0];
      4'b001?: chosen = {2{b[3:0]}} ~^ a;
      default: chosen = larger(a, b);
    endcase
  end
  assign reversed = b[s[1:0] +: 4];
  assign flags = !(a == 3) && (^b || ~^a) !== 1'b0 || &b;
  assign fixed = s[3] ? 1'b1 : ~|a;
  assign z = memory[s[1:0]] ^ of_leaf ^ -a;
  always @(posedge clk) begin
    memory[s[3:2]] <= chosen;
    if (rst) y <= 0;
    else if (flags) y <= a * $signed({1'b0, b[3:0]}) - (a < $signed(b));
  end
endmodule
"""


def read(source: str, unit: str) -> str:
    commands = [command.format(unit=unit) for command in verilog_unit.READING]
    design = read_verilog(
        source.encode(), commands, "json", deadline_s=30, answer_limit_bytes=1 << 24
    )
    return verilog_unit.unit_netlist(unit, design)


def elaborated(source: str) -> str:
    return elaborate_alone(RtlEdit(unit="mac", source=source, latency=2, language="verilog"), CORE)


def differ(source: str, text: str, folder: Path) -> str:
    """What Yosys says of a file beside a netlist that should be the same, from a reset on."""
    (folder / "ours.il").write_text(text)
    (folder / "theirs.sv").write_text(source)
    commands = [
        "read_verilog -sv theirs.sv", "hierarchy -check -top whole", "proc", "flatten", "memory",
        "rename whole theirs", "read_rtlil ours.il", "proc",
        "miter -equiv -flatten theirs whole miter", "hierarchy -top miter",
        "sat -verify -seq 4 -set-at 1 in_rst 1 -prove trigger 0 -set-init-zero miter",
    ]  # fmt: skip
    return run_yosys(commands, folder, folder / "tmp", 60)


def test_a_netlist_does_what_the_file_says(tmp_path: Path) -> None:
    text = read(EVERYTHING, "whole")
    check_laws("whole", text)
    assert "no model found: SUCCESS" in differ(EVERYTHING, text, tmp_path)


@pytest.mark.parametrize(
    ("here", "there"), [("~^ a", "^ a"), ("a >>> s", "a >> s"), ("+: 4", "-: 4"), ("&b", "|b")]
)
def test_another_netlist_is_found_to_differ(here: str, there: str, tmp_path: Path) -> None:
    from evaluators.silicon.yosys import YosysError

    with pytest.raises(YosysError, match="proof did fail"):
        differ(EVERYTHING, read(EVERYTHING.replace(here, there), "whole"), tmp_path)


def test_registers_keep_their_names_for_an_invariant() -> None:
    text = elaborated(with_attack())
    assert {"ra", "rw", "total", "drained"} <= set(registers(modules(text)["mac"]))


@pytest.mark.parametrize(
    ("here", "there", "why"),
    [
        ("always @(posedge clk)", "always @(posedge clk or posedge rst)", "an asynchronous reset"),
        ("always @(posedge clk)", "always @(negedge clk)", "must work at the rising edge"),
        ("= ra * rw", "= ra / rw", "a division; multiply by a constant"),
        ("= ra * rw", "= ra % rw", "a remainder"),
        ("= ra * rw", "= capture ? ra * rw : 17'bz", "1'bz"),
        ("assign drain_out = drained", "wire unused", "drain_out has a bit that nothing drives"),
        ("INSIDE", "reg g; always @* if (shift) g = a[0]; (* keep *) wire k = g;", "a latch"),
        ("module mac", "module mack", "mac"),
        ("input capture", "inout capture", "port 'capture' is no plain input or output"),
    ],
)
def test_what_no_unit_may_have_is_refused_with_a_remedy(here: str, there: str, why: str) -> None:
    from evaluators.gate.netlist import check_netlist
    from tests.hostile.verilog import MAC

    source = MAC.replace("ATTACK", "").replace(here, there).replace("INSIDE", "")
    with pytest.raises((ElaborationError, ValueError), match=why):
        check_netlist("mac", CORE, elaborated(source))


@pytest.mark.eda
def test_an_edit_is_judged_by_what_it_does(tmp_path: Path) -> None:
    good = with_attack()
    wrong = good.replace("wire signed [16:0] p", "wire [16:0] p").replace("total + p", "total - p")
    slow = "claim 2"
    for source, latency, accepted, why in (
        (good, 2, True, "equal to the reference on all vectors"),
        (good, 3, False, slow),
        (wrong, 2, False, "differs from the reference"),
    ):
        edit = RtlEdit(unit="mac", source=source, latency=latency, language="verilog")
        judgement = judge(edit, CORE, frozenset(), tmp_path, no_proof)
        assert judgement.accepted == accepted and why in judgement.reason, judgement.reason
