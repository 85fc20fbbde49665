"""Elaborates the source of an edit in a confined process of its own; only text comes back."""

import json
from collections.abc import Sequence

from evaluators.gate import sandbox
from evaluators.gate.netlist import shares
from hwlib.config import CoreConfig
from hwlib.contracts.table import contract_of
from hwlib.edit import UnitName

DEADLINE_S = 30.0
"""Wall-clock limit of one elaboration."""

OUTPUT_LIMIT_BYTES = 4 << 20
"""Longest netlist that is read; of an array for every 64 elements or fewer."""


class ElaborationError(Exception):
    """The source gave no netlist; the message says why in one line."""


def elaborate_alone(
    unit: UnitName,
    source: str,
    config: CoreConfig,
    layers: Sequence[sandbox.Layer] = sandbox.LAYERS,
) -> str:
    """The RTLIL text of an edit's source, which stays untrusted.

    Args:
        unit: The unit that the source replaces.
        source: Text of its file. It is executed, in the other process.
        config: The core whose unit it is: it chooses the arguments of the unit's class.
        layers: What the process is confined by.

    Raises:
        ElaborationError: It failed, took longer than `DEADLINE_S`, or said too much.
        ValueError: The core has no such unit.
    """
    contract = contract_of(unit, config)
    arguments = json.dumps(contract.class_arguments)
    try:
        answer = sandbox.run(
            ["elaborate", unit, contract.class_name, arguments],
            source.encode(),
            deadline_s=DEADLINE_S,
            answer_limit_bytes=OUTPUT_LIMIT_BYTES * shares(unit, config),
            layers=layers,
        )
    except sandbox.SandboxError as error:
        raise ElaborationError(f"elaboration failed: {error}") from None
    kind, _, text = answer.decode(errors="replace").partition("\n")
    if kind != "netlist":
        reason = text if kind == "error" else "the process gave no answer that is one"
        raise ElaborationError(sandbox.one_line(f"elaboration failed: {reason}"))
    return text
