"""Reads SLAKE (Liu et al., ISBI 2021; CC BY 4.0): questions as JSON, images out of their zip.

Nothing is unpacked to disk: an image is looked up in the zip by the name that its question gives,
so no name in either file can reach another place.
"""

import json
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from swopt.workloads.vqa import Split
from swopt.workloads.vqa_rows import IMAGE_BYTES, Kind, PackedRow, RowError, text_of

QUESTIONS_BYTES = 1 << 27
"""Largest file of questions that is read."""

_KINDS: dict[str, Kind] = {"OPEN": "open", "CLOSED": "closed"}


def read(
    questions: Path, images: Path, split: Split, languages: Collection[str]
) -> Iterator[PackedRow]:
    """The rows of a file of questions, in some languages; `answer_type` says open or closed.

    Args:
        questions: JSON, a list of objects.
        images: The zip, whose names begin with `imgs/`.
        split: What the rows are for.
        languages: Those of `q_lang`, `en` and `zh`, that are read.

    Raises:
        RowError: A file is not whole, or a row lacks what it needs.
    """
    found = _questions(questions)
    held: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(images) as archive:
            for number, each in enumerate(found, 1):
                place = f"{questions.name}, row {number}"
                if text_of(place, "q_lang", each.get("q_lang")) not in languages:
                    continue
                name = text_of(place, "img_name", each.get("img_name"))
                if name not in held:
                    held[name] = _image(place, archive, name)
                kind = _KINDS.get(text_of(place, "answer_type", each.get("answer_type")))
                if kind is None:
                    raise RowError(f"{place}: answer_type is one of {', '.join(_KINDS)}")
                question, answer = (text_of(place, n, each.get(n)) for n in ("question", "answer"))
                yield PackedRow(number, question, answer, kind, split, questions.name, held[name])
    except (zipfile.BadZipFile, NotImplementedError, OSError):
        raise RowError(f"{images.name} is no whole zip file; fetch it again") from None


def _questions(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > QUESTIONS_BYTES:
            raise RowError(f"{path.name} is larger than {QUESTIONS_BYTES >> 20} MiB")
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise RowError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise RowError(f"{path.name} is no JSON; it may be cut off, so fetch it again") from None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise RowError(f"{path.name} is no JSON list of questions")
    return found


def _image(place: str, archive: zipfile.ZipFile, name: str) -> bytes:
    """A file of the zip, no larger than an image may be, whatever the zip says of its size."""
    fault = f"{place}: its image {name[:100]!r}"
    try:
        with archive.open(f"imgs/{name}") as file:
            content = file.read(IMAGE_BYTES + 1)
    except KeyError:
        raise RowError(f"{fault} is not in the zip") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError):
        # ValueError: it begins nowhere; RuntimeError: it has a password, or is of another method.
        raise RowError(f"{fault} cannot be unpacked") from None
    if len(content) > IMAGE_BYTES:
        raise RowError(f"{fault} is larger than {IMAGE_BYTES >> 20} MiB")
    return content
