"""Power of a mapped module from its switching activity: internal, switching and leakage.

Internal energy comes from the library's tables per pin, related pin and condition, at the
transition of the net at that pin and the load of the output. An output's toggles are shared among
its tables by how often each related pin switches while the output follows it. A flip-flop's clock
pin switches twice a cycle, in the state before the rising edge and in that after it; its data pins
switch while the clock is high. Switching energy is C V^2 / 2 an edge, C the larger of the rising
and falling load. Leakage is that of each state by its share of time.

With the states of an `Activity` the pins of a cell count together, as they were simulated. Without
them each pin counts as independent of the others, as OpenSTA does it, Q and QN of one flip-flop
included: half of the probability then falls on states that do not exist, and with it half of the
clock's energy. So that form is for comparisons only.

No glitches, no clock tree: the clock's own wire and buffers are not in the netlist.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evaluators.silicon.boolean import parse, pins, truth
from evaluators.silicon.gates import Activity, places, variables
from evaluators.silicon.liberty import Cell, LibertyError, Library
from evaluators.silicon.liberty_power import CellPower, InternalEnergy, PowerLibrary
from evaluators.silicon.synthesis import MappedModule
from evaluators.silicon.tables import Floats, Ints, Tables, TableStack
from hwlib.frozen import Frozen

CLOCK_TRANSITION_S = 0.0
"""Transition time at the clock pins: the clock is ideal, as in timing."""


NOISE = 0.05
"""Share by which the two edges of a pin may miss energy 0 from below. One edge alone may give back
what the other took; a cycle of both cannot, beyond the noise of characterisation."""


class Power(Frozen):
    """Power of some cells by part, W."""

    internal_w: float
    """Inside the cells, at edges of their pins; those of clock pins left out."""

    clock_internal_w: float
    """Inside flip-flops at edges of their clock pins."""

    clock_pins_w: float
    """Capacitance of clock pins, charged by the clock; its wire and buffers are not there."""

    switching_w: float
    """Loads charged by the cells' outputs."""

    leakage_w: float
    """Without any switching."""

    @property
    def total_w(self) -> float:
        """All parts."""
        return sum(self.model_dump().values(), 0.0)


@dataclass(frozen=True)
class CellPowers:
    """Energy in a cycle, and leakage, of each cell of a module, in the order of their names."""

    internal_j: Floats
    """[cells] at edges of pins, clock pins left out."""

    clock_internal_j: Floats
    """[cells] at edges of clock pins."""

    clock_pins_j: Floats
    """[cells] capacitance of clock pins."""

    switching_j: Floats
    """[cells] loads of the outputs."""

    leakage_w: Floats
    """[cells] leakage power."""

    sequential: Ints
    """[cells] 1 for flip-flops."""

    def at(self, clock_hz: float, which: Ints | None = None) -> Power:
        """The sum over cells (those where `which` is not 0) at a clock frequency."""
        chosen = slice(None) if which is None else which != 0
        return Power(
            internal_w=float(self.internal_j[chosen].sum()) * clock_hz,
            clock_internal_w=float(self.clock_internal_j[chosen].sum()) * clock_hz,
            clock_pins_w=float(self.clock_pins_j[chosen].sum()) * clock_hz,
            switching_w=float(self.switching_j[chosen].sum()) * clock_hz,
            leakage_w=float(self.leakage_w[chosen].sum()),
        )


class PowerModel:
    """The power tables of some of a library's cells, ready for many look-ups."""

    def __init__(self, library: Library, power: PowerLibrary, cells: Sequence[str]) -> None:
        """Compiles the tables of `cells`.

        Raises:
            LibertyError: a cell is unknown, or has a table of a form that is not supported.
        """
        self.voltage_v = power.voltage_v
        stack = TableStack()
        self.cells = {
            name: _CellModel(name, library.cell(name), power.cell(name), stack)
            for name in sorted(set(cells))
        }
        self._stack = stack

    @cached_property
    def tables(self) -> Tables:
        """All tables."""
        return self._stack.tables()


def cell_powers(
    module: MappedModule,
    model: PowerModel,
    activity: Activity,
    transition_s: Floats,
    load_f: Floats,
) -> CellPowers:
    """Power of each library cell of a module; instances of other modules are left out.

    Args:
        module: the mapped module.
        model: tables of its cells.
        activity: what switches.
        transition_s: [nets, 2] by number in the module: transition of the net's rise and fall.
        load_f: [nets, 2] load on the net, pins and wire.
    """
    cells = len(module.cell_names)
    result = CellPowers(
        internal_j=np.zeros(cells),
        clock_internal_j=np.zeros(cells),
        clock_pins_j=np.zeros(cells),
        switching_j=np.zeros(cells),
        leakage_w=np.zeros(cells),
        sequential=np.zeros(cells, dtype=np.int64),
    )
    # Rows for the two constants, which come first in arrays over nets.
    transition_s = np.concatenate([np.zeros((2, 2)), transition_s])
    load_f = np.concatenate([np.zeros((2, 2)), load_f])
    for k, group in enumerate(module.groups):
        at = list(group.at)
        cell = model.cells[group.type]
        columns = {pin: places(nets) for pin, nets in group.nets.items()}
        states = None if activity.states is None else activity.states[k]
        of = _Group(cell, columns, activity, states, transition_s, load_f)
        result.internal_j[at] = of.energy_j(model.tables, cell.data_energies)
        result.clock_internal_j[at] = of.energy_j(model.tables, cell.clock_energies)
        result.clock_pins_j[at] = cell.clock_pins_f * model.voltage_v**2
        result.switching_j[at] = of.switching_j(model.voltage_v)
        result.leakage_w[at] = of.leakage_w()
        result.sequential[at] = cell.cell.sequential
    return result


