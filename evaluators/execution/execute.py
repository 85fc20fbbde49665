"""The judge: runs a program and its tests in two confined processes, and believes the tests' alone.

The program's process answers calls with plain values; the tests' process makes the calls and
compares; this one starts both, keeps the clock, and ends both. The program is in none of the
processes that decide, so it can pass by giving the values that the tests ask for and by nothing
else: not by printing, not by ending well, not by changing what equality means.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, get_args

from pydantic import Field

import evaluators
from evaluators.gate.sandbox import one_line
from evaluators.gate.self_test import SandboxMissing, sandbox_missing
from hwlib.frozen import Frozen
from swopt.workloads.programs import Outcome, Status, Trial

_ROOT = Path(evaluators.__file__).parents[1]

_START = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from evaluators.execution.{side} import main
main()
"""

_VERDICT_BYTES = 1 << 14

_END_S = 1.0
"""How long a process that has said its last word may take to be gone."""


class Limits(Frozen):
    """What one program may take, all of its tests together."""

    cpu_s: Annotated[int, Field(ge=1, le=3600)] = 10
    """Processor time of the program, and of its tests, the start of Python included."""

    deadline_s: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 60.0
    """Wall-clock time. Well above `cpu_s`, so that a busy machine does not decide a verdict."""

    memory_bytes: Annotated[int, Field(ge=1 << 27, le=1 << 40)] = 1 << 30
    """Address space of each of the two processes."""

    answer_bytes: Annotated[int, Field(ge=1 << 10, le=1 << 26)] = 1 << 20
    """Longest value, as it crosses, that a call may give back."""


def execute(trial: Trial, limits: Limits = Limits()) -> Outcome:  # noqa: B008 (frozen)
    """Runs one program against its tests; about a quarter of a processor second.

    Args:
        trial: The program, and what it is held to.
        limits: What it may take.

    Returns:
        `passed` where every test held. Else `failed`: a test did not hold, or the program raised;
        `timeout`: it took too long; `crashed`: its process ended; `forbidden`: it asked for a file,
        the network, a process or the like, which it does not get.

    Raises:
        SandboxMissing: This machine cannot confine it; nothing was run.
    """
    if reason := sandbox_missing():
        raise SandboxMissing(f"programs that a model wrote are not run here: {reason}")
    with tempfile.TemporaryFile() as job, contextlib.ExitStack() as stack:
        job.write(json.dumps(asdict(trial)).encode())
        job.seek(0)
        candidate, examiner = _started(job.fileno(), limits, stack)
        said = _verdict(examiner, time.monotonic() + limits.deadline_s)
        if said is None:
            return Outcome("timeout", f"it took longer than {limits.deadline_s:g} s")
        if said == b"":
            return _ended("the tests' process", examiner, limits)
        status, reason = _read(said)
        if status == "crashed":
            return _ended("the program's process", candidate, limits)
        return Outcome(status, one_line(reason))


def _started(
    job: int, limits: Limits, stack: contextlib.ExitStack
) -> tuple["subprocess.Popen[bytes]", "subprocess.Popen[bytes]"]:
    """Both processes, joined by two pipes; the tests' gets the descriptor `job`; the stack ends
    them."""
    asked, answers = os.pipe(), os.pipe()
    given = [str(os.getpid()), str(limits.cpu_s), str(limits.memory_bytes)]
    try:
        candidate = _start("candidate", given, asked[0], answers[1], subprocess.DEVNULL)
        stack.callback(_end, candidate)
        given += [str(limits.answer_bytes), str(job)]
        examiner = _start("examiner", given, answers[0], asked[1], subprocess.PIPE, (job,))
        stack.callback(_end, examiner)
    finally:
        for descriptor in (*asked, *answers):
            os.close(descriptor)
    return candidate, examiner


def _start(
    side: str, arguments: list[str], source: int, sink: int, errors: int, keep: tuple[int, ...] = ()
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _START.format(side=side), str(_ROOT), *arguments],
        stdin=source,
        stdout=sink,
        stderr=errors,
        pass_fds=keep,
        env={},
        cwd="/",
        start_new_session=True,
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    # Not reaped by anybody else, so the number is still its own.
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stderr is not None:
        process.stderr.close()


def _verdict(examiner: "subprocess.Popen[bytes]", end_s: float) -> bytes | None:
    """What the tests' process says until it closes its pipe; None where the time is over."""
    assert examiner.stderr is not None
    said = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(examiner.stderr, selectors.EVENT_READ)
        while len(said) < _VERDICT_BYTES:
            if not selector.select(max(0.0, end_s - time.monotonic())):
                return None
            chunk = os.read(examiner.stderr.fileno(), _VERDICT_BYTES)
            if not chunk:
                break
            said += chunk
    return bytes(said)


def _read(said: bytes) -> tuple[Status, str]:
    try:
        status, reason = json.loads(said)
        if status in get_args(Status):
            return status, str(reason)
    except (ValueError, TypeError, RecursionError):
        pass
    return "failed", f"the tests' process said what is no verdict: {said[-200:].decode('latin-1')}"


def _ended(whose: str, process: "subprocess.Popen[bytes]", limits: Limits) -> Outcome:
    """What the end of a process means that had more to say."""
    try:
        code = process.wait(_END_S)
    except subprocess.TimeoutExpired:  # it has closed its pipes and lives on
        return Outcome("crashed", f"{whose} would not talk any more")
    if code == -signal.SIGXCPU:
        return Outcome("timeout", f"{whose} used up its {limits.cpu_s} s of processor time")
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return Outcome("crashed", f"{whose} {how}")
