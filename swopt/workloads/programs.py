"""Programs as a workload: HumanEval and MBPP, scored by pass@1.

A model is asked for a function, and the function is run against the task's tests. Running it is not
this module's: what a model writes is a stranger's code, so whoever scores brings `Execute`.

HumanEval is Chen et al., "Evaluating Large Language Models Trained on Code", 2021 (MIT); its prompt
is the head of the function. MBPP is Austin et al., "Program Synthesis with Large Language Models",
2021 (CC BY 4.0); its prompt is a sentence and the tests, after solved examples. Both are files of
JSON lines, and one's own tasks may have either form. Public models may well have read both: figures
compare forms of one model.
"""

import ast
import gzip
import json
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from swopt.workloads import code

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

TOKENS = 256
"""Most tokens of a completion."""

HUMAN_EVAL_STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""Where a function is at its end, as Chen et al. have it."""

MBPP_STOPS = ("[DONE]", "[BEGIN]", "\nYou are an expert")
"""Where a solution is at its end: its own mark, or the model goes on to make up a task."""

MBPP_SHOTS = (2, 3, 4)
"""The tasks that stand solved in front of each question, as in the paper's prompts."""

MBPP_TEST = range(11, 511)
"""Numbers of the tasks that the paper scores."""

Status = Literal["passed", "failed", "timeout", "crashed", "forbidden"]


@dataclass(frozen=True)
class Trial:
    """A program and what it is held to.

    Attributes:
        program: Source that a model wrote.
        head: Source that the tests need and that comes with the task: imports, and functions that
            stand in the prompt. The program's own versions of these count for nothing.
        tests: Source of the tests; an assertion that does not hold raises.
        names: What the tests use of the program.
    """

    program: str
    head: str
    tests: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        status: `passed` or why not.
        reason: One line; empty where it passed.
    """

    status: Status
    reason: str


Execute = Callable[[Trial], Outcome]
"""Runs a stranger's program against its tests, and holds it off from everything else."""

Complete = Callable[["Task"], str]
"""What a model writes for a task."""


@dataclass(frozen=True)
class Task:
    """A function to be written.

    Attributes:
        name: Of the benchmark and in it.
        prompt: What a model goes on with.
        beginning: Part of the prompt that the program begins with.
        stops: Where what the model writes is at its end.
        reference: A program that passes.
        head: As of a trial.
        tests: As of a trial.
        names: As of a trial.
        hidden: Source of tests that the prompt does not show; most tasks have none.
    """

    name: str
    prompt: str
    beginning: str
    stops: tuple[str, ...]
    reference: str
    head: str
    tests: str
    names: tuple[str, ...]
    hidden: str = ""

    def trial(self, program: str) -> Trial:
        """The trial of a program that is to solve this task."""
        return Trial(program, self.head, self.tests, self.names)

    def hidden_trial(self, program: str) -> Trial:
        """The same on the hidden tests: a program made to fit what it was shown fails there."""
        return Trial(program, self.head, self.hidden, self.names)


@dataclass(frozen=True)
class Attempt:
    """A task, what a model wrote for it, and what came of it.

    Attributes:
        task: Its name.
        program: What was run.
        is_python: Whether it parses.
        outcome: Of its trial.
    """

    task: str
    program: str
    is_python: bool
    outcome: Outcome


class TaskError(ValueError):
    """A file of tasks that is not here, not whole or of another form; says which line and why."""


def read(path: Path, shots: Sequence[int] = MBPP_SHOTS) -> tuple[Task, ...]:
    """Reads tasks of HumanEval's or of MBPP's form, plain or compressed by gzip.

    Args:
        path: JSON lines. HumanEval's have `task_id`, `prompt`, `entry_point`,
            `canonical_solution` and `test`; MBPP's `task_id`, `text` (or `prompt`), `code`,
            `test_list` and perhaps `test_setup_code` and `challenge_test_list`.
        shots: Numbers of MBPP's tasks that stand solved in front of each; none is zero-shot.

    Returns:
        All tasks of the file, in its order; of MBPP's without those of `shots`.

    Raises:
        TaskError: In one sentence, what is wrong and in which line.
    """
    rows = [(number, _row(path, number, line)) for number, line in _lines(path)]
    if not rows:
        raise TaskError(f"{path} holds no task; it should have one a line, as JSON")
    if all("entry_point" in row for _, row in rows):
        return tuple(_human_eval(path, number, row) for number, row in rows)
    return _mbpp(path, rows, tuple(shots))


