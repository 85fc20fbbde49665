"""The gate: judges one RTL edit against the contract of its unit.

Until the sandbox stands, only sources that are byte for byte files of the playbook are elaborated
at all; everything after that door is what every later edit will go through too.
"""

import hashlib
from pathlib import Path

from evaluators.gate.elaboration import ElaborationError, elaborate_alone
from evaluators.gate.netlist import check_netlist
from evaluators.gate.vectors import first_mismatch
from evaluators.metrics import Verdict
from evaluators.silicon import verilator
from hwlib.config import CoreConfig
from hwlib.contracts.contract import UnitContract
from hwlib.contracts.table import contract_of
from hwlib.edit import RtlEdit
from hwlib.elaborate import UnitNetlist


class Judgement(Verdict):
    """A verdict, with the netlist where it is favourable."""

    netlist: UnitNetlist | None = None
    """What `hwlib.elaborate.elaborate_core` takes; None unless accepted."""


def source_sha256(source: str) -> str:
    """SHA-256 of an edit's source, in hex: how the playbook's files are listed."""
    return hashlib.sha256(source.encode()).hexdigest()


def judge(edit: RtlEdit, config: CoreConfig, allowed: frozenset[str], cache_dir: Path) -> Judgement:
    """Judges an edit as a unit of one core.

    The verdict holds for the arguments that the core gives to the unit's class, which are those of
    the unit's contract, and for no others.

    Source outside `allowed` is refused and never executed. Otherwise it is elaborated alone, its
    text validated, its ports held to the contract, and the netlist simulated against the
    integer reference on corners and random vectors, with a reset in mid-stream. Its latency is
    the smallest whose reference it equals, and must be the one claimed.

    Args:
        edit: The edit.
        config: The core that it is for.
        allowed: SHA-256 in hex of every source that may be executed.
        cache_dir: Where built simulators are kept.

    Raises:
        verilator.ToolMissing: There is no C++ compiler, so nothing can be judged.
    """
    try:
        contract = contract_of(edit.unit, config)
        netlist = _judged(edit, contract, config, allowed, cache_dir)
    except (ElaborationError, ValueError, verilator.ToolFailed) as error:
        return Judgement(unit=edit.unit, accepted=False, reason=str(error))
    return Judgement(
        unit=edit.unit,
        accepted=True,
        reason=(
            f"equal to the reference on all vectors, latency {edit.latency} as claimed"
            f"{_parameters(contract)}"
        ),
        netlist=netlist,
    )


def _parameters(contract: UnitContract) -> str:
    """What limits a verdict to this core's parameters; nothing where the unit has none."""
    if not contract.class_arguments:
        return ""
    arguments = ", ".join(map(str, contract.class_arguments))
    return f"; judged as {contract.class_name}({arguments}), and for these arguments only"


def _judged(
    edit: RtlEdit,
    contract: UnitContract,
    config: CoreConfig,
    allowed: frozenset[str],
    cache_dir: Path,
) -> UnitNetlist:
    """The netlist of an edit that passes; a ValueError says why it does not."""
    if source_sha256(edit.source) not in allowed:
        raise ValueError(
            "the source is not byte-equal to a file of the playbook (agents/playbook); other edits "
            "are refused until the sandbox stands"
        )
    low, high = contract.latency_bounds
    if not low <= edit.latency <= high:
        raise ValueError(
            f"unit {edit.unit} can have a latency of {low} to {high} cycles, not {edit.latency}"
        )
    text = elaborate_alone(edit.unit, edit.source, config)
    check_netlist(edit.unit, config, text)

    def mismatch_at(latency: int) -> str:
        return first_mismatch(contract, text, latency, cache_dir)

    if mismatch := mismatch_at(edit.latency):
        for other in range(low, high + 1):
            if other != edit.latency and not mismatch_at(other):
                raise ValueError(
                    f"unit {edit.unit} has a latency of {other}, not the claimed {edit.latency}; "
                    f"claim {other}"
                )
        raise ValueError(f"unit {edit.unit} differs from the reference: {mismatch}")
    if edit.latency > low and not mismatch_at(edit.latency - 1):
        raise ValueError(
            f"unit {edit.unit} is faster than the claimed latency of {edit.latency}; claim what "
            "it has"
        )
    return UnitNetlist(rtlil=text, latency=edit.latency)
