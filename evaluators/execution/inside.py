"""What both far sides do first: give up all that a computation can spare.

The same walls as around an edit (`evaluators.gate`): limits, Landlock, seccomp. Modules are
imported before, since no file can be opened afterwards.
"""

import importlib
import os
from pathlib import Path

from evaluators.confinement import landlock, process, seccomp

MODULES = (
    "abc", "array", "base64", "bisect", "calendar", "cmath", "collections", "collections.abc",
    "contextlib", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools",
    "hashlib", "heapq", "itertools", "json", "keyword", "math", "numbers", "operator", "os",
    "queue", "random", "re", "statistics", "string", "struct", "sys", "textwrap", "time",
    "types", "typing", "unicodedata", "zlib",
)  # fmt: skip
"""What a program and its tests may import: of the standard library what computes."""

LATER = ("_strptime", "encodings.ascii", "encodings.latin_1", "encodings.unicode_escape")
"""What these import only when they need it."""

DESCRIPTORS = 64
"""Most open ones."""

_OWN_THREADS = Path("/proc/self/task")


def import_modules() -> None:
    """Imports all of `MODULES`, and what they would import later."""
    for module in (*MODULES, *LATER):
        importlib.import_module(module)


def confine(parent: int, cpu_s: int, memory_bytes: int, keep: tuple[int, ...]) -> None:
    """From here on this process can compute, and use the descriptors that it holds.

    Args:
        parent: With whose end this process ends.
        cpu_s: Processor time that it may take, from its start on.
        memory_bytes: Its address space.
        keep: Standard descriptors that stay; the others lead nowhere.

    Raises:
        LandlockMissing, SeccompMissing, RuntimeError: It could not be done.
    """
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in {0, 1, 2}.difference(keep):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    process.die_with(parent)
    process.limit(
        {
            "RLIMIT_CPU": cpu_s,
            "RLIMIT_AS": memory_bytes,
            "RLIMIT_FSIZE": 0,
            "RLIMIT_CORE": 0,
            "RLIMIT_NPROC": 0,
            "RLIMIT_NOFILE": DESCRIPTORS,
        }
    )
    if len(list(_OWN_THREADS.iterdir())) != 1:
        raise RuntimeError("a process with several threads cannot confine itself")
    process.forbid_new_privileges()
    landlock.deny_all_files()
    seccomp.deny_all_but_computing()
