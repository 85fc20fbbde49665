"""`dovetail finetune` says what it does, goes on where it ended, and refuses in a sentence."""

import fcntl
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dovetail.cli import main
from dovetail.errors import ExitCode
from dovetail.shipped import Shipped
from swopt.workloads import medical_vqa
from swopt.workloads.finetune import FineTuning
from tests.swopt import own_rows, tiny_llama
from tests.swopt.hub_server import serving
from tests.swopt.medical_files import jpeg, shard

Said = pytest.CaptureFixture[str]
SHORT = ("--steps", "6", "--rank", "2")


def call(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments], Shipped())
    return int(ended.value.code or 0)


def test_a_file_of_rows_becomes_a_model_that_designs_are_measured_on(
    tmp_path: Path, capsys: Said
) -> None:
    rows, out = own_rows.written(tmp_path), tmp_path / "model"
    assert call("finetune", rows, "--out", out, *SHORT, "--json") == ExitCode.OK
    said = capsys.readouterr()
    assert "rows.jsonl: 16 train, 16 val, 16 test questions about 24 images, 4 answers" in said.err
    assert "on validation" in said.err
    judged = json.loads(said.out)
    assert set(judged["accuracy"]) == {"closed", "open"}
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json", "model.safetensors", "questions.npz", "tokenizer.json", "training.json",
    ]  # fmt: skip
    assert json.loads((out / "training.json").read_text())["validation"] == judged

    assert call("run", "--checkpoint", out, "--dry-run") == ExitCode.OK
    assert "16 training, 16 validation and 16 test questions of rows.jsonl" in "".join(
        capsys.readouterr().out.splitlines()
    ).replace("  ", " ")
    assert call("finetune", rows, "--out", out, *SHORT) == ExitCode.FOLDER
    assert "holds a finished model; name a new folder" in capsys.readouterr().err
    further = tmp_path / "further"
    assert call("finetune", rows, "--from", out, "--out", further, *SHORT) == ExitCode.OK
    assert "dovetail run --checkpoint" in capsys.readouterr().out


def test_interrupted_it_goes_on_and_comes_to_the_same_model(
    tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FineTuning, "save_every", 2)
    rows, whole, parts = own_rows.written(tmp_path), tmp_path / "whole", tmp_path / "parts"
    assert call("finetune", rows, "--out", whole, *SHORT) == ExitCode.OK
    with monkeypatch.context() as ending:
        ending.setattr(FineTuning, "step", _ends_at(5, FineTuning.step))
        assert call("finetune", rows, "--out", parts, *SHORT) == ExitCode.INTERRUPTED
    said = capsys.readouterr().err
    assert "interrupted at step 5 of 6; the same command goes on from step 4" in said
    assert call("run", "--checkpoint", parts, "--dry-run") == ExitCode.MISSING
    said = capsys.readouterr().err
    assert "its fine-tuning has not ended; give that command again" in said

    assert call("finetune", rows, "--out", parts, "--steps", "7") == ExitCode.FOLDER
    assert "another fine-tuning, of another recipe" in capsys.readouterr().err
    assert call("finetune", rows, "--out", parts, *SHORT) == ExitCode.OK
    assert "going on from step 4" in capsys.readouterr().err
    for name in ("model.safetensors", "training.json"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()


def test_a_changed_state_is_refused_and_two_do_not_make_one_model(
    tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FineTuning, "save_every", 2)
    rows, out = own_rows.written(tmp_path), tmp_path / "model"
    arguments = ("finetune", rows, "--out", out, *SHORT)
    with monkeypatch.context() as ending:
        ending.setattr(FineTuning, "step", _ends_at(3, FineTuning.step))
        assert call(*arguments) == ExitCode.INTERRUPTED
    with (out / "progress.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert call(*arguments) == ExitCode.FOLDER
    assert "another process makes a model in" in capsys.readouterr().err
    for content in (b"", bytes([(out / "progress.pt").read_bytes()[0] ^ 1])):
        (out / "progress.pt").write_bytes(content)
        assert call(*arguments) == ExitCode.FOLDER
        assert "was changed; remove that file to begin" in capsys.readouterr().err
    (out / "progress.pt").unlink()
    assert call(*arguments) == ExitCode.OK


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "questions.npz"])
def test_a_changed_file_of_a_model_is_found_out(name: str, tmp_path: Path, capsys: Said) -> None:
    rows, out = own_rows.written(tmp_path, 4), tmp_path / "model"
    assert call("finetune", rows, "--out", out, "--steps", "1") == ExitCode.OK
    (out / name).write_bytes((out / name).read_bytes() + b" ")
    assert call("run", "--checkpoint", out, "--dry-run") == ExitCode.MISSING
    assert f"{name} is not the file that training.json names" in capsys.readouterr().err


def _ends_at(last: int, step: Callable[[FineTuning], float]) -> Callable[[FineTuning], float]:
    def ending(teaching: FineTuning) -> float:
        if teaching.steps_done == last:
            raise KeyboardInterrupt
        return step(teaching)

    return ending


