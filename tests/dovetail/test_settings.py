"""Run files: defaults once, faults in one sentence."""

from pathlib import Path

import pytest
import yaml

from dovetail import reading, settings
from dovetail.errors import BadInput
from dovetail.settings import Settings


def load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return settings.load(path)


def test_the_commented_file_holds_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, settings.commented()) == Settings()


def test_the_commented_file_names_every_setting() -> None:
    tree = yaml.safe_load(settings.commented())
    expected = Settings().model_dump(mode="json")
    del expected["base"]["edits"]
    assert tree == expected


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sead: 7", r"run\.yaml: unknown key `sead`; the keys there are seed, iterations"),
        ("llm:\n  modell: x", "unknown key `llm.modell`; the keys there are provider, model"),
        ("seed: -1", "seed: input should be greater than or equal to 0, not -1"),
        ("iterations: 0", "iterations: .* not 0"),
        ("seed: [", r"run\.yaml, line \d+: "),
        ("seed: 1\nseed: 2", "line 2: the key `seed` stands there twice"),
        ("a: &x 1\nb: *x", "aliases"),
        ("target:\n  area_limit_um2: .nan", "line 2: `.nan` is no finite number"),
        ("- 1", "holds no settings"),
        ("seed: !!python/object:os.system x", "could not determine a constructor"),
        ("llm: {base_url: 'http://user:secret@host'}", "llm.base_url: string should match"),
        ("base: {hardware: {array: {rows: 5}}}", "base.hardware.array.rows: input should be 4"),
        ("base: {hardware: {array: {rows: 16, columns: 4}}, edits: [1]}", "base.edits"),
        ("[" * 500, "."),
    ],
)
def test_a_fault_is_one_sentence_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        settings.load(tmp_path / "absent.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not UTF-8"):
        settings.load(tmp_path / "binary")


def test_set_changes_settings_and_knobs() -> None:
    made = settings.load(
        None, ["seed=7", "llm.provider=none", "compression.pruning.vision_mlp_keep=0.5"]
    )
    assert made.seed == 7 and made.llm.provider == "none"
    assert made.base.compression.pruning.vision_mlp_keep == 0.5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("seed", "takes PATH=VALUE"),
        ("hardware.array.rowz=8", "the nearest is `hardware.array.rows`"),
        ("hardware.array.rows=5", "5 is not one of 4, 8, 16"),
        ("seed.deeper.still=1", "seed: input should be a valid integer"),
        ("seed=[", "is no value"),
    ],
)
def test_set_refuses_in_one_sentence(change: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        settings.load(None, [change])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "stands there twice"),
        ('{"a": NaN}', "NaN is no finite number"),
        ("{", "line 1: this is no JSON"),
        ("[" * 100_000, "."),
    ],
)
def test_json_is_read_strictly(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "design.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=said):
        reading.read_json(path)
