"""What may stand at a unit's ports in a proof, and when its output counts: its contract in logic.

The contracts of `hwlib/contracts` say the same by examples and in numpy. Conditions are Verilog
expressions here, over names that proofs make up. A protocol's monitor is what a watcher must
remember to know what may come and what counts: some bits, which are part of a proof's state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hwlib.contracts.contract import UnitContract
from hwlib.contracts.table import LOOSE_UNITS

FALSE, TRUE = "1'b0", "1'b1"

Monitor = tuple[str, ...]
"""What a watcher remembers: expressions of one bit each."""

Cycle = Mapping[str, str]
"""What stands at the ports in one cycle, `rst` included: port -> expression."""


def both(*conditions: str) -> str:
    """All of some conditions; constants are folded."""
    return _joined(conditions, " && ", neutral=TRUE, deciding=FALSE)


def either(*conditions: str) -> str:
    """Any of some conditions; constants are folded."""
    return _joined(conditions, " || ", neutral=FALSE, deciding=TRUE)


def negated(condition: str) -> str:
    """The opposite of a condition; constants are folded."""
    return {FALSE: TRUE, TRUE: FALSE}.get(condition, f"!({condition})")


def _joined(conditions: Sequence[str], word: str, neutral: str, deciding: str) -> str:
    if deciding in conditions:
        return deciding
    return word.join(f"({each})" for each in conditions if each != neutral) or neutral


class Probe(NamedTuple):
    """One cycle without operands, by which a unit is made to show what it holds."""

    controls: Cycle
    """What stands at the control inputs."""

    compares: bool
    """Whether the output is looked at."""

    continues: bool
    """Whether further cycles follow."""


@dataclass(frozen=True)
class Streaming:
    """A unit that takes operands in every cycle and gives their results `latency` cycles later."""

    operands: Mapping[str, str]
    """Operand inputs, each with a value that is a legal one and has a result."""

    plant: tuple[str, int]
    """An input's bit that results hang on: where a bug is planted."""

    legal: str = TRUE
    """Which operands may come; the names of inputs in braces."""

    defined: str = TRUE
    """Which operands have a result."""

    enable: str = ""
    """The input that lets the unit take a step, if it has one; without it everything stands."""

    @property
    def controls(self) -> tuple[str, ...]:
        """The inputs that are no operands."""
        return (self.enable,) if self.enable else ()

    def probes(self, shifted: bool) -> Sequence[Probe]:
        """Ways to look at what is under way: going on, and standing."""
        if not self.enable:
            return [Probe({}, compares=True, continues=True)]
        return [
            Probe({self.enable: TRUE}, compares=True, continues=True),
            Probe({self.enable: FALSE}, compares=True, continues=False),
        ]

    def probe_cycles(self, latency: int) -> int:
        """Cycles until nothing is under way any more."""
        return latency

    def moves(self, cycle: Cycle) -> str:
        """Whether operands are taken in a cycle."""
        return cycle[self.enable] if self.enable else TRUE

    def monitor_bits(self, latency: int) -> int:
        """A bit for each operand under way: whether its result counts."""
        return latency

    def begun(self, waiting: Sequence[Cycle], latency: int) -> Monitor:
        """The monitor after a reset, behind operands that one of two units has not got yet."""
        due = [self.defined.format_map(operands) for operands in waiting]
        return (*due, *[FALSE] * (latency - len(due)))

    def consistent(self, monitor: Monitor) -> str:
        """Which monitors there can be."""
        return TRUE

    def allowed_operands(self, operands: Cycle) -> str:
        """Whether operands may come."""
        return self.legal.format_map(operands)

    def allowed(self, monitor: Monitor, cycle: Cycle) -> str:
        """Whether a cycle may be as it is."""
        return either(negated(self.moves(cycle)), self.allowed_operands(cycle))

    def counts(self, monitor: Monitor, cycle: Cycle) -> str:
        """Whether the output of a cycle counts."""
        return monitor[-1]

    def watched(self, monitor: Monitor, cycle: Cycle, *, idle: bool = False) -> Monitor:
        """The monitor after a cycle; an idle one has operands whose result does not count."""
        moves, stays = self.moves(cycle), negated(cycle["rst"])
        moved = (FALSE if idle else self.defined.format_map(cycle), *monitor[:-1])
        return tuple(
            both(stays, either(both(moves, new), both(negated(moves), old)))
            for new, old in zip(moved, monitor, strict=True)
        )


