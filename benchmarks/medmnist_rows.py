"""Writes MedMNIST sets as one's own questions would be: JSON lines with PNG files beside them.

    python benchmarks/medmnist_rows.py OUT [--data-dir DIR] [--sets breastmnist retinamnist]

For `dovetail finetune OUT/rows.jsonl --out MODEL`. Questions and answers are in other words than
those that `tiny-vlm` was trained on: `is it cancer ?` is closed, `grade 3` is an answer of two
words. The images are those that it was trained on, so that its figures here are no measure of how
well it learns a new domain.
"""

import argparse
import json
from pathlib import Path

from PIL import Image

from swopt.workloads import medmnist

ASKED = {
    "breastmnist": ("Is the mass in this scan cancerous?", ("yes", "no")),
    "retinamnist": (
        "Which stage of diabetic eye disease is seen?",
        ("stage 0", "stage 1", "stage 2", "stage 3", "stage 4"),
    ),
}
"""Set -> question, and answers by label."""


def main() -> None:
    """Writes the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="a folder")
    parser.add_argument("--data-dir", type=Path, help="folder of the MedMNIST files")
    parser.add_argument("--sets", nargs="+", default=list(ASKED), choices=list(ASKED))
    chosen = parser.parse_args()
    folder = medmnist.find_data_dir(chosen.data_dir, chosen.sets)
    if folder is None:
        parser.error("no MedMNIST files; fetch them with: dovetail fetch medmnist")
    (chosen.out / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for name in chosen.sets:
        question, answers = ASKED[name]
        for split in ("train", "val", "test"):
            part = medmnist.read(folder / f"{name}.npz", split)
            for index, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
                path = f"images/{name}-{split}-{index}.png"
                Image.fromarray(image).save(chosen.out / path)
                row = {"image": path, "question": question, "answer": answers[int(label[0])]}
                lines.append(json.dumps(row | {"split": split}))
    (chosen.out / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} rows in {chosen.out / 'rows.jsonl'}")


if __name__ == "__main__":
    main()
