"""The settings of a run: the run file, its defaults and its comments.

Defaults stand in the types below and nowhere else: `dovetail init` prints them from there. A key
for a chat server is never a setting; it comes from the environment.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from dovetail import reading
from dovetail.errors import BadInput
from evaluators import space
from evaluators.design import DesignPoint
from evaluators.target import Target
from hwlib.frozen import Frozen


class LlmSettings(Frozen):
    """Who proposes."""

    provider: Literal["mock", "openai", "none"] = "mock"
    """mock: the offline model; openai: any compatible server; none: Optuna alone."""

    model: Annotated[str, Field(min_length=1, max_length=200)] = "gpt-5-mini"
    """The model's name as the server knows it (openai only)."""

    base_url: Annotated[str, Field(pattern=r"^https?://[^\s@]+$", max_length=500)] = (
        "https://api.openai.com/v1"
    )
    """Root of the server's chat completions API, without a key in it (openai only)."""

    max_calls: Annotated[int, Field(ge=0, le=100_000)] = 500
    """Calls that the run may make; after them the suggestions are taken as they are."""


class TestSettings(Frozen):
    """Which design sees the test images, once, at the end, beside the baseline."""

    rule: Literal["lowest_latency_within_nll", "lowest_energy_within_nll", "lowest_nll"] = (
        "lowest_latency_within_nll"
    )
    """The design of the front that wins; `within_nll`: among those within the margin."""

    margin_nats: Annotated[float, Field(ge=0, le=10)] = 0.02
    """How far its validation NLL may lie above the baseline's."""


class Settings(Frozen):
    """A run file. Equal settings, seed and replies give equal journals."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of everything that is drawn."""

    iterations: Annotated[int, Field(ge=1, le=10_000)] = 12
    """Designs measured; the first is the baseline."""

    lag: Annotated[int, Field(ge=1, le=64)] = 2
    """Trials in flight at once: suggestion i knows the trials up to i - lag."""

    workers: Annotated[int, Field(ge=1, le=64)] = 2
    """Evaluations at once; never changes what a run finds."""

    deadline_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """Time one evaluation may take before it counts as `timeout`."""

    data_dir: Annotated[str, Field(max_length=4096)] | None = None
    """Folder of the MedMNIST files; null: DOVETAIL_DATA_DIR, else ~/.medmnist, else synthetic."""

    llm: LlmSettings = LlmSettings()
    """Who proposes."""

    target: Target = Target()
    """What the board gives and what it allows."""

    test: TestSettings = TestSettings()
    """Which design sees the test images."""

    base: DesignPoint = DesignPoint()
    """Where the search starts; where it differs from the baseline it is measured second."""

    @model_validator(mode="after")
    def _base_has_no_edits(self) -> Self:
        if self.base.edits:
            raise ValueError("base.edits: a run starts from the shipped RTL; leave it empty")
        return self


def load(path: Path | None, changes: Iterable[str] = ()) -> Settings:
    """Settings from a run file (`None`: the defaults) and `PATH=VALUE` changes on top.

    Raises:
        BadInput: one sentence that names the file, the key and the law.
    """
    tree = reading.read_yaml(path) if path is not None else {}
    origin = str(path) if path is not None else "settings"
    for change in changes:
        _apply(tree, change)
        origin = f"{origin} with --set" if not origin.endswith("--set") else origin
    return validated(tree, origin)


def validated(tree: object, origin: str) -> Settings:
    """Settings from untrusted values.

    Raises:
        BadInput: what is wrong first, with `origin` in front.
    """
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise BadInput(f"{origin}: {sentence(error, Settings)}") from None


def sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault of a validation in one sentence: the key, the law and the value."""
    first = error.errors(include_url=False)[0]
    parts = [str(part) for part in first["loc"]]
    where = ".".join(parts)
    if first["type"] == "extra_forbidden":
        known = ", ".join(_fields(model, parts[:-1])) or "none"
        return f"unknown key `{where}`; the keys there are {known}"
    said = first["msg"].removeprefix("Value error, ")
    said = said[:1].lower() + said[1:]
    if first["type"] == "value_error" or not where:
        return f"{where}: {said}" if where else said
    return f"{where}: {said}, not {_short(first['input'])}"


def commented() -> str:
    """The run file that `dovetail init` writes: every default, with its meaning above it."""
    head = (
        "# A run of Dovetail: `dovetail run FILE`. Every line holds its default and may be left"
        " out.\n# A key for a chat server is never written here: set OPENAI_API_KEY.\n"
    )
    return head + "".join(_lines(Settings(), 0))


def _lines(model: BaseModel, depth: int) -> Iterable[str]:
    indent = "  " * depth
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        doc = " ".join((field.description or "").split())
        if name == "edits":
            continue  # a run starts from the shipped RTL
        yield f"\n{indent}# {doc}\n" if depth == 0 else f"{indent}# {doc}\n"
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:\n"
            yield from _lines(value, depth + 1)
        else:
            plain = model.model_dump(mode="json")[name]
            shown = yaml.safe_dump(plain, default_flow_style=True, width=1000)
            yield f"{indent}{name}: {shown.splitlines()[0]}\n"


def _apply(tree: dict[str, Any], change: str) -> None:
    """Puts one `PATH=VALUE` into the tree; knobs of a design go under `base`."""
    path, equals, text = change.partition("=")
    path = path.strip()
    if not equals or not path:
        raise BadInput(f"--set takes PATH=VALUE, such as seed=7, not `{_short(change)}`")
    if path.split(".")[0] in space.PARTS:
        try:
            base = space.design_of_tree(tree.get("base") or {})
            tree["base"] = space.set_knob(base, path, text).model_dump(
                mode="json", exclude_defaults=True
            )
        except ValueError as error:
            raise BadInput(f"--set {error}") from None
        return
    try:
        value = reading.yaml_value(text)
    except ValueError:
        raise BadInput(f"--set {path}: `{_short(text)}` is no value") from None
    *above, name = path.split(".")
    place = tree
    for step in above:
        below = place.setdefault(step, {})
        if not isinstance(below, dict):
            raise BadInput(f"--set {path}: `{step}` holds no keys")
        place = below
    place[name] = value


def _fields(model: type[BaseModel], path: list[str]) -> Iterable[str]:
    for part in path:
        field = model.model_fields.get(part)
        below = field.annotation if field is not None else None
        if not (isinstance(below, type) and issubclass(below, BaseModel)):
            return ()
        model = below
    return model.model_fields


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "…"
