"""Verilog that nobody here wrote: like for like with what Yosys itself says of it."""

import codecs
import re
from pathlib import Path

import pytest

from evaluators.silicon.foreign import ForeignError, cost_of_verilog
from evaluators.silicon.liberty import Roles, default_liberty_path
from evaluators.silicon.technology import Technology
from evaluators.silicon.yosys import run_yosys

pytestmark = pytest.mark.eda

VERILOG = """
module adder #(parameter W = 8) (input clk, rst_n, input [W-1:0] a, b, output reg [W:0] y);
  reg [W-1:0] ra, rb;
  always @(posedge clk or negedge rst_n)
    if (!rst_n) begin ra <= 0; rb <= 0; y <= 0; end
    else begin ra <= a; rb <= b; y <= ra + rb; end
endmodule
module gates (input a, b, output y); assign y = ~(a & b); endmodule
module two (input c, d, a, output reg q, r);
  always @(posedge c) q <= a;
  always @(posedge d) r <= q;
endmodule
module gated (input clk, en, a, output reg q);
  wire c = clk & en;
  always @(posedge c) q <= a;
endmodule
module latch (input g, a, output reg q); always @* if (g) q = a; endmodule
module loop (input a, output y); assign y = ~(y & a); endmodule
module wire_alone (input a, output y); assign y = a; endmodule
module both_ways (input a, inout w, output y); assign y = a & w; endmodule
module unsized #(parameter W) (input [W-1:0] a, output y); assign y = ^a; endmodule
module tristate (input a, e, output y); assign y = e ? a : 1'bz; endmodule
module prints (input c, a, output reg q); always @(posedge c) begin q <= a; $display("q"); end
endmodule
module part (input c, input [3:0] a, output reg [3:0] q); always @(posedge c) q <= q + a; endmodule
module parts (input c, input [3:0] a, output [3:0] y);
  wire [3:0] x;
  part first (.c(c), .a(a), .q(x));
  part second (.c(c), .a(x), .q(y));
endmodule
module falls (input c, a, output reg q); always @(negedge c) q <= a; endmodule
module hole (input a, output y); nothing n (.a(a), .y(y)); endmodule
module undriven (input a, b, output y, z); assign y = a ^ b; endmodule
(* blackbox *) module box (input a, output y); endmodule
module boxed (input a, b, output y, z); box inside (a, y); assign z = a ^ b; endmodule
module memory (input c, w, input [10:0] at, input [31:0] d, output reg [31:0] q);
  reg [31:0] words [0:2047];
  always @(posedge c) begin if (w) words[at] <= d; q <= words[at]; end
endmodule
module small_memory (input c, w, input [2:0] at, input [3:0] d, output reg [3:0] q);
  reg [3:0] words [0:7];
  always @(posedge c) begin if (w) words[at] <= d; q <= words[at]; end
endmodule
module loaded (input c, a, input [127:0] d, output reg [127:0] q);
  reg r;
  always @(posedge c) begin r <= a; q <= d & {128{r}}; end
endmodule
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verilog") / "design.v"
    path.write_text(VERILOG)
    return path


@pytest.fixture(scope="module")
def store(cache_dir: Path) -> Path:
    return cache_dir / "silicon"


def test_the_plain_recipe_gives_the_area_that_yosys_prints(
    file: Path, store: Path, tmp_path: Path
) -> None:
    liberty = default_liberty_path()
    said = run_yosys(
        [
            f"read_verilog -sv {file}", "synth -flatten -top adder",
            f"dfflibmap -liberty {liberty}", f"abc -liberty {liberty}",
            f"stat -liberty {liberty}",
        ],
        tmp_path, tmp_path, 100,
    )  # fmt: skip
    area = re.findall(r"Chip area for module '\\adder': ([\d.]+)", said)
    plain = cost_of_verilog(file, "adder", store, "plain")
    assert plain.area_um2 == pytest.approx(float(area[-1]), rel=1e-6)
    assert plain.flip_flops == 8 + 8 + 9
    assert re.fullmatch(r"r[ab]\[\d\] to y\[\d\]", plain.worst_path)
    strong = cost_of_verilog(file, "adder", store)
    assert strong.flip_flops == plain.flip_flops
    assert strong.worst_path_s < plain.worst_path_s
    assert strong.clock_hz == pytest.approx(1 / strong.worst_path_s)


def test_the_plain_recipe_adds_no_buffer(file: Path, store: Path) -> None:
    """Area and path are of one netlist, whose loaded net is as slow as it is."""
    plain, strong = (cost_of_verilog(file, "loaded", store, each) for each in ("plain", "strong"))
    assert plain.buffer_area_um2 == 0
    assert plain.worst_path_s > 1.5 * strong.worst_path_s


def test_a_small_memory_is_flip_flops(file: Path, store: Path) -> None:
    assert cost_of_verilog(file, "small_memory", store, "plain").flip_flops == 8 * 4 + 4


def test_one_gate_is_a_path_of_one_cell(file: Path, store: Path) -> None:
    found = cost_of_verilog(file, "gates", store, "plain")
    assert (found.cells, found.flip_flops, found.logic_depth) == (1, 0, 1)
    assert found.worst_path == "input port to output port"
    assert found.area_um2 == pytest.approx(0.798)  # the library's NAND2_X1


@pytest.mark.parametrize("recipe", ["strong", "plain"])
def test_modules_of_one_file_are_mapped_as_one(file: Path, store: Path, recipe: str) -> None:
    found = cost_of_verilog(file, "parts", store, recipe)  # type: ignore[arg-type]
    assert found.flip_flops == 8
    alone = cost_of_verilog(file, "part", store, recipe)  # type: ignore[arg-type]
    assert 1.5 * alone.area_um2 < found.area_um2 < 2.5 * alone.area_um2


@pytest.mark.parametrize(
    ("top", "why"),
    [
        ("two", "hang on 2 clock nets .*; give it one clock"),
        ("gated", "its clock is made inside"),
        ("latch", "(?i)latch"),
        ("loop", "(?i)loop"),
        ("wire_alone", "no path has a cell on it.*; give a module that computes something"),
        ("both_ways", "port .*w is neither input nor output; split an inout port"),
        ("unsized", "design.v gives parameter W no value; give it a default"),
        ("tristate", "drives a net with 1'bz"),
        ("prints", r"is a \$print, which library NangateOpenCellLibrary does not know"),
        ("falls", "the falling edge of a clock is used; use the rising edge"),
        ("undriven", "(?s)has no driver|used but has no driver|drive every net"),
        ("boxed", "module box is a black box"),
        ("memory", "has memories of 65,536 bits, which become flip-flops"),
        ("hole", "uses a module nothing and does not have it; put it into the file"),
        ("absent", "design.v has no module absent; it has adder, "),
        ("a; shell true", "is no name of a Verilog module"),
    ],
)
@pytest.mark.parametrize("recipe", ["strong", "plain"])
def test_what_one_clock_does_not_time_is_refused(
    file: Path, store: Path, top: str, why: str, recipe: str
) -> None:
    with pytest.raises(ForeignError, match=why):
        cost_of_verilog(file, top, store, recipe)  # type: ignore[arg-type]


def test_what_is_no_file_is_refused(tmp_path: Path, store: Path) -> None:
    empty = tmp_path / "empty.v"
    empty.write_text(" \n")
    for path in (tmp_path, tmp_path / "absent.v", Path("/dev/zero"), empty):
        with pytest.raises(ForeignError, match=r"name a|name another"):
            cost_of_verilog(path, "top", store)


def test_a_byte_order_mark_is_no_verilog(file: Path, store: Path, tmp_path: Path) -> None:
    marked = tmp_path / "marked.v"
    marked.write_bytes(codecs.BOM_UTF8 + file.read_bytes().replace(b"\n", b"\r\n"))
    found = cost_of_verilog(marked, "gates", store, "plain")
    assert found == cost_of_verilog(file, "gates", store, "plain")


def test_power_is_that_of_an_equal_activity_at_the_fastest_clock(file: Path, store: Path) -> None:
    cost = cost_of_verilog(file, "adder", store)
    assert cost.power_w is not None and cost.power_w > cost.leakage_w
    # 25 flip-flops at about 7 fJ a cycle, and as much again for what they drive.
    assert 0.2e-12 < (cost.power_w - cost.leakage_w) / cost.clock_hz < 0.5e-12


def test_another_corner_is_a_file_of_the_same_cells(
    file: Path, store: Path, tmp_path: Path
) -> None:
    text = default_liberty_path().read_text()
    usual = cost_of_verilog(file, "adder", store)
    larger = tmp_path / "larger.lib"
    larger.write_text(
        re.sub(r"(\barea\s*:\s*)([\d.]+)", lambda m: f"{m[1]}{2 * float(m[2])}", text)
    )
    other = cost_of_verilog(file, "adder", store, technology=nangate_like(larger))
    assert other.corner == "slow" and other.area_um2 > 1.5 * usual.area_um2


def nangate_like(liberty: Path, **roles: str) -> Technology:
    return Technology(liberty=str(liberty), corner="slow", roles=Roles.model_validate(roles))


def test_cells_of_other_names_give_the_same_figures(
    file: Path, store: Path, tmp_path: Path
) -> None:
    renamed = tmp_path / "renamed.lib"
    text = default_liberty_path().read_text()
    renamed.write_text(re.sub(r"(\bcell\s*\()(\w+)\)", r"\1K_\2)", text))
    roles = {"buffer": "K_BUF_X8", "driver": "K_BUF_X2", "flip_flop": "K_DFF_X1"}
    other = cost_of_verilog(file, "adder", store, technology=nangate_like(renamed, **roles))
    usual = cost_of_verilog(file, "adder", store)
    assert other == usual.model_copy(update={"corner": "slow"})


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ({"buffer": "BUG_X8"}, "has no cell BUG_X8"),
        ({"buffer": "INV_X8"}, "roles.buffer: cell INV_X8 is no buffer"),
        ({"driver": "DFF_X1"}, "roles.driver: cell DFF_X1 is no buffer"),
        ({"flip_flop": "DFFR_X1"}, "roles.flip_flop: cell DFFR_X1 is no flip-flop of a clock and"),
        ({"flip_flop": "DLH_X1"}, "roles.flip_flop: cell DLH_X1 is no flip-flop"),
    ],
)
def test_a_cell_that_is_not_what_its_role_needs_is_refused(
    roles: dict[str, str], said: str, file: Path, store: Path
) -> None:
    technology = nangate_like(default_liberty_path(), **roles)
    with pytest.raises(ForeignError, match=said):
        cost_of_verilog(file, "adder", store, technology=technology)


def test_what_is_no_library_is_refused(file: Path, store: Path, tmp_path: Path) -> None:
    poem = tmp_path / "poem.lib"
    poem.write_text("no library")
    with pytest.raises(ForeignError, match="not Liberty"):
        cost_of_verilog(file, "adder", store, technology=nangate_like(poem))
    with pytest.raises(ForeignError, match="cannot read Liberty file"):
        cost_of_verilog(file, "adder", store, technology=nangate_like(tmp_path / "absent.lib"))
