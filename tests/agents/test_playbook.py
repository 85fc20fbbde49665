"""Every playbook entry is what its header says, by the gate's own word, and works in a core."""

from pathlib import Path

import numpy as np
import pytest

from agents.rewrites import PLAYBOOK, Rewrite, read_playbook
from evaluators.gate.check import Judgement, judge, source_sha256
from evaluators.gate.proof import no_proof
from evaluators.silicon import verilator
from evaluators.silicon.simulation import Disturbance, simulate_core
from hwlib.behaviour import built_of
from hwlib.config import CoreConfig
from hwlib.edit import RtlEdit
from hwlib.elaborate import elaborate_core
from hwlib.reference.core import execute
from tests.hwlib.core_programs import overlapping, random_program

SMALL = {"rows": 4, "columns": 4, "activation_bytes": 8192, "weight_bytes": 8192}

OTHER_PARAMETERS = {
    "mac": [{"accumulator_bits": 20, "mac_stages": 3}, {"accumulator_bits": 28}],
    "exponential": [{"exponential_entries": entries} for entries in (4, 8, 32)],
}
"""Knobs that give a unit's class other arguments than the default ones."""

PROGRAMS = 3
"""Random programs that a core with an entry runs."""

LENGTH = 24
"""Commands of each after its loads."""

pytestmark = [
    pytest.mark.eda,
    pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "it is here"),
]

QUICK = ("mac_late_upper",)
"""Entries whose core the quick tests build; `make test-long` builds all."""

ENTRIES = read_playbook(PLAYBOOK)
each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=[entry.name for entry in ENTRIES])


def judged(entry: Rewrite, cache_dir: Path, knobs: dict[str, int], later: int = 0) -> Judgement:
    config = CoreConfig.model_validate({"composable": entry.unit == "composable_mac"} | knobs)
    edit = RtlEdit(unit=entry.unit, source=entry.source, latency=entry.latency + later)
    # How far entries are shown to be right is said by tests/evaluators/test_proof.py.
    return judge(edit, config, frozenset({source_sha256(entry.source)}), cache_dir, no_proof)


@each_entry
def test_an_entry_passes_with_its_latency_and_no_other(entry: Rewrite, cache_dir: Path) -> None:
    judgement = judged(entry, cache_dir, {})
    assert judgement.accepted, judgement.reason
    refused = judged(entry, cache_dir, {}, later=1)
    assert not refused.accepted and "latency" in refused.reason


@each_entry
def test_an_entry_says_whether_it_is_exact(entry: Rewrite, cache_dir: Path) -> None:
    netlist = judged(entry, cache_dir, {}).netlist
    assert netlist is not None
    assert ("Not exact:" in entry.source) == (netlist.behaviour is not None)


@each_entry
def test_an_entry_passes_with_other_parameters(entry: Rewrite, cache_dir: Path) -> None:
    points = OTHER_PARAMETERS.get(entry.unit.removeprefix("composable_"), [])
    for knobs in points:
        judgement = judged(entry, cache_dir, knobs)
        assert judgement.accepted, f"{knobs}: {judgement.reason}"


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=entry.name, marks=() if entry.name in QUICK else pytest.mark.slow)
        for entry in ENTRIES
    ],
)
def test_a_core_with_an_entry_equals_the_reference(entry: Rewrite, cache_dir: Path) -> None:
    config = CoreConfig.model_validate(
        SMALL | {"channel_entries": 256, "composable": entry.unit == "composable_mac"}
    )
    netlist = judged(entry, cache_dir, SMALL).netlist
    assert netlist is not None
    rtlil = elaborate_core(config, {entry.unit: netlist})
    for seed in range(PROGRAMS):
        program, dram = random_program(config, LENGTH, seed)
        stalls = Disturbance(seed=seed, read=0.3, write=0.3) if seed else Disturbance()
        run = simulate_core(
            rtlil, overlapping(program, config), dram, config, cache_dir, disturbance=stalls
        )
        expected = execute(program, dram, config, built_of({entry.unit: netlist}))
        found = np.frombuffer(run.dram, np.uint8)
        assert np.array_equal(found, expected), f"seed {seed}"
