"""`dovetail check-model` says what is supported from a configuration alone."""

import json
from pathlib import Path

import pytest

from dovetail.errors import ExitCode
from swopt.workloads import checkpoint
from tests.dovetail.test_cli import call

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}


def _folder(folder: Path, **changes: object) -> Path:
    (folder / "config.json").write_text(json.dumps(LLAMA | changes))
    return folder


def test_a_folder_with_a_configuration_alone_is_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (_folder(tmp_path), tmp_path / "config.json"):
        assert call("check-model", str(name)) == 0
        said = capsys.readouterr().out
        assert "2 x linear 64 -> 128: integer operator of the core" in said
        assert "an estimate" in said and said.endswith("every layer is supported\n")
    assert call("check-model", str(checkpoint.SHIPPED), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["supported"] and found["model_type"] == "idefics3"


def test_what_is_not_supported_is_marked_and_ends_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _folder(tmp_path, hidden_act="gelu")
    assert call("check-model", str(tmp_path)) == ExitCode.BAD_INPUT
    said = capsys.readouterr().out
    assert "✗ decoder.*.mlp.activation" in said and "not all of it is supported" in said
    _folder(tmp_path, model_type="nosuch\x1b[2J")
    assert call("check-model", str(tmp_path)) == ExitCode.BAD_INPUT
    said = capsys.readouterr().err
    assert "transformers builds no model of the type nosuch" in said
    assert said.count("\n") == 1 and "\x1b" not in said


def test_a_model_that_is_not_there_ends_with_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOVETAIL_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name, said in (
        ("smollm2-135m", "dovetail fetch smollm2-135m"),
        ("nosuch", "is no folder and no model that is known"),
        ("no/such", "the hub is out of reach"),
        (str(tmp_path), "config.json cannot be read"),
    ):
        assert call("check-model", name) == ExitCode.MISSING
        shown = capsys.readouterr().err
        assert said in shown and shown.count("\n") == 1
