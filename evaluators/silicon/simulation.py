"""Runs a program on the netlist of the core, cycle by cycle, beside a DRAM."""

import ctypes
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from evaluators.silicon import verilator
from hwlib.assembler import assemble, check_image
from hwlib.commands import QUEUES, AnyCommand, Load, Queue, Store, beats, queue_of
from hwlib.config import CoreConfig
from hwlib.frozen import Frozen

TOP = "core"
"""Top module of a linked netlist."""

PATIENCE = 100_000
"""Cycles without a handshake or a completion after which the watchdog gives up, ..."""

PATIENCE_PER_WORD = 32
"""... and as many more for each word of the largest memory, as no command takes longer."""

Chance = Annotated[float, Field(ge=0, le=0.99)]
Cycles = Annotated[int, Field(ge=0, lt=1 << 32)]


class SimulationError(Exception):
    """The core hung, or broke its protocol; the message says where it stood."""


class Dram(Frozen):
    """How the DRAM answers."""

    latency_cycles: Cycles = 20
    """From a request to its first beat."""

    burst_beats: Cycles = 0
    """Beats of a burst; 0 for no bursts."""

    gap_cycles: Cycles = 0
    """Idle cycles after each burst of a request."""


class Disturbance(Frozen):
    """A seeded pattern of stalls on the core's streams, and a reset."""

    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    """Seed of the pattern."""

    command: Chance = 0.0
    """Chance that no new command is offered in a cycle."""

    read: Chance = 0.0
    """Chance that no new beat is offered in a cycle."""

    write: Chance = 0.0
    """Chance that a beat is not taken in a cycle."""

    reset_cycle: Annotated[int, Field(ge=0)] = 0
    """Cycle in which the core is reset and the program begins anew; 0 for never."""