def complete(
    model: "torch.nn.Module", tokenizer: "Tokenizer", task: Task, most_tokens: int = TOKENS
) -> str:
    """What a model writes for a task, the likeliest token at a time, up to the first stop.

    Args:
        model: A causal language model in float that keeps keys and values (`use_cache`).
        tokenizer: Of the model.
        task: Its prompt is given as it is, without a chat's frame.
        most_tokens: Where it is cut else.

    Raises:
        swopt.workloads.code.CodeError: The model gives no numbers.
    """
    special = [str(token) for token in tokenizer.get_added_tokens_decoder().values()]

    def cut(text: str) -> str | None:
        ends = [at for stop in (*task.stops, *special) if (at := text.find(stop)) >= 0]
        return text[: min(ends)] if ends else None

    return code.write(model, tokenizer, task.prompt, most_tokens, cut)


def pass_at_1(tasks: Sequence[Task], complete: Complete, execute: Execute) -> tuple[Attempt, ...]:
    """One program a task, each run against the task's tests.

    A task whose completion cannot be had is a failed one, with the reason.

    Args:
        tasks: What is asked.
        complete: The model; its text is gone on with where the task's `beginning` ends.
        execute: Runs what it wrote.
    """
    attempts = []
    for task in tasks:
        try:
            program = task.beginning + complete(task)
        except code.CodeError as error:
            attempts.append(Attempt(task.name, "", False, Outcome("failed", str(error))))
            continue
        outcome = execute(task.trial(program))
        attempts.append(Attempt(task.name, program, code.parses(program), outcome))
    return tuple(attempts)


def passed(attempts: Sequence[Attempt]) -> int:
    """How many passed."""
    return sum(attempt.outcome.status == "passed" for attempt in attempts)


