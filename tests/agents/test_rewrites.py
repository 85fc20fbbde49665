"""The playbook's convention, and the shipped files."""

import json
from pathlib import Path

import pytest

from agents.brief import PROMPTS, as_file, as_json, instructions
from agents.llm import ROLES
from agents.mock import read_sections
from agents.rewrites import PLAYBOOK, UNITS, read_playbook, shipped_library
from hwlib.config import CoreConfig
from hwlib.contracts.table import contract_of

GOOD = (
    '"""A faster mac.\n\nunit: mac\nlatency: 2\nhelps: clock, energy\ncosts: area\n\n'
    'Why it is right.\n"""\n\nclass Mac:\n    pass\n'
)


def test_a_playbook_file_is_read_with_its_header(tmp_path: Path):
    (tmp_path / "mac_fast.py").write_text(GOOD)
    (tmp_path / "README.md").write_text("not a rewrite")
    (rewrite,) = read_playbook(tmp_path)
    assert (rewrite.name, rewrite.unit, rewrite.latency) == ("mac_fast", "mac", 2)
    assert (rewrite.helps, rewrite.costs) == (("clock", "energy"), ("area",))
    assert rewrite.source == GOOD


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("mac_fast", GOOD.replace("latency: 2\n", ""), "must hold the lines"),
        ("mac_fast", GOOD.replace("latency: 2", "latency: 2\nlatency: 3"), "each once"),
        ("mac_fast", GOOD.replace("latency: 2", "latency: 9"), "less than or equal to 8"),
        ("mac_fast", GOOD.replace("clock, energy", "everything"), "helps"),
        ("fast_mac", GOOD, "begin with its unit"),
        ("mac_fast", GOOD.replace("\n", "\r\n"), "Unix line ends"),
        ("mac_fast", GOOD + "\n", "one newline at its end"),
        ("mac_fast", GOOD + "# é\n", "ASCII"),
        ("mac_fast", GOOD + "#" * 20_000 + "\n", "at most 16384"),
    ],
)
def test_a_file_that_breaks_the_convention_is_named(
    tmp_path: Path, name: str, text: str, words: str
):
    (tmp_path / f"{name}.py").write_bytes(text.encode())
    with pytest.raises(ValueError, match=name) as error:
        read_playbook(tmp_path)
    assert words in str(error.value)


def test_the_shipped_library_holds_each_unit_with_its_contract():
    library = shipped_library()
    assert tuple(u.unit for u in library.units) == UNITS
    for unit in library.units:
        config = CoreConfig(composable=unit.unit == "composable_mac")
        name = contract_of(unit.unit, config).class_name
        assert f"class {name}(" in unit.source and f'"{name}"' in unit.contract


def test_every_shipped_rewrite_keeps_the_convention():
    assert {r.name for r in read_playbook(PLAYBOOK)} == {p.stem for p in PLAYBOOK.glob("*.py")}


def test_every_role_has_its_instructions():
    assert {p.stem for p in PROMPTS.glob("*.md")} == set(ROLES)
    assert all(instructions(role).startswith(f"# {role}\n") for role in ROLES)


@pytest.mark.parametrize("source", [GOOD, "```\n## plan\n```json\n{}\n```\n", "x = '````'\n"])
def test_a_source_comes_back_from_a_prompt_byte_for_byte(source: str):
    sections = read_sections("\n\n".join([as_file("shipped mac", source), as_json("plan", 1)]))
    assert sections == {"shipped mac": source, "plan": 1}


def test_a_prompt_is_ascii_outside_of_files():
    assert json.loads(as_json("x", "\u202e\x00é").splitlines()[2]) == "\u202e\x00é"
    assert as_json("x", "\u202e\x00é").isascii()
