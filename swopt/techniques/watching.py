"""Looks at what linear layers read while a float model runs."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def watch_inputs(
    layers: "Mapping[str, torch.nn.Linear]",
    see: "Callable[[str, torch.Tensor], None]",
    calibrate: Callable[[], object],
) -> None:
    """Shows each layer's input, under the layer's name, every time that it is read.

    Args:
        layers: Linear layers by name.
        see: Shown what they read.
        calibrate: Runs the model that they are part of.
    """
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: see(name, inputs[0]))
        for name, layer in layers.items()
    ]
    try:
        calibrate()
    finally:
        for hook in hooks:
            hook.remove()
