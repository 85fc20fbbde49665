"""`dovetail check-model`: what is supported of a model, for a person to read."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from dovetail.errors import BadInput, Missing
from dovetail.formatting import plain_number, quantity, safe

if TYPE_CHECKING:
    from swopt.compiler.support import Layer, Support

_MARKS = {
    "core": ("✓", "green"),
    "host": ("✓", "cyan"),
    "untried": ("–", "yellow"),
    "unsupported": ("✗", "red"),
}


def check(name: str) -> "Support":
    """What is supported of a model.

    Args:
        name: A folder or a `config.json`, a name that `dovetail fetch` has, or one on the hub.

    Raises:
        Missing: There is no such model here, and it cannot be had.
        BadInput: transformers builds no model of its configuration.
    """
    from swopt.compiler import support
    from swopt.workloads import language_models
    from swopt.workloads.model_store import ModelError

    try:
        return support.check(language_models.configuration(name))
    except ModelError as error:
        raise Missing(str(error)) from None
    except support.SupportError as error:
        raise BadInput(str(error)) from None


def lines(name: str, support: "Support") -> Iterator[Text]:
    """The layers, then what the model takes and what is wrong with it as a whole."""
    yield Text(safe(f"{name}: a model of the type {support.model_type}"))
    width = max(len(layer.name) for layer in support.layers)
    for layer in support.layers:
        mark, style = _MARKS[layer.state]
        yield Text(safe(f"{mark} {layer.name:<{width}}  {_said(layer)}"), style=style)
    yield Text(f"parameters: {plain_number(support.parameters)}")
    yield Text(f"in fp16: {quantity(support.fp16_bytes, 'B')}")
    yield Text(
        f"memory to load it: {quantity(support.load_bytes, 'B')} (float32, beside a file in fp16)"
    )
    if support.score_s is not None:
        yield Text(f"time to score it: about {quantity(support.score_s, 's')}")
    yield Text(f"    {support.score_of}")
    yield Text(f"lowering: {support.lowering}")
    for problem in support.problems:
        yield Text(safe(f"✗ {problem}"), style="red")
    yield Text(
        "every layer is supported" if support.supported else "not all of it is supported",
        style="bold",
    )


def _said(layer: "Layer") -> str:
    """Shape and number of a layer, where it is computed, and why not."""
    number = f"{layer.count} x {layer.what}" if layer.count > 1 else layer.what
    where = {
        "core": "integer operator of the core",
        "host": "on the host, in float",
        "untried": "not tried for models of this type",
        "unsupported": "not supported",
    }[layer.state]
    return f"{number}: {where}" + (f" ({layer.reason})" if layer.reason else "")
