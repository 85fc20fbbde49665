"""The gate: judges one RTL edit against the contract of its unit.

Every source is executed in the sandbox. Where there is none, only sources that people have read
and vetted are executed at all, in a process with limits alone.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluators.gate.elaboration import ElaborationError, elaborate_alone
from evaluators.gate.loops import check_loops
from evaluators.gate.netlist import check_netlist, without_start_values
from evaluators.gate.proof import Proof, Prover, no_proof, prove
from evaluators.gate.sandbox import LAYERS, Layer
from evaluators.gate.self_test import SandboxMissing, sandbox_missing
from evaluators.gate.solvers import SolverKilled
from evaluators.gate.stimuli import Stimulus
from evaluators.gate.vectors import built_behaviour, built_products, first_mismatch
from evaluators.metrics import NO_VERDICT, Verdict
from evaluators.silicon import verilator
from evaluators.silicon.yosys import YosysError
from hwlib.behaviour import Behaviour, exact_products
from hwlib.config import CoreConfig
from hwlib.contracts.contract import Trace, UnitContract
from hwlib.contracts.table import contract_of, shipped_latency
from hwlib.edit import AnyEdit
from hwlib.elaborate import UnitNetlist
from hwlib.unit_source import shipped_rtlil


class WrongLatency(ValueError):
    """An edit keeps its contract at another latency than the claimed one."""

    def __init__(self, message: str, latency: int) -> None:
        super().__init__(message)
        self.latency = latency


class Judgement(Verdict):
    """A verdict, with the netlist where it is favourable."""

    netlist: UnitNetlist | None = None
    """What `hwlib.elaborate.elaborate_core` takes; None unless accepted."""

    latency: int | None = None
    """The latency that it has, where it is refused for nothing but its claim of another."""

    final: bool = True
    """Whether it would be the same another time; not so where a tool failed or ran out of time."""


def source_sha256(source: str) -> str:
    """SHA-256 of an edit's source, in hex: how vetted sources are listed."""
    return hashlib.sha256(source.encode()).hexdigest()


def judge(
    edit: AnyEdit,
    config: CoreConfig,
    vetted: frozenset[str],
    cache_dir: Path,
    prover: Prover = prove,
) -> Judgement:
    """Judges an edit as a unit of one core.

    The verdict holds for the arguments that the core gives to the unit's class, which are those of
    the unit's contract, and for no others.

    The source is elaborated alone in the sandbox, its text validated, its ports held to the
    contract, and the netlist simulated against the integer reference on corners and random vectors,
    with a reset in mid-stream. Its latency is the smallest whose reference it equals, and must be
    the one claimed. A unit that its contract lets be off comes with a table of what it gives. Then
    as much is shown as can be: that the vectors were all that can come, or that the edit does what
    the shipped unit does.

    Args:
        edit: The edit.
        config: The core that it is for.
        vetted: SHA-256 in hex of every source that may be executed where there is no sandbox.
        cache_dir: Where built simulators and proofs are kept.
        prover: Shows how far an edit is right that passes the vectors.

    Raises:
        verilator.ToolMissing: There is no C++ compiler, so nothing can be judged.
        SandboxMissing: There is no sandbox, and the source is not vetted.
    """
    try:
        contract = contract_of(edit.unit, config)
        netlist, contract = _judged(edit, contract, config, vetted, cache_dir)
        agreement = "equal to the reference"
        if contract.approximation:
            netlist, agreement = _tabulated(contract, netlist, cache_dir)
        elif netlist.behaviour:
            agreement = _products_in_words(netlist.behaviour)
        proof = _proven(edit, contract, config, netlist, cache_dir, prover)
    except WrongLatency as error:
        reason, latency = str(error), error.latency
        return Judgement(unit=edit.unit, accepted=False, reason=reason, latency=latency)
    except (ElaborationError, ValueError) as error:
        return Judgement(unit=edit.unit, accepted=False, reason=str(error))
    except (verilator.ToolFailed, YosysError, SolverKilled) as error:
        reason = f"{NO_VERDICT}: {error}"
        return Judgement(unit=edit.unit, accepted=False, reason=reason, final=False)
    return Judgement(
        unit=edit.unit,
        accepted=True,
        reason=(
            f"{agreement} on all vectors, latency {edit.latency}{_extent(proof)}"
            f"{_parameters(contract)}"
        ),
        shown=proof.shown,
        netlist=netlist,
    )


def _tabulated(
    contract: UnitContract, netlist: UnitNetlist, cache_dir: Path
) -> tuple[UnitNetlist, str]:
    """The netlist with what it gives beside the reference, and how near that is in words."""
    simulated = without_start_values(netlist.rtlil)
    given, wanted = built_behaviour(contract, simulated, netlist.latency, cache_dir)
    off = abs(given - wanted)
    if not off.any():
        return netlist, "equal to the reference"
    return (
        netlist.model_copy(update={"behaviour": Behaviour.of(given)}),
        f"off the reference by up to {off.max()} for {np.count_nonzero(off):,} of {len(off):,} "
        "inputs, which a model on a core with it is scored with; otherwise equal to it",
    )


def _products_in_words(behaviour: Behaviour) -> str:
    off = abs(behaviour.table - exact_products())
    return (
        f"products are off by up to {off.max()}, {off.mean():.3g} in the mean, which the model is "
        "scored with; equal to the reference otherwise"
    )


