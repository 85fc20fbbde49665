"""Questions about a shipped unit and an edit of it, side by side: can a bad bit ever be 1?

Each is a Verilog module over frames of both units, one for each cycle. Where latencies differ, the
operands of the faster unit wait, so that both give a result in the same cycle. `rst` apart, what
both get is what the unit's protocol allows.

What both hold cannot be compared bit by bit, since an edit may hold its sum in any form. So it is
compared by what it does: from two agreeing states, every way to go on without operands shows the
same outputs. Right units agree so in every state that they can reach, whatever their form.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evaluators.gate.frames import ANY, NEXT, STATE, Frame
from evaluators.gate.invariants import Invariant
from evaluators.gate.protocols import (
    FALSE,
    TRUE,
    Cycle,
    Monitor,
    Protocol,
    Streaming,
    both,
    either,
    negated,
)
from hwlib.contracts.contract import UnitContract

_CONSTANT = re.compile(r"[0-9]+'(?P<base>[bdh])(?P<digits>[0-9a-f]+)")

SHIPPED, EDIT = "shipped$", "edit$"
"""Names of the modules of the two frames."""


@dataclass(frozen=True)
class Pair:
    """A shipped unit and an edit of it."""

    contract: UnitContract
    """Their contract."""

    protocol: Protocol
    """The same in logic."""

    shipped: Frame
    """The shipped unit."""

    edit: Frame
    """The edit."""

    latencies: tuple[int, int]
    """Of the shipped unit and of the edit, in cycles."""

    invariant: Invariant
    """What the edit says of the states of both; proved with the rest."""

    @property
    def slower(self) -> int:
        """The longer latency, in cycles."""
        return max(self.latencies)


class Question(NamedTuple):
    """Something to be shown impossible."""

    name: str
    """What is asked, in a word or two."""

    verilog: str
    """A module `question` whose output `bad` must be 0 for every input."""

    plant: tuple[str, int]
    """An input of the edit and its bit: turned over, `bad` can be 1."""

    traces: tuple[tuple[Cycle, ...], ...]
    """What came to the edit's ports, cycle after cycle; one of them is a way to the bad bit."""

    meanings: Mapping[str, str | tuple[str, str, str]]
    """What stands in a trace and is neither an input of `question` nor a constant: another word
    for it, or (condition, value if so, value if not)."""

    def came(self, trace: tuple[Cycle, ...], values: Mapping[str, int]) -> list[dict[str, int]]:
        """A trace in numbers, for inputs of `question` that a solver found."""
        return [{port: self._value(word, values) for port, word in c.items()} for c in trace]

    def _value(self, word: str, values: Mapping[str, int]) -> int:
        if constant := _CONSTANT.fullmatch(word):
            return int(constant["digits"], {"b": 2, "d": 10, "h": 16}[constant["base"]])
        meaning = self.meanings.get(word)
        if meaning is None:
            return values.get(word, 0)
        if isinstance(meaning, str):
            return self._value(meaning, values)
        condition, so, otherwise = meaning
        return self._value(so if self._value(condition, values) else otherwise, values)


class _State(NamedTuple):
    """What both units hold before a cycle, and what the proof remembers."""

    shipped: str
    edit: str
    waiting: tuple[Cycle, ...]
    monitor: Monitor
    trace: tuple[Cycle, ...]


class _Seen(NamedTuple):
    """One cycle: whether its outputs agree where they count; what came; the state after it."""

    agrees: str
    trace: tuple[Cycle, ...]
    after: _State


def after_its_depth(pair: Pair) -> Question:
    """Of pipelines as deep as their latencies: from any state, any operands give other results.

    A unit with `enable` takes a step in each cycle but the last, in which it need not.
    """
    sheet = _Sheet(pair)
    state = sheet.any_state()
    sheet.assume(*(pair.protocol.allowed_operands(cycle) for cycle in state.waiting))
    steps = dict.fromkeys(pair.protocol.controls, TRUE)
    for _ in range(pair.slower):
        cycle = sheet.any_cycle(FALSE) | steps
        sheet.assume(pair.protocol.allowed(state.monitor, cycle))
        state = sheet.step(state, cycle).after
    seen = sheet.step(state, sheet.any_cycle(FALSE))
    return sheet.question("pipeline", [seen.agrees], [seen.trace])


