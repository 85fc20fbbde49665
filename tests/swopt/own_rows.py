"""Drawn questions of one's own: bright and dark images, and where the bright half of one is."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from swopt.workloads.checkpoint import TinyVlm
from swopt.workloads.own_questions import Packed, pack, words_max
from swopt.workloads.own_words import taken_apart, tokenizer_of
from swopt.workloads.vqa import SPLITS, Split
from swopt.workloads.vqa_rows import Kind, Row


def row(
    split: Split, seed: int, question: str, answer: str, kind: Kind = "open", size: int = 40
) -> Row:
    """A question about an image with a bright half: the upper one where the seed is even."""
    image = np.random.default_rng(seed).integers(0, 60, (size, size, 3), np.uint8)
    half = slice(None, size // 2) if seed % 2 == 0 else slice(size // 2, None)
    image[half] += 150
    return Row(seed, question, answer, kind, split, image)


def rows(count: int = 24) -> list[Row]:
    """Two questions about each of `count` images a split."""
    found = []
    for part, split in enumerate(SPLITS):
        for seed in range(part * 1000, part * 1000 + count):
            above = seed % 2 == 0
            found.append(row(split, seed, "Where is the LIGHT?", "top half" if above else "below"))
            asked = "Is the light on top?"
            found.append(row(split, seed, asked, "yes" if above else "no", "closed"))
    return found


def packed(base: TinyVlm, count: int = 24) -> Packed:
    """They as a table."""
    plain = tokenizer_of([])
    return pack(rows(count), words_max(base), lambda text: taken_apart(plain, text))


def written(folder: Path, count: int = 8) -> Path:
    """They as JSON lines beside PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for each in rows(count):
        name = f"{each.line}.png"
        Image.fromarray(each.image).save(folder / name)
        asked = {"image": name, "question": each.question, "answer": each.answer}
        lines.append(json.dumps(asked | {"kind": each.kind, "split": each.split}))
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path
