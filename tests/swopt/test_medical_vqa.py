"""Medical sets come from a hub whole or not at all, and give the rows that their files hold.

Every file here is synthetic: the real sets are not fetched.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from swopt.workloads import medical_vqa, model_store, vqa_rows
from swopt.workloads.model_store import ModelError
from tests.swopt import medical_files
from tests.swopt.hub_server import REVISION, serving
from tests.swopt.medical_files import asked, jpeg


def _silent(*_: object) -> None:
    pass


@contextmanager
def hub(
    name: str, files: dict[str, bytes], sent: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    with serving(medical_vqa.SETS[name].hub_name, files, sent, data=True) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield


def fetched(
    name: str, files: dict[str, bytes], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> model_store.Source:
    with hub(name, files, {}, monkeypatch):
        return medical_vqa.fetch(name, folder, 60, _silent)


def test_vqa_rad_is_fetched_and_read_by_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = fetched("vqa-rad", medical_files.vqa_rad(), tmp_path, monkeypatch)
    assert source.place == f"revision {REVISION}" and "CC0 1.0" in source.statement
    assert {path.name for path in (tmp_path / "vqa-rad").iterdir()} == {
        "source.json", "train-00000-of-00002-0a1b2c.parquet",
        "train-00001-of-00002-0d0e0f.parquet", "test-00000-of-00001-1a2b3c.parquet",
    }  # fmt: skip
    assert medical_vqa.find("vqa-rad", tmp_path) == source
    rows = medical_vqa.read("vqa-rad", "train", tmp_path)
    assert [(r.question, r.answer, r.kind, r.split, r.line) for r in rows] == [
        ("is it first?", "Yes", "closed", "train", 1),
        ("what is it?", "the liver", "open", "train", 2),
        ("is it last?", "no", "closed", "train", 1),
    ]
    (test,) = medical_vqa.read("vqa-rad", "test", tmp_path)
    assert (test.answer, test.kind, test.split) == ("no.", "closed", "test")
    assert rows[0].packed is rows[2].packed  # held once, from shard to shard
    assert rows[0].image.shape == (9, 12, 3)
    assert np.array_equal(rows[1].image[..., 0], rows[1].image[..., 2])  # grey is repeated
    with pytest.raises(ValueError, match="vqa-rad has no split val, only train, test"):
        medical_vqa.read("vqa-rad", "val", tmp_path)
    with pytest.raises(ValueError, match="vqa-rat is no medical set; the sets are vqa-rad, slake"):
        medical_vqa.read("vqa-rat", "test", tmp_path)


def test_path_vqa_has_three_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        f"data/{split}-00000-of-00001.parquet": medical_files.shard([(jpeg(3), split, "yes")])
        for split in ("train", "validation", "test")
    }
    fetched("path-vqa", files, tmp_path, monkeypatch)
    for split in medical_vqa.SETS["path-vqa"].splits:
        (row,) = medical_vqa.read("path-vqa", split, tmp_path)
        assert row.split == split and row.question.startswith(split)


@pytest.mark.parametrize("validation", ["validation.json", "validate.json"])
def test_slake_says_itself_what_is_closed_and_is_read_by_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validation: str
) -> None:
    files = medical_files.slake(
        asked(question="Which is larger, liver or spleen?", answer_type="CLOSED"),
        asked(question="这是什么器官?", answer="肝脏", q_lang="zh"),
        asked(answer="Yes"),
    )
    files[validation] = files.pop("validation.json")
    fetched("slake", files, tmp_path, monkeypatch)
    assert {path.name for path in (tmp_path / "slake").iterdir()} == {
        "source.json", "train.json", validation, "test.json", "imgs.zip",
    }  # fmt: skip
    rows = medical_vqa.read("slake", "test", tmp_path)
    assert [(r.line, r.answer, r.kind) for r in rows] == [
        (1, "Liver", "closed"), (3, "Yes", "open"),
    ]  # fmt: skip
    assert rows[0].packed is rows[1].packed == jpeg(1)
    assert [r.question for r in medical_vqa.read("slake", "val", tmp_path)] == ["Is it val?"]
    (chinese,) = medical_vqa.read("slake", "test", tmp_path, ("zh",))
    assert chinese.answer == "肝脏"
    with pytest.raises(vqa_rows.RowError, match="slake has no train row in zh"):
        medical_vqa.read("slake", "train", tmp_path, ("zh",))


def test_rows_are_scored_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched("vqa-rad", medical_files.vqa_rad(), tmp_path, monkeypatch)
    rows = medical_vqa.read("vqa-rad", "train", tmp_path)
    found = vqa_rows.score(rows, ["yes", "a fatty liver", "yes"])
    assert found.closed.tolist() == [1, 0]
    assert found.open.tolist() == [1] and found.open_exact.tolist() == [0]
    assert found.open_f1.tolist() == [pytest.approx(2 / 3)]  # precision 1/2, recall 1


@pytest.mark.parametrize("name", ["train.json", "imgs.zip"])
@pytest.mark.parametrize("change", ["other", "longer", "broken off"])
def test_what_is_not_as_listed_is_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: str
) -> None:
    files, told = medical_files.slake(), list[tuple[str, int, int]]()
    sent = {
        "other": b"X" + files[name][1:],
        "longer": files[name] + b"X",
        "broken off": files[name][:-1],
    }[change]
    with (
        hub("slake", files, {name: sent}, monkeypatch),
        pytest.raises((ValueError, ConnectionError)) as refused,
    ):
        medical_vqa.fetch("slake", tmp_path, 60, lambda *seen: told.append(seen))
    assert all(done <= total for _, done, total in told)  # what never ends fills no disk
    if change == "broken off":
        size = len(files[name])
        assert f"{name} did not come from the hub" in str(refused.value)
        assert f"it broke off after {size - 1} of {size} bytes" in str(refused.value)
    else:
        assert f"{name} of BoKelvin/SLAKE is not the file that the hub lists" in str(refused.value)
    assert not list((tmp_path / "slake").iterdir())
    with pytest.raises(ModelError, match=r"is not whole: it has no source\.json; fetch it with"):
        medical_vqa.read("slake", "test", tmp_path)


@pytest.mark.parametrize(
    ("name", "gone", "law"),
    [
        ("slake", "imgs.zip", r"the hub lists no imgs\.zip of BoKelvin/SLAKE"),
        ("slake", "validation.json", r"the hub lists no validation\.json of"),
        ("vqa-rad", "data/train-00000-of-00002-0a1b2c.parquet", r"no whole data/train-\*-of-\*"),
        ("vqa-rad", "data/test-00000-of-00001-1a2b3c.parquet", r"no whole data/test-\*-of-\*"),
    ],
)
def test_a_listing_that_lacks_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, gone: str, law: str
) -> None:
    files = medical_files.slake() if name == "slake" else medical_files.vqa_rad()
    del files[gone]
    with pytest.raises(ValueError, match=law):
        fetched(name, files, tmp_path, monkeypatch)


def test_a_listing_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = medical_files.slake()
    size = sum(len(files[n]) for n in ("train.json", "validation.json", "test.json", "imgs.zip"))
    monkeypatch.setattr(medical_vqa, "SET_BYTES", size - 1)
    with pytest.raises(ValueError, match=f"the hub lists {size} bytes of BoKelvin/SLAKE"):
        fetched("slake", files, tmp_path, monkeypatch)
    monkeypatch.setattr(medical_vqa, "SET_BYTES", size)
    fetched("slake", files, tmp_path, monkeypatch)


def test_without_a_hub_it_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"slake could not be .*out of reach.*HF_ENDPOINT"):
        medical_vqa.fetch("slake", tmp_path, 60, _silent)
    with serving("someone/else", {}, {}, data=True) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(ConnectionError, match=r"no public data set BoKelvin/SLAKE \(HTTP 404"):
            medical_vqa.fetch("slake", tmp_path, 60, _silent)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE keeps from the hub"):
        medical_vqa.fetch("slake", tmp_path, 60, _silent)


def test_a_changed_or_half_set_is_refused_with_the_remedy_and_fetched_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"slake is not in .*dovetail fetch slake --data-dir"):
        medical_vqa.read("slake", "test", tmp_path)
    fetched("slake", medical_files.slake(), tmp_path, monkeypatch)
    (tmp_path / "slake" / "imgs.zip").write_bytes(b"changed")
    with pytest.raises(
        ModelError, match=r"imgs\.zip is not the file that was fetched.*fetch slake"
    ):
        medical_vqa.read("slake", "test", tmp_path)
    (tmp_path / "slake" / "imgs.zip").unlink()
    assert medical_vqa.find("slake", tmp_path) is None
    fetched("slake", medical_files.slake(), tmp_path, monkeypatch)
    assert medical_vqa.read("slake", "test", tmp_path)


def test_images_of_a_split_have_a_place_in_memory_or_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched("vqa-rad", medical_files.vqa_rad(), tmp_path, monkeypatch)
    held = len(jpeg(1)) + len(jpeg(2, "L"))  # of three rows, two of which share one
    monkeypatch.setattr(medical_vqa, "HELD_BYTES", held)
    assert len(medical_vqa.read("vqa-rad", "train", tmp_path)) == 3
    monkeypatch.setattr(medical_vqa, "HELD_BYTES", held - 1)
    with pytest.raises(vqa_rows.RowError, match="vqa-rad has images of more than"):
        medical_vqa.read("vqa-rad", "train", tmp_path)
