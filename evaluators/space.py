"""The search space, read off the types of a design: one declaration for every reader.

A knob is a leaf of the models under `DesignPoint.hardware` and `DesignPoint.compression`, named by
its path (`hardware.rows`). What Optuna samples, what `--set` accepts, what `dovetail knobs`
prints and what an agent may answer all come from here. RTL edits are no knobs: a role of its own
writes them, and `set_knob` refuses them.

Optuna sees every knob but the free-form ones (`table`), which are for agents alone; a knob that
holds a set of indices becomes one boolean an item. Importing this file does not import Optuna.
"""

import difflib
import json
import types
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from evaluators.design import DesignPoint
from hwlib.frozen import Frozen
from swopt import plan

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

PARTS = ("hardware", "compression")
"""The fields of a design that hold knobs."""

Scalar = bool | int | float | str | None
"""What a knob of kind `choice`, `integer` or `number` holds."""


class Knob(Frozen):
    """One knob of a design."""

    path: str
    """Where it stands in a design, e.g. `hardware.rows`."""

    kind: Literal["choice", "integer", "number", "indices", "table"]
    """`indices`: an ascending tuple; `table`: values by name, for agents only."""

    type: str
    """Its values, as a person reads them."""

    default: Any
    """Its neutral value, as JSON."""

    doc: str
    """What it does."""

    choices: tuple[Scalar, ...] = ()
    """The values of a `choice`, and of a `table`'s entries."""

    low: float | None = None
    """Least value of a number."""

    high: float | None = None
    """Greatest value of a number."""

    step: float | None = None
    """Grid of a number, counted from zero; `None` for any value between the bounds."""

    def schema_of_value(self) -> dict[str, Any]:
        """The JSON schema of its value, in the subset that strict structured outputs allow."""
        match self.kind:
            case "choice":
                return {"type": _json_types(self.choices), "enum": list(self.choices)}
            case "indices":
                return {"type": "array", "items": {"type": "integer"}}
            case "table":
                raise ValueError(f"{self.path} is a table; no single value describes it")
            case _:
                kind = {"type": self.kind, "minimum": self.low, "maximum": self.high}
                return kind if self.step is None else {**kind, "multipleOf": self.step}


@cache
def knobs() -> tuple[Knob, ...]:
    """Every knob of a design, in the order of the declarations."""
    found: list[Knob] = []
    for part in PARTS:
        model = DesignPoint.model_fields[part].annotation
        assert isinstance(model, type) and issubclass(model, BaseModel)
        found += _knobs_of(model, part)
    return tuple(found)


def knob(path: str) -> Knob:
    """The knob of that path.

    Raises:
        ValueError: there is none; the message names the nearest one.
    """
    by_path = {k.path: k for k in knobs()}
    if path in by_path:
        return by_path[path]
    if path.split(".")[0] == "edits":
        raise ValueError("`edits` is no knob: an RTL edit is proposed by an agent as a whole file")
    near = difflib.get_close_matches(path, by_path, n=1, cutoff=0.0)
    raise ValueError(f"there is no knob `{path[:80]}`; the nearest is `{near[0]}`")


def value_of(design: DesignPoint, path: str) -> Any:
    """The value of one knob as JSON.

    Raises:
        ValueError: there is no such knob.
    """
    value: Any = design.model_dump(mode="json")
    for name in knob(path).path.split("."):
        value = value[name]
    return value


def values_of(design: DesignPoint) -> dict[str, Any]:
    """Every knob's value as JSON, by path."""
    return {k.path: value_of(design, k.path) for k in knobs()}


def with_changes(design: DesignPoint, changes: Mapping[str, Any]) -> DesignPoint:
    """`design` with the knobs in `changes` (path -> JSON value) set; nothing is ever clamped.

    Raises:
        ValueError: an unknown knob, a value out of range, or values that break a law together;
            one sentence with the knob, the value and what is allowed.
    """
    tree: Any = design.model_dump(mode="json")
    for path, value in changes.items():
        _check(knob(path), value)
        *above, name = path.split(".")
        place = tree
        for step in above:
            place = place[step]
        place[name] = value
    return design_of_tree(tree)


