"""A unit's clock cycle as logic alone: its flip-flops are cut, and what they hold are ports.

Proofs lay such frames side by side, one for each cycle.
"""

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators.silicon.yosys import run_yosys
from hwlib import rtlil as text_of

DEADLINE_S = 60.0
"""Longest time that Yosys may take for one netlist."""

STATE, NEXT, ANY = "state$", "next$", "any$"
"""Ports of a frame besides the unit's: what its flip-flops hold, what they will hold, and bits of
any value in the place of undefined ones."""

_LOGIC = frozenset(
    (
        "$not", "$pos", "$neg", "$and", "$or", "$xor", "$xnor", "$reduce_and", "$reduce_or",
        "$reduce_xor", "$reduce_xnor", "$reduce_bool", "$logic_not", "$logic_and", "$logic_or",
        "$shl", "$shr", "$sshl", "$sshr", "$shift", "$add", "$sub", "$mul", "$lt", "$le", "$eq",
        "$ne", "$ge", "$gt", "$mux", "$pmux",
    )
)  # fmt: skip
"""Cells whose outputs are a function of their inputs, the same in every tool."""

_READ = ("proc -noopt -norom", "flatten", "opt_clean")

Bit = int | str
"""A bit of a netlist in Yosys' JSON: a number, or a constant as text."""


class NotFramed(Exception):
    """The unit has no frame: what it computes is not the same in every tool."""


@dataclass(frozen=True)
class Frame:
    """One cycle of a unit."""

    state_bits: int
    """Bits of `STATE` and of `NEXT`."""

    undefined_bits: int
    """Bits of `ANY`. Yosys gives a full case an undefined default, which is never reached."""

    registers: Mapping[str, tuple[int, ...]]
    """Where the bits of each named register stand in `STATE`, lowest first."""

    module: Mapping[str, Any]
    """The frame's module in Yosys' JSON: the unit's ports without `clk`, and the ones above."""

    multiplies: bool
    """Whether it has a product."""

    def planted(self, port: str, bit: int) -> Mapping[str, Any]:
        """Its module with a bug: an inverter behind one bit of an input."""
        module: dict[str, Any] = json.loads(json.dumps(self.module))
        good = module["ports"][port]["bits"][bit]
        turned = _unused(module)
        for cell in module["cells"].values():
            for pin, bits in cell["connections"].items():
                if cell["port_directions"][pin] == "input":
                    cell["connections"][pin] = [turned if b == good else b for b in bits]
        for each in module["ports"].values():
            if each["direction"] == "output":
                each["bits"] = [turned if b == good else b for b in each["bits"]]
        module["cells"]["planted$"] = {
            "type": "$not",
            "parameters": {"A_SIGNED": 0, "A_WIDTH": 1, "Y_WIDTH": 1},
            "port_directions": {"A": "input", "Y": "output"},
            "connections": {"A": [good], "Y": [turned]},
        }
        return module


def frame_of(unit: str, rtlil: str) -> Frame:
    """Cuts a unit's flip-flops.

    Args:
        unit: Name of the top module.
        rtlil: A netlist that `evaluators.gate.netlist` lets through.

    Raises:
        NotFramed: It has latches or divisions, or no flip-flop.
        YosysError: Yosys refuses it.
    """
    module = _as_json(unit, rtlil, _READ)
    ports = {name: dict(port) for name, port in module["ports"].items() if name != "clk"}
    held: list[Bit] = []
    coming: list[Bit] = []
    logic: dict[str, Any] = {}  # under names of our own
    for cell in module["cells"].values():
        if cell["type"] == "$dff":
            held += cell["connections"]["Q"]
            coming += cell["connections"]["D"]
        elif cell["type"] in _LOGIC:
            logic[f"c${len(logic)}"] = cell
        else:
            raise NotFramed(f"a cell {cell['type']} is not the same in every tool")
    ports |= {
        STATE: {"direction": "input", "bits": held},
        NEXT: {"direction": "output", "bits": coming},
    }
    # Nets keep words together; without names of their own they may go as Yosys likes.
    nets = {
        f"n${i}": net | {"hide_name": 1, "attributes": {}}
        for i, net in enumerate(module["netnames"].values())
    }
    framed = {"attributes": {}, "ports": ports, "cells": logic, "netnames": nets}
    undefined = _set_free(framed)
    if not held:
        raise NotFramed("it has no flip-flop")
    place = {bit: at for at, bit in enumerate(held)}
    return Frame(
        state_bits=len(held),
        undefined_bits=undefined,
        registers={
            name: tuple(place[bit] for bit in net["bits"])
            for name, net in module["netnames"].items()
            if all(bit in place for bit in net["bits"])
        },
        module=framed,
        multiplies=any(cell["type"] == "$mul" for cell in logic.values()),
    )


