"""Structural pruning: blocks, attention heads and MLP channels really leave the model."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field

from hwlib.frozen import Frozen

if TYPE_CHECKING:
    import torch

Share = Annotated[float, Field(ge=0.25, le=1.0, multiple_of=0.25)]

BlockIndex = Annotated[int, Field(ge=0, le=63)]


Compensation = Literal["mean", "least_squares"]

DAMPING = 0.01
"""Of least squares: share of the mean variance that is added to each channel's."""


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

    vision_heads_keep: Share = 1.0
    """Share of the attention heads that each vision block keeps."""

    decoder_heads_keep: Share = 1.0
    """Share of the key-value heads, and of the heads that read them, that decoder blocks keep."""

    compensation: Compensation = "mean"
    """What makes up for channels and heads that leave: a bias for what they are in the `mean`, or
    the weights that stay, solved for by `least_squares`."""

    @property
    def narrows(self) -> bool:
        """Whether channels or heads leave."""
        mlps = (self.vision_mlp_keep, self.decoder_mlp_keep)
        return min(*mlps, self.vision_heads_keep, self.decoder_heads_keep) < 1


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
    skip: int = 0,
) -> None:
    """Removes blocks, then heads and MLP channels, from the model of `towers` and `layers`.

    A channel's score is its root mean square on calibration data, after the blocks are gone, times
    the norm of the weights that read it; that of a head is the root of the sum of its channels'
    squares (Wanda, Sun et al., ICLR 2024, for whole structures). The lowest go. What leaves on
    average goes into the bias of the layer that read it.

    By least squares (He, Zhang and Sun, ICCV 2017), the weights that stay are those that give the
    layer's outputs on calibration data best, and the score is what is lost even so (Optimal Brain
    Surgeon, Hassibi and Stork, NeurIPS 1992).

    Args:
        towers: The list of blocks of `vision` and of `decoder`; changed in place.
        layers: Linear layers by name, those of the blocks' attention and MLP among them.
        knobs: What is removed, already checked.
        calibrate: Runs the model on calibration data.
        skip: Tokens at the beginning of each text that do not count; by least squares they do, as
            the model needs what they are for.
    """
    removed = {"vision": knobs.vision_blocks, "decoder": knobs.decoder_blocks}
    for tower, part in towers.items():
        for index in reversed(removed[tower]):
            del part[index]
    readers = {each.reader: each for each in _readers(towers, layers, knobs, removed)}
    if not readers:
        return
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in readers}
    first = 0 if knobs.compensation == "least_squares" else skip
    hooks = [
        layers[name].register_forward_pre_hook(
            lambda _, inputs, name=name: seen[name].append(
                inputs[0].detach()[..., first:, :].flatten(0, -2)
            )
        )
        for name in readers
    ]
    calibrate()
    for hook in hooks:
        hook.remove()
    for name, each in readers.items():
        _narrow(layers, each, _concatenated(seen.pop(name)), knobs.compensation)


class _Reader(NamedTuple):
    """A layer whose inputs leave.

    Its inputs come in groups of equal size: the channels of an MLP one by one, or those of the
    heads that share keys and values.
    """

    reader: str
    feeders: tuple[str, ...]
    """Layers whose outputs leave with them."""
    groups: int
    keep: float


