"""Elaborates the source of an edit in a process of its own; only text comes back.

The process starts with an empty environment, takes hard limits on itself before it runs a line
of the source, and is ended with its whole group at the deadline. This bounds mistakes; it is no
boundary against an attacker (no file-system or network confinement), which is why the gate runs
nothing here that is not byte for byte a file of the playbook.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

import hwlib
from hwlib.config import CoreConfig
from hwlib.edit import UnitName

DEADLINE_S = 30.0
"""Wall-clock limit of one elaboration."""

OUTPUT_LIMIT_BYTES = 4 << 20
"""Longest netlist that is read."""

_ROOT = Path(hwlib.__file__).parents[1]
"""Where the child finds the same hwlib as this process: it looks neither at `PYTHONPATH` nor at
the working directory."""

_CHILD = """
import os, resource, sys
limits = {"RLIMIT_CPU": 20, "RLIMIT_AS": 2 << 30, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0,
          "RLIMIT_NOFILE": 64}
for name, limit in limits.items():
    resource.setrlimit(getattr(resource, name), (limit, limit))
answer = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
source = sys.stdin.buffer.read().decode()
sys.path.insert(0, sys.argv[3])
from hwlib.config import CoreConfig
from hwlib.unit_source import source_to_rtlil
try:
    text = "netlist\\n" + source_to_rtlil(
        sys.argv[1], source, CoreConfig.model_validate_json(sys.argv[2])
    )
except BaseException as error:
    text = f"error\\n{type(error).__name__}: {error}"
with os.fdopen(answer, "w") as stream:
    stream.write(text)
    stream.flush()
os._exit(0)
"""


class ElaborationError(Exception):
    """The source gave no netlist; the message says why in one line."""


def elaborate_alone(unit: UnitName, source: str, config: CoreConfig) -> str:
    """The RTLIL text of an edit's source, which stays untrusted.

    Args:
        unit: The unit that the source replaces.
        source: Text of its file. It is executed, in the other process.
        config: The core whose unit it is: it chooses the arguments of the unit's class.

    Raises:
        ElaborationError: It failed, took longer than `DEADLINE_S`, or said too much.
    """
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", _CHILD, unit, config.model_dump_json(), str(_ROOT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
        start_new_session=True,
    )
    try:
        answer = _converse(process, source.encode())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    kind, _, text = answer.decode(errors="replace").partition("\n")
    if kind != "netlist":
        reason = text if kind == "error" else "the process ended without an answer"
        raise ElaborationError(_one_line(f"elaboration failed: {reason}"))
    return text


def _converse(process: "subprocess.Popen[bytes]", source: bytes) -> bytes:
    """Sends the source and reads the answer, both within the deadline."""
    assert process.stdin is not None and process.stdout is not None
    deadline = time.monotonic() + DEADLINE_S
    # At most 64 KiB, which a pipe takes at once on Linux; a process that dies early breaks it.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(source)
        process.stdin.close()
    answer = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise ElaborationError(f"elaboration took longer than {DEADLINE_S:.0f} s")
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                return bytes(answer)
            answer += chunk
            if len(answer) > OUTPUT_LIMIT_BYTES:
                raise ElaborationError(f"the netlist is longer than {OUTPUT_LIMIT_BYTES >> 20} MiB")


def _one_line(text: str) -> str:
    """Printable characters on one line, at most 300."""
    return "".join(c if c.isprintable() else " " for c in text)[:300]