def standing(pair: Pair) -> Question:
    """Of a unit with `enable`: it changes without it."""
    sheet = _Sheet(pair)
    assert isinstance(pair.protocol, Streaming)
    enable = pair.protocol.enable
    state = sheet.any_state()
    after = sheet.step(state, sheet.any_cycle(FALSE) | {enable: FALSE}).after
    same = [f"{after.shipped} == {state.shipped}", f"{after.edit} == {state.edit}"]
    return sheet.question("standing", same, [], plant=(enable, 0))


def of_its_operands(twins: Pair) -> Question:
    """Of one unit twice, in any two states: equal operands give other results.

    What comes after the operands, and what undefined bits are, differs too. The unit has no
    `enable`.
    """
    sheet = _Sheet(twins)
    state = sheet.any_state()
    cycle = sheet.defined_operands()
    sheet.assume(twins.protocol.allowed(state.monitor, cycle))
    state = sheet.step(state, cycle).after
    for _ in range(twins.slower - 1):
        state = sheet.step(state, sheet.any_cycle(FALSE), sheet.any_cycle(FALSE)).after
    seen = sheet.step(state, sheet.any_cycle(FALSE), sheet.any_cycle(FALSE))
    return sheet.question("operands", [seen.agrees], [])


def from_reset(pair: Pair, cycles: int) -> Question:
    """From any state a reset, then `cycles` of any kind: the units differ, or can be made to."""
    sheet = _Sheet(pair)
    state = sheet.reset_state()
    seen = sheet.agreements(state)
    agree = [sheet.invariant(state)]
    for _ in range(cycles):
        cycle = sheet.any_cycle(FALSE)
        sheet.assume(pair.protocol.allowed(state.monitor, cycle))
        seen.append(sheet.step(state, cycle))
        state = seen[-1].after
    seen += sheet.agreements(state)
    agree += [sheet.invariant(state), *(each.agrees for each in seen)]
    return sheet.question("reset", agree, [each.trace for each in seen])


def from_agreement(pair: Pair) -> Question:
    """From any two states that agree, after a cycle of any kind: the units differ."""
    sheet = _Sheet(pair)
    state = sheet.any_state()
    sheet.assume(
        pair.protocol.consistent(state.monitor),
        sheet.invariant(state),
        *(pair.protocol.allowed_operands(cycle) for cycle in state.waiting),
        *(seen.agrees for seen in sheet.agreements(state)),
    )
    cycle = sheet.any_cycle(FALSE)
    sheet.assume(pair.protocol.allowed(state.monitor, cycle))
    seen = sheet.step(state, cycle)
    after = [s.agrees for s in sheet.agreements(seen.after)]
    return sheet.question("step", [seen.agrees, *after, sheet.invariant(seen.after)], [])


