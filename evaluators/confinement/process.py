"""What a process can ask of the kernel for itself: to end with its parent, to get no more than so
much, never to gain a privilege."""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Mapping

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


def die_with(parent: int) -> None:
    """Ends this process when the thread that started it ends; at once if it is gone already.

    Args:
        parent: Number of the process that started this one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def limit(limits: Mapping[str, int]) -> None:
    """Sets hard limits by their names in `resource`, or keeps a stricter one.

    Processor time has a second more to the hard limit, so that its end says what it was: the kernel
    sends SIGXCPU at the soft one, and at the hard one SIGKILL, as for a lack of memory.
    """
    for name, wanted in limits.items():
        kind = getattr(resource, name)
        hard = wanted + 1 if kind == resource.RLIMIT_CPU else wanted
        now = resource.getrlimit(kind)[1]
        if now != resource.RLIM_INFINITY:
            wanted, hard = min(wanted, now), min(hard, now)
        resource.setrlimit(kind, (wanted, hard))


def forbid_new_privileges() -> None:
    """No program that this process starts has more rights than it; Landlock and seccomp ask it."""
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