def test_a_fetched_set_without_validation_questions_is_taught(
    tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(first: int, count: int) -> bytes:
        seeds = range(first, first + count)
        return shard([(jpeg(i), "is it bright?", "Yes" if i % 2 else "No.") for i in seeds])

    files = {
        "README.md": b"---\n",
        "data/train-00000-of-00001-0a1b.parquet": asked(0, 16),
        "data/test-00000-of-00001-0c1d.parquet": asked(100, 5),
    }
    hub_name = medical_vqa.SETS["vqa-rad"].hub_name
    with serving(hub_name, files, {}, data=True) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert call("fetch", "vqa-rad", "--data-dir", tmp_path) == ExitCode.OK
    out = tmp_path / "model"
    arguments = ("finetune", "vqa-rad", "--data-dir", tmp_path, "--out", out, *SHORT)
    assert call(*arguments) == ExitCode.OK
    said = capsys.readouterr()
    assert "vqa-rad: 14 train, 2 val, 5 test questions about 21 images, 2 answers" in said.err
    assert "  open: " not in said.out and "  closed: " in said.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("none.jsonl",), ExitCode.BAD_INPUT, "none.jsonl cannot be read"),
        (("~nobody-here/x",), ExitCode.BAD_INPUT, "~nobody-here/x cannot be read"),
        (("rows.jsonl", "--data-dir", "."), ExitCode.BAD_INPUT, "where fetched sets are"),
        (("rows.jsonl", "--steps", "0"), ExitCode.BAD_INPUT, "--steps: "),
        (("rows.jsonl", "--learning-rate", "nan"), ExitCode.BAD_INPUT, "--learning-rate: "),
        (("rows.jsonl", "--device", "cuda"), ExitCode.MISSING, "no CUDA device"),
        (("rows.jsonl", "--from", "nowhere"), ExitCode.MISSING, "nowhere cannot be used"),
        (("vqa-rad", "--data-dir", "."), ExitCode.MISSING, "dovetail fetch vqa-rad"),
        (("bad.jsonl",), ExitCode.BAD_INPUT, "line 1, is no JSON"),
        (("one.jsonl",), ExitCode.BAD_INPUT, "1 different answers"),
    ],
)
def test_what_cannot_be_taught_is_refused_in_a_sentence(
    arguments: tuple[str, ...],
    code: ExitCode,
    said: str,
    tmp_path: Path,
    capsys: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    rows = own_rows.written(tmp_path, 2).read_text().splitlines()
    Path("bad.jsonl").write_text("{")
    Path("one.jsonl").write_text(rows[0])
    assert call("finetune", *arguments, "--out", "model") == code
    found = capsys.readouterr()
    assert said in found.err and "Traceback" not in found.err and not found.out
    assert not Path("model").exists()


def test_a_language_model_is_taught_texts_and_fitted_like_any_other(
    tmp_path: Path, capsys: Said
) -> None:
    base = tiny_llama.save(tmp_path / "base")
    text, out = tmp_path / "text.py", tmp_path / "model"
    text.write_text("".join(f"def f{i}(): return {i}\n" for i in range(80)))
    arguments = ("finetune", text, "--workload", base, "--out", out, "--steps", "3")
    assert call(*arguments) == ExitCode.OK
    said = capsys.readouterr()
    assert "windows of training and 1 of validation, of 1 files" in said.err
    assert "nats before" in said.out and f"dovetail run --workload {out}" in said.out
    assert call("run", "--workload", out, "--dry-run") == ExitCode.OK
    told = " ".join(capsys.readouterr().out.split())
    assert "fine-tuned from weights of the folder base" in told
    assert call(*arguments[:-4], "--out", tmp_path / "x", "--data-dir", ".") == ExitCode.BAD_INPUT
    assert "are of tiny-vlm; leave them out" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    arguments = ("finetune", tmp_path / "empty", "--workload", base, "--out", tmp_path / "y")
    assert call(*arguments) == ExitCode.BAD_INPUT
    assert "holds no file whose name ends with .py; see --suffix" in capsys.readouterr().err
    assert call("finetune", text, "--workload", "gpt-9", "--out", tmp_path / "z") == 4
    assert "gpt-9 is no folder" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, capsys: Said) -> None:
    rows, other = own_rows.written(tmp_path), tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    assert call("finetune", rows, "--out", other, *SHORT) == ExitCode.FOLDER
    assert "holds something else" in capsys.readouterr().err
    assert [path.name for path in other.iterdir()] == ["letter.txt"]


def test_a_model_with_questions_of_its_own_takes_no_folder_of_images(
    tmp_path: Path, capsys: Said
) -> None:
    rows, out = own_rows.written(tmp_path, 4), tmp_path / "model"
    assert call("finetune", rows, "--out", out, "--steps", "1") == ExitCode.OK
    arguments = ("run", "--checkpoint", out, "--data-dir", tmp_path, "--dry-run")
    assert call(*arguments) == ExitCode.BAD_INPUT
    assert "has its own questions; leave the folder of images out" in capsys.readouterr().err
    assert call("run", "--workload", out, "--dry-run") == ExitCode.MISSING
    assert "a model of dovetail finetune is named with --checkpoint" in capsys.readouterr().err
    assert call("run", "--workload", "gpt-9", "--checkpoint", out) == ExitCode.BAD_INPUT
    assert "a checkpoint is for tiny-vlm, not for gpt-9" in capsys.readouterr().err
