"""Hostile edits get nowhere: each is blocked with a reason, or lets the honest unit through."""

import os
import platform
import re
import signal
import subprocess
import sys
import time
from functools import cache

import pytest

from evaluators.gate import elaboration, sandbox
from evaluators.gate.elaboration import ElaborationError, elaborate_alone
from evaluators.gate.netlist import check_netlist
from hwlib.config import CoreConfig
from hwlib.edit import RtlEdit
from hwlib.unit_source import shipped_source, source_to_rtlil
from tests.hostile.attacks import EVERYTHING, HARMLESS, NETLISTS, RAW_CALLS, SLOW, WRAPPED
from tests.hostile.canaries import Canaries
from tests.hostile.machine import needs_sandbox

pytestmark = needs_sandbox

CORE = CoreConfig()
MAC = shipped_source("mac")


@cache
def honest() -> str:
    """The netlist that the shipped unit has in this process, which never ran an attack."""
    return source_to_rtlil("mac", MAC, CORE)


def gated(source: str) -> str:
    """What becomes of a source up to the simulation: a reason, or `HARMLESS`."""
    try:
        text = elaborate_alone(RtlEdit(unit="mac", source=source, latency=2), CORE)
        check_netlist("mac", CORE, text)
    except (ElaborationError, ValueError) as error:
        return str(error)
    return HARMLESS if text == honest() else "another netlist"


@pytest.mark.parametrize("name", EVERYTHING)
def test_an_attack_is_blocked_or_harmless(
    name: str, canaries: Canaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, expected = EVERYTHING[name]
    for word, place in canaries.places().items():
        source = source.replace(word, place)
    if name in SLOW:
        monkeypatch.setattr(elaboration, "DEADLINE_S", 1.0)
    begin_s = time.monotonic()
    seen = gated(f"{source}\n{MAC}")
    assert time.monotonic() - begin_s < 20
    assert re.search(expected, seen), seen
    assert seen.isprintable() and len(seen) < 1000
    canaries.check(seen)


@pytest.mark.parametrize("name", NETLISTS)
def test_a_hostile_netlist_is_blocked(
    name: str, canaries: Canaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement, expected = NETLISTS[name]
    if name in SLOW:
        monkeypatch.setattr(elaboration, "DEADLINE_S", 1.0)
    seen = gated(MAC + WRAPPED.replace("ATTACK", statement))
    assert re.search(expected, seen), seen
    assert seen.isprintable() and len(seen) < 1000
    canaries.check(seen)


def test_an_honest_unit_passes_beside_the_attacks(canaries: Canaries) -> None:
    assert gated(MAC) == HARMLESS
    canaries.check("")


def test_raw_system_calls_are_not_there() -> None:
    column = ["x86_64", "aarch64"].index(platform.machine())
    source = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nopen_ones = []\n"
    for name, numbers in RAW_CALLS.items():
        # Arguments that name nothing: what is allowed says so with another error, or succeeds.
        source += (
            f"if libc.syscall({numbers[column]}, -1, 0, 0, 0, 0, 0) != -1 "
            f"or ctypes.get_errno() != 1: open_ones.append({name!r})\n"
        )
    assert gated(f"{source}assert not open_ones, open_ones\n{MAC}") == HARMLESS


@pytest.mark.skipif(platform.machine() != "x86_64", reason="calls of x32 are x86-64's")
def test_a_call_of_a_foreign_architecture_ends_the_process() -> None:
    source = "import ctypes; ctypes.CDLL(None).syscall(0x40000000 | 39)"
    assert "foreign architecture" in gated(f"{source}\n{MAC}")


def test_memory_cannot_become_code() -> None:
    source = (
        "import ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "libc.mmap.restype = ctypes.c_void_p\n"
        "plain = libc.mmap(None, 4096, 3, 0x22, -1, 0)\n"
        "assert plain != ctypes.c_void_p(-1).value\n"
        "assert libc.mmap(None, 4096, 7, 0x22, -1, 0) == ctypes.c_void_p(-1).value\n"
        "assert libc.mprotect(ctypes.c_void_p(plain), 4096, 5) == -1\n"
    )
    assert gated(source + MAC) == HARMLESS


def test_nothing_outlives_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def noted(*arguments, **options):  # type: ignore[no-untyped-def]
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(sandbox.subprocess, "Popen", noted)
    monkeypatch.setattr(elaboration, "DEADLINE_S", 1.0)
    assert "longer than 1 s" in gated("import time; time.sleep(1000)")
    assert started[0].returncode == -9


def test_a_process_dies_with_its_parent() -> None:
    code = (
        "from evaluators.gate import sandbox; import subprocess\n"
        "old = subprocess.Popen\n"
        "def noted(*a, **k):\n"
        "    p = old(*a, **k); print(p.pid, flush=True); return p\n"
        "subprocess.Popen = noted\n"
        "sandbox.run(['elaborate', 'mac', 'Mac', '[]'], b'import time; time.sleep(1000)',"
        " deadline_s=60, answer_limit_bytes=9)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    inmate = int(parent.stdout.readline())
    time.sleep(1)
    os.kill(inmate, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    end_s = time.monotonic() + 10
    while time.monotonic() < end_s:
        try:
            os.kill(inmate, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("the confined process is still there")
