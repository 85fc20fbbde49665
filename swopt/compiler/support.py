"""What the integer lowering has operators for, layer by layer, of a model that transformers knows.

The model is built from its configuration without a weight in memory. Blocks are those of Llama and
of SigLIP as `integerize` writes them; `tests/swopt/test_support.py` holds integer blocks of every
kind that counts as supported to the float ones.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal

from hwlib.frozen import Frozen
from swopt.workloads.language_models import FAMILY, VISION_LANGUAGE

ROTARY = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings whose angles are one table, however long the text is."""

LOGITS_MAX = 1 << 16
"""What the core's argmax counts to."""

DRAM_BYTES = 1 << 32
"""What a DRAM address of the core reaches."""

IMAGE_SIDE_MAX = 82
"""Pixels that an image of 28 x 28 can be mirrored out to: 27 on each side at most."""

FLOAT_RATE = 1.0e11
"""Float operations a second of one thread: SmolLM2-135M read 16 windows of 256 tokens, 1.1e12
operations, in 11 s on a core of an idle Intel Xeon with AVX-512 (torch 2.13.0, float32)."""

WINDOWS, WINDOW, WORDS = 16, 256, 16
"""What the estimate of a score is of: windows of tokens, or one image with words."""

State = Literal["core", "host", "untried", "unsupported"]


class SupportError(ValueError):
    """A configuration that transformers builds no model of."""


class Layer(Frozen):
    """One kind of layer, which all blocks of a tower have."""

    name: str
    """Its name, with `*` for the number of the block."""

    what: str
    """Its operation and shape."""

    count: int
    """How many there are."""

    parameters: int
    """Numbers in all of them; those that another layer holds too are counted there."""

    state: State
    """Where it is computed: by the core in integers, by the host in float, or not at all; `untried`
    where there is an operator of the kind, but models of this type were never held to it."""

    reason: str = ""
    """Why it is not supported, or what is to be known of it."""


class Support(Frozen):
    """What is supported of a model."""

    model_type: str
    """As its configuration says."""

    layers: tuple[Layer, ...]
    """In the order in which transformers has them; those without weights are the last."""

    problems: tuple[str, ...]
    """What is not supported of the model as a whole."""

    parameters: int
    """Numbers in all layers."""

    fp16_bytes: int
    """Bytes of them in half precision."""

    load_bytes: int
    """Memory that loading needs: float32, beside a file in half precision."""

    score_s: float | None
    """Estimate of the time of one score on one thread; None where none is scored."""

    score_of: str
    """What that score is of, and what the estimate is from."""

    lowering: str
    """How the model, as far as it is supported, becomes commands of the core."""

    @property
    def supported(self) -> bool:
        """Whether every layer has its place."""
        return not self.problems and all(layer.state in ("core", "host") for layer in self.layers)


def check(config: dict[str, Any]) -> Support:
    """What is supported of the model of a configuration.

    Args:
        config: As `config.json` holds it.

    Raises:
        SupportError: transformers builds no model of it.
    """
    model, resolved = _build(config)
    kind = str(resolved.model_type)
    layers = tuple(_layers(model, resolved))
    parameters = sum(layer.parameters for layer in layers)
    seconds, of = _score(model, resolved)
    return Support(
        model_type=kind,
        layers=layers,
        problems=tuple(_problems(resolved, layers)),
        parameters=parameters,
        fp16_bytes=2 * parameters,
        load_bytes=(4 + 2) * parameters,
        score_s=seconds,
        score_of=of,
        lowering=_lowering(kind),
    )


