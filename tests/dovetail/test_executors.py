"""An evaluation in a process of its own can do anything but harm the run."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dovetail.errors import EvaluatorBroken, NoSpace
from dovetail.executors import Isolated
from dovetail.testing import ToyEvaluator
from evaluators.design import DesignPoint
from evaluators.metrics import Evaluation, Stage, Verdict, refusal
from evaluators.target import Target
from hwlib.edit import RtlEdit

DESIGN = DesignPoint(edits=(RtlEdit(unit="mac", source="x", latency=1),))


def crash() -> None:
    print("assertion failed in pass 7\x1b[31m", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


def hang() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def leave() -> None:
    os._exit(0)


def fail() -> None:
    raise RuntimeError("no such cell: FOO_X1")


def fill() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@dataclass(frozen=True)
class Misbehaving:
    """Does something else than measuring."""

    what: Callable[[], None]
    name: str = "misbehaving"

    def gate(self, design: DesignPoint) -> tuple[Verdict, ...]:
        self.what()
        return ()

    def evaluate(self, design: DesignPoint, target: Target, on_stage: Stage) -> Evaluation:
        on_stage("synthesis")
        self.what()
        raise AssertionError("not reached")

    def test(self, design: DesignPoint) -> dict[str, dict[str, float]]:
        self.what()
        return {}


@dataclass(frozen=True)
class Looking:
    """Tells what an evaluation sees of the world, through its reason."""

    name: str = "looking"

    def gate(self, design: DesignPoint) -> tuple[Verdict, ...]:
        return ()

    def evaluate(self, design: DesignPoint, target: Target, on_stage: Stage) -> Evaluation:
        environment = Path("/proc/self/environ").read_bytes().decode()
        parent = Path(f"/proc/{os.getppid()}/environ").read_bytes().decode()
        seen = [environment, parent, repr(dict(os.environ)), f"group {os.getpgrp() == os.getpid()}"]
        return Evaluation(
            design_id=design.id, evaluator=self.name, status="failed", reason=" ".join(seen)
        )

    def test(self, design: DesignPoint) -> dict[str, dict[str, float]]:
        return {}


def test_it_gives_what_the_evaluator_gives_with_its_stages() -> None:
    stages: list[str] = []
    isolated = Isolated(ToyEvaluator(), deadline_s=60, workers=1)
    got = isolated.evaluate(DESIGN, Target(), stages.append)
    assert got == ToyEvaluator().evaluate(DESIGN, Target(), lambda stage: None)
    assert stages == ["accuracy", "synthesis"]
    assert isolated.gate(DESIGN) == ToyEvaluator().gate(DESIGN)
    assert isolated.gate(DesignPoint()) == ()
    assert isolated.test(DESIGN) == ToyEvaluator().test(DESIGN)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (crash, r"ended by SIGSEGV in the stage synthesis; last words: assertion failed in pass 7"),
        (leave, "ended without an answer in the stage synthesis"),
        (fail, "broke: RuntimeError: no such cell: FOO_X1"),
    ],
)
def test_a_crash_is_a_status_with_the_last_words(what: Callable[[], None], said: str) -> None:
    isolated = Isolated(Misbehaving(what), deadline_s=60, workers=1)
    got = isolated.evaluate(DESIGN, Target(), lambda stage: None)
    assert got.status == "failed" and not got.metrics
    assert re.search(said, got.reason), got.reason
    assert "\x1b" not in got.reason
    verdicts = isolated.gate(DESIGN)
    if what is not leave:
        assert [v.accepted for v in verdicts] == [False]
    with pytest.raises(EvaluatorBroken, match="dovetail resume"):
        isolated.test(DESIGN)


@dataclass(frozen=True)
class Stuck(ToyEvaluator):
    """Never has done with an edit of the rescaler."""

    def gate(self, design: DesignPoint) -> tuple[Verdict, ...]:
        if any(edit.unit == "rescaler" for edit in design.edits):
            time.sleep(60)
        return super().gate(design)


def test_each_edit_is_judged_alone_and_one_that_hangs_is_all_that_is_not_known() -> None:
    edits = tuple(
        RtlEdit(unit=unit, source="amaranth", latency=1) for unit in ("rescaler", "activation")
    )
    design = DesignPoint(edits=edits)
    verdicts = Isolated(Stuck(), deadline_s=8, workers=2).gate(design)
    assert [(v.unit, v.accepted) for v in verdicts] == [("rescaler", False), ("activation", True)]
    refused = refusal(design.id, verdicts)
    assert refused is not None and refused.status == "failed"
    assert "edit of rescaler refused: no verdict: the gate gave no answer within 8 s" in (
        refused.reason
    )
    judged = [v.model_copy(update={"reason": "it is wrong"}) for v in verdicts]
    known = refusal(design.id, judged)
    assert known is not None and known.status == "invalid"
    assert refusal(design.id, verdicts[1:]) is None


LOCKING = """
import multiprocessing
from dovetail.executors import Isolated
from dovetail.testing import ToyEvaluator
from evaluators.design import DesignPoint

