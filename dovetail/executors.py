"""Where evaluations run: a process of its own for each, which can crash, hang and be ended.

`Isolated` is itself an `Evaluator`. Behind it stands a fork server that has imported the heavy
modules once; each evaluation is forked from it, in a process group of its own, with one thread, no
key in its environment and the parent's clock as its deadline. At the deadline the whole group is
ended, so no compiler outlives its evaluation. What a design does to its evaluation becomes a
status; it never becomes an exception.
"""

import contextlib
import ctypes
import errno
import multiprocessing
import os
import re
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dovetail.errors import EvaluatorBroken, NoSpace
from dovetail.formatting import one_line
from dovetail.side_by_side import side_by_side
from evaluators.design import DesignPoint
from evaluators.metrics import NO_VERDICT, Evaluation, Evaluator, Stage, Status, Verdict
from evaluators.target import Target
from hwlib.edit import RtlEdit

SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
"""Names of environment variables that no evaluation gets."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Each evaluation has one thread; evaluations side by side are the parallelism."""

FILE_LIMIT_BYTES = 4 << 30
"""Largest file that an evaluation may write."""

LAST_WORDS_BYTES = 400
"""How much of the error stream's end is quoted when an evaluation breaks."""

FULL = (errno.ENOSPC, errno.EDQUOT)

_PR_SET_PDEATHSIG = 1


class Broken(NamedTuple):
    """An evaluation that gave no answer."""

    status: Literal["failed", "timeout"]
    reason: str


class Isolated:
    """An evaluator in processes of its own.

    Args:
        evaluator: What is run there; picklable.
        deadline_s: Time one call may take, from when its process stands.
        workers: Calls at once; more wait.
        preload: Modules that the fork server imports once.
    """

    def __init__(
        self, evaluator: Evaluator, deadline_s: float, workers: int, preload: Sequence[str] = ()
    ) -> None:
        self.name = evaluator.name
        self._evaluator = evaluator
        self._deadline_s = deadline_s
        self._free = threading.BoundedSemaphore(workers)
        self._context = _fork_server(preload)
        self._groups: set[int] = set()
        self._groups_lock = threading.Lock()
        self._closed = False

    def gate(self, design: DesignPoint) -> tuple[Verdict, ...]:
        """The evaluator's verdicts, each edit judged in a process of its own, side by side.

        An edit whose gate broke is refused with the reason: nothing is known of it.
        """
        if not design.edits:
            return ()
        verdict = partial(self._verdict, design)
        return tuple(side_by_side(verdict, design.edits, len(design.edits)))

    def _verdict(self, design: DesignPoint, edit: RtlEdit) -> Verdict:
        got = self._call("gate", (design.model_copy(update={"edits": (edit,)}),), _silent)
        if isinstance(got, Broken):
            reason = f"{NO_VERDICT}: the gate {got.reason}"
            return Verdict(unit=edit.unit, accepted=False, reason=reason)
        (verdict,) = got
        found: Verdict = verdict
        return found

    def evaluate(self, design: DesignPoint, target: Target, on_stage: Stage) -> Evaluation:
        """The evaluator's evaluation, or one with status `timeout` or `failed`."""
        begin_s = time.monotonic()
        got = self._call("evaluate", (design, target), on_stage)
        if isinstance(got, Evaluation):
            return got
        status: Status = got.status
        return Evaluation(
            design_id=design.id,
            evaluator=self.name,
            status=status,
            reason=f"the evaluation {got.reason}",
            elapsed_s=time.monotonic() - begin_s,
        )

    def test(self, design: DesignPoint) -> dict[str, dict[str, float]]:
        """The evaluator's test figures.

        Raises:
            EvaluatorBroken: it gave none.
        """
        got = self._call("test", (design,), _silent)
        if isinstance(got, Broken):
            raise EvaluatorBroken(
                f"the scoring of the test data {got.reason}; mend that and go on with "
                "`dovetail resume`, or give the command again"
            )
        results: dict[str, dict[str, float]] = got
        return results

    def close(self) -> None:
        """Ends every evaluation in flight, and everything that they started."""
        with self._groups_lock:
            self._closed = True
            for group in self._groups:
                _end_group(group)

    def _call(self, method: str, arguments: tuple[Any, ...], on_stage: Stage) -> Any:
        """What `method` returns there, or `Broken`."""
        with self._free, tempfile.NamedTemporaryFile(prefix="dovetail-") as last_words:
            return self._run(method, arguments, on_stage, Path(last_words.name))

    def _run(
        self, method: str, arguments: tuple[Any, ...], on_stage: Stage, last_words: Path
    ) -> Any:
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_child,
            args=(theirs, str(last_words), self._evaluator, method, arguments),
            daemon=True,
        )
        with self._groups_lock:
            if self._closed:
                return Broken("failed", "was not begun: the run is stopping")
            process.start()
            assert process.pid is not None
            self._groups.add(process.pid)
        theirs.close()
        stage = [""]
        try:
            got = self._answer(ours, stage, on_stage)
            if got is None:
                got = Broken("failed", self._crash(process, stage[0], last_words))
            return got
        except TimeoutError:
            where = f", in the stage {stage[0]}" if stage[0] else ""
            return Broken("timeout", f"gave no answer within {self._deadline_s:g} s{where}")
        finally:
            _end_group(process.pid)  # its compilers too, where it is gone itself
            process.join()
            with self._groups_lock:
                self._groups.discard(process.pid)
            process.close()
            ours.close()

    def _answer(self, pipe: Connection, stage: list[str], on_stage: Stage) -> Any:
        """What comes through the pipe; `None` where it breaks off first.

        Raises:
            TimeoutError: the deadline has passed.
            NoSpace: the evaluation found the disk full.
        """
        deadline_s = time.monotonic() + self._deadline_s
        while pipe.poll(max(0.0, deadline_s - time.monotonic())):
            try:
                kind, value = pipe.recv()
            except (EOFError, ConnectionResetError):
                return None
            match kind:
                case "begun":
                    deadline_s = time.monotonic() + self._deadline_s
                case "stage":
                    stage[0] = str(value)
                    on_stage(stage[0])
                case "full":
                    raise NoSpace(f"no room for an evaluation ({value}); make room and resume")
                case "raised":
                    return Broken("failed", f"broke: {value}")
                case _:
                    return value
        raise TimeoutError

    def _crash(self, process: Any, stage: str, last_words: Path) -> str:
        process.join(timeout=5)
        code = process.exitcode
        how = "ended without an answer"
        if code is not None and code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        elif code:
            how = f"ended with exit code {code}"
        said = last_words.read_bytes()[-LAST_WORDS_BYTES:]
        words = one_line(said.decode(errors="replace"), LAST_WORDS_BYTES)
        where = f" in the stage {stage}" if stage else ""
        return f"{how}{where}" + (f"; last words: {words}" if words else "")


