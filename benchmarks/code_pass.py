"""pass@1 of a language model on HumanEval's and MBPP's first tasks, on one thread.

    python benchmarks/code_pass.py [MODEL] [--human-eval FILE] [--mbpp FILE] [--tasks 20]
        [--shots 3] [--tokens 256] [--reference] [--show]

MODEL is what `swopt.workloads.language_models.load` takes: `smollm2-135m` unless named. Each file
that is named is scored: HumanEval from its first task on, MBPP from task 11 on, where the paper's
test tasks begin. `--reference` puts the tasks' own solutions in the model's place, and shows what
the harness gives for programs that are right; `--show` prints the programs.
"""

import argparse
import collections
import itertools
import sys
import time
from pathlib import Path

from evaluators.execution.execute import execute
from swopt.workloads import programs
from swopt.workloads.programs import Attempt, Complete, Task

MBPP = "MBPP/"


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2-135m", help="name or folder")
    parser.add_argument("--human-eval", type=Path, help="HumanEval.jsonl, or with .gz")
    parser.add_argument("--mbpp", type=Path, help="mbpp.jsonl")
    parser.add_argument("--tasks", type=int, default=20, help="of each file")
    parser.add_argument("--shots", type=int, choices=(0, 3), default=3, help="solved MBPP tasks")
    parser.add_argument("--tokens", type=int, default=programs.TOKENS, help="most of a completion")
    parser.add_argument("--reference", action="store_true", help="the tasks' own solutions")
    parser.add_argument("--show", action="store_true", help="print what was written")
    chosen = parser.parse_args()
    if not (files := [file for file in (chosen.human_eval, chosen.mbpp) if file is not None]):
        parser.error("name a file of tasks with --human-eval or --mbpp")
    if chosen.tasks < 1:
        parser.error(f"--tasks must be 1 or more, not {chosen.tasks}")
    try:
        asked = [_first(programs.read(file, _shots(chosen.shots)), chosen.tasks) for file in files]
        complete = _reference if chosen.reference else _model(chosen.model, chosen.tokens)
    except (ValueError, RuntimeError) as error:
        sys.exit(f"code_pass: {error}")
    for tasks in asked:
        began = time.process_time()
        attempts = programs.pass_at_1(tasks, complete, execute)
        _report(tasks, attempts, time.process_time() - began)
        if chosen.show:
            for attempt in attempts:
                print(f"--- {attempt.task}: {attempt.outcome}\n{attempt.program}")


def _shots(count: int) -> tuple[int, ...]:
    return programs.MBPP_SHOTS[:count]


def _first(tasks: tuple[Task, ...], count: int) -> tuple[Task, ...]:
    """HumanEval's first, and of MBPP those that the paper tests on."""
    scored = (
        task
        for task in tasks
        if not task.name.startswith(MBPP) or int(task.name.removeprefix(MBPP)) in programs.MBPP_TEST
    )
    return tuple(itertools.islice(scored, count))


def _reference(task: Task) -> str:
    return task.reference.removeprefix(task.beginning)


def _model(name: str, most_tokens: int) -> Complete:
    import torch
    import transformers

    from swopt.workloads import language_models

    torch.set_num_threads(1)
    loaded = language_models.load(name)
    print(f"{loaded.name}: {loaded.source}; SHA-256 {loaded.sha256[:12]}")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    return lambda task: programs.complete(loaded.model, loaded.tokenizer, task, most_tokens)


def _report(tasks: tuple[Task, ...], attempts: tuple[Attempt, ...], took_s: float) -> None:
    count, hits = len(attempts), programs.passed(attempts)
    low, high = programs.wilson(hits, count)
    valid = sum(attempt.is_python for attempt in attempts)
    print(
        f"{tasks[0].name} to {tasks[-1].name}: {hits} of {count} pass "
        f"(95 % Wilson {low:.3f} to {high:.3f}), {valid} are Python, {took_s:.0f} CPU-seconds"
    )
    statuses = collections.Counter(attempt.outcome.status for attempt in attempts)
    print("    " + ", ".join(f"{status} {n}" for status, n in statuses.most_common()))
    for task, attempt in zip(tasks, attempts, strict=True):
        if attempt.outcome.status == "passed":
            print(f"    passed: {attempt.task}; {_hidden(task, attempt)}")
        elif attempt.outcome.status != "failed":
            print(f"    {attempt.outcome.status}: {attempt.task}; {attempt.outcome.reason}")


def _hidden(task: Task, attempt: Attempt) -> str:
    """What tests that the model was not shown say of a program that passes those it was."""
    if not task.hidden:
        return "the task has no hidden tests"
    outcome = execute(task.hidden_trial(attempt.program))
    return f"on hidden tests: {outcome.status} {outcome.reason}".rstrip()


if __name__ == "__main__":
    main()
