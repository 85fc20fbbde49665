"""Switching activity: a mapped module evaluated gate by gate, without delays, over many cycles.

First the registers: cycle by cycle, all lanes at once as the bits of one Python integer, through
straight-line code made from the cells' functions. Then all nets: with the registers known nothing
feeds back, so each level of gates is a few operations on words of 64 cycles. Lanes are sequences
side by side: equal instances, or windows of a run.

There are no glitches. Every net takes its new value just after the clock edge, ports included. A
clear or preset acts at the next edge, also where the cell's would act at once; clear is the
stronger.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.silicon.boolean import function, parse, source
from evaluators.silicon.liberty import Cell, FlipFlop, Library
from evaluators.silicon.synthesis import Bit, CellGroup, MappedModule
from evaluators.silicon.tables import Floats, Ints

Bits = NDArray[np.bool_]
Words = NDArray[np.uint64]

ONES = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
CONSTANTS = {"0": 0, "1": 1, "x": 0}
"""Where the constants stand in arrays over nets; net n stands at n + 2."""


class GatesError(ValueError):
    """A module that cannot be evaluated so, or a stimulus that does not fit it."""


def places(bits: Sequence[Bit]) -> Ints:
    """Where nets stand in arrays over nets."""
    return np.array([CONSTANTS[b] if isinstance(b, str) else b + 2 for b in bits], dtype=np.int64)


@dataclass(frozen=True)
class Activity:
    """What switched, on average over cycles and lanes."""

    toggles: Floats
    """[nets] edges in a cycle, at `places`."""

    duty: Floats
    """[nets] share of time at 1."""

    states: tuple[Floats, ...] | None
    """For each of the module's groups, [cells, 2 ** n]: share of cycles in each state; bit k of the
    state is the k-th of `variables`. None where only nets are known: pins then count as
    independent of each other."""

    unsettled: int = 0
    """Registers that depended on the unknown start; both starts then count half."""

    def of_nets(self) -> "Activity":
        """The same without the states of cells."""
        return Activity(self.toggles, self.duty, None, self.unsettled)


def variables(cell: Cell) -> tuple[str, ...]:
    """What the state of a cell consists of: its inputs without clocks, then its flip-flop."""
    names = [n for n, pin in cell.pins.items() if pin.direction == "input" and not pin.clock]
    return (*names, cell.flip_flop.state) if cell.flip_flop else tuple(names)


def net_count(module: MappedModule) -> int:
    """Length of an array over the nets of a module."""
    rows = [bits for port in module.ports for bits in [port.bits]]
    rows += [nets for group in module.groups for nets in group.nets.values()]
    rows += [bits for cell in module.instances for bits in cell.connections.values()]
    return int(max((places(row).max(initial=1) for row in rows), default=1)) + 1


def uniform_activity(module: MappedModule, toggles: float, duty: float) -> Activity:
    """The same activity on every net, pins independent of each other."""
    nets = net_count(module)
    activity = Activity(np.full(nets, toggles), np.full(nets, duty), None)
    activity.toggles[:2] = 0.0
    activity.duty[:2] = (0.0, 1.0)
    return activity


def integer_bits(values: Sequence[int], width: int) -> Bits:
    """[cycles, 1, width] of a sequence of integers; negative ones in two's complement."""
    size = -(-width // 8)
    mask = (1 << width) - 1
    packed = b"".join((value & mask).to_bytes(size, "little") for value in values)
    rows = np.frombuffer(packed, dtype=np.uint8).reshape(len(values), size)
    bits = np.unpackbits(rows, axis=1, count=width, bitorder="little")
    return bits.astype(np.bool_)[:, None, :]


def stimulus(
    module: MappedModule,
    ports: Mapping[str, Bits],
    instances: Mapping[str, Mapping[str, Bits]] | None = None,
) -> dict[int, Bits]:
    """What `evaluate` takes, from traces of ports.

    Args:
        module: the mapped module.
        ports: by input port, [cycles, lanes, width] its value in each cycle.
        instances: by instance in the module and its output port, the same.

    Raises:
        GatesError: the module has no such port or instance, or a width differs.
    """
    own = {port.name: port.bits for port in module.ports}
    inner = {cell.name: cell.connections for cell in module.instances}
    given = [(name, own.get(name), bits) for name, bits in ports.items()]
    given += [
        (f"{instance}.{name}", inner.get(instance, {}).get(name), bits)
        for instance, outputs in (instances or {}).items()
        for name, bits in outputs.items()
    ]
    found: dict[int, Bits] = {}
    for name, nets, bits in given:
        if nets is None:
            raise GatesError(f"{module.name} has no port {name}")
        if bits.shape[2] != len(nets):
            raise GatesError(f"{module.name}: {name} has {len(nets)} bits, not {bits.shape[2]}")
        found |= {net: bits[:, :, k] for k, net in enumerate(nets) if not isinstance(net, str)}
    return found


def register_bits(module: MappedModule, registers: Mapping[str, Bits]) -> dict[int, Bits]:
    """Registers for `evaluate_traced`, from signals of the source.

    State machines to which Yosys gave other codes are given in those of the source.

    Args:
        module: the mapped module.
        registers: by name in the source, [cycles, lanes, width].

    Raises:
        GatesError: the module has no register of that name, its width differs, or a state machine
            is in no state.
    """
    found: dict[int, Bits] = {}
    for name, bits in registers.items():
        nets = module.registers.get(name)
        if nets is None:
            raise GatesError(f"{module.name} has no register {name}")
        if name in module.codes:
            bits = _recoded(f"{module.name}: {name}", module.codes[name], bits)
        if bits.shape[2] != len(nets):
            raise GatesError(f"{module.name}: {name} has {len(nets)} bits, not {bits.shape[2]}")
        found |= {net: bits[:, :, k] for k, net in enumerate(nets) if not isinstance(net, str)}
    return found


def _recoded(name: str, codes: Mapping[str, str], bits: Bits) -> Bits:
    """[cycles, lanes, width] in the codes of the source to those of the mapped module."""
    cycles, lanes, width = bits.shape
    rows, place = np.unique(bits.reshape(-1, width), axis=0, return_inverse=True)
    new = []
    for row in rows:
        old = "".join("01"[int(bit)] for bit in row[::-1])  # highest bit first
        if old not in codes:
            raise GatesError(f"{name} is a state machine that has no state {old}")
        new.append([bit == "1" for bit in codes[old][::-1]])
    recoded: Bits = np.array(new, dtype=np.bool_)[place.reshape(-1)]
    return recoded.reshape(cycles, lanes, -1)


def evaluate(
    module: MappedModule,
    library: Library,
    stimulus: Mapping[int, Bits],
    run_in: int,
    unsettled: int = 0,
    expected: Mapping[int, Bits] | None = None,
) -> Activity:
    """The activity of a module under a stimulus.

    The state at the start is unknown: the run is made from all registers at 0 and from all at 1,
    and after the run-in both must agree in all of them but `unsettled`.

    Args:
        module: the mapped module; instances of other modules are left out, their outputs are
            inputs here.
        library: functions of its cells.
        stimulus: by net, [cycles, lanes]: its value in each cycle, for every net that no cell of
            the module drives, clocks left out.
        run_in: cycles at the start that are not counted.
        unsettled: registers that may still depend on the start, such as settings written once.
        expected: by net, [cycles, lanes]: values that must come out after the run-in, such as the
            traces of output ports; they tell whether the netlist is in the state of the run.

    Raises:
        GatesError: a net has no stimulus, a cell is a latch, a clock is gated, gates form a loop,
            registers are still unknown after the run-in, or other values come out than expected.
    """
    gates = _Gates(module, library)
    cycles, lanes = gates.check(stimulus)
    if cycles - run_in < 2:
        raise GatesError(f"{cycles} cycles with a run-in of {run_in} leave nothing to count")
    registers, found = gates.run(stimulus, cycles, lanes, run_in) if gates.registers else ({}, 0)
    if found > unsettled:
        raise GatesError(
            f"{module.name}: {found} registers depend on the unknown start after {run_in} cycles; "
            "reset the module in its run-in, lengthen it, or allow as many unsettled"
        )
    known = {net + 2: bits[run_in:] for net, bits in stimulus.items()}
    outputs = {net + 2: bits[run_in:] for net, bits in (expected or {}).items()}
    if found:  # lanes from both starts
        known, outputs = (
            {net: np.concatenate([bits, bits], axis=1) for net, bits in traces.items()}
            for traces in (known, outputs)
        )
        lanes *= 2
    else:
        registers = {net: bits[:, :lanes] for net, bits in registers.items()}
    activity = gates.count(known | registers, outputs, cycles - run_in, lanes)
    return replace(activity, unsettled=found)


def evaluate_traced(
    module: MappedModule,
    library: Library,
    stimulus: Mapping[int, Bits],
    registers: Mapping[int, Bits],
    expected: Mapping[int, Bits],
) -> Activity:
    """The activity of a module of which a simulation of the source traced every register.

    With the registers known nothing feeds back, and no cycle waits for the one before it. What the
    netlist makes of a cycle is held to the next: so every cycle compares the netlist with its
    source, in the state that the source is in.

    Args:
        module: the mapped module, as for `evaluate`.
        library: functions of its cells.
        stimulus: by net, [cycles, lanes]: its value in each cycle, as for `evaluate`.
        registers: by net of a register's output, [cycles, lanes] its value in each cycle; of each
            register that a cell holds, one output.
        expected: by net, [cycles, lanes]: values that must come out.

    Raises:
        GatesError: a net has no stimulus, a register no trace, a cell is a latch, a clock is gated,
            gates form a loop, a value or a register's next value is not what was traced, or there
            are less than two cycles.
    """
    gates = _Gates(module, library)
    cycles, lanes = gates.check(stimulus)
    if cycles < 2:
        raise GatesError(f"{module.name}: a trace needs two cycles, not {cycles}")
    known = {net + 2: bits for net, bits in stimulus.items()} | gates.traced(registers)
    outputs = {net + 2: bits for net, bits in expected.items()}
    return gates.count(known, outputs, cycles, lanes, follow=True)


@dataclass(frozen=True)
class _Step:
    """Gates of one type on one level."""

    evaluate: Callable[..., Any]
    inputs: Ints  # [pins, gates]
    output: Ints  # [gates]


@dataclass(frozen=True)
class _Gate:
    text: str
    arguments: tuple[str, ...]
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True)
class _Register:
    cell: Cell
    flip_flop: FlipFlop
    data: dict[str, int]
    outputs: dict[str, int]


