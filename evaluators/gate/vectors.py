"""A unit's netlist against its contract: simulates the vectors and finds the first difference."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evaluators.gate import sandbox
from evaluators.gate.self_test import sandbox_missing
from evaluators.gate.stimuli import Stimulus, public
from evaluators.gate.stimuli import stimuli as unit_stimuli
from evaluators.silicon import verilator
from hwlib.behaviour import Table
from hwlib.contracts.contract import Approximation, Trace, UnitContract

DEADLINE_S = 60.0
"""Wall-clock limit of one simulation of all vectors; it takes some hundredths of a second."""

_RESET, _POWER, _SEED_AT = 1, 2, 2
"""Bits of the first column that the simulator reads, and the lowest bit of a power-on's seed."""


_CONTROLS = frozenset({"enable", "capture"})
"""Inputs that act at once, whatever the latency; units that have one hold more than a pipeline."""


def first_mismatch(
    contract: UnitContract,
    rtlil_text: str,
    latency: int,
    cache_dir: Path,
    stimuli: Sequence[Stimulus] | None = None,
) -> str:
    """Simulates a netlist and compares it with the integer reference of its contract.

    Args:
        contract: What the unit must do.
        rtlil_text: The netlist; its top module has the unit's name.
        latency: The latency that the unit is held to, in cycles.
        cache_dir: Where built simulators are kept: one netlist is built once, whatever `latency`.
        stimuli: What is driven; one cycle of reset comes before each, and before every other one
            the flip-flops lose what they hold: those without initial value begin with any. None
            for `evaluators.gate.stimuli`, with a seed that is the netlist's digest.

    Returns:
        The first difference in words, or an empty string where there is none. A unit that may be
        off must be so within the tolerance, and give equal results for equal inputs.

    Raises:
        verilator.ToolMissing: There is no compiler or no Verilator.
        verilator.ToolFailed: A tool refused the netlist.
    """
    library = simulator(contract, rtlil_text, cache_dir)
    seed = int(hashlib.sha256(rtlil_text.encode()).hexdigest(), 16)
    if stimuli is None:
        # Most that is wrong, and every other latency, shows in the first sequence already.
        sequences = unit_stimuli(contract, latency, seed)
        first = next(sequences)
        outputs = simulate(contract, library, [first], seed)
        if words := _off_the_reference(contract, latency, [first], outputs):
            return words
        stimuli = [first, *sequences]  # the first again: state goes on from one to the next
    outputs = simulate(contract, library, stimuli, seed)
    return first_difference(contract, latency, stimuli, outputs)


def first_difference(
    contract: UnitContract,
    latency: int,
    stimuli: Sequence[Stimulus],
    outputs: Sequence[Trace],
) -> str:
    """What `first_mismatch` says of outputs that a unit gave.

    Args:
        contract: What the unit must do.
        latency: The latency that the unit is held to, in cycles.
        stimuli: What was driven.
        outputs: What each of them gave.
    """
    if words := _off_the_reference(contract, latency, stimuli, outputs):
        return words
    if contract.approximation:
        rows, given, _ = _results(contract, contract.approximation, latency, stimuli, outputs)
        table = _tabulated(contract.approximation, rows, given)
        if (other := table[rows] != given).any():
            t = int(other.argmax())
            return (
                f"it gives {given[t]} and {table[rows[t]]} for equal inputs; a result must hang on "
                f"the inputs {latency} cycles ago and on nothing else"
            )
    return ""


def _off_the_reference(
    contract: UnitContract,
    latency: int,
    stimuli: Sequence[Stimulus],
    outputs: Sequence[Trace],
) -> str:
    """The first output that is not what the reference gives, or not within the tolerance."""
    allowed = contract.approximation.tolerance if contract.approximation else 0
    for (stimulus, where, _), output in zip(stimuli, outputs, strict=True):
        if contract.handshake:
            if found := contract.handshake(stimulus, output, latency):
                return f"{found}{where}"
            continue
        expected = contract.expected(stimulus, latency)
        for port in contract.outputs:
            far = abs(expected.values[port.name] - output[port.name]) > allowed
            wrong = expected.checked[port.name] & far
            if wrong.any():
                t = int(wrong.argmax())
                # Of a unit without controls those that the result belongs to.
                at = t if _CONTROLS & stimulus.keys() else max(0, t - latency)
                driven = ", ".join(f"{p.name}={stimulus[p.name][at]}" for p in contract.inputs)
                driven = f"{driven} in cycle {at}" if at != t else driven
                within = f" within {allowed}" if allowed else ""
                return (
                    f"{port.name} is {output[port.name][t]}, not {expected.values[port.name][t]}"
                    f"{within}, in cycle {t}{where} ({driven})"
                )
    return ""


