"""Bitwuzla in a process of its own, which prints what it finds."""

import json
import re
import sys
from pathlib import Path


def main() -> None:
    """Prints `unsat`, or `sat` and the inputs that make the bad bit 1 as JSON, if it finds out.

    The command line names the question, in SMT-LIB as Yosys writes it.
    """
    from bitwuzla import Option, Options, Parser, Result, TermManager

    text = Path(sys.argv[1]).read_text(encoding="ascii")
    options = Options()
    options.set(Option.PRODUCE_MODELS, True)
    parser = Parser(TermManager(), options)
    state = "(declare-const given |question_s|)"
    parser.parse(f"{text}\n{state}\n(assert (|question_n bad| given))\n", True, False)
    solver = parser.bitwuzla()
    result = solver.check_sat()
    if result == Result.UNSAT:
        print("unsat")
    if result == Result.SAT:
        values = {}
        for name, width in re.findall(r"^; yosys-smt2-input (\S+) (\d+)$", text, re.MULTILINE):
            term = parser.parse_term(f"(|question_n {name}| given)")
            value = solver.get_value(term)
            values[name] = int(value.value(10)) if width != "1" else int(value.value())
        print("sat")
        print(json.dumps(values))
