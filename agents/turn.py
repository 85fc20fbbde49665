"""One role's turn: ask, read, check; a refused reply goes back once with the reason."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from agents.llm import Message, TrialDoor
from agents.proposer import Rejection, Role
from agents.reply import read_reply
from agents.text import many_lines, one_line
from evaluators import space
from hwlib.frozen import Frozen

R = TypeVar("R", bound=Frozen)

REFUSED_REPLY_CHARS = 8_192
"""How much of a refused reply is shown to its author again."""

Value = bool | int | float | str | tuple[int, ...] | None
"""What a reply may set a knob to; the knob itself says what it takes."""


class Change(Frozen):
    """One knob and its new value."""

    path: str
    """The knob's path, as the table of knobs writes it."""

    value: Value
    """Its new value."""


class Turn(Frozen):
    """What came of a role's turn."""

    value: dict[str, Any] | None = None
    """The reply that stands, as JSON, or `None` where none did."""

    rejections: tuple[Rejection, ...] = ()
    """The replies that were refused, and the call that failed."""

    failed: str = ""
    """One sentence, where the server failed; the trial then goes on with the suggestion alone."""


def take_turn(
    door: TrialDoor,
    role: Role,
    messages: Sequence[Message],
    schema: dict[str, Any],
    model: type[R],
    check: Callable[[R], object],
) -> Turn:
    """Asks, and asks once more where the reply is refused and the budget allows.

    Args:
        check: Raises ValueError with one sentence where the reply leaves the space.
    """
    rejections: list[Rejection] = []
    said = list(messages)
    while door.may_ask(role):
        call = door.ask(role, said, schema)
        if call.error:
            reason = one_line(call.error)
            rejections.append(Rejection(role=role, call=call.call, reason=reason))
            return Turn(rejections=tuple(rejections), failed=reason)
        try:
            value = read_reply(call.reply, model)
            check(value)
            return Turn(value=value.model_dump(mode="json"), rejections=tuple(rejections))
        except ValueError as error:
            reason = one_line(str(error))
        rejections.append(Rejection(role=role, call=call.call, reason=reason))
        said += [
            {"role": "assistant", "content": many_lines(call.reply, REFUSED_REPLY_CHARS)},
            {"role": "user", "content": _mend(reason)},
        ]
    return Turn(rejections=tuple(rejections))


def changes_of(changes: Sequence[Change], part: str) -> dict[str, Any]:
    """The changes as path -> JSON value.

    Raises:
        ValueError: a path stands twice, or under another part of the design.
    """
    found: dict[str, Any] = {}
    for change in changes:
        path = space.knob(change.path).path
        if not path.startswith(f"{part}."):
            raise ValueError(f"{path} is no knob of yours; change knobs under `{part}.` alone")
        if path in found:
            raise ValueError(f"{path} is changed twice; name each knob once")
        value = change.value
        found[path] = list(value) if isinstance(value, tuple) else value
    return found


def reply_schema(
    model: type[Frozen], changes_under: Sequence[str] = (), layers: Sequence[str] = ()
) -> dict[str, Any]:
    """The JSON schema of a reply, in the subset that strict structured outputs take.

    Args:
        model: The reply.
        changes_under: Parts of the design whose knobs take the place of the general `Change`.
        layers: Names of the model's blocks and linear layers, which say what knobs it takes.
    """
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    if changes_under:
        definitions["Change"] = space.change_schema(changes_under, layers)
    for node in [schema, *definitions.values()]:
        if "properties" in node:
            node["required"] = sorted(node["properties"])
            node["additionalProperties"] = False
            node["properties"] = {n: _strict(e) for n, e in node["properties"].items()}
    return schema


def _strict(entry: dict[str, Any]) -> dict[str, Any]:
    # Strict structured outputs take nothing beside a `$ref`, and no defaults.
    if "$ref" in entry:
        return {"$ref": entry["$ref"]}
    return {name: value for name, value in entry.items() if name not in ("default", "title")}


def _mend(reason: str) -> str:
    return (
        f"Your reply was refused: {reason}\n"
        "Send the whole corrected JSON object, and nothing else. There is no third attempt."
    )
