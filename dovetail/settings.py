"""The settings of a run: the run file, its defaults and its comments.

Defaults stand in the types below and nowhere else: `dovetail init` prints them from there. A key
for a chat server is never a setting; it comes from the environment.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from dovetail import reading
from dovetail.errors import BadInput
from dovetail.formatting import one_line
from evaluators import space
from evaluators.design import DesignPoint
from evaluators.target import Target
from evaluators.workloads import TINY_VLM, baseline
from hwlib.frozen import Frozen
from swopt.workloads.model_store import expanded


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


def _absolute(text: str) -> str:
    return str(expanded(text).resolve())


def _url(text: str) -> str:
    # A name and password before an `@` would end up in the journal, so none is taken.
    if not re.fullmatch(r"https?://[^\s@]+", text):
        raise ValueError("must begin with http:// or https:// and have no spaces or @")
    return text


LANGUAGE_DEADLINE_S = 3600.0
"""The deadline of a language model's evaluation, unless another is set."""


class LlmSettings(Frozen):
    """Who proposes."""

    provider: Literal["mock", "openai", "none"] = "mock"
    """mock: the offline model; openai: any compatible server; none: Optuna alone."""

    model: Annotated[str, AfterValidator(_filled), Field(max_length=200)] = "gpt-5-mini"
    """The model's name as the server knows it (openai only)."""

    base_url: Annotated[str, AfterValidator(_url), Field(max_length=500)] = (
        "https://api.openai.com/v1"
    )
    """Root of the server's chat completions API, without a key in it (openai only)."""

    max_calls: Annotated[int, Field(ge=0, le=100_000)] = 500
    """Calls that the run may make; after them the suggestions are taken as they are."""


class TestSettings(Frozen):
    """Which design sees the test data, once, at the end, beside the baseline."""

    rule: Literal["lowest_latency_within_nll", "lowest_energy_within_nll", "lowest_nll"] = (
        "lowest_latency_within_nll"
    )
    """The design of the front that wins; `within_nll`: among those within the margin."""

    margin_nats: Annotated[float, Field(ge=0, le=10)] = 0.02
    """How far its validation NLL may lie above the baseline's."""


class Settings(Frozen):
    """A run file. Equal settings, seed and replies give equal journals."""

    workload: Annotated[str, AfterValidator(_filled), Field(max_length=4096)] = TINY_VLM
    """What is fitted: tiny-vlm, which answers questions about medical images; or a language model
    on code: smollm2-135m, a folder, or a Llama-family model's name on the hub."""

    checkpoint: (
        Annotated[str, AfterValidator(_filled), AfterValidator(_absolute), Field(max_length=4096)]
        | None
    ) = None
    """Folder of another tiny-vlm, as `dovetail finetune` makes it, with its own questions; null:
    the shipped one. It is recorded as an absolute path."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of everything that is drawn."""

    iterations: Annotated[int, Field(ge=1, le=10_000)] = 12
    """Designs measured; the first is the baseline."""

    lag: Annotated[int, Field(ge=1, le=64)] = 2
    """Trials in flight at once: suggestion i knows the trials up to i - lag."""

    workers: Annotated[int, Field(ge=1, le=64)] = 2
    """Evaluations at once; never changes what a run finds."""

    deadline_s: Annotated[float, Field(ge=1, le=86_400)] = 600.0
    """Time one evaluation may take before it counts as `timeout`; 3600 for a language model, whose
    layers' sensitivities are measured once."""

    data_dir: Annotated[str, AfterValidator(_filled), Field(max_length=4096)] | None = None
    """Folder of the MedMNIST files; null: DOVETAIL_DATA_DIR, else ~/.medmnist, else synthetic."""

    llm: LlmSettings = LlmSettings()
    """Who proposes."""

    target: Target = Target()
    """What the board gives and what it allows."""

    test: TestSettings = TestSettings()
    """Which design sees the test data."""

    cleared: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...] = ()
    """SHA-256 of RTL sources that the gate would set aside as too good to be true."""

    base: DesignPoint = DesignPoint()
    """Where the search starts; where it differs from the baseline it is measured second. What is
    left out is as in the baseline."""

    @property
    def baseline(self) -> DesignPoint:
        """The neutral design, which every other is compared with."""
        return baseline(self.workload)

    @model_validator(mode="before")
    @classmethod
    def _of_the_workload(cls, tree: Any) -> Any:
        """Fills in what depends on the workload."""
        workload = tree.get("workload", TINY_VLM) if isinstance(tree, Mapping) else TINY_VLM
        if not isinstance(workload, str) or workload == TINY_VLM:
            return tree
        neutral = {"base": baseline(workload).model_dump(mode="json", exclude_defaults=True)}
        return _over({"deadline_s": LANGUAGE_DEADLINE_S, **neutral}, tree)

    @model_validator(mode="after")
    def _images_are_of_tiny_vlm(self) -> Self:
        for name, what in (("data_dir", "a folder of images"), ("checkpoint", "a checkpoint")):
            if getattr(self, name) is not None and self.workload != TINY_VLM:
                raise ValueError(
                    f"{name}: {what} is for {TINY_VLM}, not for {_short(self.workload)}; "
                    "leave it out"
                )
        return self

    @model_validator(mode="after")
    def _base_has_no_edits(self) -> Self:
        if self.base.edits:
            raise ValueError("base.edits: a run starts from the shipped RTL; leave it empty")
        return self


