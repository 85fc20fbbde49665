"""Power of a whole core by part: logic, clock, SRAM.

Each distinct module is evaluated once, under traces of some of its instances: the lanes of
`gates.evaluate`. Its mean activity stands for all its instances, so that a 16 x 16 array costs what
a few elements cost; loads and transitions are the mean over all instances, as they stand in the
assembled core. Sampled instances should be spread over the array: its corners, edges and middle.
"""

from collections.abc import Mapping

import numpy as np

from evaluators.silicon.assembly import Assembly, is_clock
from evaluators.silicon.gates import Activity
from evaluators.silicon.liberty import Library
from evaluators.silicon.liberty_power import PowerLibrary
from evaluators.silicon.power import CellPowers, PowerModel, cell_powers
from evaluators.silicon.synthesis import CellGroup, MappedModule, Synthesis
from evaluators.silicon.tables import Floats
from hwlib.frozen import Frozen


class CorePowerError(ValueError):
    """A module or memory of the core for which nothing says what it does."""


class Signals(Frozen):
    """What a simulation records of an instance of a module, in every cycle after the clock edge."""

    ports: dict[str, int]
    """Widths of its input ports, clocks left out."""

    instances: dict[str, dict[str, int]]
    """Widths of the output ports of each instance and macro inside it."""

    outputs: dict[str, int]
    """Widths of its output ports, to be expected of the evaluation."""

    registers: dict[str, int]
    """Widths of its registers, and of other names for their bits; the simulator knows some."""


class SramAccesses(Frozen):
    """Mean accesses of one SRAM macro, all its instances together."""

    reads: float
    """Words read in a cycle."""

    writes: float
    """Words written in a cycle."""


class CorePower(Frozen):
    """Mean power of a core over a window, W. No glitches, no clock tree."""

    logic_w: float
    """Cells and inserted buffers: internal energy away from the clock, and their loads."""

    clock_w: float
    """Flip-flops' energy at clock edges, and the capacitance of their clock pins."""

    sram_w: float
    """Reads and writes of the macros (CACTI 7)."""

    logic_leakage_w: float
    """Leakage of the cells, by their states."""

    sram_leakage_w: float
    """Leakage of the macros (CACTI 7)."""

    by_module_w: dict[str, float]
    """Of `logic_w`, `clock_w` and `logic_leakage_w`, the part of all instances of each module."""

    @property
    def total_w(self) -> float:
        """All parts."""
        dynamic = self.logic_w + self.clock_w + self.sram_w
        return dynamic + self.logic_leakage_w + self.sram_leakage_w


def signals(synthesis: Synthesis, name: str) -> Signals:
    """What must be recorded of an instance of the module called `name`.

    `gates.stimulus` takes the traces of ports, those of outputs for what is expected;
    `gates.register_bits` takes the registers.
    """
    module = synthesis.modules[name]
    outputs = {
        child: {
            port.name.removeprefix("\\"): port.width for port in ports if port.direction == "output"
        }
        for child, ports in synthesis.macros.items()
    }
    outputs |= {
        child.name: {p.name: len(p.bits) for p in child.ports if p.direction == "output"}
        for child in synthesis.modules.values()
    }
    return Signals(
        ports={
            port.name: len(port.bits)
            for port in module.ports
            if port.direction == "input" and not is_clock(port.name)
        },
        instances={
            cell.name: {n: w for n, w in outputs[cell.type].items() if n in cell.connections}
            for cell in module.instances
        },
        outputs={p.name: len(p.bits) for p in module.ports if p.direction == "output"},
        registers={
            name: len(next(iter(module.codes.get(name, {})), nets))
            for name, nets in module.registers.items()
        },
    )


