"""Solvers that race for an answer: bitwuzla on words, abc on gates with two kinds of multipliers.

Each is asked the planted question first, whose answer is yes. Only one that says so is asked the
real question, and the first answer ends the race. A tool that crashes, rambles or takes too long
has given no answer.
"""

import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import evaluators
from evaluators.confinement.launch import confined
from evaluators.gate.questions import EDIT, SHIPPED, Pair, Question
from evaluators.silicon.yosys import ENVIRONMENT, YosysError, run_yosys

PROCESSOR_S = 40
"""Processor time that one solver may take for one question, planted or real."""

DEADLINE_S = 240.0
"""Longest time that one proof may take by the clock, all of its questions together."""

ANSWER_BYTES = 1 << 20
"""How much of a solver's output is read."""

_OPTIMISED = ("proc", "flatten -noscopeinfo", "opt_expr", "opt_merge", "opt_clean")
_BIT_BY_BIT = "simplemap t:$not t:$and t:$or t:$xor t:$mux"
"""A word whose bits hang on one another, such as carries, is a loop to who writes words."""

_TO_GATES = ("techmap", "aigmap")

_POLL_S = 0.02

_START = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from evaluators.gate.bitwuzla import main
main()
"""


class Answer(NamedTuple):
    """What a solver found."""

    possible: bool
    """Whether `bad` can be 1."""

    values: Mapping[str, int]
    """Inputs that make it 1; empty unless it can be, 0 for what is left out."""

    tool: str
    """Who found it."""

    processor_s: float
    """Processor time that it took, planted question included."""


class Unanswered(Exception):
    """No solver gave an answer; the message says how each one ended."""


class SolverKilled(Exception):
    """Nobody answered, and a solver was ended from outside, which says nothing of the question."""


Tool = Literal["bitwuzla", "abc", "abc, Booth"]


def versions() -> dict[str, str]:
    """Versions of the tools that take part, by package.

    Raises:
        Unanswered: One is not installed.
    """
    try:
        return {name: importlib.metadata.version(name) for name in ("bitwuzla", "pyosys")}
    except importlib.metadata.PackageNotFoundError as error:
        raise Unanswered(f"there is no package {error.name}: pip install {error.name}") from None


def answer(pair: Pair, question: Question, deadline_s: float = DEADLINE_S) -> Answer:
    """Whether the bad bit of a question can be 1.

    Args:
        pair: What is asked about.
        question: What is asked.
        deadline_s: Longest time that it may take by the clock.

    Raises:
        Unanswered: No solver found out in its time.
        SolverKilled: Nor could they: somebody ended one.
        YosysError: The question could not be written.
    """
    with tempfile.TemporaryDirectory(prefix="gate-") as folder:
        work = Path(folder)
        end_s = time.monotonic() + deadline_s
        tools = _write(work, pair, question, deadline_s)
        return _raced([_Racer(tool, work) for tool in tools], end_s)


def _write(work: Path, pair: Pair, question: Question, deadline_s: float) -> tuple[Tool, ...]:
    """A folder `planted` and a folder `real`, each with the question in the solvers' languages."""
    multiplies = pair.shipped.multiplies or pair.edit.multiplies
    edits = {"real": pair.edit.module, "planted": pair.edit.planted(*question.plant)}
    (work / "question.v").write_text(question.verilog)
    for name, edit in edits.items():
        (work / name).mkdir()
        modules = {SHIPPED: pair.shipped.module, EDIT: edit}
        (work / f"{name}.json").write_text(json.dumps({"modules": modules}))
    try:
        run_yosys(_commands(multiplies, _OPTIMISED), work, work / "tmp", deadline_s)
    except YosysError as error:
        if "logic loop" not in str(error):
            raise
        bit_by_bit = _commands(multiplies, (*_OPTIMISED, _BIT_BY_BIT))
        run_yosys(bit_by_bit, work, work / "tmp", deadline_s)
    return ("bitwuzla", "abc", "abc, Booth") if multiplies else ("bitwuzla", "abc")


def _commands(multiplies: bool, optimised: Sequence[str]) -> list[str]:
    """What makes of `NAME.json` and `question.v` what solvers read, for both questions."""
    commands = []
    for name in ("real", "planted"):
        commands += [
            "design -reset", f"read_json {name}.json", "read_verilog question.v",
            "hierarchy -check -top question", *optimised, f"write_smt2 {name}/question.smt2",
            "design -save words", *_TO_GATES, f"write_aiger -map {name}/abc.map {name}/abc.aig",
        ]  # fmt: skip
        if multiplies:
            commands += ["design -load words", "booth", *_TO_GATES]
            commands += [f"write_aiger -map {name}/booth.map {name}/booth.aig"]
    return commands


