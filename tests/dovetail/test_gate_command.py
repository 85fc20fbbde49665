"""`dovetail gate`: a person's own rewrite of a unit, judged and mapped."""

import json
from pathlib import Path
from typing import Any

import pytest

from agents.rewrites import PLAYBOOK
from dovetail.cli import main
from dovetail.errors import ExitCode
from dovetail.gating import report
from dovetail.trace import verdict_words
from evaluators.gate import solvers
from evaluators.gate.check import Judgement
from evaluators.metrics import Verdict
from evaluators.silicon import unit_cost, verilator
from evaluators.silicon.synthesis import SynthesisError
from evaluators.silicon.yosys import YosysDied
from hwlib.config import CoreConfig
from hwlib.edit import AnyEdit

ENTRY = str(PLAYBOOK / "inverse_sqrt_one_cycle.py")


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(str(ended.value.code))


@pytest.fixture(autouse=True)
def store(fresh_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOVETAIL_CACHE_DIR", str(fresh_store))


@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "it is there")
def test_its_latency_is_found_out_and_its_cost_stands_beside_the_shipped_units(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("gate", ENTRY, "--unit", "inverse_sqrt", "--json") == ExitCode.OK
    ended = capsys.readouterr()
    assert ended.err.splitlines() == [
        "judging the inverse_sqrt; a proof may take minutes",
        "mapping it beside the shipped one",
    ]
    found = json.loads(ended.out)
    assert found["accepted"] and found["latency"] == 1 and found["shown"] == "exhaustive"
    assert 0 < found["cost"]["area_um2"] < found["shipped"]["area_um2"]
    assert call("gate", ENTRY, "--unit", "inverse_sqrt", "--latency", "2") == ExitCode.BAD_INPUT
    said = capsys.readouterr().out
    assert "inverse_sqrt: refused\n" in said and "claim 1" in said
    assert call("gate", ENTRY, "--unit", "reciprocal") == ExitCode.BAD_INPUT
    assert "must define the class Reciprocal" in capsys.readouterr().out


@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "it is there")
def test_where_a_tool_is_killed_there_is_no_verdict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object, **named: object) -> Path:
        raise verilator.ToolFailed("g++ died of SIGKILL; its last words: (nothing)")

    with monkeypatch.context() as patch:
        patch.setattr(verilator, "build", killed)
        assert call("gate", ENTRY, "--unit", "inverse_sqrt") == ExitCode.EVALUATOR
    said = capsys.readouterr().err
    assert "no verdict: g++ died of SIGKILL" in said and "; run it again\n" in said
    assert call("gate", ENTRY, "--unit", "inverse_sqrt") == ExitCode.OK


@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "it is there")
def test_where_every_solver_is_killed_there_is_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOVETAIL_CACHE_DIR", str(tmp_path / "unproved"))
    with monkeypatch.context() as patch:
        patch.setattr(solvers, "_command", lambda tool: ["sh", "-c", "kill -9 $$"])
        assert call("gate", ENTRY, "--unit", "inverse_sqrt") == ExitCode.EVALUATOR
    assert "bitwuzla was killed, and no other solver answered" in capsys.readouterr().err
    assert call("gate", ENTRY, "--unit", "inverse_sqrt") == ExitCode.OK
    assert "accepted, exhaustive" in capsys.readouterr().out


@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "it is there")
def test_where_mapping_is_killed_there_is_no_verdict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object) -> None:
        raise SynthesisError("mapping failed") from YosysDied("Yosys died of SIGKILL")

    with monkeypatch.context() as patch:
        patch.setattr(unit_cost, "unit_cost", killed)
        assert call("gate", ENTRY, "--unit", "inverse_sqrt") == ExitCode.EVALUATOR
    assert "no verdict: mapping failed; run it again" in capsys.readouterr().err
    assert call("gate", ENTRY, "--unit", "inverse_sqrt") == ExitCode.OK


class Judges:
    """A gate that knows one edit of latency 2, which a later step refuses."""

    def judgement(self, edit: AnyEdit, config: CoreConfig) -> Judgement:
        if edit.latency == 2:
            return Judgement(unit=edit.unit, accepted=False, reason="a sum is wrong")
        return Judgement(unit=edit.unit, accepted=False, reason="claim 2", latency=2)


def test_a_refusal_without_a_claimed_latency_has_the_reason_at_its_own() -> None:
    def reason(latency: int | None) -> str:
        pipeline: Any = Judges()
        return report("mac", "edit", "amaranth", latency, CoreConfig(), pipeline).reason

    assert (reason(None), reason(2), reason(1)) == ("a sum is wrong", "a sum is wrong", "claim 2")


def test_an_empty_edit_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.py").write_text("\n")
    assert call("gate", str(tmp_path / "empty.py"), "--unit", "array") == ExitCode.BAD_INPUT
    said = capsys.readouterr().err
    assert "the edit is empty; it must be a whole file" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("recorded", "words"),
    [
        ('{"unit": "mac", "accepted": true, "reason": "", "shown": "proved"}', "accepted, proved"),
        ('{"unit": "mac", "accepted": true, "reason": ""}', "accepted"),  # from before proofs
        ('{"unit": "mac", "accepted": false, "reason": ""}', "refused"),
    ],
)
def test_a_verdict_is_printed_with_how_far_it_was_shown(recorded: str, words: str) -> None:
    assert verdict_words(Verdict.model_validate_json(recorded)) == words


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["absent.py", "--unit", "mac"], ExitCode.BAD_INPUT, "absent.py cannot be read"),
        ([".", "--unit", "mac"], ExitCode.BAD_INPUT, ". is no file"),
        (
            [ENTRY, "--unit", "adder"],
            ExitCode.BAD_INPUT,
            "the units are array, mac, composable_mac",
        ),
        ([ENTRY], ExitCode.USAGE, "--unit"),
        ([ENTRY, "--unit", "mac", "--latency", "9"], ExitCode.USAGE, "--latency"),
    ],
)
def test_a_mistake_is_one_sentence_and_its_code(
    arguments: list[str], code: ExitCode, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("gate", *arguments) == code
    found = capsys.readouterr().err
    assert said in found and found.count("\n") == 1


def test_without_a_compiler_nothing_is_judged(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "absent-compiler")
    assert call("gate", ENTRY, "--unit", "inverse_sqrt") == ExitCode.MISSING
    assert "no RTL edit can be judged" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["edit.vhd", "edit.txt", "edit"])
def test_a_file_of_another_kind_is_not_guessed_at(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("module mac; endmodule\n")
    assert call("gate", str(tmp_path / name), "--unit", "mac") == ExitCode.BAD_INPUT
    assert "end it with .py for Amaranth, with .v or .sv for Verilog" in capsys.readouterr().err