@dataclass(frozen=True)
class Accumulating:
    """An element of the array: operands add to a sum, which `capture` takes and `shift` shows."""

    bits: int
    """Of the sum."""

    operands: Mapping[str, str]
    """Operand inputs, each with a value that adds nothing."""

    plant: tuple[str, int]
    """An input's bit that results hang on: where a bug is planted."""

    legal: str = TRUE
    """Which operands may come; the names of inputs in braces."""

    controls: tuple[str, ...] = field(default=("capture", "shift", "drain_in"), init=False)

    def probes(self, shifted: bool) -> Sequence[Probe]:
        """Ways to go on without operands: wait or capture, then shift a word of 0 or of 1 in."""

        def cycle(capture: str, shift: str, word: str) -> Cycle:
            return {"capture": capture, "shift": shift, "drain_in": word}

        zeros, ones = "32'h00000000", "32'hffffffff"
        if shifted:
            return [Probe(cycle(FALSE, TRUE, zeros), compares=True, continues=False)]
        return [
            Probe(cycle(FALSE, FALSE, zeros), compares=False, continues=True),
            Probe(cycle(TRUE, FALSE, zeros), compares=False, continues=True),
            Probe(cycle(FALSE, TRUE, zeros), compares=True, continues=True),
            Probe(cycle(FALSE, TRUE, ones), compares=False, continues=True),
        ]

    def probe_cycles(self, latency: int) -> int:
        """Cycles until the last operand's sum can be seen."""
        return latency + 1

    def moves(self, cycle: Cycle) -> str:
        """Whether operands are taken in a cycle."""
        return TRUE

    def monitor_bits(self, latency: int) -> int:
        """Whether there was a capture since the reset, and whether one just was."""
        return 2

    def begun(self, waiting: Sequence[Cycle], latency: int) -> Monitor:
        """The monitor after a reset."""
        return FALSE, FALSE

    def consistent(self, monitor: Monitor) -> str:
        """Which monitors there can be."""
        seen, just = monitor
        return either(seen, negated(just))

    def allowed_operands(self, operands: Cycle) -> str:
        """Whether operands may come."""
        return self.legal.format_map(operands)

    def allowed(self, monitor: Monitor, cycle: Cycle) -> str:
        """Whether a cycle may be as it is."""
        seen, just = monitor
        above = f"($signed({cycle['drain_in']}) >>> {self.bits - 1})"
        return both(
            self.allowed_operands(cycle),
            either(negated(cycle["shift"]), both(seen, negated(just), negated(cycle["capture"]))),
            # A chain moves sums of this width alone.
            either(f"{above} == 0", f"{above} == -1"),
        )

    def counts(self, monitor: Monitor, cycle: Cycle) -> str:
        """Whether the output of a cycle counts."""
        return cycle["shift"]

    def watched(self, monitor: Monitor, cycle: Cycle, *, idle: bool = False) -> Monitor:
        """The monitor after a cycle."""
        stays = negated(cycle["rst"])
        return both(stays, either(monitor[0], cycle["capture"])), both(stays, cycle["capture"])


Protocol = Streaming | Accumulating
"""What a unit's contract comes to."""


def protocol_of(contract: UnitContract) -> Protocol:
    """The protocol of a unit, at the parameters of its contract."""
    arguments = contract.class_arguments
    match contract.unit:
        case "mac":
            zeros = {"a": "9'd0", "w": "8'd0"}
            return Accumulating(bits=arguments[0], operands=zeros, plant=("a", 0))
        case "composable_mac":
            zeros = {"a": "16'd0", "w": "16'd0", "mode": "2'd0"}
            return Accumulating(
                bits=arguments[0], operands=zeros, plant=("a", 4), legal=_COMPOSABLE
            )
        case "rescaler":
            return Streaming(
                operands={"acc": "32'd0", "multiplier": "16'd0", "shift": "6'd1"},
                plant=("multiplier", 0),
                legal="{shift} >= 1 && {shift} <= 47",
                enable="enable",
            )
        case "activation":
            return Streaming(operands={"x": "16'd0", "silu": "1'd0"}, plant=("x", 0))
        case "exponential":
            return Streaming(operands={"fraction": "5'd0", "octave": "4'd0"}, plant=("octave", 0))
        case "inverse_sqrt":
            return Streaming(operands={"v": "16'd16384"}, plant=("v", 10), defined="{v} >= 16384")
        case "reciprocal":
            return Streaming(operands={"v": "16'd32768"}, plant=("v", 10), defined="{v} >= 32768")
        case unit if unit in LOOSE_UNITS:
            operands = {port.name: f"{port.width}'d0" for port in contract.inputs}
            return Streaming(operands=operands, plant=(contract.inputs[0].name, 0))
    raise ValueError(f"there is no protocol of a unit {contract.unit}")


_SAME_WEIGHT = "{w}[3:0] == {w}[7:4] && {w}[11:8] == {w}[15:12]"
_COMPOSABLE = (
    "{a} == 0 || {mode} == 3 || (" + _SAME_WEIGHT + " && ({mode} == 2 || {a}[7:0] == {a}[15:8]))"
)
"""As the contract's table of modes has it; operands of other forms are no operands."""
