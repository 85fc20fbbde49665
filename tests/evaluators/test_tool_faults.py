"""A tool that breaks costs a design its figures, and nothing else: the next evaluation is sound."""

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from evaluators.confinement.launch import confined
from evaluators.design import DesignPoint
from evaluators.metrics import METRICS, Evaluation
from evaluators.pipeline import Pipeline
from evaluators.silicon import synthesis, verilator, yosys
from evaluators.target import Target

pytestmark = [
    pytest.mark.slow,
    pytest.mark.eda,
    pytest.mark.skipif(
        bool(verilator.available()), reason=verilator.available() or "there is a compiler"
    ),
]

DESIGN = DesignPoint.model_validate(
    {
        "hardware": {"rows": 4, "columns": 4},
        "compression": {"pruning": {"vision_blocks": (1, 2, 3), "decoder_blocks": (1, 2)}},
    }
)

HASTE_S = 8.0
"""A deadline that no sound tool misses on this design."""

TOOLS = {
    "mapping": (yosys, "evaluators.silicon.yosys"),
    "yosys": (verilator, "pyosys"),
    "verilator": (verilator, "verilator_bin"),
    "g++": (verilator, "g++"),
}
"""Each tool: who starts it, and what stands in its command line."""

FAULTS = {
    "crash": (
        "print('assertion failed', flush=True); os.kill(os.getpid(), signal.SIGSEGV)",
        "failed",
        "died of SIGSEGV; its last words: assertion failed",
    ),
    "hang": (
        "print('pass 7 of 9', flush=True); time.sleep(600)",
        "timeout",
        "(took longer than|stopped after) 8 s; its last words: pass 7 of 9",
    ),
    "error and exit 0": (
        "print('ERROR: no such cell')",
        "failed",
        "last words: ERROR: no such cell",
    ),
    "no memory": ("bytearray(1 << 36)", "failed", "MemoryError"),
    "no room": (
        "file = open('dut.v', 'wb'); file.seek(1 << 32); file.write(bytes(1)); file.flush()",
        "failed",
        "File too large",
    ),
}
"""Each fault: what the tool does, the status that it gives, and what the reason says."""


class Bench(NamedTuple):
    """On the synthetic set, with a store that all faults share and take things out of."""

    pipeline: Pipeline
    mapped: Path
    """What is kept of a module of the design."""

    def forget(self, tool: str) -> None:
        """Takes out of the store what a tool made, so that it is asked again."""
        for stage in ("synthesis", "rtl_simulation"):
            shutil.rmtree(self.pipeline.cache_dir / stage, ignore_errors=True)
        if tool == "mapping":
            self.mapped.unlink(missing_ok=True)
            return
        for built in self.pipeline.cache_dir.glob("simulators/*.so"):
            built.unlink()


@pytest.fixture(scope="module")
def bench(cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The design is measured once, so that each tool can be asked for one thing alone."""
    store = tmp_path_factory.mktemp("store")
    (cache_dir / "silicon").mkdir(exist_ok=True)
    unfinished = shutil.ignore_patterns(".*", "abc-*")  # other workers may be writing
    shutil.copytree(cache_dir / "silicon", store / "silicon", ignore=unfinished)
    pipeline = Pipeline(data_dir=tmp_path_factory.mktemp("nothing"), cache_dir=store)
    asked: list[Path] = []
    stored = synthesis._stored

    def noted(path: Path) -> synthesis.Netlist | None:
        asked.append(path)
        return stored(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthesis, "_stored", noted)
        assert evaluated(pipeline).status == "ok"
    return Bench(pipeline, min(asked))


def hasty(commands: list[str], directory: Path, temporary: Path, deadline_s: float) -> str:
    return yosys.run_yosys(commands, directory, temporary, HASTE_S)


def evaluated(pipeline: Pipeline) -> Evaluation:
    return pipeline.evaluate(DESIGN, Target(), lambda stage: None)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("tool", TOOLS)
def test_a_fault_is_a_status_with_the_last_words(
    tool: str, fault: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, part = TOOLS[tool]
    program, status, reason = FAULTS[fault]

    def instead(command: Sequence[str], writable: Sequence[Path], cpu_s: float) -> list[str]:
        if any(part in word for word in command):
            started.append(command)
            command = [sys.executable, "-c", f"import os, signal, time\n{program}"]
        return confined(command, writable, cpu_s)

    bench.forget(tool)
    started: list[Sequence[str]] = []
    monkeypatch.setattr(module, "confined", instead)
    if fault == "hang":
        if tool == "mapping":
            monkeypatch.setattr(synthesis, "run_yosys", hasty)
        else:
            monkeypatch.setattr(verilator, "BUILD_DEADLINE_S", HASTE_S)
    got = evaluated(bench.pipeline)
    assert started, got.reason
    assert (got.status, got.metrics) == (status, {})
    assert re.search(reason, got.reason), got.reason


def test_afterwards_the_design_is_measured_as_if_nothing_had_been(bench: Bench) -> None:
    for tool in TOOLS:
        bench.forget(tool)
    got = evaluated(bench.pipeline)
    assert (got.status, got.reason) == ("ok", "")
    assert got.metrics.keys() == {metric.name for metric in METRICS}
