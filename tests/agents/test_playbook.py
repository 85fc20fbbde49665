"""Every playbook entry is what its header says, by the gate's own word."""

from pathlib import Path

import pytest

from agents.rewrites import PLAYBOOK, Rewrite, read_playbook
from evaluators.gate.check import judge, source_sha256
from evaluators.silicon import verilator
from hwlib.edit import RtlEdit

CHEAP = ("element_pipelined_product", "element_pipelined_split")


@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "it is here")
@pytest.mark.eda
@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=entry.name, marks=() if entry.name in CHEAP else pytest.mark.slow)
        for entry in read_playbook(PLAYBOOK)
    ],
)
def test_an_entry_passes_with_its_latency_and_no_other(entry: Rewrite, tmp_path: Path) -> None:
    allowed = frozenset({source_sha256(entry.source)})
    edit = RtlEdit(unit=entry.unit, source=entry.source, latency=entry.latency)
    assert judge(edit, allowed, tmp_path).accepted
    other = edit.model_copy(update={"latency": entry.latency + 1})
    refused = judge(other, allowed, tmp_path)
    assert not refused.accepted and "latency" in refused.reason
