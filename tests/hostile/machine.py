"""Where the tests of this room can run.

It does not ask the self-test: where that finds a hole in a sandbox that the kernel could give,
tests fail and are not skipped.
"""

import platform
import sys

import pytest

from evaluators.confinement import landlock, seccomp


def _lacks() -> str:
    if sys.platform != "linux":
        return "the sandbox needs Linux"
    if platform.machine() not in seccomp.MACHINES:
        return f"there is no seccomp filter for {platform.machine()}"
    return "" if landlock.abi() else "the kernel offers no Landlock"


needs_sandbox = pytest.mark.skipif(bool(_lacks()), reason=_lacks() or "there is a sandbox")
"""Skips where the kernel or the processor cannot give a sandbox."""