class Locking(ToyEvaluator):
    def test(self, design):
        self.__dict__["lock"] = multiprocessing.RLock()
        return super().test(design)

if __name__ == "__main__":
    Isolated(Locking(), deadline_s=60, workers=1).test(DesignPoint())
"""


def test_a_library_that_makes_a_semaphore_leaves_nothing_behind(tmp_path: Path) -> None:
    script = tmp_path / "locking.py"
    script.write_text(LOCKING)
    command = [sys.executable, str(script)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert ended.stderr == ""


def test_a_hang_is_ended_at_the_deadline() -> None:
    isolated = Isolated(Misbehaving(hang), deadline_s=5, workers=1)
    got = isolated.evaluate(DESIGN, Target(), lambda stage: None)
    assert got.status == "timeout"
    assert got.reason == "the evaluation gave no answer within 5 s, in the stage synthesis"


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_deadline_ends_the_tools_of_an_evaluation_too(tmp_path: Path) -> None:
    isolated = Isolated(Descending(str(tmp_path / "pid")), deadline_s=5, workers=1)
    assert isolated.evaluate(DESIGN, Target(), lambda stage: None).status == "timeout"
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not running(pid):
            break
        time.sleep(0.02)
    assert not running(pid)


@dataclass(frozen=True)
class Descending(ToyEvaluator):
    """Starts a tool that does not end."""

    path: str = ""

    def __init__(self, path: str) -> None:
        super().__init__()
        object.__setattr__(self, "path", path)

    def evaluate(self, design: DesignPoint, target: Target, on_stage: Stage) -> Evaluation:
        child = subprocess.Popen(["sleep", "600"])
        Path(self.path).write_text(str(child.pid))
        time.sleep(600)
        raise AssertionError("not reached")


def test_a_full_disk_stops_the_run_and_is_no_status() -> None:
    isolated = Isolated(Misbehaving(fill), deadline_s=60, workers=1)
    with pytest.raises(NoSpace, match="no room for an evaluation"):
        isolated.evaluate(DESIGN, Target(), lambda stage: None)


def test_no_evaluation_sees_a_key() -> None:
    # A process of its own, so that its fork server is started with the key around.
    script = (
        "from dovetail.executors import Isolated\n"
        "from tests.dovetail.test_executors import DESIGN, Looking, Target\n"
        "got = Isolated(Looking(), 60, 1).evaluate(DESIGN, Target(), print)\n"
        "print(got.reason)\n"
    )
    environment = os.environ | {"OPENAI_API_KEY": "canary-7f3a", "DOVETAIL_SEEN": "yes"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert "DOVETAIL_SEEN" in done.stdout and "group True" in done.stdout
    assert "canary-7f3a" not in done.stdout


def test_close_ends_what_is_in_flight() -> None:
    isolated = Isolated(Misbehaving(hang), deadline_s=600, workers=1)
    began = threading.Event()
    got: list[Evaluation] = []

    def work() -> None:
        got.append(isolated.evaluate(DESIGN, Target(), lambda stage: began.set()))

    thread = threading.Thread(target=work)
    thread.start()
    began.wait()
    isolated.close()
    thread.join()
    assert got[0].status == "failed"
    assert "the run is stopping" in isolated.evaluate(DESIGN, Target(), print).reason
