"""One-line bugs in the core: how many the tests' programs and contracts catch.

    python benchmarks/core_mutants.py [--count 30] [--seed 1] [--programs 12]

Each mutant changes one line of the netlist's RTLIL in a block or a unit: another operator, a
flipped constant bit, exchanged inputs of a multiplexer; `--count` of them in a core whose elements
are fixed, and as many in one whose elements are composable, spread over the modules. It is caught
when its unit breaks its contract, or when a program of the core's tests ends with another DRAM than
the reference's, hangs, cannot be built, or moves less than a beat or a word a cycle. Survivors are
listed whole.
"""

import argparse
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.mutation import spread
from evaluators.gate.vectors import first_mismatch
from evaluators.silicon import simulation
from evaluators.silicon.simulation import Disturbance, SimulationError, simulate_core
from evaluators.silicon.verilator import ToolFailed
from hwlib.commands import AnyCommand
from hwlib.config import CoreConfig
from hwlib.contracts.table import CORE_UNITS
from hwlib.elaborate import elaborate_core
from hwlib.reference.core import execute
from swopt.compiler.program import lower
from tests.hwlib.core_programs import (
    contention,
    every_magnitude,
    overlapping,
    paces,
    random_program,
)
from tests.swopt.plain_network import tiny_inputs, tiny_model

FIXED = CoreConfig(rows=4, columns=4, activation_bytes=8192, weight_bytes=8192, channel_entries=256)
COMPOSABLE = FIXED.model_copy(update={"composable": True})
LENGTH = 30
"""Commands of a program: two of each kind."""

MODELS = 6
"""Lowered models after the random programs."""

CONTENTIONS = 6
"""Programs at the end in which all engines meet in the banks."""

OPERATORS = {
    "$and": "$or", "$or": "$and", "$add": "$sub", "$sub": "$add", "$eq": "$ne", "$ne": "$eq",
    "$lt": "$ge", "$gt": "$le", "$le": "$gt", "$sshr": "$shr", "$mul": "$add",
}  # fmt: skip
"""Cell -> what it is exchanged for."""

UNITS = {
    name: CORE_UNITS.get(name, CORE_UNITS[f"exponential_{FIXED.exponential_entries}"])
    for name in (
        "mac", "composable_mac", "rescaler", "activation", "inverse_sqrt", "reciprocal",
        "exponential",
    )
}  # fmt: skip
"""The contracts of the units in the core, by module name."""

_CELL = re.compile(r"^  cell (\$\w+) (\S+)$")
_CONSTANT = re.compile(r"^(\s+(?:connect|assign) .* \d+')([01]+)$")


@dataclass(frozen=True)
class Mutant:
    """One changed line, or two where a cell's inputs are exchanged.

    Attributes:
        module: Where.
        line: Number of the (first) line, from 0.
        change: What, in words.
        lines: New text by number of line.
    """

    module: str
    line: int
    change: str
    lines: dict[int, str]

    def applied(self, rtlil: str) -> str:
        """The netlist with the bug in it."""
        return "\n".join(self.lines.get(at, line) for at, line in enumerate(rtlil.split("\n")))


def mutants(rtlil: str, count: int, seed: int) -> list[Mutant]:
    """`count` different one-line changes, spread over the kinds of change and the modules."""
    chance = random.Random(seed)
    lines = rtlil.split("\n")
    found: dict[str, dict[str, list[Mutant]]] = {"operator": {}, "constant": {}, "inputs": {}}
    for kind, mutant in _all(lines):
        found[kind].setdefault(mutant.module, []).append(mutant)
    return spread(found, count, chance, lambda mutant: mutant.line)


def _all(lines: list[str]) -> Iterator[tuple[str, Mutant]]:
    module, cell = "", ""
    for at, line in enumerate(lines):
        if line.startswith("module "):
            module = line.removeprefix("module \\")
        if module.startswith("sram_"):
            continue  # memories are macros, not blocks
        if match := _CELL.match(line):
            cell = match[1]
            if cell in OPERATORS:
                other = line.replace(cell, OPERATORS[cell], 1)
                yield "operator", _changed(lines, module, at, other)
        elif match := _CONSTANT.match(line):
            bits = match[2]
            flipped = bits[:-1] + ("0" if bits[-1] == "1" else "1")
            yield "constant", _changed(lines, module, at, match[1] + flipped)
        elif cell == "$mux" and line.startswith("    connect \\A "):
            swapped = line.replace("\\A", "\\B", 1)
            after = lines[at + 1].replace("\\B", "\\A", 1)
            change = f"{line.strip()} <-> \\B"
            yield "inputs", Mutant(module, at, change, {at: swapped, at + 1: after})


