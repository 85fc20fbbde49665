"""Scores a language model on code, on one thread.

    python benchmarks/code_score.py [MODEL] [--split val] [--windows 16] [--lines 16]

MODEL is what `swopt.workloads.language_models.load` takes: `smollm2-135m` unless named.
"""

import argparse
import time

import torch
import transformers

from swopt.workloads import code, language_models


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2-135m", help="name or folder")
    parser.add_argument("--split", choices=tuple(code.MODULES), default="val")
    parser.add_argument("--windows", type=int, default=code.WINDOWS)
    parser.add_argument("--lines", type=int, default=code.PROMPTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    loaded = language_models.load(chosen.model)
    print(f"{loaded.name}: {loaded.source}; SHA-256 {loaded.sha256[:12]}")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    windows = code.windows(loaded.tokenizer, chosen.split, chosen.windows)
    began = time.process_time()
    score = code.score(loaded.model, windows)
    took_s = time.process_time() - began
    print(f"{len(score.bits)} windows, {score.byte_counts.sum()} bytes: {took_s:.1f} CPU-seconds")
    print(f"bits per byte: {score.bits_per_byte:.3f}, next-token accuracy: {score.accuracy:.3f}")
    prompts = code.prompts(loaded.tokenizer, chosen.split, chosen.lines)
    began = time.process_time()
    done = code.complete(loaded.model, loaded.tokenizer, prompts)
    took_s = time.process_time() - began
    print(
        f"{len(prompts)} lines: {done.exact.sum()} exact, {done.parses.sum()} that parse, "
        f"{took_s:.1f} CPU-seconds"
    )
    for module, sha256 in windows.sha256.items():
        print(f"    {module}.py {sha256}")


if __name__ == "__main__":
    main()
