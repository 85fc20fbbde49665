"""Built simulators: a torn one is built anew, and a compiler that does not work is named."""

import ctypes
import os
import time
from pathlib import Path

import pytest

from evaluators.silicon import verilator

COUNTER = r"""
module \counter
  wire input 0 \clk
  wire width 8 output 1 \q
  wire width 8 $1
  cell $add $2
    parameter \A_SIGNED 0
    parameter \B_SIGNED 0
    parameter \A_WIDTH 8
    parameter \B_WIDTH 8
    parameter \Y_WIDTH 8
    connect \A \q
    connect \B 8'00000001
    connect \Y $1
  end
  cell $dff $3
    parameter \WIDTH 8
    parameter \CLK_POLARITY 1
    connect \D $1
    connect \CLK \clk
    connect \Q \q
  end
end
"""

DRIVER = """
#include "Vdut.h"
extern "C" __attribute__((visibility("default"))) int after(int cycles) {
    VerilatedContext context;
    Vdut dut(&context);
    int begin = -1;
    for (int i = 0; i <= cycles; i++) {
        dut.clk = 0; dut.eval();
        if (begin < 0) begin = dut.q;
        if (i < cycles) { dut.clk = 1; dut.eval(); }
    }
    return (dut.q - begin) & 255;
}
"""


@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "it is there")
def test_a_torn_library_is_built_anew(tmp_path: Path) -> None:
    built = verilator.build(COUNTER, "counter", DRIVER, tmp_path)
    assert ctypes.CDLL(str(built)).after(300) == 300 - 256
    whole = built.read_bytes()
    for content in (whole[:5000], b""):
        built.write_bytes(content)
        again = verilator.build(COUNTER, "counter", DRIVER, tmp_path)
        assert again.read_bytes()[:4] == b"\x7fELF" and len(again.read_bytes()) == len(whole)
        built = again
    assert len(list(tmp_path.glob("*.so"))) == 1


def test_a_compiler_that_does_not_work_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken-cc"
    broken.write_text("#!/bin/sh\necho no licence >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    assert "does not work" in verilator.available() and "no licence" in verilator.available()
    monkeypatch.setenv("CXX", "g++ -O1")
    assert "CXX names 'g++ -O1', one program without options" in verilator.available()


def test_what_a_killed_build_left_is_removed_once_nobody_can_work_in_it(tmp_path: Path) -> None:
    for name, age_s in (("build-old", 2 * verilator.ABANDONED_S), ("build-young", 0.0)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "all.cpp").write_text("int main")
        at_s = time.time() - age_s
        os.utime(folder, (at_s, at_s))
    made = tmp_path / "made"
    made.write_text("whole")
    verilator._made(tmp_path, "key", ".so", lambda folder: made)
    assert {path.name for path in tmp_path.glob("build-*")} == {"build-young"}