def _changed(lines: list[str], module: str, at: int, line: str) -> Mutant:
    changed = f"{lines[at].strip()} -> {line.strip()}"
    return Mutant(module, at, changed, {at: line})


def caught(rtlil: str, module: str, config: CoreConfig, programs: int, cache_dir: Path) -> str:
    """How a mutant in `module` is caught, or an empty string."""
    if unit := UNITS.get(module):
        text = re.search(rf"^module \\{module}$.*?^end$", rtlil, re.MULTILINE | re.DOTALL)
        assert text is not None
        try:
            if first_mismatch(unit.contract.exact, text[0], unit.latency, cache_dir):
                return "the unit breaks its contract"
        except ToolFailed:
            return "it could not be built"
    for number, (commands, dram, expected) in enumerate(runs(config, programs)):
        stalls = Disturbance(seed=number, command=0.2, read=0.3, write=0.3)
        disturbance = stalls if number % 2 else Disturbance()
        try:
            run = simulate_core(rtlil, commands, dram, config, cache_dir, disturbance=disturbance)
        except SimulationError:
            return f"it hung, left its DRAM or gave a wrong busy, run {number}"
        except ToolFailed:
            return "it could not be built"
        if not np.array_equal(np.frombuffer(run.dram, np.uint8), expected):
            return f"another result, run {number}"
    dram = np.zeros(1 << 13, np.uint8)
    for short, long, more in paces(config):
        taken = [
            simulate_core(rtlil, program, dram, config, cache_dir) for program in (short, long)
        ]
        if taken[1].total_cycles - taken[0].total_cycles != more:
            return "a load or a store is slower than a beat or a word a cycle"
    return ""


@cache
def runs(
    config: CoreConfig, programs: int
) -> list[tuple[Sequence[AnyCommand], np.ndarray, np.ndarray]]:
    """Commands, DRAM before, DRAM after: random programs, models, and what is built on purpose."""
    made = [random_program(config, LENGTH, seed) for seed in range(programs)]
    made = [(overlapping(c, config) if i % 3 else c, d) for i, (c, d) in enumerate(made)]
    for seed in range(MODELS):
        lowered = lower(tiny_model(seed), tiny_inputs(seed, 5 + seed), config, trace=True)
        made.append((list(lowered.commands), lowered.dram))
    commands, dram = every_magnitude(config)
    made.append((overlapping(commands, config), dram))
    made += [contention(config, seed) for seed in range(CONTENTIONS)]
    return [(commands, dram, execute(commands, dram, config)) for commands, dram in made]


def main() -> None:
    """Prints each mutant's fate, the survivors, and how many were caught."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=30, help="mutants of each core")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--programs", type=int, default=12)
    chosen = parser.parse_args()
    simulation.PATIENCE = 5000  # the longest wait of these programs is shorter
    survivors: list[str] = []
    for name, config in (("fixed", FIXED), ("composable", COMPOSABLE)):
        rtlil = elaborate_core(config)
        with TemporaryDirectory() as folder:
            fate = partial(caught, config=config, programs=chosen.programs, cache_dir=Path(folder))
            assert not fate(rtlil, "core"), "the core itself fails"
            for number, mutant in enumerate(mutants(rtlil, chosen.count, chosen.seed)):
                how = fate(mutant.applied(rtlil), mutant.module)
                shown = f"{mutant.module}, line {mutant.line}: {mutant.change}"
                print(f"{name} {number}: {shown}: {how or 'SURVIVED'}", flush=True)
                survivors += [] if how else [f"- {name}, {shown}"]
    count = 2 * chosen.count
    killed = count - len(survivors)
    print(f"\n{killed} of {count} mutants caught ({killed / count:.0%})\n")
    print("\n".join(survivors))


if __name__ == "__main__":
    main()
