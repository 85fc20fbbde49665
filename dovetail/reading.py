"""Reading files that people write: plain values alone; a fault is one sentence with its place."""

import json
import math
from pathlib import Path
from typing import Any, NoReturn

import yaml

from dovetail.errors import BadInput

FILE_LIMIT_BYTES = 1_000_000
"""Longest file that is read."""


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        BadInput: it cannot be read, or is no mapping of plain values.
    """
    text = _text(path)
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
        ValueError: the text is none.
    """
    try:
        return yaml.load(text, _Strict)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from None


def read_json(path: Path) -> Any:
    """The value in a JSON file: no key twice, no NaN or Infinity.

    Raises:
        BadInput: it cannot be read, or is no such JSON.
    """
    text = _text(path)
    try:
        return json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}, line {error.lineno}: this is no JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: {error}") from None


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_LIMIT_BYTES:
            raise BadInput(f"{path} is larger than {FILE_LIMIT_BYTES} bytes; name another file")
        return path.read_text(encoding="utf-8")
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


class _Strict(yaml.SafeLoader):
    """YAML of plain values: no aliases, no key twice, every number finite."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are refused")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key `{str(key.value)[:60]}` stands there twice",
                    problem_mark=key.start_mark,
                )
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_float(self, node: Any) -> float:
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise yaml.MarkedYAMLError(
                problem=f"`{node.value}` is no finite number", problem_mark=node.start_mark
            )
        return float(value)


_Strict.add_constructor("tag:yaml.org,2002:float", _Strict.construct_yaml_float)
