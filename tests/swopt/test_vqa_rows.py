"""One's own rows: images are read to the byte, laws are told with their line, scores by hand."""

import base64
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from swopt.workloads import png, vqa_rows
from swopt.workloads.vqa_rows import RowError
from tests.swopt.medical_files import jpeg


def encoded(
    pixels: NDArray[np.uint8], colour: int, kinds: tuple[int, ...] = (0,), palette: bytes = b"",
    interlaced: int = 0,
) -> bytes:  # fmt: skip
    """A PNG of `[height, width, channels]`, its lines filtered by `kinds` in turn."""
    height, width, channels = pixels.shape
    flat = pixels.reshape(height, -1).astype(int)
    lines = b""
    for y in range(height):
        kind = kinds[y % len(kinds)]
        left = np.concatenate([np.zeros(channels, int), flat[y]])[:-channels]
        above = flat[y - 1] if y else np.zeros_like(flat[0])
        corner = np.concatenate([np.zeros(channels, int), above])[:-channels]
        estimate = left + above - corner
        paeth = np.where(
            (abs(estimate - left) <= abs(estimate - above))
            & (abs(estimate - left) <= abs(estimate - corner)),
            left,
            np.where(abs(estimate - above) <= abs(estimate - corner), above, corner),
        )
        guess = [0 * left, left, above, (left + above) // 2, paeth][kind]
        lines += bytes([kind]) + ((flat[y] - guess) % 256).astype(np.uint8).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, interlaced)
    packed = zlib.compress(lines)
    parts = [(b"IHDR", head), (b"PLTE", palette), (b"IDAT", packed[:9]), (b"IDAT", packed[9:])]
    return png.SIGNATURE + b"".join(chunk(*part) for part in [*parts, (b"IEND", b"")])


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def drawn(channels: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (10, 7, channels), np.uint8)


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_every_colour_type_and_filter_is_read_to_the_byte(colour: int, channels: int) -> None:
    pixels = drawn(channels)
    wanted = pixels[..., :3] if channels >= 3 else np.repeat(pixels[..., :1], 3, -1)
    for kinds in ((0,), (1,), (2,), (3,), (4,), (4, 3, 2, 1, 0)):
        found = png.read(encoded(pixels, colour, kinds))
        assert found.dtype == np.uint8 and np.array_equal(found, wanted)


def test_a_palette_is_looked_up_and_must_be_whole() -> None:
    indices = drawn(1) % 5
    palette = bytes(range(100, 115))
    found = png.read(encoded(indices, 3, (1,), palette))
    assert np.array_equal(found, np.frombuffer(palette, np.uint8).reshape(5, 3)[indices[..., 0]])
    with pytest.raises(ValueError, match="palette has not all of its colours"):
        png.read(encoded(indices, 3, (0,), palette[:-3]))


