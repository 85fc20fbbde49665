"""Structural pruning: whole blocks and MLP channels really leave the model."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hwlib.frozen import Frozen

if TYPE_CHECKING:
    import torch

BlockIndex = Annotated[int, Field(ge=0, le=63)]


class PruningKnobs(Frozen):
    """What is removed. The neutral default removes nothing."""

    vision_blocks: tuple[BlockIndex, ...] = ()
    """Indices of the vision blocks that are removed, ascending, each once."""

    decoder_blocks: tuple[BlockIndex, ...] = ()
    """Indices of the decoder blocks that are removed, ascending, each once."""

    vision_mlp_keep: Annotated[float, Field(ge=0.125, le=1.0, multiple_of=0.125)] = 1.0
    """Share of the MLP channels that each vision block keeps."""

    decoder_mlp_keep: Annotated[float, Field(ge=0.125, le=1.0, multiple_of=0.125)] = 1.0
    """Share of the MLP channels that each decoder block keeps."""


def check(knobs: PruningKnobs, vision_blocks: int, decoder_blocks: int) -> None:
    """Holds the knobs to a model with so many blocks in its towers.

    Raises:
        ValueError: A block is not there, is named twice or out of order, or a tower is emptied.
    """
    for tower, removed, present in (
        ("vision", knobs.vision_blocks, vision_blocks),
        ("decoder", knobs.decoder_blocks, decoder_blocks),
    ):
        if list(removed) != sorted(set(removed)):
            raise ValueError(
                f"{tower}_blocks must be ascending and name each block once, not {list(removed)}"
            )
        if removed and removed[-1] >= present:
            raise ValueError(
                f"{tower}_blocks names block {removed[-1]}, but the {tower} tower has blocks "
                f"0 to {present - 1}"
            )
        if len(removed) == present:
            raise ValueError(f"{tower}_blocks removes every {tower} block; leave at least one")


def apply(
    towers: "Mapping[str, torch.nn.ModuleList]",
    layers: "Mapping[str, torch.nn.Linear]",
    knobs: PruningKnobs,
    calibrate: Callable[[], object],
) -> None:
    """Removes blocks, then MLP channels, from the model that `towers` and `layers` belong to.

    A channel's score is its root mean square on calibration data, after the blocks are gone, times
    the norm of the weights that read it; the lowest go. What a channel adds on average goes into
    the bias of the layer that read it.

    Args:
        towers: The list of blocks of `vision` and of `decoder`; changed in place.
        layers: Linear layers by name, `<tower>.<block>.mlp.{up,gate,down}` among them.
        knobs: What is removed, already checked.
        calibrate: Runs the model on calibration data.
    """
    import torch

    removed = {"vision": knobs.vision_blocks, "decoder": knobs.decoder_blocks}
    keep = {"vision": knobs.vision_mlp_keep, "decoder": knobs.decoder_mlp_keep}
    for tower, part in towers.items():
        for index in reversed(removed[tower]):
            del part[index]
    downs = {
        f"{tower}.{index}.mlp.": layers[f"{tower}.{index}.mlp.down"]
        for tower in towers
        for index in sorted({int(n.split(".")[1]) for n in layers if n.startswith(f"{tower}.")})
        if keep[tower] < 1 and index not in removed[tower]
    }
    if not downs:
        return
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in downs}
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, inputs, name=name: seen[name].append(inputs[0].detach().flatten(0, -2))
        )
        for name, layer in downs.items()
    ]
    calibrate()
    for hook in hooks:
        hook.remove()
    for name, down in downs.items():
        inputs = torch.cat(seen[name]).double()
        kept = round(down.in_features * keep[name.split(".")[0]])
        weight = down.weight.detach().double()
        score = inputs.square().mean(0).sqrt() * weight.norm(dim=0)
        order = torch.argsort(score, descending=True, stable=True)
        stay, leave = order[:kept].sort().values, order[kept:]
        _keep_inputs(down, stay, (weight[:, leave] @ inputs.mean(0)[leave]).float())
        for feeder in ("up", "gate"):
            if name + feeder in layers:
                _keep_outputs(layers[name + feeder], stay)


def _keep_inputs(layer: "torch.nn.Linear", stay: "torch.Tensor", carried: "torch.Tensor") -> None:
    import torch

    bias = carried if layer.bias is None else layer.bias.detach() + carried
    layer.weight = torch.nn.Parameter(layer.weight.detach()[:, stay].contiguous())
    layer.bias = torch.nn.Parameter(bias)
    layer.in_features = len(stay)


def _keep_outputs(layer: "torch.nn.Linear", stay: "torch.Tensor") -> None:
    import torch

    layer.weight = torch.nn.Parameter(layer.weight.detach()[stay].contiguous())
    if layer.bias is not None:
        layer.bias = torch.nn.Parameter(layer.bias.detach()[stay].contiguous())
    layer.out_features = len(stay)
