"""Tasks of both forms are read as they are meant, and pass@1 counts what an executor says."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from swopt.workloads import code, programs
from swopt.workloads.programs import Outcome, TaskError, Trial
from tests.swopt import tiny_llama
from tests.swopt.test_code import Parrot

HUMAN_EVAL = {
    "task_id": "HumanEval/0",
    "prompt": (
        'import math\n\n\ndef half(x):\n    return x / 2\n\n\ndef double(x):\n    """2 x."""\n'
    ),
    "entry_point": "double",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert half(candidate(3)) == 3\n",
}


def mbpp(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "task_id": number,
        "text": f"Write {number}.",
        "code": f"import math, re\r\nimport sys\r\ndef f{number}(x):\r\n  return x + {number}",
        "test_list": [f"assert f{number}(1) == {number + 1}", f"assert f{number}(2) < sys.maxsize"],
        "test_setup_code": "",
    } | changes


def written(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def in_process(trial: Trial) -> Outcome:
    """What an executor does with programs that one trusts; the test's own are."""
    names: dict[str, Any] = {}
    try:
        exec(trial.head, names)
        kept: dict[str, Any] = {}
        exec(trial.program, kept)
        exec(trial.tests, names | {name: kept[name] for name in trial.names})
    except Exception as error:
        return Outcome("failed", type(error).__name__)
    return Outcome("passed", "")


@pytest.mark.parametrize("packed", [False, True])
def test_a_task_of_humaneval_is_its_prompt_gone_on_with(tmp_path: Path, packed: bool) -> None:
    path = written(tmp_path / "tasks", HUMAN_EVAL)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    (task,) = programs.read(path)
    assert (task.name, task.prompt, task.names) == (
        "HumanEval/0", str(HUMAN_EVAL["prompt"]).rstrip(), ("double",),
    )  # fmt: skip
    assert in_process(task.trial(task.reference)) == Outcome("passed", "")
    assert task.prompt == task.beginning and task.head == HUMAN_EVAL["prompt"]
    cheat = task.beginning + "\n    return 7\ndef half(x): return x\n"
    assert in_process(task.trial(cheat)).status == "failed", "half is the task's, not the program's"


def test_a_task_of_mbpp_stands_behind_solved_ones_and_shows_its_tests(tmp_path: Path) -> None:
    path = written(tmp_path / "tasks", *(mbpp(number) for number in (2, 3, 4, 11)))
    (task,) = programs.read(path)
    zero, *_ = (each for each in programs.read(path, ()) if each.name == "MBPP/11")
    assert zero.prompt == (
        "You are an expert Python programmer, and here is your task: Write 11. Your code should "
        "pass these tests:\n\nassert f11(1) == 12\nassert f11(2) < sys.maxsize\n[BEGIN]"
    )
    shots = [each for each in programs.read(path, ()) if each.name != "MBPP/11"]
    solved = [f"{shot.prompt}\n{shot.reference}\n[DONE]\n\n" for shot in shots]
    assert task.prompt == "".join(solved) + zero.prompt and "\r" not in task.prompt
    assert (task.names, task.head, task.beginning) == (("f11",), "import sys\n", "")
    assert in_process(task.trial(task.reference)) == Outcome("passed", "")
    assert in_process(task.trial(shots[0].reference)).status == "failed"


def test_hidden_tests_find_a_program_that_fits_the_shown_ones_alone(tmp_path: Path) -> None:
    row = mbpp(5, challenge_test_list=["assert f5(10) == 15"])
    fitted, none = programs.read(written(tmp_path / "tasks", row, mbpp(6)), ())
    assert none.hidden == "" and "f5(10)" not in fitted.prompt
    cheat = "def f5(x): return {1: 6, 2: 7}.get(x)"
    assert in_process(fitted.trial(cheat)).status == "passed"
    assert in_process(fitted.hidden_trial(cheat)).status == "failed"
    assert in_process(fitted.hidden_trial(fitted.reference)).status == "passed"


def test_names_are_what_tests_and_their_setup_use_of_the_program(tmp_path: Path) -> None:
    row = mbpp(
        1,
        code="class Node: pass\nR = 3\nunused = 4\ndef sum(node): return R",
        test_setup_code="root = Node()\r\n",
        test_list=["assert sum(root) == R"],
    )
    (task,) = programs.read(written(tmp_path / "tasks", row), ())
    assert task.names == ("Node", "R", "sum") and task.tests.startswith("root = Node()\n")
    assert in_process(task.trial(task.reference)) == Outcome("passed", "")


