"""Reading replies, and the texts that they bring."""

import pytest

from agents.hardware import HardwareReply
from agents.reply import Refused, read_reply
from agents.text import many_lines, one_line

GOOD = '{"changes": [{"path": "hardware.rows", "value": 16}], "why": "faster"}'


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"<think>rows? {{16}} maybe\n</think>\n{GOOD}",
        f"```json\n{GOOD}\n```",
        f"<think></think>```\n{GOOD}\n```",
    ],
)
def test_json_is_found_behind_thoughts_and_inside_a_fence(text: str):
    reply = read_reply(text, HardwareReply)
    assert (reply.changes[0].path, reply.changes[0].value) == ("hardware.rows", 16)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("I would rather not.", "not one JSON object"),
        (f"Sure! {GOOD}", "not one JSON object"),
        (f"{GOOD} Anything else?", "not one JSON object"),
        (f"<think>{GOOD}", "not one JSON object"),
        ("[1]", "no object"),
        ("[" * 200_000, "nested too deep"),
        ('{"changes": [], "why": "a", "why": "b"}', "names `why` twice"),
        ('{"changes": [{"path": "x", "value": NaN}], "why": ""}', "NaN"),
        ('{"changes": [{"path": "x", "value": Infinity}], "why": ""}', "Infinity"),
        ('{"changes": []}', "why: Field required"),
        ('{"changes": [], "why": "", "eval": "1"}', "eval: Extra inputs"),
        ('{"changes": {}, "why": ""}', "changes: Input should be a valid"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(text: str, words: str):
    with pytest.raises(Refused) as refused:
        read_reply(text, HardwareReply)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_text_of_a_model_loses_control_and_bidi_characters_and_its_length():
    evil = "a\x1b[31m b\u202e\u200bc\r\n\td\x00" + "e" * 2000
    line = one_line(evil, 20)
    assert line == "a[31m bc deeeeeeeee…"
    assert len(line) == 20
    assert many_lines("x = 1\n\tif\x1b:\u2066\r\n", 99) == "x = 1\n\tif:\n"
