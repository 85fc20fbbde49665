"""Scores a language model in integers on code: as it is, rotated, smoothed, behind a prefix.

    python benchmarks/code_integers.py [MODEL] [--windows 4] [--calibration 4] [--bits 8]
        [--only ROW ...]

MODEL is what `swopt.workloads.language_models.load` takes: `smollm2-135m` unless named. Windows are
of validation modules, calibration windows of others. Rows are `plain`, `rotated`, `smoothed`,
`prefix`, `clipped`, `both` and `split`; all unless named. Every row has its own float model, behind
the same prefix. Prints Markdown; CPU-seconds of one thread by stage.
"""

import argparse
import time
from dataclasses import replace

import torch
import transformers

from evaluators import cache
from evaluators.language_model import Behind, LanguageBench, remembered_weights
from swopt.compiler.clipping import clipped_range
from swopt.compiler.compressed_language_model import PreparedLanguageModel, compress, prepare
from swopt.compiler.head_groups import split_heads
from swopt.compiler.language_model import IntegerLanguageModel, integer_language_model, observe
from swopt.plan import CompressionPlan
from swopt.techniques.quantization import QuantizationKnobs
from swopt.techniques.smoothing import SmoothingKnobs
from swopt.workloads import code, language_models

UNSMOOTHED = SmoothingKnobs(down=0.0, output=0.0)

ROWS = {
    "rotated": (False, UNSMOOTHED),
    "smoothed": (False, SmoothingKnobs()),
    "prefix": (True, UNSMOOTHED),
    "clipped": (True, UNSMOOTHED),
    "both": (True, SmoothingKnobs()),
    "split": (True, SmoothingKnobs()),
}
"""Whether a row has a prefix, and how it is smoothed."""


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2-135m", help="name or folder")
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--calibration", type=int, default=4)
    parser.add_argument("--bits", type=int, default=8, choices=range(2, 9))
    parser.add_argument("--only", nargs="+", choices=("plain", *ROWS), default=("plain", *ROWS))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    loaded = language_models.load(chosen.model)
    print(f"{loaded.name}: {loaded.source}; SHA-256 {loaded.sha256[:12]}")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}\n")
    bench = LanguageBench(loaded, windows=chosen.windows)
    bench.calibration = list(
        torch.from_numpy(code.windows(loaded.tokenizer, "train", chosen.calibration).ids)
    )
    knobs = QuantizationKnobs(bits=chosen.bits)
    print(
        "| model | stream's largest | bits per byte | next-token accuracy | prepared, s | "
        "quantized, s | scored, s |"
    )
    print("|---|---|---|---|---|---|---|")
    if "plain" in chosen.only:
        plain(bench, knobs)
    floats: set[bool] = set()
    for name, (behind, smoothed) in ROWS.items():
        if name not in chosen.only:
            continue
        prefix = bench.prefix_ids if behind else ()
        began = time.process_time()
        ready = prepare(loaded.model, bench.calibration, CompressionPlan(), prefix, smoothed)
        took_s = time.process_time() - began
        if behind not in floats:
            floats.add(behind)
            label = "float32, behind the prefix" if behind else "float32, rotated"
            row(label, ready.seen.streams["decoder"], Behind(ready.model, prefix), bench, ())
        integers(name, ready, knobs, bench, took_s)


def plain(bench: LanguageBench, knobs: QuantizationKnobs) -> None:
    """The model as it is."""
    model = bench.loaded.model
    began = time.process_time()
    seen = observe(model, bench.calibration)
    observed = time.process_time()
    largest = seen.streams["decoder"]
    row("float32, as it is", largest, model, bench, ())
    quantizing = time.process_time()
    made = integer_language_model(model, seen, knobs, remember=remembered_weights(cache.root()))
    spent = (observed - began, time.process_time() - quantizing)
    row(f"w{knobs.bits}a8, as it is", largest, made, bench, spent)


def integers(
    name: str,
    ready: PreparedLanguageModel,
    knobs: QuantizationKnobs,
    bench: LanguageBench,
    prepared_s: float,
) -> None:
    """A prepared model in integers."""
    if name == "clipped":
        downs = (layer for layer in ready.layers if layer.endswith("mlp.down"))
        ranges = {layer: clipped_range(ready.seen.layers[layer], 8) for layer in downs}
        ready = replace(ready, ranges=ranges)
    began = time.process_time()
    plan = CompressionPlan(quantization=knobs)
    made = compress(ready, plan, remember=remembered_weights(cache.root()))
    if name == "split":
        made = IntegerLanguageModel(split_heads(made.network), made.words)
    spent = (prepared_s, time.process_time() - began)
    row(f"w{knobs.bits}a8, {name}", ready.seen.streams["decoder"], made, bench, spent)


def row(
    name: str, largest: float, model: code.Scored, bench: LanguageBench, spent: tuple[float, ...]
) -> None:
    """One model's figures."""
    began = time.process_time()
    score = bench.score(model)
    seconds = (*(f"{each:.1f}" for each in spent), f"{time.process_time() - began:.1f}")
    cells = (*([""] * (3 - len(seconds))), *seconds)
    figures = f"{score.bits_per_byte:.4f} | {score.accuracy:.3f} | {' | '.join(cells)}"
    print(f"| {name} | {largest:.0f} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
