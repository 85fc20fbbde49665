"""What calibration questions show of a whole float model: the range of each of its tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from swopt.compiler.ranges import Calibration, Observer, StreamedObserver


@dataclass(frozen=True)
class Seen:
    """What calibration saw of a whole model.

    Attributes:
        layers: Of each linear layer, by name.
        streams: Largest magnitude on each residual stream, embeddings included: `vision` and
            `decoder`, as far as there are such towers.
        rotated: Largest magnitude after the rotary embedding, by name of the layer before it.
    """

    layers: dict[str, Calibration]
    streams: dict[str, float]
    rotated: dict[str, float]


@dataclass(frozen=True)
class Stream:
    """Where a residual stream can be seen in a float model.

    Attributes:
        readers: Modules whose input is the whole stream.
        makers: Modules whose output is on the stream.
        embeddings: Tensors that are on it before anything is computed.
    """

    readers: tuple[torch.nn.Module, ...]
    makers: tuple[torch.nn.Module, ...] = ()
    embeddings: tuple[torch.Tensor, ...] = ()


def observe(
    model: Any, layers: Mapping[str, torch.nn.Linear], calibrate: Callable[[], object]
) -> Seen:
    """Watches `model` in float while `calibrate` asks it calibration questions.

    Args:
        model: `Idefics3ForConditionalGeneration`, already pruned.
        layers: Its linear layers by name.
        calibrate: Runs it.
    """
    vision, text = model.model.vision_model, model.model.text_model
    embeddings = vision.embeddings
    streams = {
        "vision": Stream(
            _norms(vision),
            (embeddings.patch_embedding,),
            (embeddings.position_embedding.weight,),
        ),
        "decoder": Stream(_norms(text), embeddings=(text.embed_tokens.weight,)),
    }
    return watch(layers, streams, rotary_table(text), calibrate)


def _norms(tower: Any) -> tuple[torch.nn.Module, ...]:
    """Every norm of a tower: each reads the whole stream, so together they see all its stages."""
    return tuple(m for m in tower.modules() if type(m).__name__.endswith(("LayerNorm", "RMSNorm")))


def watch(
    layers: Mapping[str, torch.nn.Linear],
    streams: Mapping[str, Stream],
    rotary: tuple[torch.Tensor, torch.Tensor] | None,
    calibrate: Callable[[], object],
) -> Seen:
    """Watches layers and streams in float while `calibrate` runs the model that they are part of.

    Args:
        layers: Linear layers, named as in `Workload.layers`.
        streams: Residual streams by name.
        rotary: `rotary_table` of the decoder; None without one.
        calibrate: Runs the model.
    """
    watching = _Magnitudes(layers, streams, rotary)
    observer = Observer(layers)
    calibrate()
    watching.stop()
    return watching.seen(observer.finish())


def watch_streamed(
    layers: Mapping[str, torch.nn.Linear],
    streams: Mapping[str, Stream],
    rotary: tuple[torch.Tensor, torch.Tensor] | None,
    calibrate: Callable[[], object],
    skip: int = 0,
) -> Seen:
    """As `watch`, without keeping activations; `calibrate` runs twice.

    Args:
        layers, streams, rotary: As for `watch`.
        calibrate: Runs the model, each time on the same texts.
        skip: Tokens at the beginning of each text that do not count.
    """
    watching = _Magnitudes(layers, streams, rotary, skip)
    observer = StreamedObserver(layers, skip)
    calibrate()
    watching.stop()
    observer.ranges_are_known()
    calibrate()
    return watching.seen(observer.finish())


class _Magnitudes:
    """The largest magnitudes on streams and behind rotations, while a model runs."""

    def __init__(
        self,
        layers: Mapping[str, torch.nn.Linear],
        streams: Mapping[str, Stream],
        rotary: tuple[torch.Tensor, torch.Tensor] | None,
        skip: int = 0,
    ) -> None:
        self._streams = tuple(streams)
        self._turning = [
            name
            for name in layers
            if name.startswith("decoder.") and name.endswith(("attention.query", "attention.key"))
        ]
        self._largest = dict.fromkeys((*streams, *self._turning), 0.0)
        self._hooks = self._on_streams(streams, skip)
        if rotary is not None:
            cosine, sine = rotary
            self._hooks += [
                layers[name].register_forward_hook(
                    lambda _, inputs, output, name=name: self._see(
                        name, _rotate(output, cosine, sine)[:, skip:]
                    )
                )
                for name in self._turning
            ]

    def _on_streams(
        self, streams: Mapping[str, Stream], skip: int
    ) -> list[torch.utils.hooks.RemovableHandle]:
        hooks = []
        for stream, seen_at in streams.items():
            for tensor in seen_at.embeddings:
                self._see(stream, tensor)
            hooks += [
                part.register_forward_pre_hook(
                    lambda _, inputs, name=stream: self._see(name, inputs[0][:, skip:])
                )
                for part in seen_at.readers
            ]
            hooks += [
                part.register_forward_hook(
                    lambda _, inputs, output, name=stream: self._see(name, output[:, skip:])
                )
                for part in seen_at.makers
            ]
        return hooks

    def _see(self, name: str, tensor: torch.Tensor) -> None:
        self._largest[name] = max(self._largest[name], float(tensor.detach().abs().max()))

    def stop(self) -> None:
        """What comes after is not seen."""
        for hook in self._hooks:
            hook.remove()

    def seen(self, layers: dict[str, Calibration]) -> Seen:
        """All together, with what was seen of linear layers."""
        return Seen(
            layers,
            {name: self._largest[name] for name in self._streams},
            {name: self._largest[name] for name in self._turning},
        )


def rotary_table(text: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of a Llama decoder, float64 `[positions, head_dim / 2]`."""
    positions = torch.arange(text.config.max_position_embeddings).double()
    angles = positions[:, None] * text.rotary_emb.inv_freq.double()
    gain = text.rotary_emb.attention_scaling
    return angles.cos() * gain, angles.sin() * gain


def _rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of `[batch, tokens, heads * head_dim]` in float, half-split.

    What comes back is `[batch, tokens, heads, head_dim]`.
    """
    tokens, half = x.shape[1], cosine.shape[1]
    low, high = x.reshape(*x.shape[:2], -1, 2, half).unbind(-2)  # [batch, tokens, heads, half]
    c, s = cosine[:tokens, None], sine[:tokens, None]
    return torch.cat((low * c - high * s, high * c + low * s), -1)