def built_behaviour(
    contract: UnitContract, rtlil_text: str, latency: int, cache_dir: Path
) -> tuple[Table, Table]:
    """What a unit that has no `first_mismatch` gives for all of its inputs.

    Returns:
        Its results and the reference's by row of the contract's table, int64 `[rows]` each; both
        are 0 for inputs that have no result.
    """
    if contract.approximation is None:
        raise ValueError(f"results of unit {contract.unit} cannot be tabulated")
    stimuli = [public(contract, latency)]
    outputs = simulate(contract, simulator(contract, rtlil_text, cache_dir), stimuli)
    rows, given, wanted = _results(contract, contract.approximation, latency, stimuli, outputs)
    return (
        _tabulated(contract.approximation, rows, given),
        _tabulated(contract.approximation, rows, wanted),
    )


def built_products(contract: UnitContract, rtlil_text: str, latency: int, cache_dir: Path) -> Table:
    """What an element makes of every pair of operands, int64 `[rows]`.

    Raises:
        ValueError: A product is further off than its contract allows, or one with 0 is not 0.
        verilator.ToolMissing: There is no compiler or no Verilator.
        verilator.ToolFailed: A tool refused the netlist.
    """
    products = contract.products
    if products is None:
        raise ValueError(f"products of unit {contract.unit} may not be off")
    inputs, rows = products.probe(latency)
    expected = contract.expected(inputs, latency)
    (port,) = contract.outputs
    library = simulator(contract, rtlil_text, cache_dir)
    (output,) = simulate(contract, library, [Stimulus(inputs)])
    seen = expected.checked[port.name]
    table, exact = np.zeros((2, products.rows), np.int64)
    table[rows], exact[rows] = output[port.name][seen], expected.values[port.name][seen]
    if (wrong := products.zeros[table[products.zeros] != 0]).size:
        raise ValueError(f"product {wrong[0]} has an operand of 0 and is {table[wrong[0]]}, not 0")
    off = abs(table - exact)
    if off.max() > products.tolerance:
        raise ValueError(
            f"a product is {table[off.argmax()]}, not {exact[off.argmax()]} within "
            f"{products.tolerance}"
        )
    return table


def _results(
    contract: UnitContract,
    approximation: Approximation,
    latency: int,
    stimuli: Sequence[Stimulus],
    outputs: Sequence[Trace],
) -> tuple[Table, Table, Table]:
    """Rows of the inputs, what came of them and what the reference gives, where it counts."""
    (port,) = contract.outputs
    found = []
    for (stimulus, *_), output in zip(stimuli, outputs, strict=True):
        expected = contract.expected(stimulus, latency)
        checked = expected.checked[port.name][latency:]
        rows = approximation.row(stimulus)[: len(checked)]
        columns = (rows, output[port.name][latency:], expected.values[port.name][latency:])
        found.append(np.stack([column[checked] for column in columns]))
    rows, given, wanted = np.concatenate(found, axis=1)
    return rows, given, wanted


def _tabulated(approximation: Approximation, rows: Table, values: Table) -> Table:
    """Values by row, 0 where a row does not occur."""
    table = np.zeros(approximation.rows, np.int64)
    table[rows] = values
    return table


def simulator(contract: UnitContract, rtlil_text: str, cache_dir: Path) -> Path:
    """The library that simulates a netlist, built or found.

    Raises:
        verilator.ToolMissing: There is no compiler or no Verilator.
        verilator.ToolFailed: A tool refused the netlist.
    """
    driver = _driver(contract)
    return verilator.build(rtlil_text, contract.unit, driver, cache_dir, any_start=True)


