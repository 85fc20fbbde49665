"""A linked netlist as Verilog, for whoever goes on with other tools."""

import tempfile
from pathlib import Path

from evaluators.silicon.yosys import run_yosys

DEADLINE_S = 120.0
"""Longest time that Yosys may take."""


def verilog(rtlil: str, top: str) -> str:
    """The netlist in Verilog-2005, one module for each of its own, memories as arrays of registers.

    Equal netlists give equal text.

    Args:
        rtlil: The linked netlist; every module that it instantiates is in it.
        top: Its top module.

    Raises:
        YosysError: Yosys is missing, failed or was stopped.
    """
    with tempfile.TemporaryDirectory(prefix="verilog-") as folder:
        work = Path(folder)
        (work / "dut.il").write_text(rtlil, encoding="utf-8")
        commands = ["read_rtlil dut.il", f"hierarchy -check -top {top}", "proc"]
        run_yosys([*commands, "write_verilog -noattr dut.v"], work, work / "tmp", DEADLINE_S)
        return (work / "dut.v").read_text(encoding="utf-8")
