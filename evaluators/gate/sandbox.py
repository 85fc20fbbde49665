"""The near side of the sandbox: starts a confined process, feeds it, reads it, ends it.

The process starts with an empty environment and without the parent's descriptors; it imports what
it needs and then confines itself (`evaluators.gate.inmate`) before it touches anything untrusted.
What comes back is bytes through one pipe, of limited length, and as untrusted as what made them.
The one clock that counts is the parent's: at the deadline the whole process group is killed.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import hwlib

Layer = Literal["limits", "landlock", "seccomp"]

LAYERS: tuple[Layer, ...] = get_args(Layer)
"""All of a sandbox."""

_ROOT = Path(hwlib.__file__).parents[1]
"""Where the process finds the same code as this one: it looks neither at `PYTHONPATH` nor at the
working directory."""

_START = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from evaluators.gate.inmate import main
main()
"""

_CHUNK_BYTES = 1 << 16

_ENDS = {
    signal.SIGSYS: "it made a system call of a foreign architecture",
    signal.SIGXCPU: "it used up its processor time",
    signal.SIGSEGV: "it crashed or gave up (SIGSEGV)",
}
"""What the signals mean that end a confined process."""


class SandboxError(Exception):
    """The process gave no answer; the message says why in one line."""


def run(
    job: Sequence[str],
    payload: bytes,
    *,
    deadline_s: float,
    answer_limit_bytes: int,
    layers: Sequence[Layer] = LAYERS,
) -> bytes:
    """Runs one job of `evaluators.gate.inmate` in a process of its own.

    Args:
        job: Name of the job and its arguments.
        payload: What the job reads.
        deadline_s: Wall-clock time that it may take.
        answer_limit_bytes: Longest answer that is read.
        layers: What it is confined by.

    Returns:
        The answer; it is as trustworthy as the job.

    Raises:
        SandboxError: It took too long, said too much, or ended without an answer.
    """
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", _START, str(_ROOT), str(os.getpid()), ",".join(layers), *job],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
        start_new_session=True,
    )
    try:
        answer = _converse(process, payload, deadline_s, answer_limit_bytes)
        if not answer:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
            raise SandboxError(_how_it_ended(process.poll()))
        return answer
    finally:
        # Not reaped yet, or alone in its group: the number cannot be another's by now.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def one_line(text: str, limit: int = 300) -> str:
    """Text of unknown origin as printable characters on one line."""
    return "".join(c if c.isprintable() else " " for c in text[:limit])


def _converse(
    process: "subprocess.Popen[bytes]", payload: bytes, deadline_s: float, limit_bytes: int
) -> bytes:
    """Sends the payload and reads the answer, both within the deadline."""
    assert process.stdin is not None and process.stdout is not None
    end_s = time.monotonic() + deadline_s
    unsent, answer = memoryview(payload), bytearray()
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdin, selectors.EVENT_WRITE)
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            ready = selector.select(max(0.0, end_s - time.monotonic()))
            if not ready or time.monotonic() > end_s:
                raise SandboxError(f"it took longer than {deadline_s:.0f} s")
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    unsent = _sent(process.stdin.fileno(), unsent)
                    if not unsent:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                chunk = os.read(process.stdout.fileno(), _CHUNK_BYTES)
                answer += chunk
                if not chunk:
                    return bytes(answer)
                if len(answer) > limit_bytes:
                    raise SandboxError(f"its answer is longer than {limit_bytes >> 10} KiB")


def _sent(descriptor: int, unsent: memoryview) -> memoryview:
    """What is left to send; nothing where nobody reads any more."""
    try:
        return unsent[os.write(descriptor, unsent[:_CHUNK_BYTES]) :] if unsent else unsent
    except BlockingIOError:
        return unsent
    except BrokenPipeError:
        return unsent[:0]


def _how_it_ended(code: int | None) -> str:
    if code is None or code >= 0:
        return "the process ended without an answer"
    ended_by = signal.Signals(-code)
    return _ENDS.get(ended_by, f"the process was ended by {ended_by.name}")
