"""The command: what it prints, what it refuses, and its exit codes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

import dovetail
from dovetail import journal, settings
from dovetail.cli import main
from dovetail.errors import DovetailError, ExitCode, Missing
from dovetail.journal import Journal
from dovetail.settings import Settings
from dovetail.testing import ToyEvaluator, ToyWorkshop
from dovetail.workshop import Bench, Workshop
from evaluators.design import DesignPoint
from evaluators.metrics import Evaluation, Stage
from evaluators.silicon import verilator
from evaluators.target import Target
from tests.dovetail.runs import finish, ordered

ROOT = Path(__file__).parents[2]


def call(*arguments: str, workshop: Workshop | None = None) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments, workshop or ToyWorkshop())
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
        "print([m for m in ('torch', 'langgraph', 'openai', 'amaranth', 'optuna', 'transformers',"
        " 'PIL', 'pyarrow')"
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
    assert {"trial", "design", "latency_s", "energy_j", "hardware.rows"} <= set(front[0])
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
    assert call("evaluate", str(design), "--test", "--json") == 0
    assert json.loads(capsys.readouterr().out)["toy"]["baseline_accuracy"] == 0.81
    assert call("evaluate", str(design), "--test") == 0
    assert re.search(r"baseline accuracy +81.0 % ± 3.9 %\n", capsys.readouterr().out)


@dataclass(frozen=True)
class FailingEvaluator(ToyEvaluator):
    """A tool fails on every design."""

    def evaluate(self, design: DesignPoint, target: Target, on_stage: Stage) -> Evaluation:
        return Evaluation(design_id=design.id, evaluator="toy", status="failed", reason="no luck")


@dataclass(frozen=True)
class FailingWorkshop(ToyWorkshop):
    """Measures with it."""

    def bench(self, settings: Settings) -> Bench:
        return replace(super().bench(settings), evaluator=FailingEvaluator())


def test_evaluate_tells_a_design_that_breaks_a_law_from_one_that_cannot_be_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    design = tmp_path / "design.json"
    design.write_text('{"edits": [{"unit": "mac", "source": "print()", "latency": 1}]}')
    monkeypatch.setattr(verilator, "available", lambda: "there is no C++ compiler")
    assert call("evaluate", str(design)) == ExitCode.MISSING
    assert "no C++ compiler; without it no RTL edit can be judged" in capsys.readouterr().err
    monkeypatch.setattr(verilator, "available", lambda: "")
    assert call("evaluate", str(design)) == ExitCode.BAD_INPUT
    assert "edit of mac refused" in capsys.readouterr().out
    design.write_text("{}", encoding="utf-8-sig")
    assert call("evaluate", str(design)) == 0
    assert call("evaluate", str(design), workshop=FailingWorkshop()) == ExitCode.EVALUATOR
    assert "no luck" in capsys.readouterr().out
    design.write_text('{"compression": {"pruning": {"vision_mlp_keep": true}}}')
    assert call("evaluate", str(design)) == ExitCode.BAD_INPUT
    assert "vision_mlp_keep: must be a number, not true" in capsys.readouterr().err


def test_evaluate_takes_settings_and_no_knobs_from_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    design = tmp_path / "design.json"
    design.write_text("{}")
    assert call("evaluate", str(design), "--set", "target.area_limit_um2=3e5") == 0
    assert "over the target's area limit" not in capsys.readouterr().out
    assert call("evaluate", str(design), "--set", "target.area_limit_um2=1") == 0
    assert "over the target's area limit of 1 µm²" in capsys.readouterr().out
    capsys.readouterr()
    for knob in ("hardware.rows=16", "base={}"):
        assert call("evaluate", str(design), "--set", knob) == ExitCode.BAD_INPUT
        assert f"change it in {design}" in capsys.readouterr().err
    assert call("evaluate", "--help") == 0
    assert "knobs are those of the design file" in " ".join(capsys.readouterr().out.split())


def test_resume_of_a_finished_run_changes_no_byte(run: Path) -> None:
    before = (run / journal.NAME).read_bytes()
    assert call("resume", str(run)) == 0
    assert (run / journal.NAME).read_bytes() == before


def test_dry_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("run", "--dry-run") == 0
    assert not list(tmp_path.iterdir())


def test_dry_run_shows_every_setting_as_a_run_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "--dry-run", "--seed", "7", "--set", "hardware.rows=16") == 0
    path = tmp_path / "run.yaml"
    path.write_text(capsys.readouterr().out)
    made = settings.load(path)
    assert made == settings.load(None, ["seed=7", "hardware.rows=16"])
    assert set(yaml.safe_load(path.read_text())) == set(Settings.model_fields)


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for group in ([], ["fetch"]):
        assert call(*group, "--help") == 0
        asked = capsys.readouterr().out
        assert call(*group) == 0
        assert capsys.readouterr().out == asked
        assert asked.count("\n") > 5


def test_an_empty_folder_holds_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("runs", str(tmp_path)) == 0
    assert capsys.readouterr().out == f"no runs in {tmp_path}\n"


def test_nothing_recorded_yet_is_said_and_the_folder_serves_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a run"
    folder.mkdir()
    (folder / journal.NAME).write_bytes(b'{"check')
    for command in ("resume", "replay", "trace"):
        assert call(command, str(folder)) == ExitCode.FOLDER
        said = capsys.readouterr().err
        assert f"may be used again: dovetail run --out '{folder}'" in said
        assert said.count("\n") == 1
    assert (folder / journal.NAME).read_bytes() == b'{"check'
    assert call("run", "--iterations", "1", "--out", str(folder)) == 0
    assert call("replay", str(folder)) == 0


def test_a_refused_resume_changes_no_byte(run: Path, tmp_path: Path) -> None:
    lines = (run / journal.NAME).read_bytes().splitlines(keepends=True)
    torn = b"".join(lines[:5]) + b'{"check'
    (tmp_path / journal.NAME).write_bytes(torn)
    assert call("resume", str(tmp_path), workshop=EmptyWorkshop()) == ExitCode.MISSING
    assert (tmp_path / journal.NAME).read_bytes() == torn
    assert call("resume", str(tmp_path)) == 0
    assert ordered(journal.read(tmp_path)) == ordered(journal.read(run))


@dataclass(frozen=True)
class EmptyWorkshop(ToyWorkshop):
    """Lacks its data."""

    def bench(self, settings: Settings) -> Bench:
        raise Missing("the data is gone")


def test_a_run_that_cannot_be_written_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / journal.NAME).write_bytes((run / journal.NAME).read_bytes())
    (tmp_path / journal.LOCK).mkdir()
    assert call("resume", str(tmp_path)) == ExitCode.FOLDER
    said = capsys.readouterr().err
    assert said.startswith(f"dovetail: cannot write in {tmp_path} (") and said.count("\n") == 1


def test_a_named_folder_without_the_images_of_the_model_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "pathmnist.npz").write_bytes(b"")
    (tmp_path / "design.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    named = [["--data-dir", "empty"], ["--set", "data_dir=empty"]]
    commands = [["run", "--dry-run"], ["run", "--out", "run"], ["evaluate", "design.json"]]
    for command in [[*command, *name] for command in commands for name in named]:
        assert call(*command) == ExitCode.MISSING
        said = capsys.readouterr().err
        assert "empty holds none of the MedMNIST images" in said
        assert "dovetail fetch medmnist --data-dir empty" in said
    assert call("run", "--dry-run", "--data-dir", "design.json") == ExitCode.MISSING
    assert "design.json is a file, not a folder" in capsys.readouterr().err
    monkeypatch.setenv("DOVETAIL_DATA_DIR", "empty")
    for command in [*commands, ["replay", str(run), "--remeasure"]]:
        assert call(*command) == ExitCode.MISSING
        assert "holds none" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    (tmp_path / "empty" / "breastmnist.npz").write_bytes(b"")
    assert call("run", "--dry-run") == 0, "one of the sets is enough"


def test_init_writes_a_file_once(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    assert call("init", str(path)) == 0
    assert call("run", str(path), "--dry-run") == 0
    assert call("init", str(path)) == ExitCode.BAD_INPUT


def test_knobs_lists_every_knob(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("knobs", "--json") == 0
    assert "hardware.rows" in {k["path"] for k in json.loads(capsys.readouterr().out)}
    assert call("knobs") == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["bogus"], ExitCode.USAGE, "No such command"),
        (["run", "--iterations", "many"], ExitCode.USAGE, "iterations"),
        (["run", "absent.yaml"], ExitCode.BAD_INPUT, "absent.yaml cannot be read"),
        (["run", "--set", "sead=1"], ExitCode.BAD_INPUT, "unknown key `sead`"),
        (["run", "--seed", "-1"], ExitCode.BAD_INPUT, "dovetail: --seed: must be at least 0"),
        (["run", "--iterations", "0"], ExitCode.BAD_INPUT, ": --iterations: must be .* 1, not 0"),
        (["run", "--llm", "oracle"], ExitCode.BAD_INPUT, ": --llm: must be 'mock', 'openai' or"),
        (["run", "--model", ""], ExitCode.BAD_INPUT, "--model: is empty"),
        (["run", "--workers", "65"], ExitCode.BAD_INPUT, "--workers: must be at most 64"),
        (["run", "--set", "target.name=sky130"], ExitCode.BAD_INPUT, "must be 'nangate45'"),
        (["run", "--set", "target.area_limit_um2=inf"], ExitCode.BAD_INPUT, "finite number"),
        (["runs", "absent"], ExitCode.FOLDER, "absent does not exist"),
        (["runs", __file__], ExitCode.FOLDER, "is a file, not a folder"),
        (["resume", "absent"], ExitCode.FOLDER, "holds no run"),
        (["trace", "absent"], ExitCode.FOLDER, "holds no run"),
        (["replay", "../../etc"], ExitCode.FOLDER, "holds no run"),
        (["evaluate", "absent.json"], ExitCode.BAD_INPUT, "cannot be read"),
        (["evaluate"], ExitCode.BAD_INPUT, "name a design: .* or --verilog FILE --top NAME"),
        (["evaluate", "--verilog", "a.v"], ExitCode.BAD_INPUT, "go together"),
        (
            ["evaluate", "--verilog", "a.v", "--top", "a", "--test"],
            ExitCode.BAD_INPUT,
            "--verilog goes without --test",
        ),
        (["evaluate", "a.json", "--recipe", "plain"], ExitCode.BAD_INPUT, "goes with --verilog"),
        (["evaluate", "a.json", "--verilog", "a.v", "--top", "a"], ExitCode.BAD_INPUT, "without a"),
        (["evaluate", "--verilog", "a.v", "--top", "a"], ExitCode.BAD_INPUT, "a.v cannot be read"),
        (["evaluate", "pipe.json"], ExitCode.BAD_INPUT, "pipe.json is no file"),
        (["evaluate", "list.json"], ExitCode.BAD_INPUT, "list.json: must hold keys"),
        (["evaluate", "typo.json"], ExitCode.BAD_INPUT, "hardware.row: there is no such knob"),
    ],
)
def test_a_mistake_is_one_sentence_and_its_code(
    arguments: list[str], code: ExitCode, said: str, capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = {"list.json": "[]", "typo.json": '{"hardware": {"row": 8}}'}
    for name, text in given.items():
        Path(name).write_text(text)
    os.mkfifo("pipe.json")
    assert call(*arguments) == code
    captured = capsys.readouterr()
    assert re.search(said, captured.err)
    assert captured.err.count("\n") == 1 and "Traceback" not in captured.err
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*given, "pipe.json"}, "something half-written was left"


def test_a_store_that_cannot_be_written_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    design = tmp_path / "design.json"
    design.write_text("{}")
    monkeypatch.setenv("DOVETAIL_CACHE_DIR", str(design))
    commands = [["evaluate", str(design)], ["run", "--out", str(tmp_path / "run")]]
    commands.append(["evaluate", "--verilog", str(design), "--top", "top"])
    for command in commands:
        assert call(*command) == ExitCode.FOLDER
        assert "name another folder in DOVETAIL_CACHE_DIR" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_no_defect() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from dovetail.cli import main; main(['knobs'])"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == ExitCode.NO_SPACE
    assert done.stderr.startswith("dovetail: no room to write (No space left on device)")


def test_a_reader_that_goes_is_no_fault() -> None:
    script = "from dovetail.cli import main; main(['knobs'])"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=120) == ExitCode.OK
        assert process.stderr.read() == ""


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
    for command in ("init", "run", "resume", "runs", "trace", "replay", "evaluate", "compile",
                    "knobs", "fetch", "check-model", "doctor"):  # fmt: skip
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
    folder = tmp_path / "an interrupted run"
    process = toy("run", "--seed", "7", "--iterations", "4", "--out", str(folder), delay_s=30)
    path = folder / journal.NAME
    while not (path.exists() and b'"proposed"' in path.read_bytes()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[0]
    assert process.returncode == ExitCode.INTERRUPTED
    assert said.endswith(f"go on with: dovetail resume '{folder}'\n") and "Traceback" not in said
    assert call("resume", str(folder)) == 0
    assert ordered(journal.read(folder)) == ordered(journal.read(run))


SLOW_BENCH = """
import time
from dovetail.cli import main
from dovetail.testing import ToyWorkshop
class Slow(ToyWorkshop):
    def bench(self, settings):
        print("loading", flush=True)
        time.sleep(60)
        raise AssertionError("nobody ended it")
