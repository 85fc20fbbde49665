"""Reads questions and packed images of a parquet file: VQA-RAD and PathVQA on the hub.

A file has columns `image` (`bytes` and `path`), `question` and `answer`, one row a question.
pyarrow (Apache-2.0) comes with `dovetail[vqa]` and is imported when a file is read.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swopt.workloads.pictures import EXTRA
from swopt.workloads.vqa import Split
from swopt.workloads.vqa_rows import IMAGE_BYTES, PackedRow, RowError, text_of, usual_kind

GROUP_BYTES = 1 << 30
"""Largest group of rows that is unpacked; a small file can claim any size."""

_COLUMNS = ("image.bytes", "question", "answer")


def read(path: Path, split: Split, images: dict[bytes, bytes]) -> Iterator[PackedRow]:
    """The rows of a file; an answer of yes or no makes a question closed.

    Args:
        path: The file.
        split: What its rows are for.
        images: Those that are held already, each by itself; new ones are added, so that rows of
            one image share its bytes, also from file to file.

    Raises:
        RowError: It is no whole parquet file, lacks a column, or a row lacks its image or a text.
        ModuleNotFoundError: pyarrow is not installed.
    """
    for number, (image, asked, told) in enumerate(_values(path), 1):
        place = f"{path.name}, row {number}"
        if not image or len(image) > IMAGE_BYTES:
            raise RowError(f"{place}, has no image of at most {IMAGE_BYTES >> 20} MiB")
        question, answer = text_of(place, "question", asked), text_of(place, "answer", told)
        packed = images.setdefault(image, image)
        yield PackedRow(number, question, answer, usual_kind(answer), split, path.name, packed)


def _values(path: Path) -> Iterator[tuple[Any, Any, Any]]:
    """Image, question and answer of each row."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ModuleNotFoundError(f"{path.name} needs pyarrow; type: {EXTRA}") from None
    damaged = f"{path.name} is no whole parquet file; fetch it again"
    try:
        schema = parquet.read_schema(path)
    except (pyarrow.ArrowException, OSError, ValueError):
        raise RowError(damaged) from None
    for name in _COLUMNS:
        if not _is_there(schema, name):
            raise RowError(f"{path.name} has no column {name} of its kind; is it another set's?")
    # As dictionaries, so that a value which the file repeats is held once here, too.
    with parquet.ParquetFile(path, read_dictionary=list(_COLUMNS)) as file:
        for group in range(file.num_row_groups):
            if file.metadata.row_group(group).total_byte_size > GROUP_BYTES:
                raise RowError(f"{path.name} has a group of rows of over {GROUP_BYTES >> 20} MiB")
            try:
                table = file.read_row_group(group, columns=list(_COLUMNS)).flatten()
                columns = [list(_looked_up(table.column(name))) for name in _COLUMNS]
            except (pyarrow.ArrowException, OSError, ValueError, IndexError):
                raise RowError(damaged) from None
            yield from zip(*columns, strict=True)


def _is_there(schema: Any, name: str) -> bool:
    """Whether a column, of texts or of the `bytes` of images, is there."""
    from pyarrow import types

    outer, _, inner = name.partition(".")
    if schema.names.count(outer) != 1:
        return False
    found = schema.field(outer).type
    if inner:
        known = [each for each in found if each.name == inner] if types.is_struct(found) else []
        found = known[0].type if known else found
    value = found.value_type if types.is_dictionary(found) else found
    if inner:
        return bool(types.is_binary(value) or types.is_large_binary(value))
    return bool(types.is_string(value) or types.is_large_string(value))


def _looked_up(column: Any) -> Iterator[Any]:
    for chunk in column.chunks:
        values = chunk.dictionary.to_pylist()
        for index in chunk.indices.to_pylist():
            yield None if index is None else values[index]