def test_what_is_cut_off_changed_or_of_another_form_is_refused() -> None:
    whole = encoded(drawn(3), 2)
    for length in range(len(png.SIGNATURE), len(whole)):
        with pytest.raises(ValueError, match="cut off"):
            png.read(whole[:length])
    for place in range(len(png.SIGNATURE), len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        with pytest.raises(ValueError, match="cut off"):
            png.read(bytes(changed))
    for content, law in (
        (b"\xff\xd8\xff\xe0", "is no PNG; convert it"),
        (encoded(drawn(3), 2, interlaced=1), "8 bits a channel, interlaced; save it"),
        (encoded(drawn(3), 2, (0,)).replace(b"", b"", 0)[:8] + chunk(b"IEND", b""), "without a"),
        (_claiming(1 << 20, 1 << 20), "not 1 to 67108864"),
        (_claiming(2, 2), "fewer pixels than it says"),
    ):
        with pytest.raises(ValueError, match=law):
            png.read(content)


def _claiming(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packed = chunk(b"IDAT", zlib.compress(b"\0\1"))
    return png.SIGNATURE + chunk(b"IHDR", head) + packed + chunk(b"IEND", b"")


def row(**changes: Any) -> dict[str, Any]:
    image = base64.b64encode(encoded(drawn(3), 2)).decode()
    return {"image": image, "question": "is it large ?", "answer": "yes"} | changes


def written(folder: Path, *rows: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def test_rows_have_images_of_files_and_of_base64_and_a_kind(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(drawn(3, 1), 2))
    first, second, third = vqa_rows.read(
        written(
            tmp_path,
            row(image="a.png", split="val"),
            row(answer="The left lung."),
            row(answer="left", kind="closed", split="train"),
        )
    )
    assert np.array_equal(first.image, drawn(3, 1)) and np.array_equal(second.image, drawn(3))
    assert (first.kind, second.kind, third.kind) == ("closed", "open", "closed")
    assert (first.split, second.split, third.split) == ("val", "test", "train")
    assert (first.line, third.line, second.answer) == (1, 3, "The left lung.")


def test_a_jpeg_is_read_from_a_file_and_from_base64(tmp_path: Path) -> None:
    """By pillow, whose own reading of the same bytes it is held to."""
    content = jpeg(4)
    (tmp_path / "a.jpg").write_bytes(content)
    packed = base64.b64encode(content).decode()
    rows = vqa_rows.read(written(tmp_path, row(image="a.jpg"), row(image=packed)))
    with Image.open(tmp_path / "a.jpg") as image:
        wanted = np.asarray(image)
    assert all(np.array_equal(each.image, wanted) for each in rows)
    (tmp_path / "a.jpg").write_bytes(content[:-20])
    with pytest.raises(RowError, match="line 1: the image is cut off or damaged"):
        vqa_rows.read(written(tmp_path, row(image="a.jpg")))
    (tmp_path / "a.jpg").write_bytes(b"GIF89a")
    with pytest.raises(RowError, match="line 1: the image is no PNG and no JPEG; convert it"):
        vqa_rows.read(written(tmp_path, row(image="a.jpg")))


@pytest.mark.parametrize(
    ("changes", "law"),
    [
        ({"answer": " "}, "line 2, needs answer, a text that is not empty"),
        ({"question": None}, "line 2, needs question"),
        ({"answer": "a \ud800"}, "line 2: answer has half of a character"),
        ({"image": "\ud800"}, "line 2: image has half of a character"),
        ({"image": "data:image/png;base64,iVBO"}, "begins with data:; leave all up to the comma"),
        ({"image": "a\0b"}, "line 2: its image 'a.*b' is no file"),
        ({"image": "."}, r"line 2: its image '\.' is no file"),
        ({"kind": "other"}, "line 2: kind is one of closed, open, not 'other'"),
        ({"split": 3}, "line 2: split is one of train, val, test, not '3'"),
        ({"label": 1}, "line 2, has 'label', which is none of answer, image, kind"),
        ({"image": "none.png"}, r"line 2: its image 'none\.png' is no file"),
        ({"image": row()["image"][:-8]}, "line 2: the image is a PNG that is cut off"),
        ({"image": row()["image"] + "!"}, "line 2: its image is no whole base64"),
    ],
)
def test_a_row_that_breaks_a_law_is_refused_with_its_line(
    tmp_path: Path, changes: dict[str, Any], law: str
) -> None:
    with pytest.raises(RowError, match=law):
        vqa_rows.read(written(tmp_path, row(), row(**changes)))


def test_a_file_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(RowError, match="cannot be read"):
        vqa_rows.read(path)
    for content, law in (
        (b"\n", "holds no row"),
        (b"\xff", "is no text in UTF-8"),
        (b"[]\n", "line 1, is no JSON object"),
        (b'{"answer": "a", "answer": "b"}', "line 1, has 'answer' twice"),
        (json.dumps(row()).encode()[:-5], "line 1, is no JSON; the file may be cut off"),
    ):
        path.write_bytes(content)
        with pytest.raises(RowError, match=law):
            vqa_rows.read(path)


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(row()).encode() + b"\r\n")
    assert len(vqa_rows.read(path)) == 1


def test_rows_about_one_file_unpack_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(encoded(drawn(3, 1), 2))
    unpacked = []
    monkeypatch.setattr(
        vqa_rows.pictures, "read", lambda content: unpacked.append(0) or png.read(content)
    )
    rows = vqa_rows.read(written(tmp_path, *[row(image="a.png") for _ in range(5)]))
    assert len(unpacked) == 1 and len(rows) == 5


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("\u0915\u093e", "\u0915\u0940", False),  # vowels that are marks on a consonant
        ("e\u0301te\u0301", "\u00e9t\u00e9", True),  # the same letters, composed or not
        ("<5", ">5", True),  # signs do not count
        ("Yes!", "yes", True),
    ],
)
def test_marks_are_part_of_letters_and_signs_are_not(one: str, other: str, same: bool) -> None:
    assert vqa_rows.exact_match(one, other) is same


@pytest.mark.parametrize(
    ("said", "answer", "exact", "recall", "f1"),
    [
        ("Yes.", "yes", True, 1.0, 1.0),
        ("yes, it is", "yes", False, 1.0, 1 / 2),  # precision 1/3
        ("no", "yes", False, 0.0, 0.0),
        ("The left lung", "left lower lung", False, 2 / 3, 4 / 5),  # precision 1
        ("lung", "lung lung", False, 0.5, 2 / 3),
        ("lung lung lung", "lung", False, 1.0, 1 / 2),
        ("", "yes", False, 0.0, 0.0),
        ("x-ray", "an X-ray", True, 1.0, 1.0),
        ("+", "+", True, 1.0, 1.0),  # of no word at all, so as it is
        ("", "+", False, 0.0, 0.0),
        ("a", "the", False, 0.0, 0.0),
    ],
)
def test_answers_are_compared_word_by_word(
    said: str, answer: str, exact: bool, recall: float, f1: float
) -> None:
    assert vqa_rows.exact_match(said, answer) is exact
    assert vqa_rows.token_recall(said, answer) == pytest.approx(recall)
    assert vqa_rows.token_f1(said, answer) == pytest.approx(f1)


def test_closed_and_open_questions_are_scored_apart(tmp_path: Path) -> None:
    path = written(tmp_path, row(), row(answer="no"), row(answer="left lung"), row(answer="liver"))
    rows = vqa_rows.read(path)
    found = vqa_rows.score(rows, ["yes", "yes", "the lung", "liver and lung"])
    assert found.closed.tolist() == [1, 0] and found.open.tolist() == [0.5, 1]
    assert found.open_exact.tolist() == [0, 0]
    assert found.open_f1.tolist() == pytest.approx([2 / 3, 1 / 2])  # recall and precision 1, 1/3
    with pytest.raises(ValueError, match="4 rows take as many answers, not 1"):
        vqa_rows.score(rows, ["yes"])
