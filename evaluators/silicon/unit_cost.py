"""What one unit alone costs, mapped: area, slowest path, energy under its contract's stimulus."""

import re
import tempfile
from pathlib import Path

import numpy as np

from evaluators.silicon.cost import MappedCore, map_core, silicon_cost
from evaluators.silicon.flattening import flattened
from evaluators.silicon.gates import Activity, evaluate, integer_bits, places, stimulus
from evaluators.silicon.liberty import Library
from evaluators.silicon.liberty_power import load_power
from evaluators.silicon.power import PowerModel, cell_powers
from evaluators.silicon.synthesis import MappedModule
from evaluators.silicon.yosys import run_yosys
from hwlib.contracts.contract import UnitContract
from hwlib.frozen import Frozen

CYCLES = 2048
"""Cycles in which energy is counted, at most: the last ones of the stimulus, which are random."""

RUN_IN = 32
"""Cycles before them, the first of which is a reset."""

SEED = 11
"""Of the stimulus: equal for all units of a contract, so that they can be compared."""

DEADLINE_S = 60.0
"""Longest time that Yosys may take to flatten a unit."""


class UnitCost(Frozen):
    """A unit in the target's cells: typical corner, before layout; its ports are in its paths."""

    area_um2: float
    """Cells, buffers of its nets included."""

    worst_path_s: float
    """The slowest path through it."""

    energy_j: float
    """Of a cycle, in the mean over random operands, of an array for each pair that it takes: gates
    as they switch, without leakage; no glitches, no clock tree."""

    logic_depth_cells: int
    """Cells on that path, the flip-flop that it starts at and buffers included."""

    power_w: float
    """Of a cycle in every period of that path, with leakage."""


def unit_cost(rtlil: str, contract: UnitContract, latency: int, cache_dir: Path) -> UnitCost:
    """Maps, assembles, times and drives the netlist of one unit.

    Args:
        rtlil: Its netlist.
        contract: What it is driven by.
        latency: Its latency, which the stimulus hangs on.
        cache_dir: Where mapped modules and the parsed library are kept.

    Raises:
        evaluators.silicon.yosys.YosysError: It cannot be flattened.
        evaluators.silicon.gates.GatesError: Its gates cannot be evaluated.
    Else as `evaluators.silicon.cost.map_core`.
    """
    whole = contract.handshake is not None  # an array, which is mapped as it stands in a core
    core = map_core(rtlil if whole else _flat(rtlil, contract.unit), cache_dir, top=contract.unit)
    cost = silicon_cost(core)
    energy_j = _energy_j(core, contract, latency, cache_dir)
    return UnitCost(
        area_um2=cost.area_um2,
        worst_path_s=cost.worst_path_s,
        energy_j=energy_j,
        logic_depth_cells=len(core.timing.path),
        power_w=energy_j * core.timing.clock_hz + core.synthesis.leakage_w,
    )


def _energy_j(core: MappedCore, contract: UnitContract, latency: int, cache_dir: Path) -> float:
    """Mean energy of a cycle: cells, their loads and clock pins."""
    module, nets = flattened(core.synthesis, core.assembly)
    power = load_power(core.liberty, cache_dir)
    model = PowerModel(core.library, power, [group.type for group in module.groups])
    activity = _activity(module, core.library, contract, latency)
    cells = cell_powers(
        module,
        model,
        activity,
        core.transition_s[nets],
        core.assembly.load_f[nets],
    )
    parts = (cells.internal_j, cells.clock_internal_j, cells.clock_pins_j, cells.switching_j)
    cycle_j = float(sum(part.sum() for part in parts))
    if contract.handshake is None:
        return cycle_j
    (ready,) = [port.bits for port in module.ports if port.name == "ready"]
    return cycle_j / float(activity.duty[places(ready)[0]])  # operands are there all the time


def _activity(
    module: MappedModule, library: Library, contract: UnitContract, latency: int
) -> Activity:
    """What switches."""
    driven = contract.stimulus(latency, SEED)
    if contract.handshake:
        ones = np.ones_like(driven["valid"])
        driven = {**driven, "valid": ones, "sums_ready": ones}
    ports = {
        port.name: integer_bits(driven[port.name][-CYCLES - RUN_IN :].tolist(), port.width)
        for port in contract.inputs
    }
    cycles = len(next(iter(ports.values())))
    ports["rst"] = integer_bits((np.arange(cycles) == 0).astype(int).tolist(), 1)
    there = {port.name for port in module.ports}
    given = {name: bits for name, bits in ports.items() if name in there}
    # Registers that only a command would set stay as they start; both starts then count half.
    return evaluate(module, library, stimulus(module, given), RUN_IN, unsettled=cycles**2)


def _flat(rtlil: str, unit: str) -> str:
    """The netlist as one module."""
    if len(re.findall(r"^module ", rtlil, re.MULTILINE)) == 1:
        return rtlil
    read = ["read_rtlil dut.il", f"hierarchy -check -top {unit}"]
    with tempfile.TemporaryDirectory(prefix="unit-") as folder:
        work = Path(folder)
        (work / "dut.il").write_text(rtlil, encoding="ascii")
        flatten = ["flatten -noscopeinfo", "clean", "write_rtlil flat.il"]
        run_yosys([*read, *flatten], work, work / "tmp", DEADLINE_S)
        return (work / "flat.il").read_text(encoding="ascii")
