"""The gate: judges one RTL edit against the contract of its unit.

Until the sandbox stands, only sources that are byte for byte files of the playbook are elaborated
at all; everything after that door is what every later edit will go through too.
"""

import ctypes
import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evaluators.gate.elaboration import ElaborationError, elaborate_alone
from evaluators.gate.netlist import check_netlist
from evaluators.metrics import Verdict
from evaluators.silicon import verilator
from hwlib.contracts.contract import Trace, UnitContract
from hwlib.contracts.table import CONTRACTS
from hwlib.edit import RtlEdit, UnitTiming
from hwlib.elaborate import UnitNetlist

SEEDS = (11, 12)
"""Seeds of the random vectors; each sequence begins with a reset, the second in mid-stream."""


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
    library = verilator.build(text, edit.unit, _driver(contract), cache_dir)
    if mismatch := _mismatch(contract, library, edit.latency):
        for other in range(low, high + 1):
            if other != edit.latency and not _mismatch(contract, library, other):
                raise ValueError(
                    f"unit {edit.unit} has a latency of {other}, not the claimed {edit.latency}"
                )
        raise ValueError(f"unit {edit.unit} differs from the reference: {mismatch}")
    if edit.latency > low and not _mismatch(contract, library, edit.latency - 1):
        raise ValueError(
            f"unit {edit.unit} is faster than the claimed latency of {edit.latency}; claim what "
            "it has"
        )
    return UnitNetlist(unit=edit.unit, rtlil=text, timing=UnitTiming(latency=edit.latency))


def _mismatch(contract: UnitContract, library: Path, latency: int) -> str:
    """The first difference from a right unit of `latency`, or an empty string."""
    stimuli = [contract.stimulus(latency, seed) for seed in SEEDS]
    outputs = _simulate(contract, library, stimuli)
    for stimulus, output in zip(stimuli, outputs, strict=True):
        expected = contract.expected(stimulus, latency)
        for port in contract.outputs:
            wrong = expected.checked[port.name] & (expected.values[port.name] != output[port.name])
            if wrong.any():
                t = int(wrong.argmax())
                driven = ", ".join(f"{p.name}={stimulus[p.name][t]}" for p in contract.inputs)
                return (
                    f"{port.name} is {output[port.name][t]}, not {expected.values[port.name][t]}, "
                    f"in cycle {t} ({driven})"
                )
    return ""


def _simulate(contract: UnitContract, library: Path, stimuli: list[Trace]) -> list[Trace]:
    """Outputs of the netlist, one trace a stimulus, with one cycle of reset before each."""
    blocks = []
    for stimulus in stimuli:
        block = np.stack([stimulus[port.name] for port in contract.inputs], axis=1)
        # The reset comes with operands at the ports, as it would in mid-stream.
        blocks += [np.insert(block[-1:], 0, 1, axis=1), np.insert(block, 0, 0, axis=1)]
    inputs = np.ascontiguousarray(np.concatenate(blocks), dtype=np.int64)
    raw = np.zeros((len(inputs), len(contract.outputs)), dtype=np.int64)
    entry = ctypes.CDLL(str(library)).dovetail_unit
    entry.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64]
    entry(inputs.ctypes.data, raw.ctypes.data, len(inputs))
    traces: list[Trace] = []
    at = 0
    for stimulus in stimuli:
        cycles = len(stimulus[contract.inputs[0].name])
        span = raw[at + 1 : at + 1 + cycles]
        traces.append(
            {
                port.name: _signed(span[:, i], port.width) if port.signed else span[:, i]
                for i, port in enumerate(contract.outputs)
            }
        )
        at += 1 + cycles
    return traces


def _signed(raw: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.int64]:
    half = np.int64(1) << (width - 1)
    value: npt.NDArray[np.int64] = (raw ^ half) - half
    return value


def _driver(contract: UnitContract) -> str:
    """C++ that puts one row of inputs on the ports each cycle and reads the outputs."""
    width = {port.name: (1 << port.width) - 1 for port in contract.ports}
    drive = "\n        ".join(
        f"dut.{port.name} = in[t * {len(contract.inputs) + 1} + {i}] & {width[port.name]:#x}ull;"
        for i, port in enumerate(contract.inputs, start=1)
    )
    read = "\n        ".join(
        f"out[t * {len(contract.outputs)} + {i}] = dut.{port.name};"
        for i, port in enumerate(contract.outputs)
    )
    return f"""#include <cstdint>
#include "Vdut.h"
#include "verilated.h"
extern "C" __attribute__((visibility("default")))
void dovetail_unit(const int64_t* in, int64_t* out, uint64_t cycles) {{
    VerilatedContext context;
    Vdut dut{{&context}};
    for (uint64_t t = 0; t < cycles; t++) {{
        dut.rst = in[t * {len(contract.inputs) + 1}] & 1;
        {drive}
        dut.clk = 0;
        dut.eval();
        {read}
        dut.clk = 1;
        dut.eval();
    }}
    dut.final();
}}
"""
