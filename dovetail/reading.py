"""Reading what people write: plain values alone; a fault is one sentence with its place."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pydantic import ValidationError

from dovetail.errors import BadInput

FILE_LIMIT_BYTES = 1_000_000
"""Longest file that is read."""

DIGITS_LIMIT = 100
"""Longest whole number that is read; the largest that anything here takes has ten digits."""


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        BadInput: it cannot be read, or is no mapping of plain values.
    """
    text = read_text(path)
    try:
        tree = yaml.load(text, _Strict)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise BadInput(f"{path}{where}: {error.problem or 'this is no YAML'}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadInput(f"{path}: this is no YAML ({str(error).splitlines()[0]})") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise BadInput(f"{path} holds no settings; it is a mapping such as `seed: 7`")
    return tree


def yaml_value(text: str) -> Any:
    """One plain value.

    Raises:
        ValueError: the text is none; the message says why.
    """
    try:
        return yaml.load(text, _Strict)
    except yaml.MarkedYAMLError as error:
        raise ValueError(error.problem or "it is no YAML") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from None


def read_json(path: Path) -> Any:
    """The value in a JSON file: no key twice, every number finite.

    Raises:
        BadInput: it cannot be read, or is no such JSON.
    """
    text = read_text(path)
    try:
        return json.loads(
            text,
            object_pairs_hook=_each_once,
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_whole,
        )
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}, line {error.lineno}: this is no JSON ({error.msg})") from None
    except RecursionError:
        raise BadInput(f"{path}: its brackets are nested too deeply; write it flat") from None
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None


def refuse_long_number(text: str) -> None:
    """Raises ValueError where `text` is a number of more than `DIGITS_LIMIT` digits.

    Python itself refuses to read or print numbers beyond 4300 digits, in words for programmers.
    """
    if len(text) > DIGITS_LIMIT and text.strip().lstrip("+-")[:1].isdigit():
        raise ValueError(f"a number of {len(text)} digits; write at most {DIGITS_LIMIT}")


def first_fault(error: ValidationError) -> tuple[str, str, str]:
    """The first fault of a validation: where it is, its kind, and the law in words.

    The law reads on from the place and ends so that `, not VALUE` may follow.
    """
    first = error.errors(include_url=False)[0]
    context = first.get("ctx", {})
    words = _LAWS.get(first["type"])
    if words is not None:
        law = words.format(**context)
    else:
        law = first["msg"].removeprefix("Value error, ")
        law = law[:1].lower() + law[1:]
    return ".".join(str(part) for part in first["loc"]), first["type"], law


def truths_for_numbers(given: Any, made: Any, where: str = "") -> Iterator[str]:
    """Places where `yes` or `true` was given and became a number.

    Args:
        given: Values as they were read.
        made: What a model made of them, dumped.
        where: Place of both.
    """
    if isinstance(given, bool) and not isinstance(made, bool):
        yield where
    elif isinstance(given, dict) and isinstance(made, dict):
        for name in given.keys() & made.keys():
            yield from truths_for_numbers(given[name], made[name], f"{where}.{name}".strip("."))
    elif isinstance(given, list | tuple) and isinstance(made, list | tuple):
        for i, (one, other) in enumerate(zip(given, made, strict=False)):
            yield from truths_for_numbers(one, other, f"{where}.{i}")


_LAWS = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must hold keys",
    "tuple_type": "must be a list",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt:.12g}",
    "greater_than_equal": "must be at least {ge:.12g}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_type": "must be a whole number",
    "invalid_key": "a key must be text",
    "json_invalid": "must be JSON",
    "less_than": "must be less than {lt:.12g}",
    "less_than_equal": "must be at most {le:.12g}",
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "model_type": "must hold keys",
    "string_too_long": "must have at most {max_length} characters",
    "string_type": "must be text",
    "union_tag_invalid": "names the unknown event `{tag}`",
    "union_tag_not_found": "names no event",
}
"""Laws in words, by pydantic's name of the fault; what is not here keeps pydantic's own."""


def read_text(path: Path, limit_bytes: int = FILE_LIMIT_BYTES) -> str:
    """The UTF-8 text of a file.

    Raises:
        BadInput: it cannot be read, is no file or no text, or is longer than `limit_bytes`.
    """
    try:
        if path.exists() and not path.is_file():
            raise BadInput(f"{path} is no file; name another one")
        if path.stat().st_size > limit_bytes:
            raise BadInput(f"{path} is larger than {limit_bytes} bytes; name another file")
        # A byte order mark, which some editors write, is no content.
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); name another file") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8 text; save it as UTF-8") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key `{key[:60]}` stands there twice")
        found[key] = value
    return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no finite number")


def _whole(text: str) -> int:
    refuse_long_number(text)
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _no_number(text[:60])
    return value


class _Strict(yaml.SafeLoader):
    """YAML of plain values: no aliases, no tags, keys of text and each once, numbers finite."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are refused")
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(
                problem=f"tags (`{event.tag[:60]}`) are refused", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="a key is one word, not a list or a mapping",
                    problem_mark=key.start_mark,
                )
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key `{str(key.value)[:60]}` stands there twice",
                    problem_mark=key.start_mark,
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> int:
        try:
            refuse_long_number(node.value)
        except ValueError as error:
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from None
        return int(super().construct_yaml_int(node))

    def construct_yaml_float(self, node: Any) -> float:
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise yaml.MarkedYAMLError(
                problem=f"`{node.value[:60]}` is no finite number", problem_mark=node.start_mark
            )
        return float(value)


_Strict.add_constructor("tag:yaml.org,2002:float", _Strict.construct_yaml_float)
_Strict.add_constructor("tag:yaml.org,2002:int", _Strict.construct_yaml_int)