class _Gates:
    """The gates and registers of a module, in order of evaluation."""

    def __init__(self, module: MappedModule, library: Library) -> None:
        self.module = module
        self.nets = net_count(module)
        self.kinds = [library.cell(group.type) for group in module.groups]
        self.gates: list[_Gate] = []
        self.registers: list[_Register] = []
        self.columns = [{p: places(n) for p, n in group.nets.items()} for group in module.groups]
        self.clocks: set[int] = set()
        for group, kind, columns in zip(module.groups, self.kinds, self.columns, strict=True):
            self._add(group, kind, {pin: nets.tolist() for pin, nets in columns.items()})
        self.driven = {gate.output for gate in self.gates}
        self.driven |= {net for r in self.registers for net in r.outputs.values()}
        if gated := self.clocks & self.driven:
            raise GatesError(f"{module.name}: clock net {min(gated) - 2} comes from a cell")
        self.levels = self._levels()

    def _add(self, group: CellGroup, kind: Cell, columns: dict[str, list[int]]) -> None:
        name = f"{self.module.name}: cell {self.module.cell_names[group.at[0]]}, a {group.type},"
        flip_flop = kind.flip_flop
        if kind.sequential and flip_flop is None:
            raise GatesError(f"{name} is no flip-flop; latches and clock gates are not evaluated")
        outputs = [pin for pin in columns if kind.pins[pin].direction == "output"]
        inputs = tuple(
            n for n, pin in kind.pins.items() if pin.direction == "input" and not pin.clock
        )
        if missing := set(inputs) - set(columns):
            raise GatesError(f"{name} has an open input {min(missing)}")
        if flip_flop is None:
            for pin in outputs:
                text = kind.pins[pin].function
                if not text:
                    raise GatesError(f"{name} has no function at {pin}")
                ordered = zip(*(columns[n] for n in inputs), strict=True) if inputs else ()
                rows = list(ordered) or [()] * len(group.at)
                for row, output in zip(rows, columns[pin], strict=True):
                    self.gates.append(_Gate(text, inputs, row, output))
            return
        if flip_flop.clocked_on not in columns:
            raise GatesError(f"{name} is not clocked by the rise of a pin")
        self.clocks |= set(columns[flip_flop.clocked_on])
        for k in range(len(group.at)):
            data = {pin: columns[pin][k] for pin in inputs}
            self.registers.append(
                _Register(kind, flip_flop, data, {pin: columns[pin][k] for pin in outputs})
            )

    def _levels(self) -> list[list[_Gate]]:
        """Gates by their distance from ports and registers."""
        driver = {gate.output: k for k, gate in enumerate(self.gates)}
        waiting = [sum(net in driver for net in set(gate.inputs)) for gate in self.gates]
        followers: dict[int, list[int]] = {}
        for k, gate in enumerate(self.gates):
            for net in set(gate.inputs):
                followers.setdefault(net, []).append(k)
        front = [k for k, count in enumerate(waiting) if count == 0]
        levels = []
        while front:
            levels.append([self.gates[k] for k in front])
            reached = []
            for k in front:
                for follower in followers.get(self.gates[k].output, ()):
                    waiting[follower] -= 1
                    if waiting[follower] == 0:
                        reached.append(follower)
            front = reached
        if sum(map(len, levels)) < len(self.gates):
            raise GatesError(f"{self.module.name} has a combinational loop")
        return levels

    def check(self, stimulus: Mapping[int, Bits]) -> tuple[int, int]:
        """Cycles and lanes of a stimulus that gives every net that it must."""
        given = {net + 2 for net in stimulus}
        if twice := given & self.driven:
            raise GatesError(f"{self.module.name}: net {min(twice) - 2} has a cell that drives it")
        read = {net for gate in self.gates for net in gate.inputs}
        read |= {net for register in self.registers for net in register.data.values()}
        if missing := read - given - self.driven - {0, 1}:
            raise GatesError(
                f"{self.module.name}: nothing gives net {min(missing) - 2}; a stimulus is needed "
                "for every input port and every output of an instance"
            )
        shapes = {bits.shape for bits in stimulus.values()} or {(0, 0)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 2:
            raise GatesError("every net of a stimulus has the same [cycles, lanes]")
        cycles, lanes = next(iter(shapes))
        return cycles, lanes

    # ---- registers, as they were traced ----

    def traced(self, registers: Mapping[int, Bits]) -> dict[int, Bits]:
        """By place, the values of both outputs of each register."""
        known = {}
        for register in self.registers:
            flip_flop = register.flip_flop
            names = (flip_flop.state, flip_flop.inverted_state)
            state = None
            for pin, net in register.outputs.items():
                if (bits := registers.get(net - 2)) is not None:
                    text = register.cell.pins[pin].function
                    state = ~bits if text == flip_flop.inverted_state else bits
            if state is None:
                net = min(register.outputs.values()) - 2
                raise GatesError(f"{self.module.name}: nothing traces the register of net {net}")
            for pin, net in register.outputs.items():
                text = register.cell.pins[pin].function
                known[net] = function(text, names)(np.True_, state, ~state)
        return known

    def _follow(self, words: Words, per_lane: int, cycles: int) -> None:
        """Holds what the netlist makes of each cycle to the registers of the next."""
        valid = _words(np.arange(per_lane * 64)[:, None] < cycles - 1)
        for group, kind, columns in zip(self.module.groups, self.kinds, self.columns, strict=True):
            if kind.flip_flop is None:
                continue
            names = (*variables(kind), kind.flip_flop.inverted_state)
            values = [self._variable(kind, name, columns, words) for name in variables(kind)]
            values.append(~values[-1])
            following = function(_next_state(kind.flip_flop), names)(ONES, *values)
            lanes = (following ^ _next_cycle(values[-2], per_lane)).reshape(
                len(following), -1, per_lane
            )
            wrong = (lanes & valid).any(axis=(1, 2))
            if wrong.any():
                pin = next(pin for pin in columns if kind.pins[pin].direction == "output")
                net = int(columns[pin][np.flatnonzero(wrong)[0]]) - 2
                raise GatesError(
                    f"{self.module.name}: the netlist gives {int(wrong.sum())} of {len(wrong)} "
                    f"{group.type} another value than their traces, that of net {net} first"
                )

    # ---- registers, cycle by cycle ----

    def run(
        self,
        stimulus: Mapping[int, Bits],
        cycles: int,
        lanes: int,
        run_in: int,
    ) -> tuple[dict[int, Bits], int]:
        """By place of a register's output, [cycles counted, 2 * lanes] from both starts; and how
        many registers still differ between them in the first cycle counted."""
        nets = sorted(stimulus)
        # Twice as many lanes: the same run from all 0 and from all 1.
        rows = [_integers(np.concatenate([stimulus[net]] * 2, axis=1)) for net in nets]
        width = 2 * lanes
        ones = (1 << width) - 1
        state = ((1 << lanes) - 1 << lanes,) * len(self.registers)
        cycle = self._cycle([net + 2 for net in nets])
        history = []
        for inputs in zip(*rows, strict=True) if rows else itertools.repeat((), cycles):
            history.append(state)
            state = cycle(ones, state, inputs)
        columns = list(zip(*history[run_in:], strict=True))
        low = (1 << lanes) - 1
        unsettled = sum((column[0] & low) != column[0] >> lanes for column in columns)
        known = {}
        for register, column in zip(self.registers, columns, strict=True):
            bits = _bits(list(column), width)
            flip_flop = register.flip_flop
            for pin, net in register.outputs.items():
                names = (flip_flop.state, flip_flop.inverted_state)
                known[net] = function(register.cell.pins[pin].function, names)(
                    np.True_, bits, ~bits
                )
        return known, unsettled

    def _cycle(self, given: list[int]) -> Callable[..., tuple[int, ...]]:
        """The next state as straight-line code: `cycle(M, state, inputs)`."""
        lines = []
        if given:
            lines.append(f"{', '.join(f'n{net}' for net in given)}, = inputs")
        lines.append(f"{', '.join(f's{k}' for k in range(len(self.registers)))}, = state")
        for k, register in enumerate(self.registers):
            flip_flop = register.flip_flop
            names = {flip_flop.state: f"s{k}", flip_flop.inverted_state: f"(M ^ s{k})"}
            for pin, net in register.outputs.items():
                lines.append(f"n{net} = {source(parse(register.cell.pins[pin].function), names)}")
        needed = self._needed()
        for gate in itertools.chain.from_iterable(self.levels):
            if gate.output in needed:
                names = {n: f"n{net}" for n, net in zip(gate.arguments, gate.inputs, strict=True)}
                lines.append(f"n{gate.output} = {source(parse(gate.text), names)}")
        following = []
        for k, register in enumerate(self.registers):
            flip_flop = register.flip_flop
            names = {pin: f"n{net}" for pin, net in register.data.items()}
            names |= {flip_flop.state: f"s{k}", flip_flop.inverted_state: f"(M ^ s{k})"}
            following.append(source(parse(_next_state(flip_flop)), names))
        lines.append(f"return {', '.join(following)},")
        body = "\n ".join(["def cycle(M, state, inputs):", "n0 = 0", "n1 = M", *lines])
        scope: dict[str, Any] = {}
        exec(body, scope)
        compiled: Callable[..., tuple[int, ...]] = scope["cycle"]
        return compiled

    def _needed(self) -> set[int]:
        """Outputs of gates that a register's next state depends on."""
        needed = {net for register in self.registers for net in register.data.values()}
        for level in reversed(self.levels):
            for gate in level:
                if gate.output in needed:
                    needed.update(gate.inputs)
        return needed

    # ---- all nets, 64 cycles a word ----

    def count(
        self,
        known: Mapping[int, Bits],
        expected: Mapping[int, Bits],
        cycles: int,
        lanes: int,
        follow: bool = False,
    ) -> Activity:
        """Evaluates all gates and counts; with `follow` holds each register to its next value."""
        per_lane = -(-cycles // 64)
        words = np.zeros((self.nets, lanes * per_lane), dtype=np.uint64)
        words[1] = ONES
        if known:
            words[list(known)] = _words(np.stack(list(known.values())))
        for step in itertools.chain.from_iterable(map(_steps, self.levels)):
            words[step.output] = step.evaluate(ONES, *words[step.inputs])
        valid = np.tile(_words(np.ones((cycles, 1), dtype=np.bool_)), lanes)
        self._hold(words, valid, expected)
        if follow:
            self._follow(words, per_lane, cycles)
        total = cycles * lanes
        return Activity(
            toggles=_toggles(words, per_lane, cycles) / ((cycles - 1) * lanes),
            duty=np.bitwise_count(words & valid).sum(axis=1) / total,
            states=tuple(
                self._states(kind, columns, words, valid) / total
                for kind, columns in zip(self.kinds, self.columns, strict=True)
            ),
        )

    def _hold(self, words: Words, valid: Words, expected: Mapping[int, Bits]) -> None:
        if not expected:
            return
        nets = np.array(list(expected))
        traces = _words(np.stack(list(expected.values())))
        wrong = nets[((words[nets] ^ traces) & valid).any(axis=1)]
        if len(wrong):
            raise GatesError(
                f"{self.module.name}: {len(wrong)} of {len(expected)} nets differ from their "
                f"traces, net {wrong.min() - 2} first; lengthen the run-in, or compare the netlists"
            )

    def _states(self, kind: Cell, columns: dict[str, Ints], words: Words, valid: Words) -> Floats:
        """[cells, 2 ** n] cycles in each state of the cells of a group."""
        cells = len(next(iter(columns.values())))
        partial = [np.broadcast_to(valid, (cells, len(valid)))]
        for name in variables(kind):
            value = self._variable(kind, name, columns, words)
            partial = [part & ~value for part in partial] + [part & value for part in partial]
        return np.stack([np.bitwise_count(part).sum(axis=1) for part in partial], axis=1)

    def _variable(self, kind: Cell, name: str, columns: dict[str, Ints], words: Words) -> Words:
        if name in columns:
            values: Words = words[columns[name]]
            return values
        # The state of a flip-flop: any of its outputs tells it.
        assert kind.flip_flop is not None
        for pin, nets in columns.items():
            text = kind.pins[pin].function
            if text == kind.flip_flop.state:
                return words[nets]
            if text == kind.flip_flop.inverted_state:
                return ~words[nets]
        raise GatesError(f"{self.module.name}: a flip-flop has no output")


def _steps(level: list[_Gate]) -> list[_Step]:
    by_function: dict[tuple[str, tuple[str, ...]], list[_Gate]] = {}
    for gate in level:
        by_function.setdefault((gate.text, gate.arguments), []).append(gate)
    return [
        _Step(
            function(text, arguments),
            np.array([gate.inputs for gate in gates], dtype=np.int64).T,
            np.array([gate.output for gate in gates], dtype=np.int64),
        )
        for (text, arguments), gates in by_function.items()
    ]


def _next_state(flip_flop: FlipFlop) -> str:
    """What a clock edge leaves, as a Liberty function."""
    text = f"({flip_flop.next_state})"
    if flip_flop.preset:
        text = f"({text}|({flip_flop.preset}))"
    return f"({text}&!({flip_flop.clear}))" if flip_flop.clear else text


def _integers(bits: Bits) -> list[int]:
    """[cycles, lanes] as one integer a cycle, lane k at bit k."""
    packed = np.packbits(bits, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def _bits(values: list[int], lanes: int) -> Bits:
    """The inverse of `_integers`."""
    size = -(-lanes // 8)
    packed = np.frombuffer(b"".join(v.to_bytes(size, "little") for v in values), dtype=np.uint8)
    unpacked = np.unpackbits(packed.reshape(-1, size), axis=1, count=lanes, bitorder="little")
    return unpacked.astype(np.bool_)


def _words(bits: Bits) -> Words:
    """[..., cycles, lanes] as [..., lanes * words], cycle c of a lane at bit c % 64 of its word
    c // 64."""
    *nets, cycles, lanes = bits.shape
    padded = np.zeros((*nets, lanes, -(-cycles // 64) * 64), dtype=np.bool_)
    padded[..., :cycles] = np.swapaxes(bits, -1, -2)
    packed: Words = np.packbits(padded, axis=-1, bitorder="little").view("<u8")
    return packed.reshape(*nets, -1)


def _next_cycle(words: Words, per_lane: int) -> Words:
    """[nets, lanes * words] a cycle later; a lane's last cycle is followed by 0."""
    lanes = words.reshape(len(words), -1, per_lane)
    following = lanes >> np.uint64(1)
    following[..., :-1] |= lanes[..., 1:] << np.uint64(63)
    return following.reshape(words.shape)


def _toggles(words: Words, per_lane: int, cycles: int) -> Ints:
    """[nets] changes from one cycle to the next, all lanes together."""
    changes = (words ^ _next_cycle(words, per_lane)).reshape(len(words), -1, per_lane)
    pairs = _words(np.arange(per_lane * 64)[:, None] < cycles - 1)
    counted: Ints = np.bitwise_count(changes & pairs).sum(axis=(1, 2))
    return counted
