"""What nobody may manage inside the sandbox: tried there before any untrusted source is.

Each attempt raises OSError where it is stopped and returns where it is not. `exec_program` does not
return where it succeeds.
"""

import ctypes
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_PTRACE_TRACEME = 0
_PROT_READ_EXEC, _MAP_PRIVATE_ANONYMOUS = 5, 0x22


class Targets(NamedTuple):
    """What the attempts go for; the parent looks at them afterwards."""

    parent: int
    """Number of the process that started this one."""

    folder: str
    """A folder where a file would be written."""

    home: str
    """The home directory."""

    port: int
    """A port of 127.0.0.1 where somebody listens."""

    abstract: str
    """An abstract Unix socket where somebody listens, without the leading null."""


def outcome(name: str, targets: Targets) -> str:
    """Tries one of `ATTEMPTS`: `blocked` or `done`."""
    try:
        ATTEMPTS[name](targets)
    except (OSError, MemoryError):
        return "blocked"
    return "done"


def _write_file(targets: Targets) -> None:
    os.close(os.open(f"{targets.folder}/written", os.O_WRONLY | os.O_CREAT))


def _remove_folder(targets: Targets) -> None:
    (Path(targets.folder) / "inner").rmdir()


def _read_file(targets: Targets) -> None:
    os.close(os.open("/etc/passwd", os.O_RDONLY))


def _list_folder(targets: Targets) -> None:
    os.scandir(targets.home).close()


def _connect(targets: Targets) -> None:
    with socket.socket(socket.AF_INET) as own:
        own.connect((b"127.0.0.1", targets.port))  # text would need an encoding from a file


def _connect_abstract(targets: Targets) -> None:
    with socket.socket(socket.AF_UNIX) as own:
        own.connect(f"\0{targets.abstract}")


def _make_socket(targets: Targets) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()


def _fork(targets: Targets) -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def _signal_parent(targets: Targets) -> None:
    os.kill(targets.parent, 0)


def _signal_everybody(targets: Targets) -> None:
    os.kill(-1, 0)


def _trace(targets: Targets) -> None:
    _checked(ctypes.CDLL(None, use_errno=True).ptrace(_PTRACE_TRACEME, 0, None, None))


def _run_own_code(targets: Targets) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_ssize_t
    _checked(libc.mmap(None, 4096, _PROT_READ_EXEC, _MAP_PRIVATE_ANONYMOUS, -1, 0))


def _make_memory_file(targets: Targets) -> None:
    os.close(os.memfd_create("own"))


def _exec_program(targets: Targets) -> None:
    os.execv("/bin/true", ["true"])


ATTEMPTS: dict[str, Callable[[Targets], None]] = {
    "write_file": _write_file,
    "remove_folder": _remove_folder,
    "read_file": _read_file,
    "list_folder": _list_folder,
    "connect": _connect,
    "connect_abstract": _connect_abstract,
    "make_socket": _make_socket,
    "fork": _fork,
    "signal_parent": _signal_parent,
    "signal_everybody": _signal_everybody,
    "run_own_code": _run_own_code,
    "make_memory_file": _make_memory_file,
    "trace": _trace,
    "exec_program": _exec_program,
}
"""By name; the last one takes the process with it where it succeeds, and the one before lets any
signal stop it."""

OF_LANDLOCK: dict[str, int] = {
    "write_file": 1,
    "remove_folder": 1,
    "read_file": 1,
    "list_folder": 1,
    "connect": 4,
    "connect_abstract": 6,
    "signal_parent": 6,
    "exec_program": 1,
}
"""Those that Landlock stops by itself, and from which version of its interface."""


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
