"""Boolean functions of a Liberty file: their grammar and their truth."""

import itertools

import pytest

from evaluators.silicon.boolean import function, parse, pins, truth
from evaluators.silicon.liberty import LibertyError, default_liberty_path, load_library


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("!A & B", "(not A) and B"),
        ("A | B & C", "A or (B and C)"),
        ("A + B * C", "A or (B and C)"),
        ("A & B ^ C", "A and (B != C)"),  # exclusive or binds closer than and
        ("!A ^ B", "(not A) != B"),
        ("(A B)'", "not (A and B)"),
        ("A' B + C", "((not A) and B) or C"),
        ("!(A | (B & C))", "not (A or (B and C))"),
        ("((A * B) + (C * !A))", "(A and B) or (C and not A)"),
        ("1 ^ A", "True != A"),
    ],
)
def test_precedence_is_inversion_then_parity_then_and_then_or(text, python):
    expected = [
        eval(python, {}, dict(zip("ABC", state[::-1], strict=True)))
        for state in itertools.product((False, True), repeat=3)  # A changes fastest
    ]
    assert truth(text, ("A", "B", "C")).tolist() == expected


@pytest.mark.parametrize("text", ["", "A &", "(A", "A)", "A # B", "& A", "__import__('os')"])
def test_what_is_no_function_is_refused(text):
    with pytest.raises(LibertyError, match="not a Boolean function"):
        parse(text)


def test_a_function_of_an_unknown_pin_is_refused():
    with pytest.raises(LibertyError, match="reads D, which is no pin"):
        function("A & D", ("A", "B"))


def test_integers_are_evaluated_bit_by_bit():
    assert function("!(A & B)", ("A", "B"))(0b1111, 0b0011, 0b0101) == 0b1110


def test_every_function_of_the_shipped_library_reads_pins_of_its_cell(tmp_path):
    library = load_library(default_liberty_path(), tmp_path)
    for name, cell in library.cells.items():
        state = {cell.flip_flop.state, cell.flip_flop.inverted_state} if cell.flip_flop else set()
        for pin in cell.pins.values():
            if pin.function and (state or not cell.sequential):
                assert pins(parse(pin.function)) <= set(cell.pins) | state, name