import sys
main(sys.argv[1:], Slow())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_before_the_first_line_it_says_that_nothing_was_begun(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_BENCH, "run", "--out", str(tmp_path / "run")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "loading\n"
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == ExitCode.INTERRUPTED
    assert said == ("dovetail: interrupted before anything was recorded; no run was begun\n")


def test_a_terminated_remeasurement_ends_with_the_documented_code(run: Path) -> None:
    process = toy("replay", str(run), "--remeasure", delay_s=30)
    assert process.stdout is not None and "are equal" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[0]
    assert process.returncode == ExitCode.INTERRUPTED
    assert said == "dovetail: interrupted; no run or file was begun\n"


def test_an_interrupted_study_stops_at_once_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    process = toy("study", "--out", str(folder), delay_s=30)
    while not (folder / "study.json").is_file():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=25)[0]
    assert process.returncode == ExitCode.INTERRUPTED
    assert "Traceback" not in said and said.count("measuring cores") <= 2
    assert call("study", "--out", str(folder)) == 0
    assert (folder / "study.md").is_file()


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


def test_a_dry_run_refuses_an_unlawful_base_too(capsys: pytest.CaptureFixture[str]) -> None:
    change = 'compression.quantization.overrides={"vision.99": 4}'
    assert call("run", "--dry-run", "--set", change) == ExitCode.BAD_INPUT
    assert "base: override 'vision.99' names no block" in capsys.readouterr().err
