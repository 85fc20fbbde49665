"""A program passes by its values alone, and harms nobody."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from evaluators.execution import execute as execution
from evaluators.execution.execute import Limits, execute
from evaluators.gate.self_test import SandboxMissing
from swopt.workloads.programs import Outcome, Trial
from tests.evaluators.hostile_programs import (
    AS_EDITS,
    ENDLESS,
    FOOL_AN_ONLOOKER,
    FORGERIES,
    HARM,
    HARMLESS,
    RIGHT,
    WRONG,
)
from tests.hostile.machine import needs_sandbox

pytestmark = needs_sandbox

HEAD = "import math\ndef near(a, b): return abs(a - b) < 1e-9\n"

TESTS = """
# SECRET
assert double(3) == 6
assert all(map(lambda pair: pair[1] == 2 * pair[0], zip([7, 8], map(double, [7, 8]), strict=True)))
assert near(double(0.5), 1.0) and double("ab") == "abab"
assert math.isclose(double(math.pi), math.tau)
assert double([1, (2, None)]) == [1, (2, None), 1, (2, None)]
"""

NEAR_TESTS = "value = double(3)\nassert value == 6 or near(value, 6)\n"


def trial(program: str, tests: str = TESTS, names: tuple[str, ...] = ("double",)) -> Trial:
    return Trial(program, HEAD, tests, names)


@pytest.mark.parametrize("name", FORGERIES)
def test_no_program_passes_without_the_values(name: str) -> None:
    found = execute(trial(FORGERIES[name]))
    assert found.status in ("failed", "crashed"), found
    assert found.reason and found.reason.isprintable() and len(found.reason) <= 400


@pytest.mark.parametrize("name", FOOL_AN_ONLOOKER)
def test_forgeries_do_pass_where_they_share_a_process_with_their_tests(name: str) -> None:
    """What the test above shows is worth nothing if the programs could not cheat anybody."""
    together = f"{HEAD}\n{FORGERIES[name]}\n{NEAR_TESTS}"
    assert subprocess.run([sys.executable, "-I", "-c", together], timeout=60).returncode == 0
    assert execute(trial(FORGERIES[name], NEAR_TESTS)).status in ("failed", "crashed")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in AS_EDITS else []) for n in HARM]
)
def test_what_would_harm_is_stopped_and_told(name: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("6")
    program, statuses = HARM[name]
    for word, place in (("KEPT", kept), ("FOLDER", tmp_path), ("JUDGE", os.getpid())):
        program = program.replace(word, str(place))
    found = execute(trial(program), Limits(memory_bytes=1 << 28))
    assert found.status in statuses.split() and found.reason, found
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("kept", "6")]


def test_what_never_ends_is_ended() -> None:
    found: dict[str, Outcome] = {}

    def judge(name: str) -> None:
        found[name] = execute(trial(ENDLESS[name]), Limits(cpu_s=1, deadline_s=4))

    threads = [threading.Thread(target=judge, args=(name,)) for name in ENDLESS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: outcome.status for name, outcome in found.items()} == dict.fromkeys(
        ENDLESS, "timeout"
    )


@pytest.mark.parametrize("name", HARMLESS)
def test_an_honest_program_passes(name: str, tmp_path: Path) -> None:
    assert execute(trial(HARMLESS[name].replace("FOLDER", str(tmp_path)))) == Outcome("passed", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("tests", "status"),
    [
        ("try: double(None)\nexcept TypeError: pass\nelse: assert False", "passed"),
        ("try: double(None)\nexcept ValueError: pass", "failed"),
        ("assert double", "failed"),
        ("assert double == double and not double == 1", "passed"),
        ("assert double(1) == 3", "failed"),
        ("assert double({1: 2.5}.get(1)) == 5", "passed"),
        ("import os\nos.remove('/etc/passwd')", "forbidden"),
        ("import os\nos._exit(0)", "crashed"),
        ("double(near)", "failed"),
        ("syntax error", "failed"),
    ],
)
def test_tests_see_values_and_errors_as_if_they_called_it(tests: str, status: str) -> None:
    assert execute(trial(RIGHT, tests)).status == status


def test_a_program_cannot_end_a_loop_over_its_answers() -> None:
    """As `map` would end at it, and everything behind it would go untested."""
    program = "def double(x): raise StopIteration\n"
    assert execute(trial(program, "assert list(map(double, [1])) == []")).status == "failed"


def test_an_answer_may_be_as_long_as_its_limit() -> None:
    long = trial("def double(x): return list(range(1000))\n", "assert len(double(1)) == 1000")
    assert execute(long).status == "passed"
    assert execute(long, Limits(answer_bytes=1 << 10)) == Outcome(
        "failed", "it gave back more than is read"
    )


def test_a_program_that_asks_to_end_is_told_apart_from_one_that_is_gone() -> None:
    assert execute(trial(FORGERIES["asks to end"])) == Outcome("failed", "SystemExit: 0")
    assert execute(trial(FORGERIES["ends well before its tests"])) == Outcome(
        "crashed", "the program's process ended with code 0"
    )


def test_every_plain_value_crosses_both_ways_as_it_is() -> None:
    program = (
        "seen = []\n"
        "def same(x):\n    seen.append(x)\n    return x\n"
        "def kinds(): return repr(seen)\n"
    )
    tests = """
values = [None, True, 0, -7, 10**400, 0.1, -0.0, float("inf"), 1j, "é\\ud800", b"a\\0", [], (1,),
          {1, 2}, frozenset({3}), {"a": [1, {2: (3,)}], (1, 2): None}, int]
for value in values:
    back = same(value)
    assert back == value and type(back) is type(value), value
assert str(same(-0.0)) == "-0.0" and same(float("nan")) != same(float("nan"))
assert kinds() == repr(values + [-0.0, float("nan"), float("nan")])
"""
    assert execute(trial(program, tests, ("same", "kinds"))) == Outcome("passed", "")


def test_objects_of_the_program_stay_there_and_can_be_used() -> None:
    program = (
        "class Node:\n    def __init__(self, x): self.x, self.next = x, None\n"
        "def total(node):\n    return node.x + total(node.next) if node else 0\n"
    )
    tests = "a = Node(1)\na.next = Node(2)\na.next.x = 5\nassert total(a) == 6 and a.next.x == 5\n"
    assert execute(trial(program, tests, ("Node", "total"))) == Outcome("passed", "")


def test_names_that_the_tests_do_not_ask_for_count_for_nothing() -> None:
    program = "def sum(x): return 0\ndef math(): pass\n" + RIGHT
    assert execute(trial(program, "assert double(sum([1, 2])) == 6 and math.e")).status == "passed"
    assert execute(trial("def sum(x): return 7", "assert sum([1]) == 7", ("sum",))).status == (
        "passed"
    )
    assert execute(trial(WRONG, "assert sum([1]) == 1", ("sum",))) == Outcome(
        "failed", "the program does not define sum"
    )


def test_where_there_is_no_sandbox_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "sandbox_missing", lambda: "the kernel offers no Landlock")
    monkeypatch.setattr(execution, "_started", lambda *_: pytest.fail("it was started"))
    with pytest.raises(SandboxMissing, match="not run here: the kernel offers no Landlock"):
        execute(trial(RIGHT))