def _readers(
    towers: "Mapping[str, torch.nn.ModuleList]",
    layers: "Mapping[str, torch.nn.Linear]",
    knobs: PruningKnobs,
    removed: Mapping[str, tuple[int, ...]],
) -> Iterator[_Reader]:
    channels = {"vision": knobs.vision_mlp_keep, "decoder": knobs.decoder_mlp_keep}
    heads = {"vision": knobs.vision_heads_keep, "decoder": knobs.decoder_heads_keep}
    for tower, part in towers.items():
        if heads[tower] == channels[tower] == 1:
            continue
        indices = sorted({int(n.split(".")[1]) for n in layers if n.startswith(f"{tower}.")})
        left = [index for index in indices if index not in removed[tower]]
        blocks: list[Any] = list(part)
        for index, block in zip(left, blocks, strict=True):
            stem = f"{tower}.{index}"
            if heads[tower] < 1:
                key = layers[f"{stem}.attention.key"]
                groups = key.out_features // block.self_attn.head_dim
                feeders = tuple(f"{stem}.attention.{each}" for each in ("query", "key", "value"))
                yield _Reader(f"{stem}.attention.output", feeders, groups, heads[tower])
            if channels[tower] < 1:
                reader = f"{stem}.mlp.down"
                feeders = tuple(
                    name for each in ("up", "gate") if (name := f"{stem}.mlp.{each}") in layers
                )
                yield _Reader(reader, feeders, layers[reader].in_features, channels[tower])


def _concatenated(seen: "list[torch.Tensor]") -> "torch.Tensor":
    import torch

    return torch.cat(seen).double()


def _narrow(
    layers: "Mapping[str, torch.nn.Linear]",
    each: _Reader,
    inputs: "torch.Tensor",
    compensation: Compensation,
) -> None:
    """Lets the groups of least score leave a layer and those that feed it.

    Args:
        layers: By name.
        each: The layer.
        inputs: What calibration showed it, `[tokens, channels]`.
        compensation: What makes up for what leaves.
    """
    import torch

    reader = layers[each.reader]
    weight = reader.weight.detach().double()
    covariance = _damped_covariance(inputs) if compensation == "least_squares" else None
    if covariance is None:
        score = inputs.square().mean(0).sqrt() * weight.norm(dim=0)
        of_group = score.view(each.groups, -1).norm(dim=1)
    else:
        of_group = _loss(weight, covariance, each.groups)
    order = torch.argsort(of_group, descending=True, stable=True)
    kept = round(each.groups * each.keep)
    stay, leave = order[:kept].sort().values, order[kept:]
    here = _channels(stay, each.groups, reader.in_features)
    gone = _channels(leave, each.groups, reader.in_features)
    mean = inputs.mean(0)
    carried = weight[:, gone] @ mean[gone]
    if covariance is not None:
        # What leaves, as far as what stays tells it.
        told = torch.linalg.solve(covariance[here][:, here], covariance[here][:, gone])
        change = weight[:, gone] @ told.T
        carried -= change @ mean[here]
        reader.weight.data[:, here] += change.float()
    _keep_inputs(reader, here, carried.float())
    for name in each.feeders:
        layer = layers[name]
        _keep_outputs(layer, _channels(stay, each.groups, layer.out_features))


def _damped_covariance(inputs: "torch.Tensor") -> "torch.Tensor":
    import torch

    centred = inputs - inputs.mean(0)
    covariance = centred.T @ centred / len(inputs)
    damping = DAMPING * float(covariance.diagonal().mean()) or 1.0  # of inputs that never change
    return covariance + damping * torch.eye(len(covariance), dtype=covariance.dtype)


def _loss(weight: "torch.Tensor", covariance: "torch.Tensor", groups: int) -> "torch.Tensor":
    """Squared error of a layer's outputs once a group leaves and the others make up for it.

    Args:
        weight: `[outputs, channels]`.
        covariance: Of its inputs, `[channels, channels]`.
        groups: Of equal size, one after the other.

    Returns:
        `[groups]`.
    """
    import torch

    size = weight.shape[1] // groups
    inverse = torch.linalg.inv(covariance).view(groups, size, groups, size)
    of_group = inverse.diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # [groups, size, size]
    read = weight.view(-1, groups, size).permute(1, 2, 0)  # [groups, size, outputs]
    lost: torch.Tensor = (read * torch.linalg.solve(of_group, read)).sum((1, 2))
    return lost


def _channels(groups: "torch.Tensor", count: int, channels: int) -> "torch.Tensor":
    """Channels of some of `count` groups of equal size."""
    import torch

    size = channels // count
    return (groups[:, None] * size + torch.arange(size)).flatten()


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