def simulate(
    contract: UnitContract, library: Path, stimuli: Sequence[Stimulus], seed: int = 0
) -> list[Trace]:
    """Outputs of the netlist, one trace a stimulus; `first_mismatch` says what is before each.

    Args:
        contract: Of the unit.
        library: Its simulator.
        stimuli: What is driven.
        seed: Draws what flip-flops hold after a power-on, and what stands at the ports in a reset.

    Raises:
        verilator.ToolFailed: The simulator came to no end.
    """
    rng = np.random.default_rng(seed)
    highest = [1 << port.width for port in contract.inputs]
    blocks = []
    for at, stimulus in enumerate(stimuli):
        block = np.stack([stimulus.trace[port.name] for port in contract.inputs], axis=1)
        # The reset comes with anything at the ports, and a power-on with a seed of its own.
        power = _POWER | int(rng.integers(1, 1 << 30)) << _SEED_AT
        first = _RESET | (power if stimulus.powered or at % 2 == 0 else 0)
        begin = np.array([[first, *rng.integers(0, highest)]])
        blocks += [begin, np.insert(block, 0, 0, axis=1)]
    inputs = np.ascontiguousarray(np.concatenate(blocks), dtype=np.int64)
    raw = _run(library, inputs, len(contract.outputs))
    traces: list[Trace] = []
    at = 0
    for each in stimuli:
        cycles = len(each.trace[contract.inputs[0].name])
        span = raw[at + 1 : at + 1 + cycles]
        traces.append(
            {
                port.name: _signed(span[:, i], port.width) if port.signed else span[:, i]
                for i, port in enumerate(contract.outputs)
            }
        )
        at += 1 + cycles
    return traces


def _run(library: Path, inputs: npt.NDArray[np.int64], outputs: int) -> npt.NDArray[np.int64]:
    """Outputs of each cycle, from a process that knows nothing of what they should be."""
    size = len(inputs) * outputs * inputs.itemsize
    layers: tuple[sandbox.Layer, ...] = ("limits",) if sandbox_missing() else sandbox.LAYERS
    try:
        answer = sandbox.run(
            ["simulate", str(library), str(len(inputs)), str(size)],
            inputs.tobytes(),
            deadline_s=DEADLINE_S,
            answer_limit_bytes=size,
            layers=layers,
        )
    except sandbox.SandboxError as error:
        raise verilator.ToolFailed(f"the simulation gave no outputs: {error}") from None
    if len(answer) != size:
        raise verilator.ToolFailed("the simulation ended before its last cycle")
    return np.frombuffer(answer, dtype=np.int64).reshape(len(inputs), outputs)


def _signed(raw: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.int64]:
    half = np.int64(1) << (width - 1)
    value: npt.NDArray[np.int64] = (raw ^ half) - half
    return value


def _driver(contract: UnitContract) -> str:
    """C++ that puts one row of inputs on the ports each cycle and reads the outputs."""
    width = {port.name: (1 << port.width) - 1 for port in contract.ports}
    drive = "\n        ".join(
        f"dut->{port.name} = in[t * {len(contract.inputs) + 1} + {i}] & {width[port.name]:#x}ull;"
        for i, port in enumerate(contract.inputs, start=1)
    )
    read = "\n        ".join(
        f"out[t * {len(contract.outputs)} + {i}] = dut->{port.name};"
        for i, port in enumerate(contract.outputs)
    )
    return f"""#include <cstdint>
#include <memory>
#include "Vdut.h"
#include "verilated.h"
extern "C" __attribute__((visibility("default")))
void dovetail_unit(const int64_t* in, int64_t* out, uint64_t cycles) {{
    VerilatedContext context;
    context.threads(1);
    context.randReset(2);
    std::unique_ptr<Vdut> dut;
    for (uint64_t t = 0; t < cycles; t++) {{
        int64_t begin = in[t * {len(contract.inputs) + 1}];
        if (begin & {_POWER}) {{
            context.randSeed(static_cast<int>(begin >> {_SEED_AT}));
            dut = std::make_unique<Vdut>(&context);
        }}
        dut->rst = begin & {_RESET};
        {drive}
        dut->clk = 0;
        dut->eval();
        {read}
        dut->clk = 1;
        dut->eval();
    }}
    dut->final();
}}
"""
