"""The gate: judges one RTL edit against the contract of its unit.

Until the sandbox stands, only sources that are byte for byte files of the playbook are elaborated
at all; everything after that door is what every later edit will go through too.
"""

import hashlib
from pathlib import Path

from hwlib.contracts.table import CONTRACTS

from evaluators.gate.elaboration import ElaborationError, elaborate_alone
from evaluators.gate.netlist import check_netlist
from evaluators.gate.vectors import first_mismatch
from evaluators.metrics import Verdict
from evaluators.silicon import verilator
from hwlib.edit import RtlEdit, UnitTiming
from hwlib.elaborate import UnitNetlist


class Judgement(Verdict):
    """A verdict, with the netlist where it is favourable."""

    netlist: UnitNetlist | None = None
    """What `hwlib.elaborate.elaborate` takes; None unless accepted."""


def source_sha256(source: str) -> str:
    """SHA-256 of an edit's source, in hex: how the playbook's files are listed."""
    return hashlib.sha256(source.encode()).hexdigest()


def judge(edit: RtlEdit, allowed: frozenset[str], cache_dir: Path) -> Judgement:
    """Judges an edit. A unit has no parameters, so the verdict holds for every config.

    Source outside `allowed` is refused and never executed. Otherwise it is elaborated alone, its
    text validated, its ports held to the contract, and the netlist simulated against the
    integer reference on corners and random vectors, with a reset in mid-stream. Its latency is
    the smallest whose reference it equals, and must be the one claimed.

    Args:
        edit: The edit.
        allowed: SHA-256 in hex of every source that may be executed.
        cache_dir: Where built simulators are kept.

    Raises:
        verilator.ToolMissing: There is no C++ compiler, so nothing can be judged.
    """
    try:
        netlist = _judged(edit, allowed, cache_dir)
    except (ElaborationError, ValueError, verilator.ToolFailed) as error:
        return Judgement(unit=edit.unit, accepted=False, reason=str(error))
    return Judgement(
        unit=edit.unit,
        accepted=True,
        reason=f"equal to the reference on all vectors, latency {edit.latency} as claimed",
        netlist=netlist,
    )


def _judged(edit: RtlEdit, allowed: frozenset[str], cache_dir: Path) -> UnitNetlist:
    """The netlist of an edit that passes; a ValueError says why it does not."""
    contract = CONTRACTS[edit.unit]
    if source_sha256(edit.source) not in allowed:
        raise ValueError(
            "the source is not byte-equal to a file of the playbook; other edits are refused "
            "until the sandbox stands"
        )
    low, high = contract.latency_bounds
    if not low <= edit.latency <= high:
        raise ValueError(
            f"unit {edit.unit} can have a latency of {low} to {high} cycles, not {edit.latency}"
        )
    text = elaborate_alone(edit.unit, edit.source)
    check_netlist(edit.unit, text)

    def mismatch_at(latency: int) -> str:
        return first_mismatch(contract, text, latency, cache_dir)

    if mismatch := mismatch_at(edit.latency):
        for other in range(low, high + 1):
            if other != edit.latency and not mismatch_at(other):
                raise ValueError(
                    f"unit {edit.unit} has a latency of {other}, not the claimed {edit.latency}"
                )
        raise ValueError(f"unit {edit.unit} differs from the reference: {mismatch}")
    if edit.latency > low and not mismatch_at(edit.latency - 1):
        raise ValueError(
            f"unit {edit.unit} is faster than the claimed latency of {edit.latency}; claim what "
            "it has"
        )
    return UnitNetlist(unit=edit.unit, rtlil=text, timing=UnitTiming(latency=edit.latency))
