"""Reading a model's reply: from text that may be anything to a typed value, or a plain refusal."""

import json
import re
from typing import Any, TypeVar

from pydantic import ValidationError

from agents.text import one_line
from hwlib.frozen import Frozen

R = TypeVar("R", bound=Frozen)

_THINKING = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n```\Z", re.DOTALL)


class Refused(ValueError):
    """A reply that no design can be made of; the message is one sentence for its author."""


def read_reply(text: str, model: type[R]) -> R:
    """The reply as a value of `model`.

    A `<think>` block in front and a Markdown fence around the JSON are tolerated, since local
    models send both; anything else beside the JSON object is refused.

    Raises:
        Refused: the text is no such JSON object.
    """
    body = _THINKING.sub("", text).strip()
    if fenced := _FENCE.match(body):
        body = fenced.group(1).strip()
    if not body:
        raise Refused("the reply is empty; answer with one JSON object")
    tree = _load(body)
    if not isinstance(tree, dict):
        raise Refused("the reply is JSON but no object; answer with one JSON object")
    try:
        return model.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise Refused(_first_problem(error)) from None


def _load(body: str) -> Any:
    try:
        return json.loads(body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise Refused("the reply's JSON is nested too deep") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Refused(
            f"the reply is not one JSON object and nothing else ({error.msg} at {where})"
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise Refused(f"the reply names `{one_line(name, 60)}` twice")
        found[name] = value
    return found


def _no_constant(word: str) -> Any:
    raise Refused(f"the reply holds {word}, which is no JSON number")


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(one_line(str(part), 60) for part in first["loc"]) or "the reply"
    said = first["msg"].removeprefix("Value error, ")
    shown = one_line(repr(first["input"]), 60)
    return one_line(f"{where}: {said} (got {shown})")
