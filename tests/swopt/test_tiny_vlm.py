"""The shipped checkpoint is small, is what its files say, and a damaged one says so."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from swopt.workloads import checkpoint, tiny_vlm
from swopt.workloads.checkpoint import CheckpointError
from swopt.workloads.workload import Workload


def test_the_shipped_files_fit_the_promise() -> None:
    assert sum(path.stat().st_size for path in checkpoint.SHIPPED.iterdir()) <= 1_500_000
    shipped = (checkpoint.SHIPPED / "tokenizer.json").read_text()
    assert json.loads(shipped) == json.loads(tiny_vlm.build_tokenizer().to_str())
    config = json.loads((checkpoint.SHIPPED / "config.json").read_text())
    assert config == tiny_vlm.config_for(tiny_vlm.build_tokenizer())
    record = json.loads((checkpoint.SHIPPED / "training.json").read_text())
    assert {"command", "recipe", "sets", "data_sha256", "versions", "elapsed_s"} <= set(record)


def test_every_linear_layer_has_exactly_one_name(workload: Workload) -> None:
    model = workload.vlm.model
    named = tiny_vlm.linear_layers(model)
    present = {m for m in model.modules() if isinstance(m, torch.nn.Linear)}
    assert set(named.values()) == present
    assert len(named) == len(present)
    blocks = [f"{tower}.{i}" for tower, n in (("vision", 4), ("decoder", 3)) for i in range(n)]
    assert workload.layers == (*blocks, *named)
    assert type(model).__name__ == "Idefics3ForConditionalGeneration"


def test_loading_restores_what_the_file_does_not_hold(workload: Workload) -> None:
    fresh = tiny_vlm.build_model(tiny_vlm.config_for(tiny_vlm.build_tokenizer()))
    expected = dict(fresh.named_buffers())
    held = fresh.state_dict()
    loaded = dict(workload.vlm.model.named_buffers())
    computed = [name for name in expected if name not in held]
    assert computed
    assert all(torch.equal(loaded[name], expected[name]) for name in computed)


def test_an_image_becomes_what_the_encoder_sees() -> None:
    image = torch.zeros(1, 28, 28, 3, dtype=torch.uint8)
    image[0, 0, 27, 1] = 255
    pixels = tiny_vlm.pixel_values(image)
    assert pixels.shape == (1, 1, 3, 32, 32)
    assert pixels[0, 0, 1, 2, 29] == 1
    assert pixels.sum() == -3 * 32 * 32 + 2


def test_the_prompt_is_the_image_and_then_the_words() -> None:
    tokenizer = tiny_vlm.build_tokenizer()
    ids = tiny_vlm.prompt_ids(tokenizer, "lesion ?")
    image = checkpoint.token_id(tokenizer, "<image>")
    assert ids[:16] == [image] * 16
    assert tokenizer.decode(ids[16:]) == "lesion ?"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", None),
        ("model.safetensors", b"\x00" * 100),
        ("config.json", b"{"),
        ("config.json", b'{"text_config": {"hidden_size": "wide"}}'),
        ("tokenizer.json", b"{}"),
        ("training.json", b'{"sets": []}'),
        ("training.json", b'{"sets": [], "answers": ["aardvark"]}'),
    ],
)
def test_a_missing_or_damaged_file_is_one_clear_sentence(
    tmp_path: Path, file: str, content: bytes | None
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint.SHIPPED, folder)
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"cannot be used: .*; name a folder that dovetail finetune made"
    ) as caught:
        checkpoint.load(folder)
    assert "\n" not in str(caught.value)


def test_one_flipped_bit_of_the_weights_is_found_out(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint.SHIPPED, folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[300_000] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match=r"is not the file that training\.json names"):
        checkpoint.load(folder)


@pytest.mark.parametrize(("knob", "value"), [("num_hidden_layers", 2), ("hidden_size", 128)])
def test_weights_of_another_shape_are_refused(tmp_path: Path, knob: str, value: int) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint.SHIPPED, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"][knob] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="cannot be used"):
        _ = checkpoint.load(folder).model