class Option(NamedTuple):
    """A setting that was given by a command-line option of its own."""

    flag: str
    """The option as it is typed, e.g. `--seed`."""

    value: str | int
    """What was given."""


def load(
    path: Path | None, changes: Iterable[str] = (), options: Mapping[str, Option] | None = None
) -> Settings:
    """Settings from a run file (`None`: the defaults), with changes and options on top.

    Args:
        path: The run file.
        changes: `PATH=VALUE` texts, as `--set` gives them.
        options: Options by the path of the setting that they give.

    Raises:
        BadInput: one sentence that names the file or the option, the key and the law.
    """
    tree = reading.read_yaml(path) if path is not None else {}
    sources: dict[str, str] = {}
    for change in changes:
        changed = _apply(tree, change)
        sources[changed] = f"--set {_short(changed)}"
    for changed, option in (options or {}).items():
        _put(tree, changed, option.value, option.flag)
        sources[changed] = option.flag
    return validated(tree, str(path) if path is not None else "settings", sources)


def validated(tree: object, origin: str, sources: Mapping[str, str] | None = None) -> Settings:
    """Settings from untrusted values.

    Args:
        tree: The values.
        origin: Where they come from, for the message.
        sources: What gave single settings, by path, where it was something else.

    Raises:
        BadInput: what is wrong first, and who gave it.
    """
    try:
        made = Settings.model_validate(tree)
    except ValidationError as error:
        raise BadInput(_sentence(_fault_of(error), origin, sources or {})) from None
    for where in reading.truths_for_numbers(tree, made.model_dump()):
        law = "must be a number, not true or false (which YAML makes of yes, no, on and off)"
        raise BadInput(_sentence(_Fault(where, law), origin, sources or {}))
    return made


class _Fault(NamedTuple):
    where: str
    """Path of the setting; empty where it is all of them."""

    law: str
    """What it breaks, with the value."""

    named: bool = False
    """Whether the law names the setting itself."""


def _fault_of(error: ValidationError) -> _Fault:
    """The first fault of a validation."""
    first = error.errors(include_url=False)[0]
    where, kind, law = reading.first_fault(error)
    if kind == "extra_forbidden":
        above = [str(part) for part in first["loc"][:-1]]
        known = ", ".join(_fields(Settings, above)) or "none"
        return _Fault(where, f"unknown key `{_short(where)}`; the keys there are {known}", True)
    if kind == "value_error" or where == "llm.base_url":  # a URL may hold a password
        return _Fault(where, law)
    return _Fault(where, f"{law}, not {_short(first['input'])}")


def _sentence(fault: _Fault, origin: str, sources: Mapping[str, str]) -> str:
    """The fault with whoever gave the setting in front: an option, or else the file."""
    where = f"{fault.where}: " if fault.where and not fault.named else ""
    for path, source in sources.items():
        if path == fault.where:
            return f"{source}: {fault.law}"
        if f"{path}.".startswith(f"{fault.where}.") or f"{fault.where}.".startswith(f"{path}."):
            return f"{source}: {where}{fault.law}"
    return f"{origin}: {where}{fault.law}"


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


def as_yaml(settings: Settings) -> str:
    """Every setting as it stands, as a run file."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def _apply(tree: dict[str, Any], change: str) -> str:
    """Puts one `PATH=VALUE` into the tree; knobs of a design go under `base`.

    Returns:
        The path of the setting that was changed.
    """
    path, equals, text = change.partition("=")
    path = path.strip()
    if not equals or not path:
        raise BadInput(f"--set takes PATH=VALUE, such as seed=7, not `{_short(change)}`")
    if path.split(".")[0] in space.PARTS:
        try:
            reading.refuse_long_number(text)
        except ValueError as error:
            raise BadInput(f"--set {_short(path)}: {error}") from None
        try:
            base = space.design_of_tree(tree.get("base") or {})
        except ValueError as error:
            raise BadInput(f"base: {error}") from None
        try:
            changed = space.set_knob(base, path, text)
        except ValueError as error:
            raise BadInput(f"--set {error}") from None
        _put(tree, f"base.{path}", space.value_of(changed, path), "--set")
        return f"base.{path}"
    try:
        value = reading.yaml_value(text)
    except ValueError as error:
        why = one_line(str(error))
        raise BadInput(f"--set {_short(path)}: `{_short(text)}` is no value ({why})") from None
    _put(tree, path, value, f"--set {_short(path)}")
    return path


def _put(tree: dict[str, Any], path: str, value: Any, source: str) -> None:
    *above, name = path.split(".")
    place = tree
    for step in above:
        below = place.setdefault(step, {})
        if not isinstance(below, dict):
            raise BadInput(f"{source}: `{step}` holds no keys")
        place = below
    place[name] = value


def _over(under: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, filled up with what lies under it."""
    both = {**under, **given}
    for name, below in under.items():
        if isinstance(below, Mapping) and isinstance(above := both[name], Mapping):
            both[name] = _over(below, above)
    return both


def _fields(model: type[BaseModel], path: list[str]) -> Iterable[str]:
    for part in path:
        field = model.model_fields.get(part)
        below = field.annotation if field is not None else None
        if not (isinstance(below, type) and issubclass(below, BaseModel)):
            return ()
        model = below
    return model.model_fields


def _short(value: object) -> str:
    text = json.dumps(value) if isinstance(value, bool | None) else str(value)
    text = re.sub(r"//.*@", "//…@", text, flags=re.DOTALL)  # a password in a URL stays unsaid
    return text if len(text) <= 60 else text[:59] + "…"
