"""The sandbox is what it claims to be, and the self-test would notice if it were not."""

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from evaluators.confinement import landlock, seccomp
from evaluators.confinement.launch import MEMORY_BYTES, confined
from evaluators.gate import self_test
from evaluators.gate.attempts import ATTEMPTS, OF_LANDLOCK
from evaluators.gate.sandbox import LAYERS, Layer, SandboxError, run
from evaluators.gate.self_test import hole, sandbox_missing
from tests.hostile.attacks import RAW_CALLS
from tests.hostile.machine import needs_sandbox

pytestmark = needs_sandbox

ALLOW, KILL, DENY = 0x7FFF0000, 0x80000000, 0x00050001


def test_the_self_test_is_quick_and_finds_no_hole() -> None:
    begin_s = time.monotonic()
    assert sandbox_missing.__wrapped__() == ""
    assert time.monotonic() - begin_s < 5  # a quarter of a second where nothing else runs


@pytest.mark.parametrize("name", ATTEMPTS)
def test_every_attempt_succeeds_where_nothing_is_in_its_way(name: str) -> None:
    assert hole((), [name]) == f"a process confined by nothing was not kept from: {name}"


@pytest.mark.parametrize(
    ("layers", "open_ones"),
    [
        (("limits",), list(ATTEMPTS)),
        (("limits", "landlock"), [name for name in ATTEMPTS if name not in OF_LANDLOCK]),
        (("limits", "seccomp"), []),
        (LAYERS, []),
    ],
    ids=str,
)
def test_a_missing_layer_is_seen(layers: Sequence[Layer], open_ones: list[str]) -> None:
    if landlock.abi() < 6:
        pytest.skip("an older Landlock stops less")
    found = hole(layers, list(ATTEMPTS)).partition(": ")[2]
    assert found == ", ".join(open_ones)


@pytest.mark.parametrize("lost", ["landlock", "seccomp"])
def test_a_layer_that_is_not_applied_is_seen(lost: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = self_test.hole

    def without_it(layers: Sequence[Layer], names: Sequence[str]) -> str:
        return whole([layer for layer in layers if layer != lost], names)

    monkeypatch.setattr(self_test, "hole", without_it)
    assert "was not kept from: " in sandbox_missing.__wrapped__()


def test_a_kernel_without_landlock_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    assert sandbox_missing.__wrapped__() == "the kernel offers no Landlock"


def test_another_system_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "needs Linux" in sandbox_missing.__wrapped__()


@pytest.mark.parametrize("machine", list(seccomp.MACHINES))
def test_the_filter_allows_its_list_and_nothing_else(machine: str) -> None:
    """The program run by an interpreter of classic BPF, for both architectures."""
    about = seccomp.MACHINES[machine]
    code = seccomp.program(about)
    allowed = {numbers[about.column] for numbers in seccomp.CALLS.values()}
    for number in range(1024):
        verdict = interpreted(code, number, about.audit)
        assert verdict == (ALLOW if number in allowed else DENY), number
    for call in ("mmap", "mprotect"):
        number = seccomp.CALLS[call][about.column]
        for protection in range(8):
            verdict = interpreted(code, number, about.audit, protection)
            assert verdict == (DENY if protection & 4 else ALLOW)
    assert not allowed & {numbers[about.column] for numbers in RAW_CALLS.values()}
    assert interpreted(code, 0x40000000 | 39, about.audit) == KILL
    for other in (0x40000003, 0xC000003E, 0xC00000B7):
        if other != about.audit:
            assert interpreted(code, seccomp.CALLS["read"][about.column], other) == KILL


def interpreted(code: bytes, number: int, audit: int, third_argument: int = 0) -> int:
    """What the kernel would return for one call."""
    data = struct.pack("=IIQ6Q", number, audit, 0, 0, 0, third_argument, 0, 0, 0)
    steps = list(struct.iter_unpack("=HBBI", code))
    at = accumulator = 0
    while True:
        operation, if_true, if_false, value = steps[at]
        at += 1
        if operation == 0x06:
            return int(value)
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        else:
            holds = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[operation]
            at += if_true if holds else if_false


def test_a_tool_writes_in_its_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    code = (
        "import ctypes, sys; from pathlib import Path\n"
        "from evaluators.confinement import landlock\n"
        "ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)\n"
        "folder = Path(sys.argv[1])\n"
        "landlock.deny_writing_outside([folder / 'work'])\n"
        "(folder / 'work' / 'kept').write_text('x')\n"
        "open('/dev/null', 'w').write('x'); open('/etc/passwd').read()\n"
        "try: (folder / 'new').write_text('x')\n"
        "except PermissionError: print('denied')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert done.stdout == "denied\n", done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "work"]


def test_a_tool_has_limits_and_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        connect = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
        script = f'ulimit -v; ulimit -t; ulimit -c; {sys.executable} -c "{connect}" 2>&1 | tail -1'
        done = subprocess.run(
            confined(["sh", "-c", script], [tmp_path], 7), capture_output=True, text=True
        )
    memory, cpu, core, said = done.stdout.splitlines()
    assert (int(memory) << 10, cpu, core) == (MEMORY_BYTES, "7", "0")
    assert "Permission denied" in said or landlock.abi() < 4


def test_an_unknown_job_is_no_answer() -> None:
    with pytest.raises(SandboxError, match="without an answer"):
        run(["nothing"], b"", deadline_s=10, answer_limit_bytes=10)