@pytest.mark.parametrize(
    ("rows", "law"),
    [
        ([], "holds no task"),
        ([[1]], "line 1, is no JSON object"),
        ([HUMAN_EVAL, HUMAN_EVAL | {"prompt": 1}], "line 2, has no text prompt"),
        ([HUMAN_EVAL | {"test": "def check(c:"}], "line 1: its test is no Python"),
        ([HUMAN_EVAL | {"canonical_solution": "  x"}], "prompt with canonical_solution is no Pyth"),
        ([HUMAN_EVAL | {"entry_point": "a; b"}], "line 1: its entry_point is no name"),
        ([HUMAN_EVAL, mbpp(2)], "line 1, has no text code"),
        ([mbpp(2, code=None)], "line 1, has no text code"),
        ([mbpp(2, text=None)], "line 1, has no text text or prompt"),
        ([mbpp(2), mbpp(3, test_list=[])], "line 2, has no test_list of one assertion or more"),
        ([mbpp(2, test_list=["assert g(1)"])], "line 1: its tests use nothing that its code def"),
        ([mbpp(2, code="def f2(:")], "line 1: its code is no Python"),
        ([mbpp(2), mbpp(2)], "has two tasks of one task_id"),
        ([mbpp(2), mbpp(11)], "has no task 3, which should stand solved"),
    ],
)
def test_a_file_of_another_form_is_refused_with_line_and_law(
    tmp_path: Path, rows: list[object], law: str
) -> None:
    with pytest.raises(TaskError, match=law):
        programs.read(written(tmp_path / "tasks", *rows))


def test_what_is_not_there_or_not_whole_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "tasks"
    with pytest.raises(TaskError, match="does not exist; name a file of HumanEval or MBPP"):
        programs.read(path)
    with pytest.raises(TaskError, match="cannot be read"):
        programs.read(tmp_path)
    whole = gzip.compress(json.dumps(HUMAN_EVAL).encode())
    path.write_bytes(whole[:-20])
    with pytest.raises(TaskError, match="is not whole; fetch or copy it again"):
        programs.read(path)
    path.write_bytes(whole[:30] + b"\xff" * 40)
    with pytest.raises(TaskError, match=r"is not whole|is no text"):
        programs.read(path)
    path.write_text(json.dumps(HUMAN_EVAL) + "\n" + json.dumps(HUMAN_EVAL)[:60])
    with pytest.raises(TaskError, match="line 2, is no JSON; the file may be half fetched"):
        programs.read(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TaskError, match="is no text in UTF-8"):
        programs.read(path)


def test_a_completion_ends_at_the_first_stop(tmp_path: Path) -> None:
    (task,) = programs.read(written(tmp_path / "tasks", HUMAN_EVAL))
    tokenizer = tiny_llama.tokenizer()

    def completed(text: str, most_tokens: int = 64) -> str:
        return programs.complete(Parrot(text), tokenizer, task, most_tokens)

    assert completed("    return 2\n\ndef other():\n") == "    return 2\n"
    assert completed("    return 2\n# end\n\nclass X") == "    return 2"
    assert completed("    return 2<|endoftext|>x") == "    return 2"
    assert completed("    x = 1\n    y = 2\n", 9) == "    x = 1\n"


def test_pass_at_1_counts_what_passed_and_what_is_python(tmp_path: Path) -> None:
    path = written(tmp_path / "tasks", *(mbpp(number) for number in range(5, 9)))
    tasks = programs.read(path, ())
    texts = {
        "MBPP/5": tasks[0].reference,
        "MBPP/6": "def f6(x): return x",
        "MBPP/7": "def f7(x) return x + 7",
    }

    def complete(task: programs.Task) -> str:
        if task.name not in texts:
            raise code.CodeError("the model's logits are no numbers")
        return texts[task.name]

    attempts = programs.pass_at_1(tasks, complete, in_process)
    assert programs.passed(attempts) == 1
    assert [attempt.outcome.status for attempt in attempts] == ["passed"] + 3 * ["failed"]
    assert [attempt.is_python for attempt in attempts] == [True, True, False, False]
    assert attempts[3].outcome.reason == "the model's logits are no numbers"


def test_a_model_of_broken_weights_is_told_and_not_counted_as_a_text() -> None:
    model = tiny_llama.model()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(code.CodeError, match="logits for token 1 are no finite numbers"):
        code.write(model, tiny_llama.tokenizer(), "def f", 4, lambda text: None)


def test_wilsons_interval_holds_its_own_equation() -> None:
    """Its ends are the shares p at which |hits / n - p| is 1.96 standard errors of p."""
    for hits, count in ((0, 20), (1, 20), (7, 20), (20, 20), (83, 500)):
        low, high = programs.wilson(hits, count)
        assert 0 <= low <= hits / count <= high <= 1
        for end in (low, high):
            if 0 < end < 1:
                error = (end * (1 - end) / count) ** 0.5
                assert abs(hits / count - end) == pytest.approx(1.96 * error)
    with pytest.raises(ValueError, match="3 of 2 is no share"):
        programs.wilson(3, 2)
    with pytest.raises(ValueError, match="0 of 0 is no share"):
        programs.wilson(0, 0)