def core_power(
    synthesis: Synthesis,
    assembly: Assembly,
    transition_s: Floats,
    library: Library,
    power: PowerLibrary,
    activities: Mapping[str, Activity],
    accesses: Mapping[str, SramAccesses],
    clock_hz: float,
) -> CorePower:
    """Power of an assembled core.

    Args:
        synthesis: the mapped core.
        assembly: the same, assembled.
        transition_s: transitions of its nets, of `sta.analyze_nets`.
        library: its cells.
        power: their power.
        activities: by distinct module, the activity of its instances.
        accesses: by SRAM macro, how it is used.
        clock_hz: the clock at which it runs.

    Raises:
        CorePowerError: a module with cells has no activity, or a macro no accesses.
        LibertyError: a cell has a power table of a form that is not supported.
    """
    _check(synthesis, assembly, activities, accesses)
    used = {group.type for module in synthesis.modules.values() for group in module.groups}
    model = PowerModel(library, power, [*used, assembly.buffer_cell])
    toggles = np.zeros(assembly.nets)
    duty = np.zeros(assembly.nets)
    parts: dict[str, tuple[CellPowers, int]] = {}
    for name, module in synthesis.modules.items():
        nets = [
            own
            for own, (_, kind) in zip(assembly.instance_nets, assembly.names.instances, strict=True)
            if kind == name
        ]
        if not nets or not module.cell_names:
            continue
        activity = activities[name]
        mean_transition, mean_load = (
            np.mean([figures[own] for own in nets], axis=0)
            for figures in (transition_s, assembly.load_f)
        )
        parts[name] = (
            cell_powers(module, model, activity, mean_transition, mean_load),
            len(nets),
        )
        for own in nets:
            toggles[own] = np.maximum(toggles[own], activity.toggles[2:])
            duty[own] = np.maximum(duty[own], activity.duty[2:])
    if assembly.buffers:
        parts["buffers"] = (
            _buffers(assembly, model, toggles, duty, transition_s),
            1,
        )
    return _sum(synthesis, assembly, parts, accesses, clock_hz)


def _check(
    synthesis: Synthesis,
    assembly: Assembly,
    activities: Mapping[str, Activity],
    accesses: Mapping[str, SramAccesses],
) -> None:
    with_cells = {name for name, module in synthesis.modules.items() if module.cell_names}
    if missing := with_cells - set(activities):
        raise CorePowerError(f"nothing says how module {min(missing)} switches")
    if missing := set(assembly.macros) - set(accesses):
        raise CorePowerError(f"nothing says how often memory {min(missing)} is read and written")


def _buffers(
    assembly: Assembly, model: PowerModel, toggles: Floats, duty: Floats, transition_s: Floats
) -> CellPowers:
    """The inserted buffers as a module of their own; each switches as the net it comes from."""
    buffer = assembly.tables.cells[assembly.buffer_cell]
    rows = assembly.delays[assembly.delays[:, 5] < 0]
    _, first = np.unique(rows[:, 5], return_index=True)
    inputs, outputs = assembly.pin_net[rows[first, 0]], rows[first, 2]
    toggles, duty = toggles.copy(), duty.copy()
    source = dict(zip(outputs.tolist(), inputs.tolist(), strict=True))
    for net in source:
        root = net
        while root in source:
            root = source[root]
        toggles[net], duty[net] = toggles[root], duty[root]
    count = len(inputs)
    module = MappedModule(
        name="buffers",
        ports=(),
        cell_names=tuple(f"buffer {k}" for k in range(count)),
        groups=(
            CellGroup(
                type=assembly.buffer_cell,
                at=tuple(range(count)),
                nets={
                    buffer.inputs[0]: tuple(inputs.tolist()),
                    buffer.outputs[0]: tuple(outputs.tolist()),
                },
            ),
        ),
        instances=(),
        area_um2=assembly.buffer_area_um2,
        leakage_w=0.0,
    )
    shifted = Activity(
        toggles=np.concatenate([[0.0, 0.0], toggles]),
        duty=np.concatenate([[0.0, 1.0], duty]),
        states=None,  # one input: nothing to be correlated with
    )
    return cell_powers(module, model, shifted, transition_s, assembly.load_f)


def _sum(
    synthesis: Synthesis,
    assembly: Assembly,
    parts: Mapping[str, tuple[CellPowers, int]],
    accesses: Mapping[str, SramAccesses],
    clock_hz: float,
) -> CorePower:
    logic_w = clock_w = leakage_w = 0.0
    by_module_w = {}
    for name, (cells, count) in parts.items():
        one = cells.at(clock_hz)
        logic_w += count * (one.internal_w + one.switching_w)
        clock_w += count * (one.clock_internal_w + one.clock_pins_w)
        leakage_w += count * one.leakage_w
        by_module_w[name] = count * one.total_w
    macros = assembly.macros
    return CorePower(
        logic_w=logic_w,
        clock_w=clock_w,
        sram_w=clock_hz
        * sum(
            accesses[name].reads * macro.read_energy_j
            + accesses[name].writes * macro.write_energy_j
            for name, macro in macros.items()
        ),
        logic_leakage_w=leakage_w,
        sram_leakage_w=sum(
            synthesis.counts[name] * macro.leakage_w for name, macro in macros.items()
        ),
        by_module_w=by_module_w,
    )
