"""One-place bugs in the units and in the playbook's files: how many the gate refuses.

    python benchmarks/unit_mutants.py [--count 240] [--seed 1]

Each mutant changes one place of a source, and the gate judges it as it would an edit that somebody
proposed, with the latency of what it was made from and for a default core. One that it accepts is
compared with what it was made from (`equivalence.py`); it survives unless the two are shown to be
equivalent. Prints Markdown.
"""

import argparse
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from agents.rewrites import PLAYBOOK, read_playbook
from benchmarks.equivalence import equivalent
from benchmarks.mutation import spread
from benchmarks.source_mutants import SourceMutant, source_mutants
from evaluators.gate.check import judge
from hwlib.config import CoreConfig
from hwlib.contracts.table import CORE_UNITS
from hwlib.edit import RtlEdit, UnitName
from hwlib.unit_source import shipped_source, source_to_rtlil

STAGES = {
    "elaboration failed": "source",
    "netlist of": "netlist",
    " has a latency of ": "latency",
    "faster than the claimed": "latency",
    "differs from the reference": "vectors",
}
"""Words of a reason -> what refused the mutant: its own source when executed, the laws of netlists,
the claim of a latency, or the vectors."""
