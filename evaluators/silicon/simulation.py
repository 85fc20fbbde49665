"""Runs a program on the netlist, cycle by cycle."""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from evaluators.silicon import verilator
from hwlib import rtlil as rtlil_text
from hwlib.frozen import Frozen
from hwlib.isa import Command, encode

TOP = "accelerator"
"""Top module of a linked netlist."""

PATIENCE = 100_000
"""Cycles without a handshake on any stream after which the watchdog gives up; the longest
command of any core takes less than half."""

Chance = Annotated[float, Field(ge=0, lt=1)]


class Stalls(Frozen):
    """A seeded pattern of stalls on the three streams."""

    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    """Seed of the pattern."""

    command: Chance = 0.0
    """Chance that no new command is offered in a cycle."""

    load: Chance = 0.0
    """Chance that no new beat is offered in a cycle."""

    store: Chance = 0.0
    """Chance that a beat is not taken in a cycle."""

    reset_cycle: Annotated[int, Field(ge=0)] = 0
    """Cycle in which the core is reset and the program begins anew; 0 for never."""


class SimulationResult(Frozen):
    """What the netlist did with a program."""

    store: bytes
    """The store stream."""

    cycles: tuple[int, ...]
    """Cycles of each command, counted as in `hwlib.cycles`."""

    total_cycles: int
    """Cycles from the first command taken until the core was idle and its last beat out: the sum of
    `cycles`, and one more where the last beat was still in the store buffer."""

    engine: Literal["verilator", "amaranth"]
    """What simulated."""


class SimulationError(Exception):
    """The netlist did not run the program to its end as the streams' protocol asks."""


def simulate(
    rtlil: str,
    commands: Sequence[Command],
    load: bytes,
    store_bytes: int,
    cache_dir: Path,
    stalls: Stalls = Stalls(),  # noqa: B008 - a frozen value
) -> SimulationResult:
    """Runs a program on a linked netlist with Verilator, from reset.

    Args:
        rtlil: Linked netlist, as `hwlib.elaborate.elaborate` gives it.
        commands: The program, checked against the netlist's config by the caller
            (`hwlib.isa.encode_program`, `swopt.compiler.lowering`).
        load: The whole load stream, whole beats.
        store_bytes: Bytes that the program sends, whole beats.
        cache_dir: Where built simulators are kept.
        stalls: Stall pattern; none by default.

    Raises:
        SimulationError: The watchdog gave up, or load or store stream do not add up.
        verilator.ToolMissing: There is no C++ compiler.
        verilator.ToolFailed: The netlist could not be built.
        ValueError: `load` or `store_bytes` is not in whole beats.
    """
    beat_bytes = rtlil_text.ports(rtlil, TOP)["load__payload"][1] // 8
    for name, size in (("load", len(load)), ("store", store_bytes)):
        if size % beat_bytes:
            raise ValueError(f"{name} stream of {size} bytes is not in beats of {beat_bytes}")
    library = verilator.build(rtlil, TOP, _driver(), cache_dir)
    words = np.array([encode(command) for command in commands], dtype=np.uint64)
    cycles = np.zeros(len(words), dtype=np.uint64)
    store = np.zeros(store_bytes, dtype=np.uint8)
    loaded = np.frombuffer(load, dtype=np.uint8)
    run = _Run(
        commands=words.ctypes.data,
        command_count=len(words),
        load=loaded.ctypes.data,
        load_beats=len(load) // beat_bytes,
        store=store.ctypes.data,
        store_beats=store_bytes // beat_bytes,
        cycles=cycles.ctypes.data,
        seed=stalls.seed,
        stall_command=round(256 * stalls.command),
        stall_load=round(256 * stalls.load),
        stall_store=round(256 * stalls.store),
        reset_at=stalls.reset_cycle,
        patience=PATIENCE,
    )
    status = _entry(library)(ctypes.byref(run))
    _check(run, status, commands)
    return SimulationResult(
        store=store.tobytes(),
        cycles=tuple(int(count) for count in cycles),
        total_cycles=run.total_cycles,
        engine="verilator",
    )


class _Run(ctypes.Structure):
    """Mirror of `Run` in driver.cpp."""

    _fields_ = [
        ("commands", ctypes.c_void_p),
        ("command_count", ctypes.c_uint64),
        ("load", ctypes.c_void_p),
        ("load_beats", ctypes.c_uint64),
        ("store", ctypes.c_void_p),
        ("store_beats", ctypes.c_uint64),
        ("cycles", ctypes.c_void_p),
        ("seed", ctypes.c_uint64),
        ("stall_command", ctypes.c_uint32),
        ("stall_load", ctypes.c_uint32),
        ("stall_store", ctypes.c_uint32),
        ("reset_at", ctypes.c_uint64),
        ("patience", ctypes.c_uint64),
        ("total_cycles", ctypes.c_uint64),
        ("commands_done", ctypes.c_uint64),
        ("loaded", ctypes.c_uint64),
        ("stored", ctypes.c_uint64),
        ("surplus", ctypes.c_uint64),
    ]


def _check(run: _Run, status: int, commands: Sequence[Command]) -> None:
    progress = (
        f"{run.loaded} of {run.load_beats} load beats taken, "
        f"{run.stored} of {run.store_beats} store beats sent"
    )
    if status != 0:
        at = run.commands_done
        where = f"command {at}, {commands[at]!r}" if at < len(commands) else "the end"
        raise SimulationError(f"no handshake in {PATIENCE} cycles at {where}: {progress}")
    if run.surplus:
        raise SimulationError(f"the core sent {run.surplus} beats too many: {progress}")
    if run.loaded != run.load_beats:
        raise SimulationError(f"the core left load beats behind: {progress}")


@cache
def _driver() -> str:
    return (Path(__file__).parent / "driver.cpp").read_text(encoding="utf-8")


@cache
def _entry(library: Path) -> "ctypes._NamedFuncPointer":
    entry = ctypes.CDLL(str(library)).dovetail_run
    entry.argtypes = [ctypes.POINTER(_Run)]
    entry.restype = ctypes.c_int
    return entry
