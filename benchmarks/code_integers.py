"""Scores a language model in integers on code, as it is and with its stream rotated, on one thread.

    python benchmarks/code_integers.py [MODEL] [--windows 4] [--calibration 4]

MODEL is what `swopt.workloads.language_models.load` takes: `smollm2-135m` unless named. Windows are
of validation modules, calibration windows of others. Prints Markdown.
"""

import argparse
import time

import torch
import transformers

from swopt.compiler.language_model import integer_language_model, observe
from swopt.techniques.quantization import QuantizationKnobs
from swopt.techniques.rotation import rotate
from swopt.workloads import code, language_models


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2-135m", help="name or folder")
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--calibration", type=int, default=4)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    loaded = language_models.load(chosen.model)
    print(f"{loaded.name}: {loaded.source}; SHA-256 {loaded.sha256[:12]}")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}\n")
    windows = code.windows(loaded.tokenizer, "val", chosen.windows)
    ids = torch.from_numpy(code.windows(loaded.tokenizer, "train", chosen.calibration).ids)
    print("| model | stream's largest | bits per byte | next-token accuracy | CPU-seconds |")
    print("|---|---|---|---|---|")
    for name in ("as it is", "rotated"):
        if name == "rotated":
            rotate(loaded.model)
        seen = observe(loaded.model, list(ids))
        largest = seen.streams["decoder"]
        row(f"float32, {name}", largest, loaded.model, windows)
        made = integer_language_model(loaded.model, seen, QuantizationKnobs())
        row(f"w8a8, {name}", largest, made, windows)


def row(name: str, largest: float, model: code.Scored, windows: code.Windows) -> None:
    """One model's figures."""
    began = time.process_time()
    score = code.score(model, windows)
    took_s = time.process_time() - began
    figures = f"{score.bits_per_byte:.3f} | {score.accuracy:.3f} | {took_s:.1f}"
    print(f"| {name} | {largest:.0f} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
