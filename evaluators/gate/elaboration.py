"""Elaborates the source of an edit in a confined process of its own; only text comes back.

Amaranth is executed there, Verilog read by Yosys.
"""

import json
from collections.abc import Sequence

from evaluators.gate import sandbox, verilog_unit
from evaluators.gate.netlist import shares
from evaluators.gate.verilog import VerilogError, read_verilog
from hwlib.config import CoreConfig
from hwlib.contracts.table import contract_of
from hwlib.edit import AnyEdit

DEADLINE_S = 30.0
"""Wall-clock limit of one elaboration."""

OUTPUT_LIMIT_BYTES = 4 << 20
"""Longest netlist that is read; of an array for every 64 elements or fewer."""


class ElaborationError(Exception):
    """The source gave no netlist; the message says why in one line."""


VERILOG_LIMIT_BYTES = 4 * OUTPUT_LIMIT_BYTES
"""Longest netlist as Yosys writes it, whose nets are numbers."""


def elaborate_alone(
    edit: AnyEdit, config: CoreConfig, layers: Sequence[sandbox.Layer] = sandbox.LAYERS
) -> str:
    """The RTLIL text of an edit's source, which stays untrusted.

    Args:
        edit: Its source is executed, in the other process.
        config: The core whose unit it is: it chooses the arguments of the unit's class.
        layers: What the process is confined by.

    Raises:
        ElaborationError: It failed, took longer than `DEADLINE_S`, or said too much.
        ValueError: The core has no such unit.
    """
    contract, times = contract_of(edit.unit, config), shares(edit.unit, config)
    if edit.language == "verilog":
        return _of_verilog(edit, times, layers)
    arguments = json.dumps(contract.class_arguments)
    try:
        answer = sandbox.run(
            ["elaborate", edit.unit, contract.class_name, arguments],
            edit.source.encode(),
            deadline_s=DEADLINE_S,
            answer_limit_bytes=OUTPUT_LIMIT_BYTES * times,
            layers=layers,
        )
    except sandbox.SandboxError as error:
        raise ElaborationError(f"elaboration failed: {error}") from None
    kind, _, text = answer.decode(errors="replace").partition("\n")
    if kind != "netlist":
        reason = text if kind == "error" else "the process gave no answer that is one"
        raise ElaborationError(sandbox.one_line(f"elaboration failed: {reason.rstrip(': ')}"))
    return text


def _of_verilog(edit: AnyEdit, times: int, layers: Sequence[sandbox.Layer]) -> str:
    try:
        design = read_verilog(
            edit.source.encode(),
            [command.format(unit=edit.unit) for command in verilog_unit.READING],
            "json",
            deadline_s=DEADLINE_S,
            answer_limit_bytes=VERILOG_LIMIT_BYTES * times,
            layers=layers,
        )
        return verilog_unit.unit_netlist(edit.unit, design)
    except (VerilogError, verilog_unit.NotAUnit) as error:
        raise ElaborationError(f"the Verilog of unit {edit.unit}: {error}") from None