def set_knob(design: DesignPoint, path: str, text: str) -> DesignPoint:
    """`design` with one knob set from `text`, as `--set PATH=TEXT` gives it.

    `text` is JSON (`0.5`, `[0, 2]`, `{"vision.1": 4}`) or `none`.

    Raises:
        ValueError: an unknown knob, text that is no value, or a value out of range.
    """
    found = knob(path)
    word = text.strip()
    try:
        value = None if word.lower() == "none" else json.loads(word)
    except (json.JSONDecodeError, RecursionError):
        if not any(isinstance(choice, str) for choice in found.choices):
            raise ValueError(f"{path}: `{word[:40]}` is not {found.type}") from None
        value = word
    return with_changes(design, {path: value})


def design_of_tree(tree: object) -> DesignPoint:
    """A design from untrusted JSON values.

    Raises:
        ValueError: what is wrong first, in one sentence.
    """
    try:
        return DesignPoint.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {said}" if where else said) from None


def knobs_for(layers: Sequence[str]) -> tuple[Knob, ...]:
    """The knobs that a model takes: one without a vision tower has none about images.

    Args:
        layers: Names of its blocks and linear layers.
    """
    if plan.reads_images(layers):
        return knobs()
    about_images = [f"compression.{path}" for path in plan.ABOUT_IMAGES]
    return tuple(
        k for k in knobs() if not any(f"{k.path}.".startswith(f"{p}.") for p in about_images)
    )


def block_counts(layers: Sequence[str]) -> dict[str, int]:
    """Number of items of each `indices` knob, from names such as `vision.1` or `decoder.0.mlp.up`.

    A knob `compression.pruning.vision_blocks` counts the blocks of the tower `vision`.
    """
    counts: dict[str, int] = {}
    for k in knobs_for(layers):
        if k.kind == "indices":
            tower = k.path.rsplit(".", 1)[1].removesuffix("_blocks")
            inside = [name.split(".") for name in layers if name.startswith(f"{tower}.")]
            indices = [int(parts[1]) for parts in inside if parts[1].isdigit()]
            counts[k.path] = max(indices, default=-1) + 1
    return counts


OVERRIDES = ("compression.fusion.", "compression.dataflow.")
"""Knobs that take the mapper's own choice back. Agents and people set them; a sampler does not draw
them, as most of what it drew would be worse than what the mapper found."""

RECOVERY = "compression.recovery."
"""Of a language model, these cost minutes of teaching: agents and people alone set them, too."""

BEHIND_ROUNDING = f"{RECOVERY}quantization_aware"
"""Of any model: with it every change of bits is taught anew."""

GROUPS = ("compression.quantization.group", "hardware.grouped_weights")
"""Neither is of use without the other, so that most of what a sampler drew would be refused."""


MOST_SWITCHES = 8
"""Items of an `indices` knob up to which Optuna sees a switch for each. Of more it draws a run that
is a quarter of them at most: switches would take half the blocks of a deep model away."""


def distributions(layers: Sequence[str]) -> "dict[str, BaseDistribution]":
    """Optuna's distributions by parameter name; a name is a knob's path, or `path[i]` for an index
    (`path[first]` and `path[length]` for a run of many).

    Args:
        layers: Names of the model's blocks and linear layers.
    """
    from optuna import distributions as optuna_distributions

    counts = block_counts(layers)
    space: dict[str, BaseDistribution] = {}
    for k in knobs_for(layers):
        if not _drawn(k.path, layers):
            continue
        if k.kind == "indices" and counts[k.path] > MOST_SWITCHES:
            longest = _longest_run(counts[k.path])
            first = optuna_distributions.IntDistribution(0, counts[k.path] - longest)
            length = optuna_distributions.IntDistribution(0, longest)
            space |= {f"{k.path}[first]": first, f"{k.path}[length]": length}
        elif k.kind == "indices":
            both = optuna_distributions.CategoricalDistribution((False, True))
            space.update({f"{k.path}[{i}]": both for i in range(counts[k.path])})
        elif k.kind == "choice" and (span := _span(k.choices)) is not None:
            space[k.path] = optuna_distributions.IntDistribution(*span)
        elif k.kind == "choice":
            space[k.path] = optuna_distributions.CategoricalDistribution(k.choices)
        elif k.kind == "integer":
            assert k.low is not None and k.high is not None
            space[k.path] = optuna_distributions.IntDistribution(int(k.low), int(k.high))
        elif k.kind == "number":
            assert k.low is not None and k.high is not None
            space[k.path] = optuna_distributions.FloatDistribution(k.low, k.high, step=k.step)
    return space


