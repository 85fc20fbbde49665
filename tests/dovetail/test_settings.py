"""Run files: defaults once, faults in one sentence."""

from pathlib import Path

import pytest
import yaml

from dovetail import reading, settings
from dovetail.errors import BadInput
from dovetail.settings import Option, Settings
from evaluators.design import DesignPoint


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
        (
            "sead: 7",
            r"run\.yaml: unknown key `sead`; the keys there are workload, checkpoint, seed",
        ),
        ("llm:\n  modell: x", "unknown key `llm.modell`; the keys there are provider, model"),
        ("seed: -1", "seed: must be at least 0, not -1"),
        ("iterations: 0", "iterations: must be at least 1, not 0"),
        ("seed: [", r"run\.yaml, line \d+: "),
        ("seed: 1\nseed: 2", "line 2: the key `seed` stands there twice"),
        ("a: &x 1\nb: *x", "aliases"),
        ("target:\n  area_limit_um2: .nan", "line 2: `.nan` is no finite number"),
        ("- 1", "holds no settings"),
        ("seed: !!python/object:os.system x", "line 1: tags .*os.system.* are refused"),
        ("seed: !!timestamp x", "line 1: tags .* are refused"),
        ("llm: {base_url: 'http://user:secret@host'}", "llm.base_url: must begin with http:// or"),
        ("llm: {model: ''}", r"run\.yaml: llm\.model: is empty$"),
        ("base: {hardware: {rows: 5}}", "base.hardware.rows: must be 4, 8, 16 or 32"),
        ("[a, b]: 1", "line 1: a key is one word, not a list or a mapping"),
        ("seed: 1\n? {a: b}\n: 1", "line 2: a key is one word, not a list or a mapping"),
        ("lag: yes", "lag: must be a number, not true or false"),
        ("base: {compression: {pruning: {vision_mlp_keep: on}}}", "keep: must be a number, not"),
        ("base: {compression: {pruning: {vision_blocks: [yes]}}}", "blocks.0: must be a number"),
        ("deadline_s: 0.5", "deadline_s: must be at least 1, not 0.5"),
        ("target: {area_limit_um2: inf}", "area_limit_um2: must be a finite number, not inf"),
        ("target: {dram_bytes_per_s: 1e400}", "dram_bytes_per_s: must be a finite number"),
        ("target: {dram_energy_j_per_byte: nan}", "must be a finite number, not nan"),
        ("target: {area_limit_um2: 1.0e+400}", "line 1: `1.0e.400` is no finite number"),
        ("target: {name: sky130}", "target.name: must be 'nangate45', not sky130"),
        (f"seed: {'1' * 5000}", "line 1: a number of 5000 digits; write at most 100$"),
        (f"seed: 0x{'1' * 5000}", "line 1: a number of 5002 digits"),
        ("base: {hardware: {rows: 16, columns: 4}, edits: [1]}", "base.edits"),
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


def test_a_language_model_brings_a_core_that_it_fits_and_more_time(tmp_path: Path) -> None:
    plain = settings.load(None, ["workload=smollm2-135m"])
    assert plain.base == plain.baseline != DesignPoint()
    assert plain.deadline_s == 3600
    assert settings.validated(plain.model_dump(mode="json"), "journal") == plain
    given = ["hardware.activation_bytes=65536", "hardware.rows=4", "deadline_s=600"]
    option = {"workload": Option("--workload", "./llama")}
    changed = settings.load(None, given, option)
    core = {"activation_bytes": 65536, "rows": 4}
    assert changed.base.hardware == plain.base.hardware.model_copy(update=core)
    assert changed.deadline_s == 600
    (tmp_path / "run.yaml").write_text("workload: smollm2-135m\nbase: {hardware: {rows: 4}}\n")
    assert settings.load(tmp_path / "run.yaml").base.hardware.channel_entries == 1024
    assert settings.load(None).baseline == DesignPoint()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("workload=", "^--set workload: must"),
        ("workload=7", "^--set workload: must"),
        ("seed", "takes PATH=VALUE"),
        ("hardware.rowz=8", "the nearest is `hardware.rows`"),
        ("hardware.rows=5", "5 is not one of 4, 8, 16, 32"),
        ("seed.deeper.still=1", "seed: must be a whole number"),
        ("seed=[", "is no value"),
        ("seed=-1", "^--set seed: must be at least 0, not -1$"),
        ("target={area_limit_um2: 0}", "^--set target: target.area_limit_um2: must be more than 0"),
        ("target.area_limit_um2=inf", "^--set target.area_limit_um2: must be a finite number"),
        ("target.area_limit_um2=1e400", "^--set target.area_limit_um2: must be a finite number"),
        ("target.area_limit_um2=nan", "^--set target.area_limit_um2: must be a finite number"),
        ("target.area_limit_um2=-.inf", r"`-\.inf` is no finite number"),
        ("target.name=sky130", "^--set target.name: must be 'nangate45', not sky130$"),
        ("lag=yes", "^--set lag: must be a number, not true or false"),
        (f"seed={'1' * 5000}", "a number of 5000 digits; write at most 100"),
        (f"hardware.rows={'1' * 5000}", "rows: a number of 5000 digits"),
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
        ('{"a": 1e400}', "1e400 is no finite number"),
        (f'{{"a": {"1" * 5000}}}', "a number of 5000 digits"),
        ("{", "line 1: this is no JSON"),
        ("[" * 100_000, "."),
    ],
)
def test_json_is_read_strictly(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "design.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=said):
        reading.read_json(path)


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('{"seed": 7}', encoding="utf-8-sig")
    assert reading.read_json(path) == {"seed": 7}
    assert settings.load(path).seed == 7


@pytest.mark.parametrize(
    ("path", "given", "said"),
    [
        ("iterations", Option("--iterations", 0), "--iterations: must be at least 1, not 0"),
        ("seed", Option("--seed", -1), "--seed: must be at least 0, not -1"),
        ("llm.model", Option("--model", ""), "--model: is empty"),
        ("data_dir", Option("--data-dir", ""), "--data-dir: is empty"),
        (
            "llm.provider",
            Option("--llm", "foo"),
            "--llm: must be 'mock', 'openai' or 'none', not foo",
        ),
        (
            "llm.base_url",
            Option("--base-url", "http://me:secret@host"),
            "--base-url: must begin with http:// or https:// and have no spaces or @",
        ),
    ],
)
def test_an_option_is_blamed_by_its_name(path: str, given: Option, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        settings.load(None, ["lag=3"], {path: given})
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "change",
    [
        "llm.base_url=http://me:secret@host",
        "llm.base_url:http://me:secret@host",
        "llm.base_url={a: http://me:secret@host}",
        f"llm.base_url=http://me:secret{'x' * 600}@host",
        "llm.base_url={password: secret}",
        "llm.model={a: http://me:secret@host}",
        "http://me:secret@host=1",
    ],
)
def test_a_password_in_a_url_is_not_said_again(change: str) -> None:
    with pytest.raises(BadInput) as caught:
        settings.load(None, [change])
    assert "secret" not in str(caught.value)


def test_an_option_counts_more_than_set_and_set_more_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("seed: 1\nlag: 4\nworkers: 5")
    made = settings.load(path, ["seed=2", "lag=3"], {"seed": Option("--seed", 9)})
    assert (made.seed, made.lag, made.workers) == (9, 3, 5)


def test_settings_as_yaml_are_a_run_file_of_them(tmp_path: Path) -> None:
    made = settings.load(None, ["seed=7", "compression.pruning.vision_mlp_keep=0.5"])
    assert load(tmp_path, settings.as_yaml(made)) == made
