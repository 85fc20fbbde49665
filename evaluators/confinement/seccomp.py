"""A seccomp filter of the few system calls that a computation needs.

Everything that is not listed fails with EPERM, so that what was tried ends as an error with a name.
A call of a foreign architecture (i386, x32) ends the process. The filter is a program of the
kernel's classic BPF, which `man 2 seccomp` describes; it stays for good.
"""

import ctypes
import errno
import os
import platform
import struct
from typing import NamedTuple

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _PROTECTION_AT = 0, 4, 32
"""Offsets in `struct seccomp_data`; that of the third argument's lower half, little-endian."""

_ALLOW, _KILL_PROCESS, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_PROT_EXEC = 4
_X32_BIT = 0x40000000

CALLS = {
    #                 x86-64  aarch64
    "read":              (0,  63),
    "write":             (1,  64),
    "close":             (3,  57),
    "fstat":             (5,  80),
    "lseek":             (8,  62),
    "mmap":              (9, 222),
    "mprotect":         (10, 226),
    "munmap":           (11, 215),
    "brk":              (12, 214),
    "rt_sigaction":     (13, 134),
    "rt_sigprocmask":   (14, 135),
    "rt_sigreturn":     (15, 139),
    "sched_yield":      (24, 124),
    "mremap":           (25, 216),
    "madvise":          (28, 233),
    "nanosleep":        (35, 101),
    "getpid":           (39, 172),
    "exit":             (60,  93),
    "gettimeofday":     (96, 169),
    "getrusage":        (98, 165),
    "sigaltstack":     (131, 132),
    "gettid":          (186, 178),
    "futex":           (202,  98),
    "restart_syscall": (219, 128),
    "clock_gettime":   (228, 113),
    "clock_getres":    (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group":      (231,  94),
    "getrandom":       (318, 278),
}  # fmt: skip
"""What is allowed: to compute, to use memory, to read and write open descriptors, to end."""

_WITHOUT_EXECUTION = ("mmap", "mprotect")
"""Allowed unless memory is to become executable."""


class SeccompMissing(Exception):
    """There is no filter for this machine, or the kernel refused it."""


class _Machine(NamedTuple):
    audit: int
    """The kernel's name of the architecture."""

    column: int
    """Column of `CALLS`."""


MACHINES = {
    "x86_64": _Machine(0xC000003E, 0),
    "aarch64": _Machine(0xC00000B7, 1),
}
"""Processors that there is a filter for, by the name that `uname -m` gives."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def deny_all_but_computing() -> None:
    """From here on the calls of `CALLS` are all that this process has.

    The process must have one thread and the flag `no_new_privs`.

    Raises:
        SeccompMissing: It could not be done.
    """
    name = platform.machine()
    if name not in MACHINES:
        raise SeccompMissing(f"there is no seccomp filter for {name}, only for {list(MACHINES)}")
    code = program(MACHINES[name])
    loaded = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(loaded), 0, 0):
        raise SeccompMissing(f"seccomp refused: {os.strerror(ctypes.get_errno())}")


def program(machine: _Machine) -> bytes:
    """The filter in classic BPF: first the architecture, then each allowed call."""
    code = [
        _step(_LOAD, _ARCHITECTURE_AT),
        _step(_EQUAL, machine.audit, 1, 0),
        _step(_RETURN, _KILL_PROCESS),
        _step(_LOAD, _NUMBER_AT),
        # Above the bit lie the calls of x32, and nothing else.
        _step(_AT_LEAST, _X32_BIT, 0, 1),
        _step(_RETURN, _KILL_PROCESS),
    ]
    for call in _WITHOUT_EXECUTION:
        code += [
            _step(_EQUAL, CALLS[call][machine.column], 0, 4),
            _step(_LOAD, _PROTECTION_AT),
            _step(_ANY_BIT, _PROT_EXEC, 0, 1),
            _step(_RETURN, _ERROR | errno.EPERM),
            _step(_RETURN, _ALLOW),
        ]
    for call in CALLS.keys() - _WITHOUT_EXECUTION:
        code += [
            _step(_EQUAL, CALLS[call][machine.column], 0, 1),
            _step(_RETURN, _ALLOW),
        ]
    return b"".join([*code, _step(_RETURN, _ERROR | errno.EPERM)])


def _step(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction; the jumps count the instructions that are left out."""
    return struct.pack("=HBBI", operation, if_true, if_false, value)
