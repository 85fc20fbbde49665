"""The workload of a run by its name: medical questions, or a language model on code."""

import json
from pathlib import Path

import pytest

from dovetail import settings
from dovetail.cli import main
from dovetail.errors import ExitCode
from dovetail.settings import Option
from dovetail.shipped import Shipped
from evaluators.workloads import ROOM
from tests.swopt import tiny_llama


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments, Shipped())
    return int(ended.value.code or 0)


def test_a_language_model_of_ones_own_is_a_bench(tmp_path: Path) -> None:
    folder = str(tiny_llama.save(tmp_path / "tiny"))
    option = {"workload": Option("--workload", folder)}
    bench = Shipped().bench(settings.load(None, [], option))
    assert bench.evaluator.name == "language-pipeline"
    assert bench.layers[:2] == ("decoder.0", "decoder.1") and bench.layers[-1] == "head"
    assert "decoder.1.mlp.down" in bench.layers
    assert "standard library" in bench.data and "argparse.py" not in bench.data
    assert any(name.endswith(".py") for name in bench.data_sha256)


def test_a_dry_run_names_the_model_and_starts_from_a_core_that_it_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tiny_llama.save(tmp_path / "tiny"))
    assert call("run", "--workload", folder, "--dry-run") == ExitCode.OK
    said = capsys.readouterr().out
    assert f"workload: {folder}" in said.replace("\n", "")
    assert f"activation_bytes: {ROOM.activation_bytes}" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpt-9", "gpt-9 is no folder and no model that is known; name smollm2-135m"),
        (__file__, "is a file; name the folder"),
        (".", "config.json"),
    ],
)
def test_what_is_no_model_is_refused_in_a_sentence(
    name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "--workload", name, "--dry-run") == ExitCode.MISSING
    found = capsys.readouterr().err
    assert said in found and found.count("\n") == 1


@pytest.mark.parametrize("command", [["run", "--dry-run"], ["evaluate", "design.json"]])
def test_images_are_not_for_a_language_model(
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("design.json").write_text("{}")
    assert call(*command, "--workload", "gpt-9", "--data-dir", ".") == ExitCode.BAD_INPUT
    assert "a folder of images is for tiny-vlm, not for gpt-9" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.eda
def test_a_design_is_measured_on_a_language_model(
    cache_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOVETAIL_CACHE_DIR", str(cache_dir))
    folder = str(tiny_llama.save(tmp_path / "tiny"))
    design = tmp_path / "design.json"
    core = {"rows": 4, "columns": 4, "activation_bytes": 32768, "channel_entries": 512}
    bits = {"quantization": {"bits": 4, "head_bits": 8}}
    design.write_text(json.dumps({"hardware": core, "compression": bits}))
    assert call("evaluate", str(design), "--workload", folder, "--json") == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "ok" and found["details"]["bits_per_byte"] > 0
    assert found["details"]["latency_limited_by"] in ("core", "DRAM bandwidth")
    assert call("evaluate", str(design), "--workload", folder, "--test") == ExitCode.OK
    said = capsys.readouterr().out
    assert "bits per byte" in said and "windows" in said
    design.write_text(json.dumps({"compression": {"resolution": {"image_height": 16}}}))
    assert call("evaluate", str(design), "--workload", folder) == ExitCode.BAD_INPUT
    assert "leave resolution out of the plan" in " ".join(capsys.readouterr().out.split())
