"""Models are loaded by name or folder, and refused in a sentence before a weight is read."""

import json
import re
import struct
from pathlib import Path

import pytest
import torch

from swopt.workloads import language_models, model_store, smollm2
from swopt.workloads.free_memory import available_bytes
from swopt.workloads.model_store import ModelError
from tests.swopt import tiny_llama
from tests.swopt.hub_server import serving


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama.save(tmp_path_factory.mktemp("models") / "tiny")


def _copy(saved: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def _change(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


def test_a_folder_gives_the_model_that_was_saved_in_it(saved: Path) -> None:
    loaded = language_models.load(str(saved))
    ids = torch.arange(30)[None]
    with torch.no_grad():
        expected = tiny_llama.model()(input_ids=ids).logits
        assert torch.allclose(loaded.model(input_ids=ids).logits, expected, atol=1e-5)
    assert not loaded.model.training
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("re = 12\n").ids) == "re = 12\n"
    assert loaded.source == "weights of the folder tiny"
    assert loaded.sha256 == language_models.load(str(saved)).sha256


def test_shards_are_one_model(saved: Path, tmp_path: Path) -> None:
    made = tiny_llama.model()
    made.save_pretrained(tmp_path / "shards", max_shard_size="50KB")  # type: ignore[operator]
    tiny_llama.tokenizer().save(str(tmp_path / "shards" / "tokenizer.json"))
    files = language_models.look(tmp_path / "shards")
    assert len(files.weights) > 1
    assert files.parameters == language_models.look(saved).parameters
    ids = torch.arange(20)[None]
    with torch.no_grad():
        found = language_models.load(str(tmp_path / "shards")).model(input_ids=ids).logits
        assert torch.allclose(found, made(input_ids=ids).logits, atol=1e-5)
    files.weights[-1].unlink()
    with pytest.raises(ModelError, match=f"half downloaded: {files.weights[-1].name} is missing"):
        language_models.look(tmp_path / "shards")


def test_what_is_not_whole_is_refused_before_it_is_loaded(saved: Path, tmp_path: Path) -> None:
    folder = _copy(saved, tmp_path / "model")
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    for cut, said in (
        (content[:-1], r"half downloaded: it has \d+ bytes of \d+"),
        (content[: 8 + length // 2], "is no whole safetensors file"),
        (b"version https://git-lfs", "is no whole safetensors file"),
        (b"", "is no whole safetensors file"),
    ):
        weights.write_bytes(cut)
        with pytest.raises(ModelError, match=said):
            language_models.load(str(folder))
    weights.unlink()
    with pytest.raises(ModelError, match=r"has no model\.safetensors; fetch the model again"):
        language_models.load(str(folder))
    weights.write_bytes(content)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json is no tokenizer"):
        language_models.load(str(folder))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer\.json.*save_pretrained"):
        language_models.load(str(folder))
    (folder / "config.json").write_text("[1]")
    with pytest.raises(ModelError, match="is no configuration of a model"):
        language_models.load(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json cannot be read \(No such file"):
        language_models.load(str(folder))


def test_weights_of_another_shape_than_the_configuration_are_refused(
    saved: Path, tmp_path: Path
) -> None:
    folder = _copy(saved, tmp_path / "model")
    _change(folder, num_hidden_layers=tiny_llama.LAYERS + 1)
    with pytest.raises(ModelError, match=r"weights of 2 blocks, and its config\.json speaks of 3"):
        language_models.load(str(folder))
    _change(folder, num_hidden_layers=tiny_llama.LAYERS, intermediate_size=8)
    with pytest.raises(ModelError, match=r"model\.layers\.0\.mlp"):
        _ = language_models.load(str(folder)).model


def test_another_family_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = _copy(saved, tmp_path / "model")
    _change(folder, model_type="gpt2")
    with pytest.raises(ModelError, match=r"type gpt2, not of the Llama family.*check-model"):
        language_models.load(str(folder))


def test_what_does_not_fit_the_memory_is_refused(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = language_models.look(saved).load_bytes
    parameters = sum(p.numel() for p in tiny_llama.model().parameters())
    assert need == 4 * parameters + (saved / "model.safetensors").stat().st_size
    monkeypatch.setattr(language_models, "available_bytes", lambda: need - 1)
    with pytest.raises(ModelError, match=r"GB to be loaded and .* GB are free"):
        language_models.load(str(saved))
    monkeypatch.setattr(language_models, "available_bytes", lambda: need)
    language_models.load(str(saved))


def test_free_memory_is_the_containers_where_that_is_less(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 8000 kB\nMemAvailable:    5000 kB\n")
    assert available_bytes(meminfo, tmp_path) == 5_120_000
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("2000000\n")
    (tmp_path / "memory.stat").write_text("anon 7\ninactive_file 500\n")
    assert available_bytes(meminfo, tmp_path) == 1_000_500
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(meminfo, tmp_path) == 5_120_000
    assert available_bytes(tmp_path / "none", tmp_path) > 1 << 27


def test_a_name_that_is_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nosuch is no folder and no model that is known"):
        language_models.load("nosuch", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="is a file; name the folder"):
        language_models.load(str(tmp_path / "file"), tmp_path)
    remedy = re.escape(f"dovetail fetch smollm2-135m --data-dir {tmp_path}")
    with pytest.raises(ModelError, match=remedy):
        language_models.load("smollm2-135m", tmp_path)


def test_a_name_on_the_hub_is_fetched_once_and_then_held_to_its_hashes(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {path.name: path.read_bytes() for path in saved.iterdir()}
    with serving("someone/tiny", content, {}) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        loaded = language_models.load("someone/tiny", tmp_path)
        with pytest.raises(ModelError, match="no public model someone/other"):
            language_models.load("someone/other", tmp_path)
    assert loaded.source == "weights of someone/tiny on the hub, as published"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert language_models.load("someone/tiny", tmp_path).sha256 == loaded.sha256
    with pytest.raises(ModelError, match="did not come from the hub: the hub is out of reach"):
        language_models.load("someone/else", tmp_path)
    (tmp_path / "someone--tiny" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"is not the file that was fetched.*remove that folder"):
        language_models.load("someone/tiny", tmp_path)


def test_a_model_of_another_family_is_not_downloaded(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {path.name: path.read_bytes() for path in saved.iterdir()}
    content["config.json"] = b'{"model_type": "gpt2"}'
    with serving("someone/gpt", content, {"model.safetensors": b"never asked for"}) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(ModelError, match="type gpt2, not of the Llama family"):
            language_models.load("someone/gpt", tmp_path)
    assert not list((tmp_path / "someone--gpt").iterdir())


def test_the_real_model_loads() -> None:
    models = model_store.models_dir()
    if smollm2.find(models) is None:
        pytest.skip("smollm2-135m is not here; dovetail fetch smollm2-135m")
    loaded = language_models.load(smollm2.NAME)
    assert sum(p.numel() for p in loaded.model.parameters()) == 134_515_008
    ids = loaded.tokenizer.encode("def add(a, b):\n    return").ids
    with torch.no_grad():
        likeliest = int(loaded.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
    assert loaded.tokenizer.decode([likeliest]) == " a"
