"""Puts what a benchmark prints into a page of docs, between the two comments that name it."""

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "accelerator-measured.md"


@contextlib.contextmanager
def written(name: str, page: Path = PAGE) -> Iterator[None]:
    """Prints as ever; at the end the page has it too, if all went well.

    Raises:
        SystemExit: The page has no such place.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    text = page.read_text("utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"{page} has no place for {name}: it needs {begin.strip()} and its end")
    kept = _Both()
    with contextlib.redirect_stdout(kept):
        yield
    head, tail = text.partition(begin)[0], text.partition(end)[2]
    page.write_text(f"{head}{begin}\n{kept.getvalue().strip()}\n\n{end}{tail}", "utf-8")


class _Both(io.StringIO):
    """Shows what is written as it is written."""

    def write(self, text: str) -> int:
        """To the screen too."""
        assert sys.__stdout__ is not None
        sys.__stdout__.write(text)
        sys.__stdout__.flush()
        return super().write(text)