def _extent(proof: Proof) -> str:
    """What was shown beyond the vectors, or why nothing was."""
    match proof.shown:
        case "exhaustive":
            return ", which are all that can come"
        case "proved":
            return "; proved to do what the shipped unit does"
        case "tested":
            return f"; no more than tested: {proof.note}"


def _parameters(contract: UnitContract) -> str:
    """What limits a verdict to this core's parameters; nothing where the unit has none."""
    if not contract.class_arguments:
        return ""
    arguments = ", ".join(map(str, contract.class_arguments))
    return f"; judged as {contract.class_name}({arguments}), and for these arguments only"


def _layers(source: str, vetted: frozenset[str]) -> Sequence[Layer]:
    """What the process that executes the source is confined by."""
    missing = sandbox_missing()
    if not missing:
        return LAYERS
    if source_sha256(source) in vetted:
        return ("limits",)
    raise SandboxMissing(
        f"there is no sandbox here ({missing}), and the source is not byte-equal to a file of the "
        "playbook (agents/playbook), so it is not executed; `dovetail doctor` tells what to do"
    )


def _judged(
    edit: AnyEdit,
    contract: UnitContract,
    config: CoreConfig,
    vetted: frozenset[str],
    cache_dir: Path,
) -> tuple[UnitNetlist, UnitContract]:
    """The netlist of an edit that passes, and the contract that it keeps, with its own products
    where it is an element whose products are off; a ValueError says why it does not pass."""
    low, high = contract.latency_bounds
    if not low <= edit.latency <= high:
        raise ValueError(
            f"unit {edit.unit} can have a latency of {low} to {high} cycles, not {edit.latency}"
        )
    text = elaborate_alone(edit, config, _layers(edit.source, vetted))
    check_netlist(edit.unit, config, text)
    check_loops(edit.unit, text)
    simulated = without_start_values(text)

    kept, mismatch = _kept_at(contract, simulated, edit.latency, cache_dir)
    if mismatch:
        others = {}
        for other in range(low, high + 1):
            if other == edit.latency:
                continue
            others[other] = _kept_at(contract, simulated, other, cache_dir)[1]
            if not others[other]:
                raise WrongLatency(
                    f"unit {edit.unit} has a latency of {other}, not the claimed {edit.latency}; "
                    f"claim {other}",
                    other,
                )
        further = _further(mismatch, others)
        raise ValueError(f"unit {edit.unit} differs from the reference: {mismatch}{further}")
    contract, behaviour = kept
    if edit.latency > low and not first_mismatch(contract, simulated, edit.latency - 1, cache_dir):
        raise ValueError(
            f"unit {edit.unit} is faster than the claimed latency of {edit.latency}; claim what "
            "it has"
        )
    return UnitNetlist(rtlil=text, latency=edit.latency, behaviour=behaviour), contract


def _further(mismatch: str, others: Mapping[int, str]) -> str:
    """The first difference at another latency, where that comes later: there the unit is nearer."""

    def cycle(words: str) -> int:
        found = re.search(r", in cycle (\d+)", words)
        return int(found[1]) if found else -1

    nearest = max(others, key=lambda other: cycle(others[other]), default=None)
    if nearest is None or cycle(others[nearest]) <= cycle(mismatch):
        return ""
    return f"; at a latency of {nearest}: {others[nearest]}"


def _kept_at(
    contract: UnitContract, netlist: str, latency: int, cache_dir: Path
) -> tuple[tuple[UnitContract, Behaviour | None], str]:
    """The contract that a netlist keeps at some latency, and its products where they are its own;
    and in words what it does not keep, empty where it keeps all."""
    mismatch = first_mismatch(contract, netlist, latency, cache_dir)
    if not mismatch or contract.products is None:
        return (contract, None), mismatch
    try:
        products = built_products(contract, netlist, latency, cache_dir)
    except ValueError as error:
        words = f"{mismatch}; and as an element whose products may be off: {error}"
        return (contract, None), words
    own = contract.with_products(products)
    mismatch = first_mismatch(own, netlist, latency, cache_dir)
    return (own, Behaviour.of(products)), mismatch


def _proven(
    edit: AnyEdit,
    contract: UnitContract,
    config: CoreConfig,
    netlist: UnitNetlist,
    cache_dir: Path,
    prover: Prover,
) -> Proof:
    """How far a tested edit was shown to be right; a ValueError says where it is not."""
    shipped = UnitNetlist(
        rtlil=shipped_rtlil(edit.unit, config),
        latency=shipped_latency(edit.unit, config),
    )
    simulated = without_start_values(netlist.rtlil)
    if netlist.behaviour and not contract.approximation:
        return Proof(shown="tested", note="proofs are against exact products")

    def simulate(traces: Sequence[Trace]) -> str:
        stimuli = [Stimulus(trace) for trace in traces]
        return first_mismatch(contract, simulated, netlist.latency, cache_dir, stimuli)

    proof = prover(contract, shipped, netlist, edit.source, simulate, cache_dir)
    if proof.difference:
        raise ValueError(
            f"unit {edit.unit} passes the vectors and still differs from the reference: "
            f"{proof.difference[:600]}"
        )
    if contract.approximation and proof.shown == "tested" and prover is not no_proof:
        raise ValueError(
            f"unit {edit.unit} is a function of its operands, which is not shown of the edit: "
            f"{proof.note}; a plain pipeline always is"
        )
    return proof
