"""Whether this machine can hold untrusted code: what must fail is tried, in a sandbox, at start.

Each layer is tried alone as well as all together, since a hole in one would be hidden by the other.
"""

import contextlib
import json
import platform
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from evaluators.confinement import landlock
from evaluators.gate import sandbox
from evaluators.gate.attempts import ATTEMPTS, OF_LANDLOCK

DEADLINE_S = 30.0
"""Wall-clock limit of one confined process; each takes some hundredths of a second."""


class SandboxMissing(Exception):
    """Untrusted source cannot be confined here; the message says why."""


@cache
def sandbox_missing() -> str:
    """Why untrusted source cannot be confined here, or an empty string when it can.

    The first call of a process takes about a quarter of a second.
    """
    if sys.platform != "linux":
        return f"the sandbox needs Linux, this is {platform.system()}"
    version = landlock.abi()
    if not version:
        return "the kernel offers no Landlock"
    by_landlock = [name for name, needed in OF_LANDLOCK.items() if version >= needed]
    for layers, names in (
        (("limits", "landlock"), by_landlock),
        (("limits", "seccomp"), list(ATTEMPTS)),
        (sandbox.LAYERS, list(ATTEMPTS)),
    ):
        if reason := hole(layers, names):
            return reason
    return ""


def description() -> str:
    """What the sandbox of this machine is made of, for people."""
    return f"Landlock ABI {landlock.abi()}, seccomp, {platform.machine()}; nothing got out of it"


def hole(layers: Sequence[sandbox.Layer], names: Sequence[str]) -> str:
    """Tries attempts in a process that is confined by `layers`.

    Args:
        layers: What it is confined by.
        names: Which of `ATTEMPTS`.

    Returns:
        What was not stopped, in words; empty where everything was.
    """
    within = f"a process confined by {' and '.join(layers) or 'nothing'}"
    with _targets() as targets:
        try:
            answer = sandbox.run(
                ["attempt", ",".join(names), json.dumps(targets)],
                b"",
                deadline_s=DEADLINE_S,
                answer_limit_bytes=1 << 16,
                layers=layers,
            )
        except sandbox.SandboxError as error:
            return f"{within} could not be started: {error}"
        written = (Path(targets[0]) / "written").exists()
    lines = answer.decode(errors="replace").splitlines()
    open_ones = [name for name in names if f"blocked {name}" not in lines]
    if written and "write_file" not in open_ones:
        open_ones.insert(0, "write_file")
    return f"{within} was not kept from: {', '.join(open_ones)}" if open_ones else ""


@contextlib.contextmanager
def _targets() -> Iterator[tuple[str, str, int, str]]:
    """A folder to write to and two sockets to reach, for `attempts.Targets`."""
    abstract = f"dovetail-{secrets.token_hex(8)}"
    with (
        tempfile.TemporaryDirectory(prefix="dovetail-") as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(f"\0{abstract}")
        unix.listen()
        (Path(folder) / "inner").mkdir()
        yield folder, str(Path.home()), listener.getsockname()[1], abstract
