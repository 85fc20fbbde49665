"""The command: what it prints, what it refuses, and its exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dovetail
from dovetail import journal
from dovetail.cli import main
from dovetail.errors import DovetailError, ExitCode
from dovetail.journal import Journal
from dovetail.settings import Settings
from dovetail.testing import ToyWorkshop
from tests.dovetail.runs import finish, ordered

ROOT = Path(__file__).parents[2]


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments, ToyWorkshop())
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "toy"
    assert call("run", "--seed", "7", "--iterations", "4", "--out", str(folder)) == 0
    return folder


def toy(*arguments: str, delay_s: float = 0.0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.dovetail.toy", str(delay_s), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from dovetail.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as e:\n    assert not e.code\n"
        "print([m for m in ('torch', 'langgraph', 'openai', 'amaranth', 'optuna', 'transformers')"
        " if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "replay" in done.stdout


def test_a_run_leaves_journal_designs_and_report(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        "journal.jsonl", "journal.lock", "designs", "report.html",
    }  # fmt: skip
    assert len(list((run / "designs").iterdir())) == 4


def test_the_command_and_the_loop_write_the_same_journal(run: Path, tmp_path: Path) -> None:
    with Journal.create(tmp_path / "inline") as record:
        finish(record, Settings(seed=7, iterations=4))
    # The first event differs in the versions alone.
    assert ordered(journal.read(run))[1:] == ordered(journal.read(tmp_path / "inline"))[1:]


def test_a_run_says_first_what_it_measures_on(tmp_path: Path) -> None:
    process = toy("run", "--iterations", "1", "--out", str(tmp_path / "run"))
    said = process.communicate()[0]
    assert process.returncode == 0
    assert said.startswith("measuring on no data: made-up figures of the toy evaluator\n")
    assert f"report: {tmp_path / 'run' / 'report.html'}" in said


def test_loaded_from_python_the_front_is_a_table(run: Path) -> None:
    front = dovetail.load(run).front
    assert front and all(set(row) == set(front[0]) for row in front)
    assert {"trial", "design", "latency_s", "energy_j", "hardware.array.rows"} <= set(front[0])
    assert all(isinstance(v, str | int | float | None) for row in front for v in row.values())


def test_trace_replay_and_runs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("trace", str(run)) == 0
    assert "trial 0: 44136fa355b3678a by baseline" in capsys.readouterr().out
    assert call("trace", str(run), "--step", "2", "--json") == 0
    assert {event["trial"] for event in json.loads(capsys.readouterr().out)} == {2}
    assert call("replay", str(run)) == 0
    assert "events of 4 trials are equal" in capsys.readouterr().out
    assert call("replay", str(run), "--remeasure") == 0
    assert "agree within the tolerances" in capsys.readouterr().out
    assert call("runs", str(run.parent)) == 0
    assert "finished" in capsys.readouterr().out


def test_trace_shows_the_test_figures_as_a_table(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("trace", str(run)) == 0
    said = capsys.readouterr().out
    assert re.search(r"baseline accuracy +81.0 % ± 3.9 %\n", said)
    assert re.search(r"paired difference +-1.0 % ± 1.0 %\n", said)
    assert "accuracy_se" not in said


def test_evaluate_measures_a_design_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    design = next((run / "designs").glob("0001-*.json"))
    assert call("evaluate", str(design), "--json") == 0
    evaluation = json.loads(capsys.readouterr().out)
    assert evaluation["status"] == "ok" and "latency_s" in evaluation["metrics"]
    recorded = dovetail.load(run).state.trials[1].evaluation
    assert recorded is not None and evaluation["metrics"] == recorded.metrics
    assert call("evaluate", str(design), "--test") == 0
    assert "baseline_accuracy" in capsys.readouterr().out


def test_resume_of_a_finished_run_changes_no_byte(run: Path) -> None:
    before = (run / journal.NAME).read_bytes()
    assert call("resume", str(run)) == 0
    assert (run / journal.NAME).read_bytes() == before


def test_dry_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("run", "--dry-run") == 0
    assert not list(tmp_path.iterdir())


def test_init_writes_a_file_once(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    assert call("init", str(path)) == 0
    assert call("run", str(path), "--dry-run") == 0
    assert call("init", str(path)) == ExitCode.BAD_INPUT


def test_knobs_lists_every_knob(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("knobs", "--json") == 0
    assert "hardware.array.rows" in {k["path"] for k in json.loads(capsys.readouterr().out)}
    assert call("knobs") == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["bogus"], ExitCode.USAGE, "No such command"),
        (["run", "--iterations", "many"], ExitCode.USAGE, "iterations"),
        (["run", "absent.yaml"], ExitCode.BAD_INPUT, "absent.yaml cannot be read"),
        (["run", "--set", "sead=1"], ExitCode.BAD_INPUT, "unknown key `sead`"),
        (["run", "--seed", "-1"], ExitCode.BAD_INPUT, "seed: input should be"),
        (["run", "--llm", "oracle"], ExitCode.BAD_INPUT, "llm.provider"),
        (["resume", "absent"], ExitCode.FOLDER, "holds no run"),
        (["trace", "absent"], ExitCode.FOLDER, "holds no run"),
        (["replay", "../../etc"], ExitCode.FOLDER, "holds no run"),
        (["evaluate", "absent.json"], ExitCode.BAD_INPUT, "cannot be read"),
    ],
)
def test_a_mistake_is_one_sentence_and_its_code(
    arguments: list[str], code: ExitCode, said: str, capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == code
    captured = capsys.readouterr()
    assert re.search(said, captured.err)
    assert captured.err.count("\n") == 1 and "Traceback" not in captured.err
    assert not list(tmp_path.iterdir()), "something half-written was left"


def test_a_folder_that_is_a_run_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "--out", str(run)) == ExitCode.FOLDER
    assert f"dovetail resume {run}" in capsys.readouterr().err


def test_a_changed_byte_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray((run / journal.NAME).read_bytes())
    place = content.index(b"\n") + 50
    content[place] ^= 1
    (tmp_path / journal.NAME).write_bytes(content)
    for command in ("trace", "replay", "resume"):
        assert call(command, str(tmp_path)) == ExitCode.JOURNAL
        assert "line 2 of the journal was changed" in capsys.readouterr().err


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in DovetailError.__subclasses__()]
    assert len(set(codes)) == len(codes) and ExitCode.UNEXPECTED not in codes


def test_the_documentation_lists_every_code_and_command() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    for code in ExitCode:
        assert re.search(rf"^\| {int(code)} \|", text, re.MULTILINE), code
    for command in ("init", "run", "resume", "runs", "trace", "replay", "evaluate", "knobs",
                    "fetch", "doctor"):  # fmt: skip
        assert f"dovetail {command}" in text


def test_killed_in_the_middle_and_resumed_it_is_the_same_run(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    process = toy("run", "--seed", "7", "--iterations", "4", "--out", str(folder), delay_s=0.3)
    path = folder / journal.NAME
    while not (path.exists() and b'"told"' in path.read_bytes()):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert dovetail.load(folder).state.stopped is None
    assert call("resume", str(folder)) == 0
    assert ordered(journal.read(folder)) == ordered(journal.read(run))


def test_interrupted_it_stops_and_can_be_resumed(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "interrupted"
    process = toy("run", "--seed", "7", "--iterations", "4", "--out", str(folder), delay_s=30)
    path = folder / journal.NAME
    while not (path.exists() and b'"proposed"' in path.read_bytes()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[0]
    assert process.returncode == ExitCode.INTERRUPTED
    assert "resume" in said and "Traceback" not in said
    assert call("resume", str(folder)) == 0
    assert ordered(journal.read(folder)) == ordered(journal.read(run))


def test_another_owner_of_our_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text("")
    script = "from dovetail.cli import main; main(['knobs'])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.MISSING
    assert f"finds the package `agents` at {tmp_path}" in done.stderr
