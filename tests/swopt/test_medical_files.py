"""Files of medical sets that are damaged, of another form or hostile are refused in one sentence.

Every file here is synthetic.
"""

import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from swopt.workloads import pictures, slake, vqa_parquet
from swopt.workloads.vqa_rows import PackedRow, RowError
from tests.swopt.medical_files import asked, drawn, encoded, jpeg, questions, shard, written, zipped


def of_parquet(folder: Path, content: bytes) -> list[PackedRow]:
    path = folder / "test-00000-of-00001.parquet"
    path.write_bytes(content)
    return list(vqa_parquet.read(path, "test", {}))


def of_slake(folder: Path, rows: bytes, images: bytes) -> list[PackedRow]:
    (folder / "test.json").write_bytes(rows)
    (folder / "imgs.zip").write_bytes(images)
    return list(slake.read(folder / "test.json", folder / "imgs.zip", "test", ("en",)))


IMAGES = {"imgs/xmlab1/source.jpg": jpeg()}


def test_a_parquet_file_is_read_whatever_its_encoding(tmp_path: Path) -> None:
    rows = [(jpeg(n % 3), f"question {n} ?", "yes" if n % 2 else f"answer {n}") for n in range(25)]
    options: list[dict[str, Any]] = [
        {}, {"use_dictionary": False}, {"compression": "zstd"}, {"row_group_size": 4},
        {"dictionary_pagesize_limit": 600, "write_batch_size": 1},
    ]  # fmt: skip
    for each in options:
        found = of_parquet(tmp_path, shard(rows, **each))
        assert [(r.packed, r.question, r.answer) for r in found] == rows
        assert len({id(r.packed) for r in found}) == 3
        assert [r.line for r in found] == list(range(1, 26))
        assert [r.kind for r in found[:2]] == ["open", "closed"]


@pytest.mark.parametrize(
    ("row", "law"),
    [
        ((None, "q", "a"), r"test-00000-of-00001\.parquet, row 2, has no image of at most 64 MiB"),
        ((b"", "q", "a"), "row 2, has no image"),
        ((bytes((1 << 26) + 1), "q", "a"), "row 2, has no image of at most"),
        ((jpeg(), None, "a"), "row 2, needs question, a text that is not empty"),
        ((jpeg(), "q", " "), "row 2, needs answer"),
    ],
)
def test_a_row_that_lacks_something_is_named(tmp_path: Path, row: Any, law: str) -> None:
    with pytest.raises(RowError, match=law):
        of_parquet(tmp_path, shard([(jpeg(), "q", "a"), row]))


def test_columns_that_are_missing_or_of_another_kind_are_named(tmp_path: Path) -> None:
    texts = pa.array(["a"])
    image = pa.array([{"bytes": b"x", "path": None}], pa.struct({"bytes": pa.binary()}))
    whole = {"image": image, "question": texts, "answer": texts}
    for name, column, wanted in (
        ("answer", None, "answer"),
        ("question", pa.array([1]), "question"),
        ("image", None, "image.bytes"),
        ("image", texts, "image.bytes"),
        ("image", pa.array([{"path": "a.jpg"}]), "image.bytes"),
    ):
        columns = {key: value for key, value in whole.items() if key != name}
        table = pa.table(columns if column is None else columns | {name: column})
        with pytest.raises(RowError, match=rf"has no column {wanted} of its kind"):
            of_parquet(tmp_path, written(table))


def test_a_damaged_parquet_file_is_one_sentence(tmp_path: Path) -> None:
    whole = shard([(jpeg(), "q", "a")])
    latin = pa.array([b"\xff"]).view(pa.string())
    image = pa.array([{"bytes": b"x"}], pa.struct({"bytes": pa.binary()}))
    for content in (
        b"",
        b"hello",
        whole[:-9],
        whole[:4] + bytes(len(whole) - 4),
        written(pa.table({"image": image, "question": latin, "answer": ["a"]})),
    ):
        with pytest.raises(RowError, match="is no whole parquet file; fetch it again"):
            of_parquet(tmp_path, content)


def test_a_group_of_rows_that_claims_too_much_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = shard([(bytes(1 << 20), "q", "a")], compression="zstd")
    assert len(content) < 4000
    assert of_parquet(tmp_path, content)
    monkeypatch.setattr(vqa_parquet, "GROUP_BYTES", 1 << 19)
    with pytest.raises(RowError, match="has a group of rows of over"):
        of_parquet(tmp_path, content)


@pytest.mark.parametrize(
    ("changes", "law"),
    [
        ({"answer": None}, r"test\.json, row 2, needs answer, a text that is not empty"),
        ({"question": " "}, "row 2, needs question"),
        ({"q_lang": 3}, "row 2, needs q_lang"),
        ({"answer_type": "OTHER"}, "row 2: answer_type is one of OPEN, CLOSED"),
        ({"img_name": "xmlab2/source.jpg"}, "'xmlab2/source.jpg' is not in the zip"),
        ({"img_name": "../../../etc/passwd"}, r"row 2: its image '\.\./\.\./.*' is not in the zip"),
        ({"img_name": "/etc/passwd"}, "'/etc/passwd' is not in the zip"),
    ],
)
def test_a_question_that_breaks_a_law_is_named(
    tmp_path: Path, changes: dict[str, Any], law: str
) -> None:
    with pytest.raises(RowError, match=law):
        of_slake(tmp_path, questions(asked(), asked(**changes)), zipped(IMAGES))


