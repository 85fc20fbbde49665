"""The report is one harmless page, and terminal output is plain text."""

import html.parser
import io
import re

import pytest
from rich.console import Console

from dovetail import formatting, scores
from dovetail.events import ModelCalled, Proposed, RunEvent, Told
from dovetail.formatting import plain_number
from dovetail.history import TrialRecord, fold
from dovetail.progress import front_table
from dovetail.saved import Run
from dovetail.settings import Settings
from dovetail.trace import lines
from dovetail.viewer.plot import _even_marks, panel
from dovetail.viewer.report import page
from hwlib.edit import RtlEdit
from tests.dovetail.runs import Memory, finish

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\x1b[2J\x1b]0;own\x07‮"


@pytest.fixture(scope="module")
def events() -> list[RunEvent]:
    """A run in which everything that a model can write is hostile."""
    record = Memory()
    finish(record, Settings(seed=7, iterations=6))
    spoiled: list[RunEvent] = []
    for event in record.events:
        if isinstance(event, Proposed):
            edit = RtlEdit(unit="rescaler", source=f"amaranth {HOSTILE}", latency=1)
            design = event.proposal.design.model_copy(update={"edits": (edit,)})
            proposal = event.proposal.model_copy(
                update={"rationale": HOSTILE, "author": HOSTILE, "design": design}
            )
            event = event.model_copy(update={"proposal": proposal})
        if isinstance(event, ModelCalled):
            call = event.call.model_copy(
                update={
                    "reply": HOSTILE,
                    "model": HOSTILE,
                    "messages": ({"role": HOSTILE, "content": HOSTILE},),
                }
            )
            event = event.model_copy(update={"call": call})
        spoiled.append(event)
    return spoiled


class Elements(html.parser.HTMLParser):
    """Collects what a browser would make of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.places: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.places += [value or "" for name, value in attrs if name in ("href", "src")]


def test_what_a_model_wrote_makes_no_element(events: list[RunEvent]) -> None:
    text = page(events)
    found = Elements()
    found.feed(text)
    assert not found.tags & {"script", "img", "iframe", "object", "link", "form", "base"}
    assert not {name for name in found.attributes if name.startswith("on") or name == "style"}
    assert all(place.startswith("#") for place in found.places)
    assert "&lt;img src=x onerror" in text
    assert "\x1b" not in text and "‮" not in text and "\x07" not in text


def test_the_policy_forbids_everything_but_its_own_styles(events: list[RunEvent]) -> None:
    text = page(events)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy[1] and "http" not in policy[1]
    style = re.search(r"<style>(.*)</style>", text, re.DOTALL)
    assert style is not None
    import base64
    import hashlib

    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert digest in policy[1]


def test_every_trial_and_what_is_modelled_are_on_the_page(events: list[RunEvent]) -> None:
    text = page(events)
    for trial in range(6):
        assert f'id="trial-{trial}"' in text
    assert "Energy is <b>modelled</b>" in text and "energy, modelled" in text
    assert "made-up figures of the toy evaluator" in text


def test_the_front_table_fits_80_columns() -> None:
    record = Memory()
    finish(record, Settings(seed=7, iterations=6))
    said = io.StringIO()
    Console(file=said, width=80).print(front_table(fold(record.events)))
    lines = said.getvalue().splitlines()
    assert "…" not in said.getvalue() and max(map(len, lines)) <= 80
    heads = ["trial", "design", "by", "latency", "energy*", "NLL/nats", "area/µm²", "RTL"]
    assert lines[2].strip("┃ ").replace("┃", " ").split() == heads
    assert "* modelled" in said.getvalue()


def test_the_test_figures_are_a_table_without_empty_columns(events: list[RunEvent]) -> None:
    text = page(events)
    table = text[text.index('<table class="scores">') :]
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", table[: table.index("</table>")])
    assert cells == [
        "toy", "100 questions", "81.0 % ± 3.9 %", "80.0 % ± 4.0 %", "-1.0 % ± 1.0 %",
        "+0.015 ± 0.004",
    ]  # fmt: skip
    of_code = {"windows": 8.0, "baseline_bits_per_byte": 0.9, "design_bits_per_byte": 1.0}
    headings, rows = scores.table({"toy": {"questions": 100.0}, "code": of_code})
    assert headings == ["data set", "scored", "bits per byte"]
    assert rows == [["toy", "100 questions", "–"], ["code", "8 windows", "0.900 → 1.000"]]


def test_the_line_ends_at_the_outermost_points_that_no_other_beats() -> None:
    values = [(1.0, 9.0), (2.0, 5.0), (3.0, 6.0), (4.0, 2.0)]  # the third is beaten
    trials = [
        TrialRecord(
            i,
            told=Told(
                trial=i,
                values={"latency_s": x, "nll_nats": y, "energy_j": 1.0 / (i + 1)},
                violation=-0.1,
            ),
        )
        for i, (x, y) in enumerate(values)
    ]
    drawn = panel("t", trials, "latency_s", "nll_nats", ("x", "y"))
    at = {p.trial: (f"{p.x:.1f}", f"{p.y:.1f}") for p in drawn.points}
    first, middle, last = at[0], at[1], at[3]
    assert drawn.line == (f"M{first[0]} {first[1]} H{middle[0]} V{middle[1]} H{last[0]} V{last[1]}")
    assert panel("t", trials[:1], "latency_s", "nll_nats", ("x", "y")).line == ""


def test_an_unfinished_run_has_a_page_after_any_event(events: list[RunEvent]) -> None:
    # Every seventh event meets every kind of step.
    for count in range(1, len(events), 7):
        assert "Dovetail" in page(events[:count])


def test_the_terminal_gets_no_control_character(events: list[RunEvent]) -> None:
    from pathlib import Path

    run = Run(Path(), tuple(events))
    for step in (None, 2, 3):
        text = "\n".join(line.plain for line in lines(run, step))
        assert not set(text) & set("\x1b\x07\r‮")
        assert "<img src=x" in text


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1.234e-3, "s", "1.23 ms"),
        (9.999e-4, "s", "1 ms"),
        (0.0, "J", "0 J"),
        (8e8, "Hz", "800 MHz"),
        (0.5512, "nats", "0.551 nats"),
        (4.2e-7, "J", "420 nJ"),
    ],
)
def test_quantities_have_three_digits_and_a_prefix(value: float, unit: str, shown: str) -> None:
    assert formatting.quantity(value, unit) == shown


def test_marks_of_an_axis_have_no_more_digits_than_their_labels() -> None:
    for low, high in ((0.7692, 0.7808), (0.1, 0.3), (1.0, 7.3), (412.0, 988.0)):
        for mark in _even_marks(low, high):
            assert float(plain_number(mark).replace("\N{NARROW NO-BREAK SPACE}", "")) == mark
