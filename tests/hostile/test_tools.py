"""Tools that hang, crash, flood or wander: the edit is refused with the reason, we go on."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from evaluators.gate import vectors
from evaluators.gate.check import judge
from evaluators.silicon import verilator
from hwlib.config import CoreConfig
from hwlib.edit import RtlEdit
from hwlib.unit_source import shipped_source
from tests.hostile.canaries import Canaries
from tests.hostile.machine import needs_sandbox

pytestmark = [
    pytest.mark.eda,
    pytest.mark.skipif(
        bool(verilator.available()), reason=verilator.available() or "Verilator is here"
    ),
    needs_sandbox,
]

CORE = CoreConfig()
EDIT = RtlEdit(unit="exponential", source=shipped_source("exponential"), latency=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds Verilator's runtime, which takes ten seconds to compile."""
    verilator.versions()  # of the real compiler
    folder = tmp_path_factory.mktemp("store")
    verilator._runtime(folder)
    return folder


def test_an_honest_unit_is_accepted(store: Path, canaries: Canaries) -> None:
    judgement = judge(EDIT, CORE, frozenset(), store)
    assert judgement.accepted, judgement.reason
    canaries.check(judgement.reason)


@pytest.mark.parametrize("start", [0, 1])
def test_a_constant_that_only_power_up_gives_is_refused(start: int, store: Path) -> None:
    source = EDIT.source.replace(
        "(entry + half)",
        f"(entry + half + (kept != {start}))",
    ).replace(
        "        entry = Signal(7)\n",
        f"        kept = Signal(init={start}, reset_less=True)\n"
        "        m.d.sync += kept.eq(kept)\n"
        "        entry = Signal(7)\n",
    )
    assert source.count("kept") == 4
    judgement = judge(EDIT.model_copy(update={"source": source}), CORE, frozenset(), store)
    assert not judgement.accepted and "differs from the reference" in judgement.reason


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("sleep 100", "g.. took longer than 2 s"),
        ("kill -SEGV $$", "g.. died of SIGSEGV"),
        ("echo 'internal error: out of luck' >&2; exit 1", "internal error: out of luck"),
        ("echo 'error: all is lost'", "made no dut.so; its last words: error: all is lost"),
        ("printf '\\033[2J\\033]0;owned\\007'; exit 1", r"refused the netlist: \[2J \]0;owned"),
        ("yes; exit 1", "took longer than 2 s|refused the netlist"),
        ("echo x > FOLDER/new; exit 1", "Permission denied"),
        ("echo x >> FOLDER/kept; exit 1", "Permission denied"),
        ("env; exit 1", "VERILATOR_ROOT"),
    ],
)
def test_a_faulty_compiler_refuses_the_edit(
    script: str,
    reason: str,
    store: Path,
    tmp_path: Path,
    canaries: Canaries,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for library in store.glob("*.so"):
        library.unlink()
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\n{script.replace('FOLDER', str(canaries.folder))}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr(verilator, "BUILD_DEADLINE_S", 2.0 if "longer" in reason else 60.0)
    judgement = judge(EDIT, CORE, frozenset(), store)
    assert not judgement.accepted
    assert re.search(reason, judgement.reason), judgement.reason
    canaries.check(judgement.reason)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("for (;;) {}", "longer than 1 s"),
        ("abort();", "gave up"),
        ("*(volatile int*)8 = 1;", "gave up"),
        ("_exit(0);", "without an answer"),
        ('if (open("/etc/passwd", 0) >= 0) _exit(0); for (;;) {}', "longer than 1 s"),
        ("if (fork() >= 0 || socket(2, 1, 0) >= 0) _exit(0); for (;;) {}", "longer than 1 s"),
        ("while (malloc(1 << 24)) {} abort();", "gave up"),
    ],
)
def test_a_simulator_that_runs_wild_is_ended(
    body: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, library = tmp_path / "wild.cpp", tmp_path / "wild.so"
    source.write_text(
        "#include <cstdint>\n#include <cstdlib>\n#include <fcntl.h>\n#include <sys/socket.h>\n"
        "#include <unistd.h>\n"
        'extern "C" void dovetail_unit(const int64_t*, int64_t*, uint64_t) {' + body + "}\n"
    )
    subprocess.run(["g++", "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setattr(vectors, "DEADLINE_S", 1.0)
    with pytest.raises(verilator.ToolFailed, match=reason):
        vectors._run(library, np.zeros((4, 2), np.int64), 1)
