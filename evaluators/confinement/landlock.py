"""Landlock: the kernel's own file, network and signal limits, that a process puts on itself.

Raw system calls, since no C library has a wrapper; their numbers are the same on every
architecture. `man 7 landlock` has the structures and which version of the interface (ABI) brought
what. What is taken away is taken from this thread and from all that it starts, for good.
"""

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_READING = _EXECUTE | _READ_FILE | _READ_DIR
_RIGHTS_OF_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many of the file rights each version knows; later ones know those of 5."""

_BIND_TCP_AND_CONNECT_TCP = 0b11  # from ABI 4
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11  # from ABI 6


class LandlockMissing(Exception):
    """The kernel has no Landlock, or keeps this process from it."""


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi() -> int:
    """Version of the interface that the kernel offers; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, 0, _VERSION)))


def deny_all_files() -> None:
    """From here on no path can be opened, listed, run or made; open descriptors stay.

    Also no TCP (from ABI 4), no signals and abstract sockets outside this process (from ABI 6).

    Raises:
        LandlockMissing: It could not be done.
    """
    _restrict(_file_rights(abi()), {})


def deny_writing_outside(folders: Sequence[Path]) -> None:
    """From here on files are made and changed beneath `folders` alone; reading stays.

    `/dev/null` may be written, too. Network and signals as with `deny_all_files`.

    Raises:
        LandlockMissing: It could not be done.
    """
    writing = _file_rights(abi()) & ~_READING
    _restrict(writing, dict.fromkeys(folders, writing) | {Path(os.devnull): _WRITE_FILE})


def _file_rights(version: int) -> int:
    return (1 << _RIGHTS_OF_ABI[min(version, 5)]) - 1 if version else 0


def _restrict(handled: int, allowed: dict[Path, int]) -> None:
    version = abi()
    if not version:
        raise LandlockMissing("the kernel offers no Landlock")
    libc = _libc()
    attributes = _Ruleset(
        handled,
        _BIND_TCP_AND_CONNECT_TCP if version >= 4 else 0,
        _ABSTRACT_SOCKETS_AND_SIGNALS if version >= 6 else 0,
    )
    ruleset = _checked(
        libc.syscall(
            _CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(ctypes.sizeof(attributes)), 0
        )
    )
    for path, rights in allowed.items():
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = _PathBeneath(rights, parent)
        _checked(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0))
        os.close(parent)
    _checked(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _checked(result: int) -> int:
    if result < 0:
        raise LandlockMissing(f"Landlock refused: {os.strerror(ctypes.get_errno())}")
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