def _drawn(path: str, layers: Sequence[str]) -> bool:
    """Whether a sampler draws a knob of a model of these layers."""
    if path.startswith(OVERRIDES) or path in (BEHIND_ROUNDING, *GROUPS):
        return False
    return plan.reads_images(layers) or not path.startswith(RECOVERY)


def _longest_run(items: int) -> int:
    return items // 4


def params_of(design: DesignPoint, layers: Sequence[str]) -> dict[str, Scalar]:
    """The parameters that Optuna would have sampled for `design` and a model of these layers.

    Tables, edits, and knobs that a sampler does not draw have none. Of many indices only the first
    and their number count, as far as a run goes.
    """
    counts, values = block_counts(layers), values_of(design)
    params: dict[str, Scalar] = {}
    for k in knobs_for(layers):
        path, value = k.path, values[k.path]
        if not _drawn(path, layers):
            continue
        match k.kind:
            case "indices" if counts[path] > MOST_SWITCHES:
                longest = _longest_run(counts[path])
                params[f"{path}[first]"] = min([*value, counts[path] - longest])
                params[f"{path}[length]"] = min(len(value), longest)
            case "indices":
                params.update({f"{path}[{i}]": i in value for i in range(counts[path])})
            case "table":
                pass
            case _:
                params[path] = value
    return params


def design_of(params: Mapping[str, Any]) -> DesignPoint:
    """The design that Optuna's parameters describe; the inverse of `params_of` up to what has none.

    Raises:
        ValueError: an unknown parameter, or values that break a law together.
    """
    changes: dict[str, Any] = {}
    for name, value in params.items():
        path, bracket, index = name.partition("[")
        match index.removesuffix("]"):
            case "first":
                changes[path] = list(range(value, value + params[f"{path}[length]"]))
            case "length":
                pass
            case number if bracket:
                chosen = changes.setdefault(path, [])
                if value:
                    chosen.append(int(number))
            case _:
                changes[path] = value
    ordered = {p: sorted(v) if isinstance(v, list) else v for p, v in changes.items()}
    return with_changes(DesignPoint(), ordered)


def change_schema(parts: Sequence[str], layers: Sequence[str]) -> dict[str, Any]:
    """JSON schema of one knob change under `parts`: an object of `path` and `value`, knob by knob.

    A server that constrains its decoding by it cannot leave the space of a model of these layers.
    """
    return {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "path": {"type": "string", "enum": [k.path]},
                    "value": k.schema_of_value(),
                },
                "required": ["path", "value"],
                "additionalProperties": False,
            }
            for k in knobs_for(layers)
            if k.path.split(".")[0] in parts and k.kind != "table"
        ]
    }


def _check(k: Knob, value: Any) -> None:
    """Raises ValueError where `value` alone is no value of `k`."""
    ok = False
    match k.kind:
        case "choice":
            ok = any(type(value) is type(c) and value == c for c in k.choices)
        case "integer" | "number":
            numeric = isinstance(value, int) or (k.kind == "number" and isinstance(value, float))
            if numeric and not isinstance(value, bool):
                assert k.low is not None and k.high is not None
                on_grid = k.step is None or (value / k.step).is_integer()
                ok = k.low <= value <= k.high and on_grid
        case "indices":
            ok = (
                isinstance(value, list | tuple)
                and all(type(v) is int for v in value)
                and list(value) == sorted(set(value))
            )
        case "table":
            ok = isinstance(value, dict) and all(
                isinstance(name, str) and v in k.choices for name, v in value.items()
            )
    if not ok:
        shown, default = json.dumps(value, default=repr)[:60], json.dumps(k.default)
        raise ValueError(f"{k.path}: {shown} is not {k.type} (the default is {default})")