@dataclass(frozen=True)
class _Energy:
    """An internal energy with the numbers of its tables."""

    of: InternalEnergy
    rise: int
    fall: int
    holds: Floats
    """[2 ** basis] whether `when` holds, and for an output's table whether the output follows."""
    holds_at_high_clock: Floats
    """The same with the clock known to be high."""
    rises: float
    """Share of the related pin's rises among the edges that make the output rise."""


class _CellModel:
    """One cell type. Its basis are the pins that its states are told by: data inputs, and the
    outputs of a flip-flop; bit k of a state is the k-th of them."""

    def __init__(self, name: str, cell: Cell, power: CellPower, stack: TableStack) -> None:
        self.name = name
        self.cell = cell
        self.inputs = tuple(
            n for n, pin in cell.pins.items() if pin.direction == "input" and not pin.clock
        )
        self.outputs = tuple(n for n, pin in cell.pins.items() if pin.direction == "output")
        self.clocks = tuple(n for n, pin in cell.pins.items() if pin.clock)
        if cell.sequential != (len(self.clocks) == 1) or cell.sequential != bool(cell.flip_flop):
            raise LibertyError(
                f"power of {name}: of cells with a state only flip-flops with one "
                "clock are supported"
            )
        self.basis = (*self.inputs, *self.outputs) if cell.sequential else self.inputs
        self.clock_pins_f = sum(
            max(cell.pins[n].rise_capacitance_f, cell.pins[n].fall_capacitance_f)
            for n in self.clocks
        )
        self.mean_leakage_w = power.mean_leakage_w
        self.leakage = tuple((self.holds(leak.when), leak.power_w) for leak in power.leakage)
        energies = [self._energy(energy, stack) for energy in power.energies]
        self.clock_energies = tuple(e for e in energies if e.of.pin in self.clocks)
        self.data_energies = tuple(e for e in energies if e.of.pin not in self.clocks)

    def holds(self, text: str, clock: float = 0.5) -> Floats:
        """[2 ** basis] whether a function holds, for a clock that is high this share of time."""
        if unknown := pins(parse(text)) - {*self.basis, *self.clocks}:
            raise LibertyError(
                f"power of {self.name}: condition {text!r} reads {min(unknown)}, "
                "which is none of the pins that tell the cell's state"
            )
        by_clock = truth(text, (*self.basis, *self.clocks)).reshape(-1, 2 ** len(self.basis))
        shares = (1 - clock, clock) if self.clocks else (1.0,)
        held: Floats = np.array(shares) @ by_clock
        return held

    def _energy(self, energy: InternalEnergy, stack: TableStack) -> _Energy:
        is_output = energy.pin in self.outputs
        if energy.pin not in self.cell.pins or is_output != bool(energy.related_pin):
            raise LibertyError(
                f"power of {self.name}: an output's table has a related_pin and an input's has "
                f"none; pin {energy.pin} has {energy.related_pin or 'none'}"
            )
        rise, fall = (np.array(table.values).mean() for table in (energy.rise, energy.fall))
        if rise + fall < -NOISE * (abs(rise) + abs(fall)):
            raise LibertyError(
                f"power of {self.name}: a rise and a fall of {energy.pin} give energy back, "
                f"{rise + fall:.2g} J together; a table has the wrong sign"
            )
        follows, rises = np.ones(2 ** len(self.basis)), 0.5
        if energy.related_pin in self.inputs and not self.cell.sequential:
            value = truth(self.cell.pins[energy.pin].function, self.basis)
            states = np.arange(len(value))
            bit = 1 << self.basis.index(energy.related_pin)
            follows = (value != value[states ^ bit]).astype(np.float64)
            enabled = follows * self.holds(energy.when or "1")
            high = (states & bit) != 0
            if enabled.sum():
                rises = float(enabled[high & value].sum() / enabled[high].sum())
        return _Energy(
            of=energy,
            rise=stack.add(energy.rise),
            fall=stack.add(energy.fall),
            holds=follows * self.holds(energy.when or "1"),
            holds_at_high_clock=follows * self.holds(energy.when or "1", clock=1.0),
            rises=rises,
        )

    def spread(self) -> Floats:
        """[2 ** variables, 2 ** basis] 1 where a state of the cell shows as a state of its pins."""
        names = variables(self.cell)
        states = np.arange(2 ** len(names))
        shown = np.zeros(len(states), dtype=np.int64)
        flip_flop = self.cell.flip_flop
        for k, pin in enumerate(self.basis):
            if pin in names:
                value = states >> names.index(pin) & 1
            else:
                assert flip_flop is not None
                known = truth(
                    self.cell.pins[pin].function, (flip_flop.state, flip_flop.inverted_state)
                )
                state = states >> names.index(flip_flop.state) & 1
                value = known[state | (1 - state) << 1]
            shown |= value.astype(np.int64) << k
        return np.eye(2 ** len(self.basis))[shown]


