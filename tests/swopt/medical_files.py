"""Synthetic files of the forms that VQA-RAD, SLAKE and PathVQA have on the hub, seeded."""

import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

Asked = tuple[bytes | None, str | None, str | None]
"""Image, question and answer."""


def drawn(seed: int = 0, size: tuple[int, int] = (12, 9)) -> Image.Image:
    """A smooth picture of `size`, width and height."""
    corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), np.uint8)
    return Image.fromarray(corners).resize(size, Image.Resampling.BILINEAR)


def jpeg(seed: int = 0, mode: str = "RGB", size: tuple[int, int] = (12, 9)) -> bytes:
    return encoded(drawn(seed, size).convert(mode), "JPEG")


def encoded(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def shard(rows: Sequence[Asked], **options: Any) -> bytes:
    """A parquet file as the hub has them."""
    images = [None if image is None else {"bytes": image, "path": None} for image, _, _ in rows]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table(
        {
            "image": pa.array(images, kind),
            "question": pa.array([each for _, each, _ in rows], pa.string()),
            "answer": pa.array([each for _, _, each in rows], pa.string()),
        }
    )
    return written(table, **options)


def written(table: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    parquet.write_table(table, out, **options)
    return out.getvalue()


def asked(**changes: Any) -> dict[str, Any]:
    """A question of SLAKE's; one that is changed to `None` lacks the field."""
    usual = {
        "img_id": 1, "img_name": "xmlab1/source.jpg", "question": "What organ is this?",
        "answer": "Liver", "q_lang": "en", "location": "Abdomen", "modality": "CT",
        "answer_type": "OPEN", "base_type": "vqa", "content_type": "Organ", "qid": 1,
        "triple": ["vhead", "_", "_"],
    }  # fmt: skip
    return {name: value for name, value in (usual | changes).items() if value is not None}


def questions(*rows: dict[str, Any]) -> bytes:
    return json.dumps(rows, ensure_ascii=False).encode()


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def slake(*test: dict[str, Any], **members: bytes) -> dict[str, bytes]:
    """The files of SLAKE on the hub, with these questions in the test split."""
    rows = questions(*(test or (asked(),)))
    images = zipped({"imgs/xmlab1/source.jpg": jpeg(1), "imgs/xmlab1/mask.png": b"no"} | members)
    return {
        "README.md": b"hello",
        "train.json": questions(asked(question="Is it train?")),
        "validation.json": questions(asked(question="Is it val?")),
        "test.json": rows,
        "imgs.zip": images,
        "KG.zip": b"never asked for",
    }


def vqa_rad() -> dict[str, bytes]:
    """The files of VQA-RAD on the hub: two shards of train, one of test."""
    first, second = jpeg(1), jpeg(2, "L")
    return {
        "README.md": b"hello",
        "data/train-00000-of-00002-0a1b2c.parquet": shard(
            [(first, "is it first?", "Yes"), (second, "what is it?", "the liver")]
        ),
        "data/train-00001-of-00002-0d0e0f.parquet": shard([(first, "is it last?", "no")]),
        "data/test-00000-of-00001-1a2b3c.parquet": shard([(second, "is there air?", "no.")]),
        "scripts/processing.py": b"never asked for",
    }