def _child(
    pipe: Connection, last_words: str, evaluator: Evaluator, method: str, arguments: tuple[Any, ...]
) -> None:
    """Runs in the forked process."""
    _confine(last_words)
    # A semaphore that a library makes then has no name, so that none is left behind at the end.
    multiprocessing.set_start_method("fork", force=True)
    pipe.send(("begun", None))
    try:
        if method == "evaluate":
            arguments = (*arguments, lambda stage: pipe.send(("stage", stage)))
        message: tuple[str, Any] = ("value", getattr(evaluator, method)(*arguments))
    except OSError as error:
        kind = "full" if error.errno in FULL else "raised"
        message = (kind, one_line(f"{type(error).__name__}: {error}", 400))
    except Exception as error:  # the boundary: what a design does to its evaluation is a status
        message = ("raised", one_line(f"{type(error).__name__}: {error}", 400))
    pipe.send(message)
    pipe.close()
    # No exit handlers: torch's and a compiler's may hang, and nothing here needs them.
    sys.stderr.flush()
    os._exit(0)


def _confine(last_words: str) -> None:
    os.setsid()
    if sys.platform == "linux":
        # The fork server ends with the run, however that ends; an evaluation must not outlive both.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, ValueError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, FILE_LIMIT_BYTES)):
        hard = resource.getrlimit(limit)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (most, hard))
    descriptor = os.open(last_words, os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    os.close(nothing)


def _fork_server(preload: Sequence[str]) -> ForkServerContext:
    """A context whose fork server runs, with the modules imported and no key around it."""
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *preload])
    with _environment_without_secrets():
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _environment_without_secrets() -> Iterator[None]:
    kept = {name: value for name, value in os.environ.items() if SECRET.search(name)}
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    for name in kept:
        del os.environ[name]
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        os.environ.update(kept)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _end_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        # Before the child's setsid there is no such group, only the process.
        with contextlib.suppress(ProcessLookupError):
            os.kill(group, signal.SIGKILL)
    except PermissionError:
        pass  # what is left of the group is dead and not yet reaped


def _silent(stage: str) -> None:
    pass