def _build(config: dict[str, Any]) -> tuple[Any, Any]:
    """The model without its weights, and its configuration with every default filled in."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    settings = {name: value for name, value in config.items() if name != "model_type"}
    kind = config.get("model_type")
    try:
        resolved = AutoConfig.for_model(str(kind), **settings)
        images = hasattr(resolved, "vision_config")
        build = AutoModelForImageTextToText if images else AutoModelForCausalLM
        with torch.device("meta"):
            return build.from_config(resolved), resolved
    except Exception as error:  # transformers raises a dozen kinds for what it dislikes
        first = " ".join((str(error).strip() or type(error).__name__).split())
        raise SupportError(
            f"transformers builds no model of the type {kind} from this configuration: "
            f"{first[:200]}"
        ) from None


_BLOCKS = (
    ("vision", re.compile(r"model\.vision_model\.encoder\.layers\.(\d+)\.(.+)")),
    ("decoder", re.compile(r"model\.(?:text_model\.)?layers\.(\d+)\.(.+)")),
)
_PARTS = {
    "vision": {
        "layer_norm1": "attention.norm",
        "self_attn.q_proj": "attention.query",
        "self_attn.k_proj": "attention.key",
        "self_attn.v_proj": "attention.value",
        "self_attn.out_proj": "attention.output",
        "layer_norm2": "mlp.norm",
        "mlp.fc1": "mlp.up",
        "mlp.fc2": "mlp.down",
    },
    "decoder": {
        "input_layernorm": "attention.norm",
        "self_attn.q_proj": "attention.query",
        "self_attn.k_proj": "attention.key",
        "self_attn.v_proj": "attention.value",
        "self_attn.o_proj": "attention.output",
        "post_attention_layernorm": "mlp.norm",
        "mlp.gate_proj": "mlp.gate",
        "mlp.up_proj": "mlp.up",
        "mlp.down_proj": "mlp.down",
    },
}
_OUTSIDE: dict[str, tuple[str, State]] = {
    "model.vision_model.embeddings.patch_embedding": ("patches", "host"),
    "model.vision_model.embeddings.position_embedding": ("positions", "host"),
    "model.vision_model.post_layernorm": ("vision.norm", "core"),
    "model.connector.modality_projection.proj": ("connector", "core"),
    "model.text_model.embed_tokens": ("words", "host"),
    "model.embed_tokens": ("words", "host"),
    "model.text_model.norm": ("decoder.norm", "core"),
    "model.norm": ("decoder.norm", "core"),
    "lm_head": ("head", "core"),
}


def _layers(model: Any, config: Any) -> Iterator[Layer]:
    """Every layer with weights, those of equal blocks together, and after them what has none."""
    found: dict[tuple[str, str, State, str], list[int]] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if not own:
            continue
        size = sum(each.numel() for each in own if id(each) not in seen)
        seen.update(map(id, own))
        name, state, reason = _place(path, module, config)
        found.setdefault((name, _what(module), state, reason), []).append(size)
    untried = bool(_strange(config))
    for (name, what, state, reason), sizes in found.items():
        yield Layer(
            name=name,
            what=what,
            count=len(sizes),
            parameters=sum(sizes),
            state="untried" if untried and state == "core" else state,
            reason=reason,
        )
    if not untried:
        yield from _decoder_operations(getattr(config, "text_config", config))
    if config.model_type in VISION_LANGUAGE:
        yield from _vision_operations(config)


def _place(path: str, module: Any, config: Any) -> tuple[str, State, str]:
    """The name of a layer with weights, where it is computed, and why not."""
    if path in _OUTSIDE:
        name, state = _OUTSIDE[path]
        if name == "head" and module.weight.shape[0] > LOGITS_MAX:
            size = module.weight.shape[0]
            return name, "unsupported", f"argmax counts to {LOGITS_MAX} tokens, not {size}"
        if name == "patches":
            return _patches(config)
        return name, state, ""
    for tower, pattern in _BLOCKS:
        if inside := pattern.fullmatch(path):
            part = inside[2]
            if part in _PARTS[tower]:
                return f"{tower}.*.{_PARTS[tower][part]}", "core", ""
            return f"{tower}.*.{part}", "unsupported", _missing(part)
    return re.sub(r"\.\d+(?=\.|$)", ".*", path), "unsupported", _missing(path)


def _missing(part: str) -> str:
    if part.endswith(("q_norm", "k_norm")):
        return "no operator norms queries or keys before they are turned"
    if "expert" in part or "router" in part or part.endswith("mlp.gate"):
        return "no operator chooses among experts"
    return "it is no part of the blocks of Llama and SigLIP, which alone are lowered"


def _patches(config: Any) -> tuple[str, State, str]:
    side = int(config.vision_config.image_size)
    if side > IMAGE_SIDE_MAX or side % 2:
        return (
            "patches",
            "unsupported",
            f"the host mirrors images of 28 x 28 pixels out to an even side of {IMAGE_SIDE_MAX} at "
            f"most, not {side}",
        )
    return "patches", "host", ""


def _what(module: Any) -> str:
    """The operation and shape of a layer with weights."""
    kind = type(module).__name__
    shape = " x ".join(map(str, next(module.parameters(recurse=False)).shape))
    if kind == "Linear":
        biased = "" if module.bias is None else ", bias"
        return f"linear {module.in_features} -> {module.out_features}{biased}"
    names = {"Embedding": "look-up", "Conv2d": "convolution", "LayerNorm": "LayerNorm"}
    found = "RMSNorm" if kind.endswith("RMSNorm") else names.get(kind, kind)
    return f"{found} {shape}"


def _decoder_operations(text: Any) -> Iterator[Layer]:
    """What decoder blocks compute without weights."""
    blocks = text.num_hidden_layers
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    side = getattr(text, "head_dim", None) or text.hidden_size // heads
    rotary = (getattr(text, "rope_parameters", None) or {}).get("rope_type", "default")
    window = _window(text)
    reason = "" if rotary in ROTARY else f"the angles of {rotary} change with the text's length"
    yield _operation("decoder.*.attention.rotary", f"rotary embedding, {rotary}", blocks, reason)
    reason = ""
    if side % 2:
        reason = f"a word of the core holds two channels, so heads are even, not of {side}"
    elif window:
        reason = f"integer attention sees every token so far, not a window of {window}"
    shape = f"causal attention, {heads} heads of {side}, {kv_heads} of keys and values"
    yield _operation("decoder.*.attention", shape, blocks, reason)
    act = getattr(text, "hidden_act", None) or getattr(text, "hidden_activation", None)
    reason = "" if act in ("silu", "swish") else "the gate has a table of SiLU alone"
    yield _operation("decoder.*.mlp.activation", f"gate, {act}", blocks, reason)


def _window(text: Any) -> int:
    """Tokens that attention sees at most; 0 where it sees all."""
    window = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None)
    if not window or window >= text.max_position_embeddings:
        return 0
    return 0 if kinds and "sliding_attention" not in kinds else int(window)


def _vision_operations(config: Any) -> Iterator[Layer]:
    """What the vision tower and the connector compute without weights."""
    vision = config.vision_config
    heads = vision.num_attention_heads
    side = vision.hidden_size // heads
    reason = f"a word of the core holds two channels, so heads are even, not of {side}"
    yield _operation(
        "vision.*.attention",
        f"attention, {heads} heads of {side}",
        vision.num_hidden_layers,
        reason if side % 2 else "",
    )
    act = vision.hidden_act
    tanh = act in ("gelu_pytorch_tanh", "gelu_new")
    what, blocks = f"activation, {act}", vision.num_hidden_layers
    if act == "gelu":
        near = "by the table of its tanh form, at most 0.0005 away"
        yield _operation("vision.*.mlp.activation", what, blocks, "", near)
    else:
        reason = "" if tanh else "there are tables of GELU and SiLU alone, and blocks use GELU"
        yield _operation("vision.*.mlp.activation", what, blocks, reason)
    factor = config.scale_factor
    patches = vision.image_size // vision.patch_size
    reason = f"{patches} patches along a side are no multiple of {factor}"
    what = f"pixel shuffle, {factor} x {factor}"
    yield _operation("connector.shuffle", what, 1, reason if patches % factor else "")


def _operation(name: str, what: str, count: int, reason: str, note: str = "") -> Layer:
    """One without weights; unsupported where there is a reason."""
    return Layer(
        name=name,
        what=what,
        count=count,
        parameters=0,
        state="unsupported" if reason else "core",
        reason=reason or note,
    )


def _strange(config: Any) -> str:
    """The type whose arithmetic was never held to the integer operators; empty where there is none.

    A model with images has a decoder of its own type.
    """
    kind: str = config.model_type
    if kind in VISION_LANGUAGE:
        kind = config.text_config.model_type
    return "" if kind in FAMILY else kind


def _problems(config: Any, layers: tuple[Layer, ...]) -> Iterator[str]:
    if kind := _strange(config):
        known = ", ".join((*FAMILY, *VISION_LANGUAGE))
        yield f"{kind} was never held to the integer operators; {known} were"
    weights = sum(layer.parameters for layer in layers if layer.state == "core")
    if weights > 2 * DRAM_BYTES:
        yield (
            f"{weights / 1e9:.1f} billion weights do not fit the {DRAM_BYTES >> 30} GiB that the "
            "core addresses, with 4 bits each"
        )


def _lowering(kind: str) -> str:
    if kind in VISION_LANGUAGE:
        return (
            "the whole model is lowered by swopt.compiler.integerize; whether it fits a core's "
            "memories depends on the design"
        )
    if kind in FAMILY:
        return (
            "decoder blocks are lowered one at a time, by integerize_block of "
            "swopt.compiler.integerize; a whole model without images is not lowered yet"
        )
    return "nothing of it is lowered"


def _score(model: Any, config: Any) -> tuple[float | None, str]:
    """Estimate of a score's time in seconds, and what it is of."""
    if config.model_type not in (*FAMILY, *VISION_LANGUAGE):
        return None, f"models of the type {config.model_type} are not scored"
    linear: dict[str, int] = {"vision": 0, "decoder": 0}
    for path, module in model.named_modules():
        if type(module).__name__ == "Linear":
            tower = "vision" if "vision" in path else "decoder"
            linear[tower] += module.in_features * module.out_features
    basis = (
        "an estimate: two operations for each weight of a linear layer and token, at "
        f"{FLOAT_RATE:.0e} a second, as SmolLM2-135M was measured on one core of an Intel Xeon"
    )
    if config.model_type in VISION_LANGUAGE:
        vision = config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        tokens = patches // config.scale_factor**2 + WORDS
        operations = 2 * (linear["vision"] * patches + linear["decoder"] * tokens)
        return operations / FLOAT_RATE, f"one image and {WORDS} words; {basis}"
    operations = 2 * sum(linear.values()) * WINDOWS * WINDOW
    return operations / FLOAT_RATE, f"{WINDOWS} windows of {WINDOW} tokens; {basis}"