def wilson(hits: int, count: int, errors: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share (Wilson, JASA 1927), 95 % unless told otherwise.

    Args:
        hits: Of `count`.
        count: 1 or more.
        errors: Half its width in standard errors.

    Raises:
        ValueError: There is no such share.
    """
    if not 0 <= hits <= count or not count:
        raise ValueError(f"{hits} of {count} is no share; it takes 0 to n hits of n, and n >= 1")
    share, square = hits / count, errors**2
    middle = share + square / (2 * count)
    half = errors * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    whole = 1 + square / count
    # The ends of 0 and of 1 are exact, and rounding would miss them.
    return min(share, max(0.0, (middle - half) / whole)), max(share, (middle + half) / whole)


def _lines(path: Path) -> list[tuple[int, str]]:
    """Lines that are not blank, numbered from 1."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
        lines = content.decode().split("\n")
    except FileNotFoundError:
        raise TaskError(f"{path} does not exist; name a file of HumanEval or MBPP tasks") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise TaskError(f"{path} is not whole; fetch or copy it again") from None
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise TaskError(f"{path} is no text in UTF-8 (byte {error.start})") from None
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise TaskError(
            f"{path}, line {number}, is no JSON; the file may be half fetched or cut off"
        ) from None
    if not isinstance(row, dict):
        raise TaskError(f"{path}, line {number}, is no JSON object of a task's fields")
    return row


def _field(path: Path, number: int, row: dict[str, Any], *names: str) -> str:
    """The first of `names` that is there, as text of Unix lines."""
    for name in names:
        if isinstance(value := row.get(name), str):
            return value.replace("\r\n", "\n")
    raise TaskError(f"{path}, line {number}, has no text {' or '.join(names)}")


def _parsed(path: Path, number: int, what: str, source: str) -> ast.Module:
    if not code.parses(source):
        raise TaskError(f"{path}, line {number}: its {what} is no Python")
    return ast.parse(source)


def _human_eval(path: Path, number: int, row: dict[str, Any]) -> Task:
    prompt, entry, solution, test = (
        _field(path, number, row, name)
        for name in ("prompt", "entry_point", "canonical_solution", "test")
    )
    _parsed(path, number, "prompt", prompt)
    _parsed(path, number, "prompt with canonical_solution", prompt + solution)
    _parsed(path, number, "test", test)
    if not entry.isidentifier():
        raise TaskError(f"{path}, line {number}: its entry_point is no name")
    # Without the line feed at its end: tokenizers join it with the blanks behind it to one token,
    # which a model could not write any more.
    beginning = prompt.rstrip()
    return Task(
        name=str(row.get("task_id", f"line {number}")),
        prompt=beginning,
        beginning=beginning,
        stops=HUMAN_EVAL_STOPS,
        reference=prompt + solution,
        head=prompt,
        tests=f"{test}\ncheck({entry})\n",
        names=(entry,),
    )


def _mbpp(
    path: Path, rows: list[tuple[int, dict[str, Any]]], shots: tuple[int, ...]
) -> tuple[Task, ...]:
    tasks = {row.get("task_id"): _mbpp_task(path, number, row) for number, row in rows}
    if len(tasks) < len(rows):
        raise TaskError(f"{path} has two tasks of one task_id, or several without")
    if absent := [shot for shot in shots if shot not in tasks]:
        raise TaskError(
            f"{path} has no task {absent[0]}, which should stand solved in front of the others; "
            "name shots that it has, or none"
        )
    solved = "".join(f"{tasks[shot].prompt}\n{tasks[shot].reference}\n[DONE]\n\n" for shot in shots)
    return tuple(
        Task(**{**task.__dict__, "prompt": solved + task.prompt})
        for number, task in tasks.items()
        if number not in shots
    )


def _mbpp_task(path: Path, number: int, row: dict[str, Any]) -> Task:
    """A task whose prompt is its own alone, in the words of Austin et al."""
    text, solution = _field(path, number, row, "text", "prompt"), _field(path, number, row, "code")
    tests, hidden = _assertions(row, "test_list"), _assertions(row, "challenge_test_list")
    if not tests:
        raise TaskError(f"{path}, line {number}, has no test_list of one assertion or more")
    setup = _field(path, number, {"test_setup_code": ""} | row, "test_setup_code")
    shown = "\n".join(tests)
    asked = f"{setup}\n{shown}\n"
    used = {
        n.id for n in ast.walk(_parsed(path, number, "tests", asked)) if isinstance(n, ast.Name)
    }
    body = _parsed(path, number, "code", solution).body
    names = tuple(sorted(_bound(body) & used))
    if not names:
        raise TaskError(f"{path}, line {number}: its tests use nothing that its code defines")
    return Task(
        name=f"MBPP/{row.get('task_id')}",
        prompt=(
            f"You are an expert Python programmer, and here is your task: {text.strip()} "
            f"Your code should pass these tests:\n\n{shown}\n[BEGIN]"
        ),
        beginning="",
        stops=MBPP_STOPS,
        reference=solution,
        head=_imports(body, used),
        tests=asked,
        names=names,
        hidden="\n".join([setup, *hidden]) if hidden else "",
    )


def _assertions(row: dict[str, Any], name: str) -> list[str]:
    """The texts of a list in a row; none where it is no such list."""
    found = row.get(name)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        return []
    return [each.replace("\r\n", "\n") for each in found]


def _bound(body: list[ast.stmt]) -> set[str]:
    """Functions, classes and variables that a module has at its top."""
    names = {n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    targets = [target for n in body if isinstance(n, ast.Assign) for target in n.targets]
    return names | {target.id for target in targets if isinstance(target, ast.Name)}


def _imports(body: list[ast.stmt], used: set[str]) -> str:
    """The imports of a module of which `used` has a name."""
    return "".join(
        f"{ast.unparse(node)}\n"
        for node in body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and used & {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    )
