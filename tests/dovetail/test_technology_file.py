"""Technology files, and what becomes of a bad one."""

from pathlib import Path

import pytest

from dovetail.errors import ExitCode
from dovetail.technology_file import read_technology
from evaluators.silicon.liberty import default_liberty_path
from evaluators.target import Target
from tests.dovetail.test_cli import call

GOOD = """
liberty: LIBERTY
corner: typical again
roles: {buffer: BUF_X4, driver: BUF_X2, flip_flop: DFF_X1, buffer_load_f: 4.0e-14}
"""


def file_with(text: str, folder: Path) -> Path:
    path = folder / "technology.yaml"
    path.write_text(text.replace("LIBERTY", str(default_liberty_path())))
    return path


def test_its_library_is_looked_for_beside_it(tmp_path: Path) -> None:
    path = file_with(GOOD.replace("LIBERTY", "lib/cells.lib"), tmp_path)
    technology = read_technology(path)
    assert technology.liberty == str(tmp_path / "lib" / "cells.lib")
    assert technology.roles.buffer == "BUF_X4"
    target = Target(technology=technology)
    assert Target.model_validate_json(target.model_dump_json()) == target


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("corner: typical again\n", "", "technology.yaml: corner: "),
        ("DFF_X1", "DFF_X1, inverter: INV_X1", "roles.inverter: "),
        ("4.0e-14", "-1.0", "roles.buffer_load_f: "),
        ("BUF_X4", "NAND2_X1", "roles.buffer: cell NAND2_X1 is no buffer; name one"),
        ("LIBERTY", "absent.lib", "cannot read Liberty file"),
        ("corner: typical again", "corner: [", "technology.yaml, line"),
    ],
)
def test_a_bad_one_is_refused_in_one_sentence(
    old: str, new: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_with(GOOD.replace(old, new), tmp_path)
    verilog = tmp_path / "a.v"
    verilog.write_text(
        "module a(input clk, d, output reg q); always @(posedge clk) q <= d;\nendmodule"
    )
    named = ("--verilog", str(verilog), "--top", "a", "--technology", str(path))
    assert call("evaluate", *named) == ExitCode.BAD_INPUT
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_a_run_whose_library_is_missing_begins_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roles = "{buffer: A, driver: A, flip_flop: A}"
    cells = f"target.technology={{liberty: absent.lib, corner: a, roles: {roles}}}"
    assert call("run", "--set", cells, "--out", str(tmp_path / "out")) == ExitCode.BAD_INPUT
    said = "target.technology: cannot read Liberty file absent.lib"
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
