"""Validates the RTLIL text of an edit: judge the netlist, not the Python.

What passes is a plain synchronous unit: modules of the unit's own name, each used once; logic and
flip-flops of known kinds, at the rising edge of the one clock; every bit of every wire driven once;
and not more of all this than a unit can need.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from evaluators.gate.rtlil_text import (
    Bits,
    Cell,
    Module,
    NetlistError,
    Process,
    Signal,
    read,
    width_of,
)
from hwlib.config import CoreConfig
from hwlib.edit import UnitName
from hwlib.unit_source import check_interface

WIDTH_LIMIT_BITS = 4096
"""Widest wire."""

SHIFT_LIMIT_BITS = 16
"""Widest amount of a shift."""

STATEMENT_LIMIT = 20_000
"""Most cells, processes and connections of a unit; of an array for every 64 elements or fewer."""

BITS_LIMIT = 200_000
"""Most bits of all wires, counted alike."""

EFFORT_LIMIT = 100_000
"""Most bit operations, counted alike, each as `_effort` has it: what tools must bear."""


class _Kind(NamedTuple):
    """A kind of cells: which pins and parameters it has."""

    widths: dict[str, str]
    """Pin -> the parameter that gives its width; empty for a pin of one bit."""
    flags: tuple[str, ...] = ()
    """Parameters of one bit."""


_UNARY = _Kind({"A": "A_WIDTH", "Y": "Y_WIDTH"}, ("A_SIGNED",))
_BINARY = _Kind({"A": "A_WIDTH", "B": "B_WIDTH", "Y": "Y_WIDTH"}, ("A_SIGNED", "B_SIGNED"))
_SHIFTS = ("$shl", "$shr", "$sshr", "$shift")
_DIVISIONS = ("$divfloor", "$modfloor")
_PRODUCTS = ("$mul", *_DIVISIONS)

KINDS: dict[str, _Kind] = {
    **dict.fromkeys(
        ("$not", "$neg", "$reduce_and", "$reduce_or", "$reduce_xor", "$reduce_bool"), _UNARY
    ),
    **dict.fromkeys(
        ("$and", "$or", "$xor", "$add", "$sub", "$eq", "$ne", "$lt", "$le", "$gt", "$ge"), _BINARY
    ),
    **dict.fromkeys((*_PRODUCTS, *_SHIFTS), _BINARY),
    "$mux": _Kind({"S": "", "A": "WIDTH", "B": "WIDTH", "Y": "WIDTH"}),
    "$dff": _Kind({"D": "WIDTH", "CLK": "", "Q": "WIDTH"}, ("CLK_POLARITY",)),
}
"""Cells that a unit may use: what Amaranth writes for logic and flip-flops; no memory, no
asynchronous reset, no formal, no printing."""

_OUTPUTS = ("\\Y", "\\Q")
_CLOCK = "\\clk"

_START_VALUE = re.compile(r"^  attribute \\init .*\n", re.MULTILINE)


def check_netlist(unit: UnitName, config: CoreConfig, text: str) -> None:
    """Holds the text to Amaranth's grammar, to the laws of this file, and to the unit's ports.

    Raises:
        ValueError: Something does not belong; the message names the line where there is one.
    """
    check_laws(unit, text, shares(unit, config))
    check_interface(unit, config, text)


def shares(unit: UnitName, config: CoreConfig) -> int:
    """How many times the size of another unit a unit may have."""
    return max(1, config.rows * config.columns // 64) if unit == "array" else 1


def check_laws(unit: str, text: str, times: int = 1) -> None:
    """Holds the text to Amaranth's grammar and to the laws of this file, whatever its ports.

    Args:
        unit: Its top module.
        text: The netlist.
        times: What the limits of size are multiplied with.

    Raises:
        ValueError: Something does not belong; the message names the line where there is one.
    """
    try:
        modules = read(text, KINDS)
        _check_hierarchy(modules, f"\\{unit}")
        for module in modules.values():
            _check_cells(module, modules)
            _check_clock(module)
            _check_drivers(module, modules)
            _check_divisions(module)
            _check_initial_values(module)
        _check_size(modules, times)
    except NetlistError as error:
        raise ValueError(f"netlist of {unit}, {error}") from None


def without_start_values(text: str) -> str:
    """The netlist without initial values.

    A chip's flip-flops have none, and mapping drops them: what a unit computes after a reset may
    not hang on one.
    """
    return _START_VALUE.sub("", text)


def _check_hierarchy(modules: dict[str, Module], top: str) -> None:
    """Each module but the top one is used once, by the one in whose name it stands.

    So the modules form a tree: no module holds itself, and none is repeated a million times.
    """
    if top not in modules:
        raise NetlistError(f"there is no module {top}")
    used: set[str] = set()
    for module in modules.values():
        for cell in module.cells.values():
            if cell.kind.startswith("$"):
                continue
            if cell.kind not in modules:
                raise _error(cell, f"a unit may not use a cell {cell.kind[:60]}")
            if not cell.kind.startswith(f"{module.name}.") or cell.kind in used:
                raise _error(cell, f"module {cell.kind} may be used once, by the one around it")
            used.add(cell.kind)
    if unused := modules.keys() - used - {top}:
        raise NetlistError(f"line {modules[min(unused)].line}: module {min(unused)} is not used")


def _check_cells(module: Module, modules: dict[str, Module]) -> None:
    for cell in module.cells.values():
        if cell.kind in KINDS:
            _check_builtin(cell, KINDS[cell.kind])
        else:
            _check_instance(cell, modules[cell.kind])
    for name, wire in module.wires.items():
        if wire.width > WIDTH_LIMIT_BITS:
            raise NetlistError(
                f"wire {name} of {module.name} has {wire.width} bits, at most {WIDTH_LIMIT_BITS} "
                "are allowed"
            )
    for left, right, line in _assignments(module):
        if width_of(left) != width_of(right):
            raise NetlistError(
                f"line {line}: {width_of(right)} bits are put on {width_of(left)} of {module.name}"
            )


def _check_builtin(cell: Cell, kind: _Kind) -> None:
    parameters = {name for name in kind.widths.values() if name} | set(kind.flags)
    if cell.parameters.keys() != parameters or cell.pins.keys() != {f"\\{p}" for p in kind.widths}:
        raise _error(cell, f"a cell {cell.kind} has other pins or parameters")
    for pin, parameter in kind.widths.items():
        width = cell.parameters[parameter] if parameter else 1
        if width_of(cell.pins[f"\\{pin}"]) != width:
            raise _error(cell, f"pin {pin} of a cell {cell.kind} has not the width of {width} bits")
    if any(cell.parameters[flag] > 1 for flag in kind.flags):
        raise _error(cell, f"a flag of a cell {cell.kind} is neither 0 nor 1")
    _check_signs(cell)
    if cell.kind in _SHIFTS and cell.parameters["B_WIDTH"] > SHIFT_LIMIT_BITS:
        raise _error(
            cell,
            f"the amount of a shift has {cell.parameters['B_WIDTH']} bits, at most "
            f"{SHIFT_LIMIT_BITS} are allowed",
        )


def _check_signs(cell: Cell) -> None:
    """Operands have one sign, amounts of shifts none: the tools that read it allow no other.

    A signed operand has a bit: of none a simulator makes 0, and a synthesiser anything.
    """
    signs = {
        pin: bool(cell.parameters[f"{pin}_SIGNED"])
        for pin in ("A", "B")
        if f"{pin}_SIGNED" in cell.parameters
    }
    if cell.kind in _SHIFTS and signs.pop("B"):
        raise _error(cell, f"the amount of a cell {cell.kind} is signed")
    if len(set(signs.values())) > 1:
        raise _error(cell, f"one operand of a cell {cell.kind} is signed and one is not")
    for pin, signed in signs.items():
        if signed and not cell.parameters[f"{pin}_WIDTH"]:
            raise _error(cell, f"operand {pin} of a cell {cell.kind} is signed and has no bit")


def _check_instance(cell: Cell, child: Module) -> None:
    ports = {name: wire.width for name, wire in child.wires.items() if wire.way}
    if cell.parameters or {name: width_of(pin) for name, pin in cell.pins.items()} != ports:
        raise _error(cell, f"an instance of {cell.kind} connects other ports than the module has")


def _check_clock(module: Module) -> None:
    """Flip-flops work at the rising edge of `clk`, which is nothing but a clock."""
    clock = module.wires.get(_CLOCK)
    if clock is not None and (clock.way != "input" or clock.width != 1):
        raise NetlistError(f"{_CLOCK} of {module.name} must be an input of one bit")
    for cell in module.cells.values():
        for pin, signal in cell.pins.items():
            clocked = pin == ("\\CLK" if cell.kind == "$dff" else _CLOCK)
            if clocked != (_uses_clock(signal)):
                raise _error(cell, f"pin {pin} of {cell.kind}: {_CLOCK} goes to clock pins alone")
            if clocked and len(signal) != 1:
                raise _error(cell, "a clock of several bits")
        if cell.parameters.get("CLK_POLARITY", 1) != 1:
            raise _error(cell, "a flip-flop must work at the rising edge")
    others = [right for _, right, _ in _assignments(module)]
    others += [switch for process in module.processes.values() for switch in process.switches]
    if any(_uses_clock(signal) for signal in others):
        raise NetlistError(f"{_CLOCK} of {module.name} is used as data")


def _uses_clock(signal: Signal) -> bool:
    return any(bits.wire == _CLOCK for bits in signal)


def _check_drivers(module: Module, modules: dict[str, Module]) -> None:
    """Every bit of every wire has one driver."""
    driven = dict.fromkeys(module.wires, 0)  # a mask of bits for each wire

    def drive(signal: Signal, mine: dict[str, int], line: int) -> None:
        for bits in signal:
            if not bits.wire:
                raise NetlistError(f"line {line}: a constant is driven")
            mask = (1 << bits.width) - 1 << bits.low
            if driven[bits.wire] & mask & ~mine.get(bits.wire, 0):
                raise NetlistError(
                    f"line {line}: {bits.wire} of {module.name} is driven more than once"
                )
            driven[bits.wire] |= mask
            mine[bits.wire] = mine.get(bits.wire, 0) | mask

    for name, wire in module.wires.items():
        if wire.way == "input":
            driven[name] = (1 << wire.width) - 1
    for cell in module.cells.values():
        for pin in _outputs(cell, modules):
            drive(cell.pins[pin], {}, cell.line)
    for process in module.processes.values():
        mine: dict[str, int] = {}  # a process may assign a bit many times: the last one counts
        for left, _ in process.assignments:
            drive(left, mine, process.line)
    for left, _ in module.connections:
        drive(left, {}, module.line)
    for name, wire in module.wires.items():
        if driven[name] != (1 << wire.width) - 1:
            raise NetlistError(f"wire {name} of {module.name} has bits that nothing drives")


def _check_divisions(module: Module) -> None:
    """What a division by 0 gives goes nowhere but into the mux with which Amaranth drops it.

    By 0 a simulator has another result than the gates, and a synthesiser takes what it likes.
    """
    cells = module.cells.values()
    divisors = {c.pins["\\Y"]: c.pins["\\B"] for c in cells if c.kind in _DIVISIONS}
    if not divisors:
        return
    nonzero = {c.pins["\\Y"]: c.pins["\\A"] for c in cells if c.kind == "$reduce_bool"}
    drops = [
        cell.pins["\\B"]
        for cell in cells
        if cell.kind == "$mux"
        and cell.pins["\\B"] in divisors
        and nonzero.get(cell.pins["\\S"]) == divisors[cell.pins["\\B"]]
    ]
    uses = Counter(bits.wire for signal in _read_signals(module) for bits in signal)
    for cell in cells:
        if cell.kind in _DIVISIONS:
            result = cell.pins["\\Y"]
            if not cell.parameters["A_WIDTH"]:
                raise _error(cell, f"a cell {cell.kind} divides nothing, which cannot be mapped")
            # One wire, whole, that a single mux reads.
            if drops.count(result) != 1 or len(result) != 1 or uses[result[0].wire] != 1:
                raise _error(
                    cell, f"what a cell {cell.kind} gives for a divisor of 0 is not dropped"
                )


def _read_signals(module: Module) -> Iterator[Signal]:
    """All that is read, and the ports, which are read from outside."""
    for cell in module.cells.values():
        for pin, signal in cell.pins.items():
            if not cell.kind.startswith("$") or pin not in _OUTPUTS:
                yield signal
    for _, right, _ in _assignments(module):
        yield right
    for process in module.processes.values():
        yield from process.switches
    for name, wire in module.wires.items():
        if wire.way:
            yield (Bits(name, 0, wire.width),)


def _check_initial_values(module: Module) -> None:
    """Flip-flops alone have an initial value; other names of a flip-flop have the same."""
    registers = {cell.pins["\\Q"]: cell for cell in module.cells.values() if cell.kind == "$dff"}
    same = dict(module.connections)
    for name, wire in module.wires.items():
        if wire.initial is None:
            continue
        own: Signal = (Bits(name, 0, wire.width),)
        if own not in registers:
            own = same.get(own, ())
        if own not in registers or module.wires[own[0].wire].initial != wire.initial:
            raise NetlistError(f"wire {name} of {module.name} has a value before its driver's")
        if len(wire.initial) != wire.width:
            raise NetlistError(f"the initial value of {name} of {module.name} is of another width")


def _outputs(cell: Cell, modules: dict[str, Module]) -> list[str]:
    if cell.kind.startswith("$"):
        return [pin for pin in _OUTPUTS if pin in cell.pins]
    return [name for name, wire in modules[cell.kind].wires.items() if wire.way == "output"]


def _check_size(modules: dict[str, Module], times: int) -> None:
    statements = sum(
        len(each.cells) + len(each.processes) + len(each.connections) for each in modules.values()
    )
    if statements > STATEMENT_LIMIT * times:
        raise NetlistError(
            f"{statements} cells and connections, at most {STATEMENT_LIMIT * times} are allowed"
        )
    bits = sum(wire.width for each in modules.values() for wire in each.wires.values())
    if bits > BITS_LIMIT * times:
        raise NetlistError(f"its wires have {bits} bits, at most {BITS_LIMIT * times} are allowed")
    effort = sum(
        sum(_effort(cell) for cell in module.cells.values())
        + sum(_process_effort(process) for process in module.processes.values())
        for module in modules.values()
    )
    if effort > EFFORT_LIMIT * times:
        raise NetlistError(
            f"it has {effort} bit operations, at most {EFFORT_LIMIT * times} are allowed"
        )


def _effort(cell: Cell) -> int:
    """Bit operations of a cell, roughly: a product has one for each pair of bits."""
    width = max((width_of(pin) for pin in cell.pins.values()), default=0)
    if cell.kind in _PRODUCTS:
        both = width_of(cell.pins["\\A"]), width_of(cell.pins["\\B"])
        return max(1, min(both)) * width
    if cell.kind in _SHIFTS:
        return width * max(1, cell.parameters["B_WIDTH"])
    return width


def _process_effort(process: Process) -> int:
    return sum(width_of(left) for left, _ in process.assignments)


def _assignments(module: Module) -> Iterator[tuple[Signal, Signal, int]]:
    """Left side, right side, and a line for messages."""
    for left, right in module.connections:
        yield left, right, module.line
    for process in module.processes.values():
        for left, right in process.assignments:
            yield left, right, process.line


def _error(cell: Cell, reason: str) -> NetlistError:
    return NetlistError(f"line {cell.line}: {reason}")