def test_a_zip_whose_names_escape_writes_nothing(tmp_path: Path) -> None:
    members = IMAGES | {"../escaped.jpg": b"out", "imgs/../../escaped.jpg": b"out", "/e.jpg": b"o"}
    inner = tmp_path / "inner"
    inner.mkdir()
    escaping = asked(img_name="../../escaped.jpg")
    rows = of_slake(inner, questions(asked(), escaping), zipped(members))
    assert [row.packed for row in rows] == [jpeg(), b"out"]  # a name in the zip, no path
    assert {path.name for path in inner.iterdir()} == {"test.json", "imgs.zip"}
    assert {path.name for path in tmp_path.iterdir()} == {"inner"}


def test_files_of_slake_that_are_none_are_one_sentence(tmp_path: Path) -> None:
    row, images = questions(asked()), zipped(IMAGES)
    for rows, law in (
        (row[:-4], r"test\.json is no JSON; it may be cut off"),
        (b"\xff", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"{}", "is no JSON list of questions"),
        (b"[3]", "is no JSON list of questions"),
    ):
        with pytest.raises(RowError, match=law):
            of_slake(tmp_path, rows, images)
    for content in (b"", b"hello", images[:-30]):
        with pytest.raises(RowError, match=r"imgs\.zip is no whole zip file; fetch it again"):
            of_slake(tmp_path, row, content)
    with pytest.raises(RowError, match=r"none\.json cannot be read"):
        list(slake.read(tmp_path / "none.json", tmp_path / "imgs.zip", "test", ("en",)))


def test_an_image_in_the_zip_that_is_damaged_locked_or_huge_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = zipped(IMAGES)
    middle = bytearray(whole)
    middle[len("imgs/xmlab1/source.jpg") + 200] ^= 255
    locked = bytearray(whole)
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        locked[locked.index(signature) + at] |= 1
    for content in (bytes(middle), bytes(locked)):
        with pytest.raises(RowError, match=r"row 1: its image 'xmlab1/source\.jpg' cannot be un"):
            of_slake(tmp_path, questions(asked()), content)
    bomb = zipped({"imgs/xmlab1/source.jpg": bytes(1 << 20)})
    assert len(bomb) < 4000
    monkeypatch.setattr(slake, "IMAGE_BYTES", (1 << 20) - 1)
    with pytest.raises(RowError, match="is larger than"):
        of_slake(tmp_path, questions(asked()), bomb)


def bomb(width: int, height: int, depth: int = 8) -> bytes:
    """A PNG of a few bytes that claims a size."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(9))),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def jpeg_bomb(side: int) -> bytes:
    """A JPEG whose frame header claims `side` x `side`."""
    small = jpeg(mode="L")
    at = small.index(b"\xff\xc0") + 5
    return small[:at] + struct.pack(">HH", side, side) + small[at + 4 :]


@pytest.mark.parametrize(
    ("packed", "law"),
    [
        (jpeg()[:-20], "the image is cut off or damaged"),
        (jpeg()[:30], "the image is cut off or damaged"),
        (encoded(drawn(), "GIF"), "the image is no PNG and no JPEG, or its head is damaged"),
        (b"", "the image is no PNG and no JPEG"),
        (bomb(2, 2, depth=16), "more than 8 bits a channel"),
        (bomb(9000, 9000), "more than 67108864 pixels"),  # fewer than pillow warns of
        (bomb(10_000, 10_000), "more than 67108864 pixels"),  # as many as it warns of
        (bomb(60_000, 60_000), "more than 67108864 pixels"),  # as many as it refuses
        (jpeg_bomb(9000), "more than 67108864 pixels"),
        (jpeg_bomb(65_000), "more than 67108864 pixels"),
    ],
    ids=range(10),
)
def test_an_image_that_is_none_is_told_with_its_row(packed: bytes, law: str) -> None:
    row = PackedRow(7, "q", "a", "open", "test", "test.json", packed)
    with pytest.raises(RowError, match=rf"test\.json, row 7: .*{law}"):
        _ = row.image


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_of_any_colours_is_read_near_to_what_was_drawn(mode: str) -> None:
    found = pictures.read(jpeg(5, mode, (40, 30)))
    assert found.shape == (30, 40, 3) and found.dtype == "uint8" and found.flags.writeable
    wanted = np.asarray(drawn(5, (40, 30))).astype(int)
    if mode == "L":  # ITU-R BT.601
        wanted = (wanted @ [0.299, 0.587, 0.114])[..., None]
    assert abs(found - wanted).mean() < 4


def test_without_the_extra_one_sentence_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = jpeg()
    content = shard([(image, "q", "a")])
    for module in ("PIL", "pyarrow"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=r"pillow; type: pip install 'dovetail\[vqa\]'"):
        pictures.read(image)
    with pytest.raises(ModuleNotFoundError, match=r"parquet needs pyarrow; .*'dovetail\[vqa\]'"):
        of_parquet(tmp_path, content)


def test_the_extra_is_imported_by_reading_alone() -> None:
    script = (
        "import sys\n"
        "from swopt.workloads import medical_vqa, vqa_rows\n"
        "print([m for m in ('PIL', 'pyarrow') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