def _set_free(module: dict[str, Any]) -> int:
    """Gives each undefined bit of a module a bit of `ANY`; how many there were."""
    free = _unused(module)
    found: list[Bit] = []

    def defined(bits: list[Bit]) -> list[Bit]:
        replaced: list[Bit] = []
        for bit in bits:
            if bit in ("x", "z"):
                found.append(bit := free + len(found))
            replaced.append(bit)
        return replaced

    for port in module["ports"].values():
        port["bits"] = defined(port["bits"])
    for cell in module["cells"].values():
        cell["connections"] = {pin: defined(bits) for pin, bits in cell["connections"].items()}
    if found:
        module["ports"][ANY] = {"direction": "input", "bits": found}
    return len(found)


def _unused(module: Mapping[str, Any]) -> int:
    """A number above those of all bits of a module."""
    ports = [port["bits"] for port in module["ports"].values()]
    pins = [pin for cell in module["cells"].values() for pin in cell["connections"].values()]
    return 1 + max(bit for bits in [*ports, *pins] for bit in bits if isinstance(bit, int))


def depth_of(unit: str, rtlil: str, tied: Mapping[str, int]) -> int | None:
    """Most flip-flops on a way that ends at an output; None where a way leads back into itself.

    Args:
        unit: Name of the top module.
        rtlil: A netlist that `evaluators.gate.netlist` lets through.
        tied: Inputs of one bit that stand at a value.

    Raises:
        YosysError: Yosys refuses it.
    """
    simplify = ("opt_expr", "opt_clean", "simplemap", "opt_expr", "opt_clean")
    module = _as_json("tied$", rtlil + _tied(unit, rtlil, tied), (*_READ, *simplify))
    sources: dict[Bit, tuple[int, tuple[Bit, ...]]] = {}
    for cell in module["cells"].values():
        clocked = "DFF" in cell["type"].upper()
        into, out = [], []
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] == "output":
                out += bits
            elif pin not in ("C", "CLK"):
                into += bits
        # The bits of a register are each their own.
        into_of = [(bit,) for bit in into] if clocked else [tuple(into)] * len(out)
        for bit, behind in zip(out, into_of, strict=True):
            sources[bit] = (int(clocked), behind)
    ports = module["ports"].values()
    ends = [bit for port in ports if port["direction"] == "output" for bit in port["bits"]]
    return _longest(sources, ends)


def _longest(sources: Mapping[Bit, tuple[int, tuple[Bit, ...]]], ends: Iterable[Bit]) -> int | None:
    """The longest way to any of the ends, each bit after those that it comes from."""
    longest: dict[Bit, int] = {}
    open_bits: set[Bit] = set()
    todo = list(ends)
    while todo:
        bit = todo[-1]
        weight, behind = sources.get(bit, (0, ()))
        if bit in longest:
            todo.pop()
        elif bit not in open_bits:
            open_bits.add(bit)
            if any(b in open_bits and b not in longest for b in behind):
                return None
            todo += [b for b in behind if b not in longest]
        else:
            todo.pop()
            longest[bit] = weight + max((longest[b] for b in behind), default=0)
    return max((longest[bit] for bit in ends), default=0)


def _as_json(top: str, rtlil: str, commands: Sequence[str]) -> dict[str, Any]:
    """The top module after Yosys' commands."""
    with tempfile.TemporaryDirectory(prefix="gate-") as folder:
        work = Path(folder)
        (work / "dut.il").write_text(rtlil, encoding="ascii")
        begin = ["read_rtlil dut.il", f"hierarchy -check -top {top}"]
        run_yosys([*begin, *commands, "write_json out.json"], work, work / "tmp", DEADLINE_S)
        module: dict[str, Any] = json.loads((work / "out.json").read_text())["modules"][top]
    return module


def _tied(unit: str, rtlil: str, tied: Mapping[str, int]) -> str:
    """RTLIL of a module `tied$` around a unit."""
    wires, pins = [], []
    for at, (name, (way, width)) in enumerate(text_of.ports(text_of.modules(rtlil)[unit]).items()):
        if name in tied:
            pins.append(f"    connect \\{name} 1'{tied[name]}")
            continue
        wires.append(f"  wire width {width} {way} {at} \\{name}")
        pins.append(f"    connect \\{name} \\{name}")
    lines = [r"module \tied$", *wires, f"  cell \\{unit} \\unit", *pins, "  end", "end"]
    return "\n" + "\n".join(lines) + "\n"
