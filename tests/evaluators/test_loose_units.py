"""Units that no core has: judged like any, in Amaranth or Verilog, and kept out of designs."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from evaluators.design import DesignPoint
from evaluators.gate.check import Judgement, judge
from evaluators.gate.proof import no_proof, prove
from evaluators.silicon import verilator
from hwlib.config import CoreConfig
from hwlib.contracts import dot_product, lif
from hwlib.edit import Language, LooseEdit, LooseUnitName
from hwlib.unit_source import shipped_source
from tests.hostile.machine import needs_sandbox

needs_tools = pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)

DOT_PRODUCT = """
module dot_product_2(input clk, rst, input signed [7:0] a_0, a_1, b_0, b_1,
                     output reg signed [16:0] y);
  // Both products as rows of one sum, from the signs of b's bits.
  reg signed [16:0] sum;
  integer i;
  always @* begin
    sum = 0;
    for (i = 0; i < 7; i = i + 1)
      sum = sum + ((b_0[i] ? {{9{a_0[7]}}, a_0} : 17'd0) << i)
                + ((b_1[i] ? {{9{a_1[7]}}, a_1} : 17'd0) << i);
    sum = sum - ((b_0[7] ? {{9{a_0[7]}}, a_0} : 17'd0) << 7)
              - ((b_1[7] ? {{9{a_1[7]}}, a_1} : 17'd0) << 7);
  end
  always @(posedge clk) y <= sum;
endmodule
"""

NEURON = """
module lif_8(input clk, rst, input signed [7:0] v, current, input [2:0] leak, input [6:0] threshold,
             output reg signed [7:0] next_v, output reg spike);
  // Saturates by the two upper bits of the sum.
  wire signed [7:0] leaked = v >>> leak;
  wire signed [9:0] total = v - leaked + current;
  wire inside = &total[9:7] | ~|total[9:7];
  wire signed [7:0] reached = inside ? total[7:0] : {total[9], {7{~total[9]}}};
  wire fires = ~reached[7] & (reached[6:0] >= threshold);
  always @(posedge clk) begin
    next_v <= fires ? reached - {1'b0, threshold} : reached;
    spike <= fires;
  end
endmodule
"""

CARRIES = """
module multiplier_4(input clk, rst, input signed [3:0] a, b, output reg signed [7:0] y);
  wire [7:0] e = {{4{a[3]}}, a};
  wire [7:0] low = (b[0] ? e : 8'd0) + (b[1] ? e << 1 : 8'd0) + (b[2] ? e << 2 : 8'd0);
  wire [7:0] high = b[3] ? ~(e << 3) + 8'd1 : 8'd0;
  wire [8:0] carry;
  wire [7:0] half = low ^ high;
  assign carry = {(low & high) | (half & carry[7:0]), 1'b0};
  always @(posedge clk) y <= half ^ carry[7:0];
endmodule
"""


def judged(
    unit: LooseUnitName,
    source: str,
    latency: int,
    cache_dir: Path,
    language: Language = "amaranth",
    proven: bool = False,
) -> Judgement:
    edit = LooseEdit(unit=unit, source=source, latency=latency, language=language)
    prover = prove if proven else no_proof
    return judge(edit, CoreConfig(), frozenset(), cache_dir, prover)


@needs_tools
@needs_sandbox
@pytest.mark.eda
@pytest.mark.parametrize(
    ("unit", "latency", "old", "new"),
    [
        ("multiplier_4", 1, "self.a * self.b", "self.a * self.b + (self.a == self.b) * 8"),
        ("multiplier_16", 1, "self.a * self.b", "(self.a * self.b) | (self.a == -32768)"),
        ("dot_product_8", 2, "signed(16)", "signed(15)"),
        ("dot_product_4", 2, "y.eq(sum(products))", "y.eq(sum(products[:3], products[2]))"),
        ("lif_8", 1, "reached >= self.threshold", "reached > self.threshold"),
        ("lif_12", 1, "(self.v >> self.leak)", "(self.v >> self.leak[:2])"),
        ("lif_16", 1, "total > half - 1", "total > half"),
    ],
)
def test_a_shipped_one_is_accepted_and_a_wrong_one_refused(
    unit: LooseUnitName, latency: int, old: str, new: str, cache_dir: Path
) -> None:
    source = shipped_source(unit)
    assert old in source
    assert judged(unit, source, latency, cache_dir).accepted
    refused = judged(unit, source.replace(old, new), latency, cache_dir)
    assert not refused.accepted and "differs from the reference" in refused.reason


@needs_tools
@needs_sandbox
@pytest.mark.eda
def test_a_rough_multiplier_is_tabulated(cache_dir: Path) -> None:
    rough = shipped_source("multiplier_8").replace("self.a * self.b", "(self.a * self.b) & ~63")
    judgement = judged("multiplier_8", rough, 1, cache_dir, proven=True)
    assert judgement.accepted and judgement.netlist and judgement.netlist.behaviour
    a, b = np.divmod(np.arange(1 << 16), 256)
    exact = (a - 128) * (b - 128)
    assert np.array_equal(judgement.netlist.behaviour.table, exact & ~63)
    assert "off the reference by up to 63" in judgement.reason


@needs_tools
@needs_sandbox
@pytest.mark.eda
def test_one_in_verilog_is_proved(cache_dir: Path) -> None:
    judgement = judged("lif_8", NEURON, 1, cache_dir, "verilog", proven=True)
    assert judgement.accepted and judgement.shown == "proved", judgement.reason


@needs_tools
@needs_sandbox
@pytest.mark.eda
def test_one_in_verilog_is_held_to_its_reference(cache_dir: Path) -> None:
    judgement = judged("dot_product_2", DOT_PRODUCT, 1, cache_dir, "verilog")
    assert judgement.accepted and judgement.shown == "tested", judgement.reason
    wrong = DOT_PRODUCT.replace("- ((b_1[7]", "+ ((b_1[7]")
    assert not judged("dot_product_2", wrong, 1, cache_dir, "verilog").accepted


@needs_tools
@needs_sandbox
@pytest.mark.eda
def test_carries_in_one_word_are_no_loop_to_a_proof(cache_dir: Path) -> None:
    judgement = judged("multiplier_4", CARRIES, 1, cache_dir, "verilog", proven=True)
    assert judgement.shown == "exhaustive", judgement.reason


def test_no_design_has_one() -> None:
    with pytest.raises(ValidationError, match=r"edits\.0\.unit"):
        DesignPoint.model_validate({"edits": [{"unit": "lif_8", "source": "x", "latency": 1}]})


def test_the_widest_sums_fit() -> None:
    for lanes in dot_product.SIZES:
        assert lanes * 128 * 128 < 1 << dot_product.sum_bits(lanes) - 1


def test_a_neuron_leaks_fires_and_saturates() -> None:
    v, current = np.array([100, -100, 127, -128]), np.array([10, -100, 127, 0])
    leak, threshold = np.array([1, 2, 7, 0]), np.array([60, 0, 127, 0])
    potential, spike = lif.step(8, v, current, leak, threshold)
    assert potential.tolist() == [0, -128, 0, 0] and spike.tolist() == [1, 0, 1, 1]