class Probe(Frozen):
    """A port or a register that is looked at."""

    instance: str
    """Hierarchical name of the instance; empty for the core itself."""

    name: str
    """Name of the port or register in its module."""

    width: Annotated[int, Field(ge=1)]
    """Its bits."""

    @property
    def bytes(self) -> int:
        """Bytes of a sample."""
        return -(-self.width // 8)


@dataclass(frozen=True)
class Recording:
    """Signals that are looked at in every cycle of some windows.

    Attributes:
        probes: The signals.
        starts: First cycle of each window, counted from the first command taken; windows must not
            overlap.
        cycles: Length of every window.
    """

    probes: Sequence[Probe]
    starts: Sequence[int]
    cycles: int


class CoreRun(Frozen):
    """What the netlist did with a program."""

    dram: bytes
    """The DRAM afterwards."""

    total_cycles: int
    """Cycles from the first command taken until all commands were complete."""

    completed: dict[Queue, tuple[int, ...]]
    """Cycle in which each command was complete, by queue, counted from the first one taken."""

    samples: bytes = b""
    """What was recorded, [windows, cycles, probes], each probe little-endian in whole bytes; a
    window that the program does not reach to its end is left out."""

    missing: tuple[int, ...] = ()
    """Probes that the simulator does not know; their samples are 0."""


NOTHING = Recording((), (), 1)
"""A recording of no signal."""


def simulate_core(
    rtlil: str,
    commands: Sequence[AnyCommand],
    dram: npt.NDArray[np.uint8],
    config: CoreConfig,
    cache_dir: Path,
    timing: Dram = Dram(),  # noqa: B008 - a frozen value
    disturbance: Disturbance = Disturbance(),  # noqa: B008 - a frozen value
    recording: Recording | None = None,
) -> CoreRun:
    """Runs a program on a linked netlist with Verilator, from reset.

    Args:
        rtlil: Linked netlist of `config`, as `hwlib.elaborate.elaborate_core` gives it.
        commands: The program.
        dram: What DRAM holds, bytes; left as it is.
        config: The core's knobs.
        cache_dir: Where built simulators are kept.
        timing: How the DRAM answers.
        disturbance: Stalls; none by default.
        recording: Signals to be looked at, by a simulator that can; with None by the other one,
            which is built somewhat faster.

    Raises:
        SimulationError: The watchdog gave up, the core completed what it had not taken, it read or
            wrote other beats than its program does, or `busy` was wrong.
        verilator.ToolMissing: There is no C++ compiler.
        verilator.ToolFailed: The netlist could not be built.
        ValueError: A command breaks a law of the core, does not wait for what it needs, or reaches
            beyond the DRAM.
    """
    words = _assembled(commands, config)
    check_image(commands, dram, config)
    library = build_simulator(rtlil, cache_dir, watched=recording is not None)
    recording = recording or NOTHING
    memory = np.array(dram, dtype=np.uint8)
    ends = np.zeros((len(QUEUES), len(words)), dtype=np.uint64)
    probes, starts = recording.probes, np.array(sorted(recording.starts), np.uint64)
    row_bytes = sum(probe.bytes for probe in probes)
    samples = np.zeros((len(starts), recording.cycles, row_bytes), np.uint8)
    missing = np.zeros(len(probes), np.uint8)
    patience = PATIENCE + PATIENCE_PER_WORD * max(config.activation_words, config.weight_words)
    run = _Run(
        commands=words.ctypes.data,
        command_count=len(words),
        beats_to_read=_beats_of(Load, commands, config),
        beats_to_write=_beats_of(Store, commands, config),
        dram=memory.ctypes.data,
        dram_bytes=len(memory),
        completed=ends.ctypes.data,
        latency=timing.latency_cycles,
        burst_beats=timing.burst_beats,
        gap=timing.gap_cycles,
        seed=disturbance.seed,
        stall_command=round(256 * disturbance.command),
        stall_read=round(256 * disturbance.read),
        stall_write=round(256 * disturbance.write),
        reset_at=disturbance.reset_cycle,
        patience=patience + timing.latency_cycles + timing.gap_cycles,
        probe_scopes=_strings(f"TOP.{TOP}.{p.instance}".rstrip(".") for p in probes),
        probe_names=_strings(p.name.removeprefix("\\") for p in probes),
        probe_widths=(ctypes.c_uint64 * len(probes))(*(p.width for p in probes)),
        probe_count=len(probes),
        row_bytes=row_bytes,
        windows=starts.ctypes.data,
        window_count=len(starts),
        window_cycles=recording.cycles,
        probe_missing=missing.ctypes.data,
        samples=samples.ctypes.data,
    )
    status = _entry(library)(ctypes.byref(run))
    _check(run, status, commands)
    whole = run.sampled // recording.cycles
    return CoreRun(
        dram=memory.tobytes(),
        total_cycles=run.total_cycles,
        completed={
            queue: tuple(int(cycle) for cycle in ends[at, : run.done[at]])
            for at, queue in enumerate(QUEUES)
        },
        samples=samples[:whole].tobytes(),
        missing=tuple(np.flatnonzero(missing).tolist()),
    )


_Assembled = tuple[Sequence[AnyCommand], CoreConfig, npt.NDArray[np.uint64]]
_latest: deque[_Assembled] = deque(maxlen=4)
"""Programs of questions of two lengths, each with every tensor stored and without."""


def _assembled(commands: Sequence[AnyCommand], config: CoreConfig) -> npt.NDArray[np.uint64]:
    """The program's words; those that were run latest are not assembled again."""
    for known, at, words in tuple(_latest):
        if known is commands and at == config:
            return words
    words = np.ascontiguousarray(assemble(commands, config))
    if isinstance(commands, tuple):  # what cannot change
        _latest.append((commands, config, words))
    return words


def build_simulator(rtlil: str, cache_dir: Path, watched: bool = False) -> Path:
    """Builds the simulator of a linked netlist, or finds it in the cache: a shared library.

    Only a `watched` one can record signals.

    Raises:
        verilator.ToolMissing: There is no C++ compiler.
        verilator.ToolFailed: The netlist could not be built.
    """
    return verilator.build(rtlil, TOP, _driver(), cache_dir, watched)


def _beats_of(
    kind: type[Load] | type[Store], commands: Sequence[AnyCommand], config: CoreConfig
) -> int:
    return sum(beats(command, config) for command in commands if isinstance(command, kind))


class _Run(ctypes.Structure):
    """Mirror of `Run` in driver.cpp."""

    _fields_ = [
        ("commands", ctypes.c_void_p),
        ("command_count", ctypes.c_uint64),
        ("beats_to_read", ctypes.c_uint64),
        ("beats_to_write", ctypes.c_uint64),
        ("dram", ctypes.c_void_p),
        ("dram_bytes", ctypes.c_uint64),
        ("completed", ctypes.c_void_p),
        ("latency", ctypes.c_uint64),
        ("burst_beats", ctypes.c_uint64),
        ("gap", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        ("stall_command", ctypes.c_uint32),
        ("stall_read", ctypes.c_uint32),
        ("stall_write", ctypes.c_uint32),
        ("reset_at", ctypes.c_uint64),
        ("patience", ctypes.c_uint64),
        ("probe_scopes", ctypes.POINTER(ctypes.c_char_p)),
        ("probe_names", ctypes.POINTER(ctypes.c_char_p)),
        ("probe_widths", ctypes.POINTER(ctypes.c_uint64)),
        ("probe_count", ctypes.c_uint64),
        ("row_bytes", ctypes.c_uint64),
        ("windows", ctypes.c_void_p),
        ("window_count", ctypes.c_uint64),
        ("window_cycles", ctypes.c_uint64),
        ("probe_missing", ctypes.c_void_p),
        ("samples", ctypes.c_void_p),
        ("total_cycles", ctypes.c_uint64),
        ("issued", ctypes.c_uint64),
        ("done", ctypes.c_uint64 * len(QUEUES)),
        ("beats_read", ctypes.c_uint64),
        ("beats_written", ctypes.c_uint64),
        ("stray", ctypes.c_uint64),
        ("wrong_busy", ctypes.c_uint64),
        ("sampled", ctypes.c_uint64),
    ]


def _strings(texts: Iterable[str]) -> "ctypes.Array[ctypes.c_char_p]":
    encoded = [text.encode() for text in texts]
    return (ctypes.c_char_p * len(encoded))(*encoded)


def _check(run: _Run, status: int, commands: Sequence[AnyCommand]) -> None:
    if status != 0:
        why = f"no handshake in {run.patience} cycles"
        if status == 2:
            why = "the core completed what it had not taken, or moved more than its program does"
        raise SimulationError(
            f"{why}: the core stood at {_standing(run, commands)}; "
            f"{run.issued} of {run.command_count} commands taken, {run.beats_read} beats read, "
            f"{run.beats_written} written"
        )
    if (run.beats_read, run.beats_written) != (run.beats_to_read, run.beats_to_write):
        raise SimulationError(
            f"the core read {run.beats_read} beats and wrote {run.beats_written}, its program "
            f"{run.beats_to_read} and {run.beats_to_write}"
        )
    if run.stray:
        raise SimulationError(f"the core went {run.stray} times beyond the DRAM of its program")
    if run.wrong_busy:
        raise SimulationError("busy must be high while commands are under way, and low afterwards")


def _standing(run: _Run, commands: Sequence[AnyCommand]) -> str:
    """The commands under way, whose waits were complete; behind them the heads that wait."""
    under_way: list[str] = []
    waiting: list[str] = []
    for at, queue in enumerate(QUEUES):
        mine = [index for index, command in enumerate(commands) if queue_of(command) == queue]
        if run.done[at] < len(mine):
            index = mine[run.done[at]]
            waits = commands[index].waits
            begun = index < run.issued and all(
                run.done[other] >= (getattr(waits, name) or 0) for other, name in enumerate(QUEUES)
            )
            (under_way if begun else waiting).append(f"command {index} ({commands[index].kind})")
    behind = f"; {', '.join(waiting)} had not begun" if waiting else ""
    return f"{', '.join(under_way) or 'no command under way'}{behind}"


@cache
def _driver() -> str:
    return (Path(__file__).parent / "driver.cpp").read_text(encoding="utf-8")


@cache
def _entry(library: Path) -> "ctypes._NamedFuncPointer":
    entry = ctypes.CDLL(str(library)).dovetail_run_core
    entry.argtypes = [ctypes.POINTER(_Run)]
    entry.restype = ctypes.c_int
    return entry