def _knobs_of(model: type[BaseModel], path: str) -> list[Knob]:
    found: list[Knob] = []
    for name, field in model.model_fields.items():
        below, here = field.annotation, f"{path}.{name}"
        if isinstance(below, type) and issubclass(below, BaseModel):
            found += _knobs_of(below, here)
        else:
            default = field.get_default(call_default_factory=True)
            json_default = json.loads(json.dumps(default))
            doc = " ".join((field.description or "").split())
            found.append(
                Knob(path=here, default=json_default, doc=doc, **_shape(below, field, here))
            )
    return found


def _shape(annotation: Any, field: FieldInfo, path: str) -> dict[str, Any]:
    """Kind, type in words, and values of one leaf.

    Raises:
        TypeError: the declaration is of a sort that no reader of the space knows.
    """
    origin = get_origin(annotation)
    if origin is tuple:
        return {"kind": "indices", "type": "a list of indices, ascending, each once"}
    if origin is dict:
        choices = _choices(get_args(annotation)[1])
        return {"kind": "table", "type": f"names with {_words(choices)}", "choices": choices}
    if annotation in (int, float):
        low, high, step = _bounds(field, path)
        kind = "integer" if annotation is int else "number"
        grid = "" if step is None else f", a multiple of {step:g}"
        words = f"{'an' if kind == 'integer' else 'a'} {kind} from {low:g} to {high:g}{grid}"
        return {"kind": kind, "type": words, "low": low, "high": high, "step": step}
    if choices := _choices(annotation):
        return {"kind": "choice", "type": _words(choices), "choices": choices}
    raise TypeError(
        f"{path}: {annotation} is no kind of knob; declare a Literal, a bool, a bounded number, "
        "a tuple of indices or a dict of Literals, each of them optional or not"
    )


def _choices(annotation: Any) -> tuple[Scalar, ...]:
    """The values of a Literal, a bool, or an optional of them; empty for anything else."""
    origin = get_origin(annotation)
    if origin is Literal:
        return get_args(annotation)
    if origin is Annotated:
        return _choices(get_args(annotation)[0])
    if annotation is bool:
        return (False, True)
    if origin in (Union, types.UnionType):
        inner = [a for a in get_args(annotation) if a is not types.NoneType]
        found = _choices(inner[0]) if len(inner) == 1 else ()
        return (None, *found) if found else ()
    return ()


def _bounds(field: FieldInfo, path: str) -> tuple[float, float, float | None]:
    low = high = step = None
    for mark in field.metadata:
        if isinstance(mark, annotated_types.Ge):
            low = float(mark.ge)  # type: ignore[arg-type]
        elif isinstance(mark, annotated_types.Le):
            high = float(mark.le)  # type: ignore[arg-type]
        elif isinstance(mark, annotated_types.MultipleOf):
            step = float(mark.multiple_of)  # type: ignore[arg-type]
    if low is None or high is None:
        raise TypeError(f"{path}: a number knob is bounded on both sides: Field(ge=..., le=...)")
    return low, high, step


def _span(choices: tuple[Scalar, ...]) -> tuple[int, int] | None:
    """First and last of whole numbers without a gap, which Optuna learns better as an order."""
    whole = [c for c in choices if type(c) is int]
    if len(whole) == len(choices) and all(b == a + 1 for a, b in pairwise(whole)):
        return whole[0], whole[-1]
    return None


def _json_types(choices: tuple[Scalar, ...]) -> list[str]:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return sorted({names[type(c)] for c in choices})


def _words(choices: tuple[Scalar, ...]) -> str:
    return "one of " + ", ".join(json.dumps(c) for c in choices)
