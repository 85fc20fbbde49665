"""How far the gate shows each shipped unit and each playbook entry to be right, and at what cost.

    python benchmarks/proofs.py

Prints the table of docs/gate.md. Seconds are of one processor: of the tool that answered each
question, planted one included, and of everything that the proof started.
"""

import argparse
import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path

from agents.rewrites import PLAYBOOK, read_playbook
from evaluators.gate.proof import Asked, prove
from hwlib.config import CoreConfig
from hwlib.contracts.contract import Trace
from hwlib.contracts.table import contract_of
from hwlib.edit import CoreUnitName
from hwlib.elaborate import UNIT_LATENCY, UnitNetlist
from hwlib.unit_latencies import shipped_latencies
from hwlib.unit_source import shipped_source, source_to_rtlil

SHIPPED: tuple[CoreUnitName, ...] = (
    "activation", "composable_mac", "exponential", "inverse_sqrt", "mac", "reciprocal", "rescaler",
)  # fmt: skip


def main() -> None:
    """Prints a row for each."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print("| edit | shown | questions: tool, s | all, s |\n|---|---|---|---|")
    for unit in SHIPPED:
        config = CoreConfig(composable=unit == "composable_mac")
        latency = getattr(shipped_latencies(config), UNIT_LATENCY.get(unit, unit))
        row(f"shipped `{unit}`", unit, shipped_source(unit), latency)
    for entry in read_playbook(PLAYBOOK):
        if entry.unit == "mac" and "Not exact:" in entry.source:
            print(f"| `{entry.name}` | tested | none: its products are not the shipped unit's | |")
            continue
        row(f"`{entry.name}`", entry.unit, entry.source, entry.latency)


def row(name: str, unit: CoreUnitName, source: str, latency: int) -> None:
    """Proves one edit afresh and prints what was shown."""
    config = CoreConfig(composable=unit == "composable_mac")
    shipped = UnitNetlist(
        rtlil=source_to_rtlil(unit, shipped_source(unit), config),
        latency=getattr(shipped_latencies(config), UNIT_LATENCY.get(unit, unit)),
    )
    edit = UnitNetlist(rtlil=source_to_rtlil(unit, source, config), latency=latency)
    before_s = spent_s()
    with tempfile.TemporaryDirectory() as folder:
        contract = contract_of(unit, config)
        proof = prove(contract, shipped, edit, source, never_simulated, Path(folder))
    questions = "; ".join(map(in_words, proof.asked)) or "none"
    print(f"| {name} | {proof.shown} | {questions} | {spent_s() - before_s:.1f} |", flush=True)


def in_words(asked: Asked) -> str:
    """One question."""
    if asked.outcome == "open":
        return f"{asked.question}: nobody in time"
    so = "" if asked.outcome == "shown" else " (not so)"
    return f"{asked.question}: {asked.tool}, {asked.processor_s:.1f}{so}"


def never_simulated(stimuli: Sequence[Trace]) -> str:
    """Stands for the simulator, which right units never need."""
    raise AssertionError("a unit of ours differs from itself")


def spent_s() -> float:
    """Processor time of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
