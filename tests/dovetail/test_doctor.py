"""What `dovetail doctor` says of this machine, and the exit code that it ends with."""

import hashlib
import json
from pathlib import Path

import pytest

from dovetail import doctor
from dovetail.cli import main
from dovetail.errors import ExitCode
from dovetail.testing import ToyWorkshop
from evaluators.fpga import nextpnr
from evaluators.gate import self_test
from swopt.workloads import medmnist


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments, ToyWorkshop())
    return int(ended.value.code or 0)


def images(folder: Path | None) -> doctor.Check:
    (found,) = [check for check in doctor.report(folder) if check.name == "medical images"]
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files count as the published ones."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOVETAIL_DATA_DIR", raising=False)
    made = tmp_path / "the images"
    made.mkdir()
    for name in ("breastmnist", "retinamnist"):
        content = name.encode() * 100
        (made / f"{name}.npz").write_bytes(content)
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        monkeypatch.setitem(medmnist.MD5, name, digest)
    return made


def test_published_images_are_ok_and_a_missing_set_is_named(folder: Path) -> None:
    assert images(folder).detail == f"breastmnist, retinamnist · {folder}"
    (folder / "retinamnist.npz").unlink()
    found = images(folder)
    assert found.state == "ok" and found.detail.endswith("without retinamnist")


def test_sets_of_medical_questions_are_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> doctor.Check:
        return next(c for c in doctor.report(folder) if c.name == "medical questions")

    assert found().state == "ok" and found().detail.endswith("· none fetched")
    (folder / "slake").mkdir()
    (folder / "slake" / "source.json").write_text("{}")
    assert found().detail.endswith(f"· slake · {folder}") and not found().required
    monkeypatch.setattr(doctor, "READERS", ("a-package-that-is-nowhere",))
    assert found().state == "missing" and found().remedy == "pip install 'dovetail[vqa]'"
    assert found().detail == "a-package-that-is-nowhere is not installed"


@pytest.mark.parametrize("damaged", [b"breastmnist" * 50, b"hi"])
def test_a_damaged_file_is_broken_with_the_remedy(folder: Path, damaged: bytes) -> None:
    (folder / "breastmnist.npz").write_bytes(damaged)
    found = images(folder)
    assert found.state == "broken" and found.required
    assert "is not the published breastmnist.npz" in found.detail
    assert found.remedy == (
        f"rm '{folder}/breastmnist.npz' && dovetail fetch medmnist breastmnist "
        f"--data-dir '{folder}'"
    )


def test_images_that_nobody_named_may_be_missing_and_named_ones_not(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (images(None).state, images(None).required) == ("missing", False)
    (tmp_path / ".medmnist").mkdir()
    assert (images(None).state, images(None).required) == ("missing", False)
    for named in (tmp_path / "typo", tmp_path / ".medmnist", folder / "breastmnist.npz"):
        assert (images(named).state, images(named).required) == ("missing", True)
    monkeypatch.setenv("DOVETAIL_DATA_DIR", str(tmp_path / ".medmnist"))
    assert "holds none of the MedMNIST images" in images(None).detail


@pytest.mark.parametrize("missing", ["", "the kernel offers no Landlock"])
def test_the_state_of_the_sandbox_is_told(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "sandbox_missing", lambda: missing)
    (found,) = [check for check in doctor.report(None) if check.name == "sandbox"]
    assert found.state == ("missing" if missing else "ok") and not found.required
    if missing:
        assert found.detail == missing and "landlock in its boot option" in found.remedy
        assert "byte-equal to a file of the playbook" in found.without
    else:
        assert "Landlock ABI" in found.detail and "seccomp" in found.detail


def test_the_exit_code_tells_whether_a_run_can_be_made(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOVETAIL_CACHE_DIR", str(tmp_path / "cache"))
    assert call("doctor", "--data-dir", str(folder)) == ExitCode.OK
    assert call("doctor") == ExitCode.OK, "images that nobody named are not required"
    capsys.readouterr()
    assert call("doctor", "--json", "--data-dir", str(tmp_path / "typo")) == ExitCode.MISSING
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["torch"]["state"] == "ok" and checks["torch"]["required"]
    assert not checks["verilator"]["required"]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DOVETAIL_CACHE_DIR", str(tmp_path / "file"))
    assert call("doctor", "--data-dir", str(folder)) == ExitCode.MISSING


def test_a_server_named_on_the_command_line_is_tried(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOVETAIL_CACHE_DIR", str(tmp_path / "cache"))
    nobody = "http://127.0.0.1:9/v1"
    assert call("doctor", "--llm", "--base-url", nobody, "--model", "m") == ExitCode.SERVER
    said = capsys.readouterr().out
    assert f"no connection to {nobody}" in said and "type: start the server" in said
    assert call("doctor", "--llm") == ExitCode.OK, "the offline model needs no server"
    capsys.readouterr()
    assert call("doctor", "--base-url", nobody) == ExitCode.BAD_INPUT
    assert "add --llm" in capsys.readouterr().err


def test_nextpnr_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nextpnr, "WHEELS", ("a-wheel-that-is-nowhere",))
    (found,) = [check for check in doctor.report(None) if check.name == "nextpnr"]
    assert found.state == "missing" and not found.required
    assert found.remedy == "pip install 'dovetail[ecp5]'"
