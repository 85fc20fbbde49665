"""What an edit claims of itself counts for nothing: latency, exactness, numbers that are none."""

import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from agents.rewrites import read_playbook
from evaluators.gate.check import judge
from evaluators.silicon import verilator
from hwlib.edit import RtlEdit
from tests.cheats.cheats import CORE, VALUE, edited

needs_tools = pytest.mark.skipif(
    bool(verilator.available()), reason=verilator.available() or "Verilator is here"
)


COARSE = (
    ("Latency 1, one value a cycle.", "Exact. Latency 1, one value a cycle."),
    (
        "enumerate(tables.exponential(self.entries))",
        "enumerate(tables.exponential(8)[at // 2] for at in range(16))",
    ),
)
"""A table of half the size, and a docstring that says something else."""


@needs_tools
@pytest.mark.eda
def test_a_unit_that_says_it_is_exact_is_taken_for_what_it_gives(cache_dir: Path) -> None:
    edit = RtlEdit(unit="exponential", source=edited("exponential", COARSE), latency=1)
    found = judge(edit, CORE, frozenset(), cache_dir)
    assert found.netlist is not None and found.netlist.behaviour is not None
    assert found.reason.startswith("off the reference by up to 3 for ")
    assert "which a model on a core with it is scored with" in found.reason


HEADER = '"""Faster.\n\nunit: exponential\nlatency: {latency}\nhelps: cycles\n"""\n'


@pytest.mark.parametrize("latency", ["nan", "inf", "-1", "1e0", "0", "9"])
def test_a_latency_in_a_docstring_is_a_whole_number_of_cycles(latency: str, tmp_path: Path) -> None:
    entry = tmp_path / "exponential_faster.py"
    entry.write_text(HEADER.format(latency=latency), "ascii")
    with pytest.raises(ValueError, match=r"exponential_faster\.py: .*\nlatency\n"):
        read_playbook(tmp_path)
    entry.write_text(HEADER.format(latency="1"), "ascii")
    assert read_playbook(tmp_path)[0].latency == 1


@pytest.mark.parametrize("latency", [math.nan, math.inf, -math.inf, 0.5, "nan", None])
def test_a_latency_of_an_edit_is_a_whole_number_of_cycles(latency: object) -> None:
    fields = {"unit": "exponential", "source": VALUE, "latency": latency}
    with pytest.raises(ValidationError, match="latency"):
        RtlEdit.model_validate(fields)
    assert RtlEdit.model_validate(fields | {"latency": 1}).latency == 1
