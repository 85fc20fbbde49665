"""Reads Verilog that nobody here wrote: Yosys, in the sandbox in which sources of edits run.

Yosys carries out what a file says while it reads it: `import "DPI-C"` calls any C function that
the process has, and `include` and `$readmemh` open what their names say. In the sandbox a call
reaches nothing and no other file can be opened, so a file must hold all that it needs.
"""

import json
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from evaluators.gate import inmate, sandbox

_BEGINS = {"json": re.compile(r"^\{$", re.MULTILINE), "rtlil": re.compile(r"^#", re.MULTILINE)}


class VerilogError(ValueError):
    """Yosys cannot read the file; the message says why."""


def read_verilog(
    text: bytes,
    commands: Sequence[str],
    form: Literal["json", "rtlil"],
    *,
    deadline_s: float,
    answer_limit_bytes: int,
    layers: Sequence[sandbox.Layer] = sandbox.LAYERS,
    limits: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """What Yosys makes of a Verilog file; as untrusted as the file.

    Args:
        text: The file, in the part of SystemVerilog that Yosys reads.
        commands: What Yosys does with it.
        form: What it writes then.
        deadline_s: Wall-clock time that it may take.
        answer_limit_bytes: Longest answer, what Yosys prints included.
        layers: What the process is confined by.
        limits: Limits of the process that are other than those of an edit's elaboration.

    Raises:
        VerilogError: It cannot be read, or took too long.
    """
    job = ["verilog", json.dumps([*commands, f"write_{form} -"]), json.dumps(dict(limits))]
    try:
        answer = sandbox.run(
            job,
            text,
            deadline_s=deadline_s,
            answer_limit_bytes=answer_limit_bytes,
            layers=layers,
        )
    except sandbox.SandboxError as error:
        raise VerilogError(str(error)) from None
    said, mark, written = answer.partition(inmate.MARK)
    if mark and (begin := _BEGINS[form].search(netlist := written.decode(errors="replace"))):
        return netlist[begin.start() :]
    raise VerilogError(sandbox.one_line(_complaint(said.decode(errors="replace"))))


def _complaint(said: str) -> str:
    """What Yosys finds wrong, with the line of the file."""
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR:" in line]
    if not errors:
        last = lines[-1] if lines else "(nothing)"
        why = "ended without an error, for lack of memory or time"
        if "bad_alloc" in last:
            why = "ran out of memory"
        return f"Yosys {why}; its last words: {last}"
    return re.sub(r" +", " ", errors[-1].replace("ERROR:", "").replace("<stdin>:", "line ")).strip()
