"""Processor time of scoring a compressed tiny-vlm, stage by stage, on one thread.

    python benchmarks/scoring_speed.py [--questions 1000] [--repeats 3]

Prints Markdown: the median of each stage's processor seconds. Questions are those of validation and
test one after the other, again and again; no answer is looked at.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import TypeVar

import torch

from swopt.compiler.integer_model import integer_model
from swopt.plan import CompressionPlan
from swopt.techniques.quantization import QuantizationKnobs
from swopt.workloads.vqa import Questions
from swopt.workloads.workload import Workload, load_workload

Value = TypeVar("Value")

PLANS = {
    "w8a8": CompressionPlan(),
    "w4a4": CompressionPlan(quantization=QuantizationKnobs(bits=4, activation_bits=4)),
}


def timed(work: Callable[[], Value], repeats: int) -> tuple[float, Value]:
    """Median processor time, in seconds, and what the work gave."""
    taken = []
    for _ in range(repeats):
        begin_s = time.process_time()
        value = work()
        taken.append(time.process_time() - begin_s)
    return statistics.median(taken), value


def asked(workload: Workload, count: int) -> list[Questions]:
    """Batches of questions, so many together."""
    parts = [workload.validation(), workload.test()]
    batches, left = [], count
    while left:
        for part in parts:
            batch = part.take(list(range(min(left, len(part)))))
            batches.append(batch)
            left -= len(batch)
            if not left:
                break
    return batches


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.questions < 1 or chosen.repeats < 1:
        parser.error("--questions and --repeats must be 1 or more")
    torch.set_num_threads(1)
    workload = load_workload()
    batches = asked(workload, chosen.questions)
    print(
        f"Processor seconds on one thread, torch {version('torch')}, {platform.machine()}, "
        f"medians of {chosen.repeats}; {workload.describe()}.\n"
    )
    print(f"| plan | compressed and written in integers | {chosen.questions:,} questions scored |")
    print("|---|---|---|")
    for name, plan in PLANS.items():
        made_s, model = timed(lambda plan=plan: integer_model(workload, plan), chosen.repeats)
        scored_s, _ = timed(lambda model=model: list(map(model.score, batches)), chosen.repeats)
        print(f"| {name} | {made_s:.2f} | {scored_s:.2f} |")
    whole_s, _ = timed(lambda: list(map(workload.score_uncompressed, batches)), chosen.repeats)
    print(f"| float32 | | {whole_s:.2f} |")


if __name__ == "__main__":
    main()
