"""The far side of the sandbox: imports, confines itself, and only then does the untrusted work.

Runs as the main module of a process that `evaluators.gate.sandbox` starts. After `_confine` the
process can compute, and write to the one pipe that it was given; it can open nothing, start nothing
and reach nobody. Whatever it says is untrusted.
"""

import ctypes
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from evaluators.confinement import landlock, process, seccomp

LIMITS = {
    "RLIMIT_CPU": 25,
    "RLIMIT_AS": 1 << 30,
    "RLIMIT_FSIZE": 0,
    "RLIMIT_CORE": 0,
    "RLIMIT_NPROC": 0,
    "RLIMIT_NOFILE": 64,
}
"""Of a confined process: seconds, bytes, counts."""

MARK = b"\0netlist\n"
"""Stands before a netlist that Yosys writes; a file's own `$display` may print it, too."""

ERROR_CHARACTERS = 2000
"""How much of an error's text goes back."""

MODULES = (
    "amaranth", "amaranth.hdl", "amaranth.lib.coding", "amaranth.lib.data", "amaranth.lib.enum",
    "amaranth.lib.fifo", "amaranth.lib.memory", "amaranth.lib.wiring", "amaranth.utils",
    "hwlib.convert", "hwlib.reference.tables",
    "abc", "bisect", "collections", "copy", "dataclasses", "enum", "fractions", "functools",
    "itertools", "math", "numbers", "operator", "random", "re", "string", "textwrap", "typing",
)  # fmt: skip
"""What a unit may import: no other file can be read once the process is confined. The contracts
with their expected values are not among them."""

_OWN_THREADS = Path("/proc/self/task")


def main() -> None:
    """Reads the command line that `sandbox.run` wrote; does not return."""
    parent, layers, job, *arguments = sys.argv[1:]
    _JOBS[job](int(parent), layers.split(","), arguments)


def _elaborate(parent: int, layers: Sequence[str], arguments: Sequence[str]) -> None:
    """Answers `netlist` and RTLIL, or `error` and a reason."""
    unit, class_name, class_arguments = arguments
    source = sys.stdin.buffer.read().decode()
    # It would start threads, which cannot be confined from here.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for module in MODULES:
        importlib.import_module(module)
    # Who looks up a host is to be refused the network, not a codec.
    importlib.import_module("encodings.idna")
    from hwlib.convert import convert_source

    given = json.loads(class_arguments)
    answer = _confine(parent, layers)
    try:
        text = f"netlist\n{convert_source(unit, source, class_name, given)}"
    except BaseException as error:  # the boundary: SystemExit and the like are an edit's fault too
        text = f"error\n{type(error).__name__}: {str(error)[:ERROR_CHARACTERS]}"
    _end(answer, text.encode(errors="replace"))


def _read_verilog(parent: int, layers: Sequence[str], arguments: Sequence[str]) -> None:
    """Answers what Yosys prints of a file, a mark, and what the last command writes.

    Yosys reads the file after the process is confined: a file may call any C function that the
    process has (`import "DPI-C"`), and names other files.
    """
    (*commands, last), limits = json.loads(arguments[0]), json.loads(arguments[1])
    os.environ["YOSYS_MAX_THREADS"] = "1"
    from pyosys import libyosys

    design = libyosys.Design()
    os.dup2(1, 2)
    _confine(parent, layers, limits, keep=(0, 1, 2))
    libyosys.run_frontend("-", "verilog -sv", design, "")
    for command in commands:
        libyosys.run_pass(command, design)
    libyosys.log_flush()
    os.write(1, MARK)
    libyosys.run_pass(last, design)
    libyosys.log_flush()
    os._exit(0)


def _simulate(parent: int, layers: Sequence[str], arguments: Sequence[str]) -> None:
    """Answers the outputs of a unit's simulator for the inputs that it reads, as raw int64."""
    library, cycles, size = arguments[0], int(arguments[1]), int(arguments[2])
    inputs = sys.stdin.buffer.read()
    outputs = ctypes.create_string_buffer(size)
    entry = ctypes.CDLL(library).dovetail_unit
    entry.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint64]
    answer = _confine(parent, layers)
    entry(inputs, outputs, cycles)
    _end(answer, outputs.raw)


def _attempt(parent: int, layers: Sequence[str], arguments: Sequence[str]) -> None:
    """Tries what must fail; answers a line for each attempt, with its outcome and its name."""
    from evaluators.gate import attempts

    names = arguments[0].split(",")
    targets = attempts.Targets(parent, *json.loads(arguments[1]))
    answer = _confine(parent, layers)
    os.write(answer, b"confined\n")
    for name in names:
        os.write(answer, f"{attempts.outcome(name, targets)} {name}\n".encode())
    os._exit(0)


_JOBS: dict[str, Callable[[int, Sequence[str], Sequence[str]], None]] = {
    "elaborate": _elaborate,
    "verilog": _read_verilog,
    "simulate": _simulate,
    "attempt": _attempt,
}


def _confine(
    parent: int,
    layers: Sequence[str],
    limits: Mapping[str, int] = MappingProxyType({}),
    keep: Sequence[int] = (),
) -> int:
    """Gives up everything that a computation does not need.

    Args:
        parent: With whose end this process ends.
        layers: What it is confined by.
        limits: Those that are other than `LIMITS`.
        keep: Standard descriptors that stay.

    Returns:
        The descriptor of the answer; the other standard ones lead nowhere from here on.
    """
    answer = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in {0, 1, 2}.difference(keep):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    process.die_with(parent)
    if "limits" in layers:
        process.limit(LIMITS | dict(limits))
    if "landlock" in layers or "seccomp" in layers:
        if len(list(_OWN_THREADS.iterdir())) != 1:
            raise RuntimeError("a process with several threads cannot confine itself")
        process.forbid_new_privileges()
        if "landlock" in layers:
            landlock.deny_all_files()
        if "seccomp" in layers:
            seccomp.deny_all_but_computing()
    return answer


def _end(answer: int, text: bytes) -> None:
    """Writes the answer and ends, without exit handlers: they may be the edit's."""
    left = memoryview(text)
    while left:
        left = left[os.write(answer, left) :]
    os._exit(0)
