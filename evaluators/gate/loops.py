"""Yosys' own check of a unit: no loop of logic without a flip-flop, no net with two drivers."""

import tempfile
from pathlib import Path

from evaluators.silicon.yosys import YosysDied, YosysError, YosysTimeout, run_yosys
from hwlib.edit import UnitName

DEADLINE_S = 60.0
"""Longest time that Yosys may take."""


def check_loops(unit: UnitName, text: str) -> None:
    """Looks through the whole unit, bit by bit, with its modules flattened into one.

    Args:
        unit: Name of the top module.
        text: A netlist that `evaluators.gate.netlist` lets through.

    Raises:
        ValueError: Yosys finds fault with it; the message has its words.
        YosysDied, YosysTimeout: It came to no end.
    """
    # Unoptimised, since what is folded away would be out of sight.
    commands = ["read_rtlil dut.il", f"hierarchy -check -top {unit}", "proc -noopt", "flatten"]
    with tempfile.TemporaryDirectory(prefix="gate-") as folder:
        work = Path(folder)
        (work / "dut.il").write_text(text, encoding="ascii")
        try:
            run_yosys([*commands, "check -assert"], work, work / "tmp", DEADLINE_S)
        except (YosysDied, YosysTimeout):
            raise
        except YosysError as error:
            raise ValueError(f"netlist of {unit}: {_in_one_line(str(error))}") from None


def _in_one_line(words: str) -> str:
    return "; ".join(line.strip() for line in words.splitlines())[:600]