class _Racer:
    """One solver: the planted question, then the real one."""

    def __init__(self, tool: Tool, work: Path) -> None:
        self.tool: Tool = tool
        self.answer: Answer | None = None
        self.ended = ""
        """How it ended, in words; empty while it runs."""
        self.killed = False
        """Whether it was ended from outside, as by a lack of memory; its own limit is SIGXCPU."""
        self._work = work
        self._spent_s = 0.0
        self._begin("planted")

    def look(self) -> None:
        """Reads what it found, if it is through; after the planted question comes the real one."""
        process, status, usage = os.wait4(self._process.pid, os.WNOHANG)
        if not process:
            return
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self._spent_s += usage.ru_utime + usage.ru_stime
        self.killed = self._process.returncode == -signal.SIGKILL
        found = self._read() if self._process.returncode == 0 else None
        if found is None:
            self.ended = f"{self.tool} gave no answer to the {self._asked} question"
        elif self._asked == "real":
            self.answer = Answer(found[0], found[1], self.tool, self._spent_s)
            self.ended = "answered"
        elif found[0]:
            self._begin("real")
        else:
            self.ended = f"{self.tool} does not see a planted bug"

    def stop(self) -> None:
        """Ends it, where it still runs."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _begin(self, asked: Literal["planted", "real"]) -> None:
        self._asked: Literal["planted", "real"] = asked
        own = self._work / asked / _FILE[self.tool]
        own.mkdir()
        with (own / "words").open("wb") as words:
            self._process = subprocess.Popen(
                confined(_command(self.tool), [own], PROCESSOR_S),
                cwd=own,
                env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _read(self) -> tuple[bool, dict[str, int]] | None:
        """What it says; None where that is no answer."""
        own = self._work / self._asked / _FILE[self.tool]
        with (own / "words").open("rb") as file:
            words = file.read(ANSWER_BYTES).decode(errors="replace")
        try:
            if self.tool == "bitwuzla":
                return _said_by_bitwuzla(words)
            return _said_by_abc(words, own)
        except (ValueError, OSError):
            return None


_FILE: dict[Tool, str] = {"bitwuzla": "words", "abc": "abc", "abc, Booth": "booth"}
"""Name of a solver's own folder, and of what it reads from the folder above."""


def _raced(racers: list[_Racer], end_s: float) -> Answer:
    """The first answer; whoever still runs is ended."""
    try:
        while time.monotonic() < end_s:
            for racer in racers:
                if not racer.ended:
                    racer.look()
                if racer.answer is not None:
                    return racer.answer
            if all(racer.ended for racer in racers):
                if killed := [racer.tool for racer in racers if racer.killed]:
                    raise SolverKilled(f"{killed[0]} was killed, and no other solver answered")
                raise Unanswered("; ".join(racer.ended for racer in racers))
            time.sleep(_POLL_S)
        raise Unanswered("the solvers took too long")
    finally:
        for racer in racers:
            racer.stop()


def _command(tool: Tool) -> list[str]:
    if tool == "bitwuzla":
        root = str(Path(evaluators.__file__).parents[1])
        return [sys.executable, "-I", "-c", _START, root, "../question.smt2"]
    spec = importlib.util.find_spec("pyosys")
    assert spec is not None and spec.origin is not None
    name = _FILE[tool]
    script = f"read ../{name}.aig; &get; &cec -m; print_status; write_cex counterexample"
    return [str(Path(spec.origin).parent / "yosys-abc"), "-s", "-c", script]


def _said_by_bitwuzla(words: str) -> tuple[bool, dict[str, int]] | None:
    if words == "unsat\n":
        return False, {}
    verdict, _, values = words.partition("\n")
    if verdict != "sat":
        return None
    return True, {name: int(value) for name, value in json.loads(values).items()}


def _said_by_abc(words: str, folder: Path) -> tuple[bool, dict[str, int]] | None:
    """Reads `print_status` and the counterexample, a digit for each input bit in their order."""
    said = re.findall(r"^Status = (-?[01]) ", words, re.MULTILINE)
    if said == ["1"]:
        return False, {}
    if said != ["0"]:
        return None
    digits = re.match(r"[01]*", (folder / "counterexample").read_text(errors="replace"))
    assert digits is not None
    values: dict[str, int] = {}
    for line in (folder.parent / f"{folder.name}.map").read_text().splitlines():
        if line.startswith("input "):
            _, index, bit, name = line.split()
            values[name] = values.get(name, 0) | int(digits[0][int(index)]) << int(bit)
    return True, values
