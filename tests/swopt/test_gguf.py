"""GGUF files are read as they were written, by hand, byte for byte."""

import struct
from pathlib import Path

import numpy as np
import pytest

from swopt.workloads import gguf
from tests.swopt.gguf_bytes import F32, Q4_1, Q8_0, file_of, text, uint32


def test_metadata_of_every_kind_comes_back(tmp_path: Path) -> None:
    pairs = [
        text("name") + struct.pack("<I", 8) + text("é"),
        text("count") + uint32(7),
        text("eps") + struct.pack("<If", 6, 0.5),
        text("flag") + struct.pack("<I?", 7, True),
        text("words") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("Ġb"),
        text("numbers") + struct.pack("<IIQ3i", 9, 5, 3, -1, 2, 3),
    ]
    path = tmp_path / "model.gguf"
    path.write_bytes(file_of(pairs, []))
    assert gguf.read(path).metadata == {
        "name": "é",
        "count": 7,
        "eps": 0.5,
        "flag": True,
        "words": ["a", "Ġb"],
        "numbers": [-1, 2, 3],
    }


def test_groups_of_four_and_eight_bits_are_decoded_weight_by_weight(tmp_path: Path) -> None:
    """Weight j of a Q4_1 group is the low nibble of byte j below 16, then the high one."""
    rng = np.random.default_rng(0)
    nibbles = rng.integers(0, 16, (3, 2, 32))
    integers = rng.integers(-128, 128, (2, 1, 32))
    four, eight = b"", b""
    for row in nibbles.reshape(-1, 32):
        packed = bytes(int(row[j]) | int(row[j + 16]) << 4 for j in range(16))
        four += struct.pack("<ee", 0.25, -2.0) + packed
    for row in integers.reshape(-1, 32):
        eight += struct.pack("<e32b", 0.5, *map(int, row))
    plain = np.arange(6, dtype="<f4").reshape(2, 3)
    tensors = [
        ("four", (64, 3), Q4_1, four),
        ("eight", (32, 2), Q8_0, eight),
        ("plain", (3, 2), F32, plain.tobytes()),
    ]
    path = tmp_path / "model.gguf"
    path.write_bytes(file_of([text("general.alignment") + uint32(64)], tensors, alignment=64))
    found = gguf.read(path)
    assert np.array_equal(found.read("four"), nibbles.reshape(3, 64) * 0.25 - 2)
    assert np.array_equal(found.read("eight"), integers.reshape(2, 32) * 0.5)
    assert np.array_equal(found.read("plain"), plain)
    assert found.read("four").dtype == np.float32
    assert found.tensors["four"].stored_bytes == len(four)
    with pytest.raises(ValueError, match="has no tensor five"):
        found.read("five")


def test_what_is_not_such_a_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    whole = file_of([text("a") + uint32(1)], [("t", (4,), F32, bytes(16))])
    for content, said in (
        (b"PK\3\4" + bytes(60), "is no GGUF file"),
        (whole[:4] + struct.pack("<I", 2) + whole[8:], "GGUF of version 2"),
        (file_of([text("a") + struct.pack("<IIQ", 9, 4, 1 << 60)], []), "ends inside its header"),
        (whole[:40], "ends inside its header"),
        (whole[:-17], "ends before its tensor t"),
        (file_of([], [("t", (256,), 12, bytes(144))]), "type 12 of GGUF; F32, F16, Q4_1, Q8_0"),
        (file_of([], [("t", (33, 2), Q8_0, bytes(99))]), "33 numbers, which is no multiple of"),
        (file_of([text("a") + struct.pack("<I", 13)], []), "type 13, which is none"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            gguf.read(path)
