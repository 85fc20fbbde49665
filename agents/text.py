"""Text that came from a model, made harmless before it reaches a prompt, a record or a screen."""

import unicodedata

SENTENCE_CHARS = 600
"""Longest rationale, reason or direction that is kept."""


def one_line(text: str, limit_chars: int = SENTENCE_CHARS) -> str:
    """`text` on one line, without control, format or bidi characters, cut to `limit_chars`.

    A cut text ends in an ellipsis, so that no reader takes it for the whole.
    """
    return _cut(" ".join(_printable(text).split()), limit_chars)


def many_lines(text: str, limit_chars: int) -> str:
    """The same for text whose line ends and tabs matter, such as a source file."""
    lines = text.replace("\r\n", "\n").split("\n")
    kept = ("\t".join(_printable(field) for field in line.split("\t")) for line in lines)
    return _cut("\n".join(kept), limit_chars)


def encodable(text: str) -> str:
    """`text` with what UTF-8 cannot hold (half of a surrogate pair) as U+FFFD, the rest unchanged.

    A JSON escape can put such a half into a string; no file and no socket takes it.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _printable(text: str) -> str:
    # Categories: C* control, format (bidi marks, zero width), surrogates, private; Z* separators.
    return "".join(
        " " if unicodedata.category(c)[0] == "Z" or c in "\t\n\r" else c
        for c in text
        if c in "\t\n\r" or unicodedata.category(c)[0] != "C"
    )


def _cut(text: str, limit_chars: int) -> str:
    return text if len(text) <= limit_chars else text[: limit_chars - 1] + "…"