class _Sheet:
    """Verilog that grows: each step adds the frames of one cycle."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._widths = {port.name: port.width for port in pair.contract.inputs}
        self._inputs: list[str] = []
        self._lines: list[str] = []
        self._assumed: list[str] = []
        self._count = 0
        shipped, edit = pair.latencies
        self._lead = abs(shipped - edit)
        self._edit_waits = edit < shipped
        self._meanings: dict[str, str | tuple[str, str, str]] = {}
        self._neutral = {
            name: self._wire(self._widths[name], value)
            for name, value in pair.protocol.operands.items()
        }
        for name, word in self._neutral.items():
            self._meanings[word] = pair.protocol.operands[name]

    def free(self, width: int) -> str:
        """An input of any value."""
        name = self._name("x")
        self._inputs.append(f"input [{width - 1}:0] {name}")
        return name

    def assume(self, *conditions: str) -> None:
        """What is asked for these alone."""
        self._assumed += conditions

    def any_state(self) -> _State:
        """Both units in any state, behind any operands."""
        bits = self._pair.protocol.monitor_bits(self._pair.slower)
        return _State(
            shipped=self.free(self._pair.shipped.state_bits),
            edit=self.free(self._pair.edit.state_bits),
            waiting=tuple(self._any_operands() for _ in range(self._lead)),
            monitor=tuple(self.free(1) for _ in range(bits)),
            trace=(),
        )

    def reset_state(self) -> _State:
        """Both units in a state that a reset leaves, whatever was before.

        Where the edit's operands wait, the shipped unit is reset as many cycles earlier and has
        them, so that the edit may have operands from the first cycle after its reset on.
        """
        protocol, state = self._pair.protocol, self.any_state()
        if not self._edit_waits:
            after = self.step(state, self.any_cycle(TRUE)).after
            return after._replace(trace=())
        shipped, _ = self._frame(SHIPPED, self._pair.shipped, state.shipped, self.any_cycle(TRUE))
        for operands in reversed(state.waiting):
            self.assume(protocol.allowed_operands(operands))
            cycle = {**operands, **protocol.probes(shifted=False)[0].controls, "rst": FALSE}
            shipped, _ = self._frame(SHIPPED, self._pair.shipped, shipped, cycle)
        edit, _ = self._frame(EDIT, self._pair.edit, state.edit, self.any_cycle(TRUE))
        monitor = protocol.begun(state.waiting, self._pair.slower)
        return _State(shipped, edit, state.waiting, tuple(map(self._kept, monitor)), trace=())

    def any_cycle(self, rst: str) -> dict[str, str]:
        """A cycle of any inputs."""
        controls = {name: self.free(self._widths[name]) for name in self._pair.protocol.controls}
        return {**self._any_operands(), **controls, "rst": rst}

    def defined_operands(self) -> dict[str, str]:
        """A cycle of any operands that have a result: those without become neutral ones."""
        protocol, cycle = self._pair.protocol, self.any_cycle(FALSE)
        assert isinstance(protocol, Streaming)
        defined = self._kept(protocol.defined.format_map(cycle))
        return cycle | {
            name: self._either_of(name, defined, cycle[name], neutral)
            for name, neutral in self._neutral.items()
        }

    def step(
        self, state: _State, cycle: Cycle, other: Cycle | None = None, *, idle: bool = False
    ) -> _Seen:
        """One cycle of both units; in an idle one the operands' result does not count.

        With `other` the edit, of the same latency, sees something else, which is not watched.
        """
        protocol = self._pair.protocol
        line = ({name: cycle[name] for name in protocol.operands}, *state.waiting)
        early, late = dict(cycle), dict(cycle) | dict(line[-1])
        to_shipped, to_edit = (early, late) if self._edit_waits else (late, early)
        to_edit = dict(other) if other else to_edit
        shipped, shown = self._frame(SHIPPED, self._pair.shipped, state.shipped, to_shipped)
        edit, edit_shown = self._frame(EDIT, self._pair.edit, state.edit, to_edit)
        monitor = tuple(
            self._kept(bit) for bit in protocol.watched(state.monitor, cycle, idle=idle)
        )
        trace = (*state.trace, to_edit)
        equal = " && ".join(f"{shown[name]} == {edit_shown[name]}" for name in shown)
        counts = protocol.counts(state.monitor, cycle)
        return _Seen(
            agrees=self._kept(either(negated(counts), equal)),
            trace=trace,
            after=_State(shipped, edit, self._waiting(line, state, cycle), monitor, trace),
        )

    def agreements(self, state: _State) -> list[_Seen]:
        """Whether each way to go on without operands shows equal outputs."""
        cycles = self._pair.protocol.probe_cycles(self._pair.slower)
        return self._probed(state, cycles, TRUE, shifted=False)

    def invariant(self, state: _State) -> str:
        """What the edit says of a state."""

        def named(register: str, of_shipped: bool) -> str | None:
            frame = self._pair.shipped if of_shipped else self._pair.edit
            if register not in frame.registers:
                return None
            bits = frame.registers[register]
            whole = state.shipped if of_shipped else state.edit
            return self._wire(len(bits), f"{{{', '.join(f'{whole}[{at}]' for at in bits[::-1])}}}")

        # A wire of its own: whatever brackets stand in it, it means the same wherever it is used.
        said = self._pair.invariant.over(named)
        return both(*(self._wire(1, f"({each}) != 0") for each in said))

    def question(
        self,
        name: str,
        agree: Sequence[str],
        traces: Sequence[tuple[Cycle, ...]],
        plant: tuple[str, int] | None = None,
    ) -> Question:
        """All of the sheet: under what is assumed, one of `agree` is not so."""
        good = both(*agree)
        self._lines.append(f"assign bad = {both(*self._assumed, negated(good))};")
        head = f"module question({', '.join(self._inputs)}, output bad);"
        return Question(
            name=name,
            verilog="\n".join([head, *self._lines, "endmodule", ""]),
            plant=plant or self._pair.protocol.plant,
            traces=tuple(traces),
            meanings=self._meanings,
        )

    def _probed(self, state: _State, cycles: int, reached: str, *, shifted: bool) -> list[_Seen]:
        found = []
        for probe in self._pair.protocol.probes(shifted):
            cycle = {**self._neutral, **probe.controls, "rst": FALSE}
            way = both(reached, self._pair.protocol.allowed(state.monitor, cycle))
            if way == FALSE or not (probe.compares or cycles):
                continue
            seen = self.step(state, cycle, idle=True)
            if probe.compares:
                found.append(seen._replace(agrees=self._kept(either(negated(way), seen.agrees))))
            if probe.continues and cycles:
                shifts = cycle.get("shift") == TRUE
                found += self._probed(seen.after, cycles - 1, self._kept(way), shifted=shifts)
        return found

    def _any_operands(self) -> dict[str, str]:
        return {name: self.free(self._widths[name]) for name in self._pair.protocol.operands}

    def _waiting(self, line: tuple[Cycle, ...], state: _State, cycle: Cycle) -> tuple[Cycle, ...]:
        """What waits after a cycle; a reset forgets it."""
        rst, moves = cycle["rst"], self._pair.protocol.moves(cycle)
        return tuple(
            {name: self._chosen(name, rst, moves, new[name], old[name]) for name in new}
            for new, old in zip(line, state.waiting, strict=False)
        )

    def _chosen(self, name: str, rst: str, moves: str, new: str, old: str) -> str:
        kept = self._either_of(name, moves, new, old)
        return self._either_of(name, rst, self._neutral[name], kept)

    def _either_of(self, name: str, condition: str, so: str, otherwise: str) -> str:
        if condition in (FALSE, TRUE):
            return so if condition == TRUE else otherwise
        word = self._wire(self._widths[name], f"{condition} ? {so} : {otherwise}")
        self._meanings[word] = (condition, so, otherwise)
        return word

    def _frame(
        self, module: str, frame: Frame, state: str, cycle: Cycle
    ) -> tuple[str, Mapping[str, str]]:
        """An instance: the state after the cycle, and the outputs in it."""
        after = self._wire(frame.state_bits)
        shown = {port.name: self._wire(port.width) for port in self._pair.contract.outputs}
        pins = {name: cycle[name] for name in [*self._widths, "rst"]} | shown
        pins |= {f"\\{STATE} ": state, f"\\{NEXT} ": after}
        if frame.undefined_bits:
            pins[f"\\{ANY} "] = self.free(frame.undefined_bits)
        listed = ", ".join(f".{name}({value})" for name, value in pins.items())
        self._lines.append(f"\\{module} {self._name('u')} ({listed});")
        return after, shown

    def _kept(self, condition: str) -> str:
        """A condition under a short name; constants stay."""
        return condition if condition in (FALSE, TRUE) else self._wire(1, condition)

    def _wire(self, width: int, value: str = "") -> str:
        name = self._name("n")
        self._lines.append(f"wire [{width - 1}:0] {name}{f' = {value}' if value else ''};")
        return name

    def _name(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"