class _Group:
    """Cells of one type with the same pins connected."""

    def __init__(
        self,
        model: _CellModel,
        columns: dict[str, Ints],
        activity: Activity,
        states: Floats | None,
        transition_s: Floats,
        load_f: Floats,
    ) -> None:
        self.model = model
        self.joint = states is not None
        cells = len(next(iter(columns.values())))
        self.transition_s = {pin: transition_s[nets] for pin, nets in columns.items()}
        self.load_f = {pin: load_f[nets].max(axis=1) for pin, nets in columns.items()}
        self.toggles = {pin: activity.toggles[nets] for pin, nets in columns.items()}
        duty = {pin: activity.duty[nets] for pin, nets in columns.items()}
        for pin in model.clocks:
            self.toggles[pin] = np.full(cells, 2.0)
            self.transition_s[pin] = np.full((cells, 2), CLOCK_TRANSITION_S)
        for pin in model.outputs:
            if pin not in columns:
                self._open(pin, duty)
        if states is None:
            self.states = np.ones((cells, 1))
            for pin in model.basis:  # each further pin is a higher bit
                high = duty[pin][:, None]
                self.states = np.concatenate([self.states * (1 - high), self.states * high], axis=1)
        else:
            self.states = states @ model.spread() if model.cell.sequential else states

    def _open(self, pin: str, duty: dict[str, Floats]) -> None:
        """An output without a net: that of a flip-flop switches with the state, unloaded."""
        other = next((name for name in self.model.outputs if name in duty), None)
        if not self.model.cell.sequential or other is None:
            raise LibertyError(f"power of {self.model.name}: output {pin} is open")
        self.toggles[pin] = self.toggles[other]
        same = self.model.cell.pins[pin].function == self.model.cell.pins[other].function
        duty[pin] = duty[other] if same else 1 - duty[other]
        self.load_f[pin] = np.zeros_like(duty[pin])

    def energy_j(self, tables: Tables, energies: Sequence[_Energy]) -> Floats:
        """[cells] energy of a cycle by these tables."""
        total = np.zeros(len(self.states))
        for pin in dict.fromkeys(energy.of.pin for energy in energies):
            own = [energy for energy in energies if energy.of.pin == pin]
            edges = self.toggles[pin] / 2
            shares = (
                self._shares(own)
                if pin in self.model.outputs
                else [self.states @ (e.holds_at_high_clock if self.joint else e.holds) for e in own]
            )
            for energy, share in zip(own, shares, strict=True):
                for table, transition, load in self._points(energy):
                    value = tables.look_up(np.full(len(total), table), transition, load)[:, 0]
                    total += edges * share * value
        return total

    def _shares(self, energies: list[_Energy]) -> list[Floats]:
        """The part of each table in the toggles of an output; they add up to 1."""
        weights = np.stack(
            [self.toggles[e.of.related_pin] * (self.states @ e.holds) for e in energies]
        )
        # Where pins switched only together no state follows one of them alone.
        together = np.stack([self.toggles[e.of.related_pin] for e in energies])
        weights = np.where(weights.sum(axis=0) > 0, weights, together)
        total = weights.sum(axis=0)
        return list(weights / np.where(total > 0, total, 1.0))

    def _points(self, energy: _Energy) -> list[tuple[int, Floats, Floats]]:
        """Table, transition and load of a rise and of a fall."""
        pin, related = energy.of.pin, energy.of.related_pin
        if not related:
            at = self.transition_s[pin]
            return [
                (energy.rise, at[:, 0], np.zeros(len(at))),
                (energy.fall, at[:, 1], np.zeros(len(at))),
            ]
        rise, fall = self.transition_s[related].T
        load = self.load_f[pin]
        return [
            (energy.rise, energy.rises * rise + (1 - energy.rises) * fall, load),
            (energy.fall, energy.rises * fall + (1 - energy.rises) * rise, load),
        ]

    def switching_j(self, voltage_v: float) -> Floats:
        """[cells] energy of a cycle into the loads of the outputs."""
        total = np.zeros(len(self.states))
        for pin in self.model.outputs:
            total += 0.5 * self.load_f[pin] * voltage_v**2 * self.toggles[pin]
        return total

    def leakage_w(self) -> Floats:
        """[cells] leakage; states that the library does not list have its mean."""
        total = np.zeros(len(self.states))
        listed = np.zeros(len(self.states))
        for holds, power_w in self.model.leakage:
            share = self.states @ holds
            total += share * power_w
            listed += share
        rest = np.clip(1 - listed, 0, 1)
        if self.model.mean_leakage_w is not None:
            return total + rest * self.model.mean_leakage_w
        if (rest > 1e-6).any():
            raise LibertyError(f"power of {self.model.name}: no leakage in some of its states")
        return total
