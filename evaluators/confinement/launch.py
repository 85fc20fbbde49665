"""Starts a tool that reads a netlist: Yosys, Verilator, the C++ compiler.

Tools execute nothing that an edit wrote, but they have bugs, and an edit chooses what they read.
So each runs with limits on its time and memory, ends when whoever started it ends, and writes in
its own folders alone where the kernel has Landlock; it then has no network either.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import evaluators
from evaluators.confinement import landlock, process

MEMORY_BYTES = 8 << 30
"""Address space of each process of a tool, unless it is given another."""

FILE_BYTES = 1 << 30
"""Largest file that a tool writes."""

_START = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from evaluators.confinement.launch import main
main()
"""


def confined(
    command: Sequence[str],
    writable: Sequence[Path],
    cpu_s: float,
    memory_bytes: int = MEMORY_BYTES,
) -> list[str]:
    """The command line that runs a tool in confinement.

    Args:
        command: The tool and its arguments; its path must be found without a shell.
        writable: The folders that it may write in.
        cpu_s: Processor time that each of its processes may take.
        memory_bytes: Address space of each of its processes.
    """
    root = str(Path(evaluators.__file__).parents[1])
    folders = os.pathsep.join(str(folder.resolve()) for folder in writable)
    start = [sys.executable, "-I", "-S", "-c", _START, root]
    return [*start, str(os.getpid()), str(int(cpu_s)), str(memory_bytes), folders, *command]


def main() -> None:
    """Confines this process as its command line says, and becomes the tool."""
    parent, cpu_s, memory_bytes, folders, *command = sys.argv[1:]
    process.die_with(int(parent))
    process.limit(
        {
            "RLIMIT_CPU": int(cpu_s),
            "RLIMIT_AS": int(memory_bytes),
            "RLIMIT_FSIZE": FILE_BYTES,
            "RLIMIT_CORE": 0,
        }
    )
    process.forbid_new_privileges()
    if landlock.abi():
        landlock.deny_writing_outside([Path(folder) for folder in folders.split(os.pathsep)])
    os.execvp(command[0], command)
