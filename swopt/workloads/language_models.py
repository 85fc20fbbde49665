"""Causal language models of the Llama family, by name, folder or name on the hub.

A name is `smollm2-135m`, out of the models folder. A folder holds `config.json`, `tokenizer.json`
and `model.safetensors`, in one piece or in shards with their index. `owner/name` is looked for in
the models folder and then on the hub. Everything that can be known from the configuration and the
heads of the files is checked before a weight is read.
"""

import hashlib
import json
import math
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from swopt.workloads import hub, model_store, smollm2
from swopt.workloads.checkpoint import layer_names
from swopt.workloads.free_memory import available_bytes
from swopt.workloads.model_store import ModelError, Source

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

FAMILY = ("llama", "mistral", "qwen2")
"""`model_type` of what is loaded: RMSNorm, rotary embedding, SiLU-gated MLP, grouped queries,
as `swopt.compiler.integerize` has decoder blocks."""

VISION_LANGUAGE = ("idefics3", "smolvlm")
"""Types with a SigLIP tower, a pixel shuffle and one linear layer before such a decoder."""

CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"

FLOAT_BYTES = 4
"""Of a weight in float32."""

HUB_S = 3600.0
"""Longest time that a model of the hub may take to come."""

_HEADER_MAX = 100_000_000
"""Longest head of a safetensors file, as its format has it."""


@dataclass(frozen=True)
class LanguageModel:
    """A model with its tokenizer; its weights are read when they are first asked for.

    Attributes:
        name: As it was asked for.
        files: What its folder holds.
        tokenizer: Of the model.
        source: Where the weights are from, in a sentence that stands beside every figure.
        sha256: Of configuration, tokenizer and weights, one after the other.
    """

    name: str
    files: "ModelFiles"
    tokenizer: "Tokenizer"
    source: str
    sha256: str

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of its blocks, then of its linear layers in order of execution."""
        return layer_names({"decoder": self.files.config["num_hidden_layers"]})

    @cached_property
    def model(self) -> "torch.nn.Module":
        """`LlamaForCausalLM` or its like in float32, in eval mode.

        Raises:
            ModelError: The weights are not those that the configuration speaks of.
        """
        return _model(self.files)


@dataclass(frozen=True)
class ModelFiles:
    """What a folder holds of a model, as far as it can be told without reading a weight.

    Attributes:
        folder: Where it is.
        config: Its configuration.
        weights: Its files of weights, each as long as its head says.
        parameters: Numbers in them.
    """

    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    parameters: int

    @property
    def load_bytes(self) -> int:
        """Memory that loading needs: every number in float32, beside the files as they are read."""
        stored = sum(path.stat().st_size for path in self.weights)
        return FLOAT_BYTES * self.parameters + stored


def load(name: str, models: Path | None = None) -> LanguageModel:
    """A model that can be loaded, as far as that is known before a weight is read.

    Args:
        name: `smollm2-135m`, a folder, or `owner/name` on the hub.
        models: The models folder, where it is another than `model_store.models_dir` finds.

    Raises:
        ModelError: It is not here or half, not of the family, too large for the memory, or has no
            tokenizer; the message is one sentence with the remedy.
    """
    folder, statement = locate(name, model_store.models_dir(models))
    files = look(folder)
    need, free = files.load_bytes, available_bytes()
    if need > free:
        raise ModelError(
            f"{name} needs {need / 1e9:.1f} GB to be loaded and {free / 1e9:.1f} GB are free; "
            "close other programs or take a smaller model"
        )
    tokenizer = _tokenizer(folder)
    digest = hashlib.sha256()
    for path in (folder / CONFIG, folder / TOKENIZER, *files.weights):
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return LanguageModel(name, files, tokenizer, statement, digest.hexdigest())


def locate(name: str, models: Path) -> tuple[Path, str]:
    """The folder of a model, and where its weights are from, in a sentence.

    A model that Dovetail fetched is held to its hashes. What is not there is asked of the hub.

    Raises:
        ModelError: There is no such model, or it is not whole.
    """
    if name == smollm2.NAME:
        folder = models / name
        return folder, model_store.check(folder, smollm2.remedy(models)).statement
    folder = model_store.expanded(name)
    if folder.is_dir():
        if (folder / model_store.SOURCE).is_file():
            return folder, model_store.check(folder, "fetch the model again").statement
        return folder, f"weights of the folder {folder.name}{_begun_from(folder)}"
    if folder.is_file():
        raise ModelError(f"{name} is a file; name the folder that holds {CONFIG} and {WEIGHTS}")
    if not hub.is_name(name):
        raise ModelError(
            f"{name} is no folder and no model that is known; name {smollm2.NAME}, a folder with "
            f"{CONFIG}, {TOKENIZER} and {WEIGHTS}, or a model on the hub as owner/name"
        )
    folder = models / name.replace("/", "--")
    if (folder / model_store.SOURCE).is_file():
        remedy = "remove that folder, and the model is fetched again"
        return folder, model_store.check(folder, remedy).statement
    return folder, _fetch(name, folder).statement


def _begun_from(folder: Path) -> str:
    """What a model was fine-tuned from, where `dovetail finetune` made it."""
    try:
        begun = json.loads((folder / "training.json").read_bytes())["begun_from"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f", fine-tuned from {str(begun)[:400]}"


def configuration(name: str, models: Path | None = None) -> dict[str, Any]:
    """The configuration of a model of any family; no weight is fetched or looked at.

    Args:
        name: As for `load`, or a `config.json` itself.
        models: As for `load`.

    Raises:
        ModelError: There is no such model, or what it has is no configuration.
    """
    store = model_store.models_dir(models)
    path = model_store.expanded(name)
    if path.is_file() and path.suffix == ".json":
        return _parsed(path)
    if path.is_dir():
        return read_config(path)
    kept = store / (name if name == smollm2.NAME else name.replace("/", "--"))
    if not hub.is_name(name) or (kept / CONFIG).is_file():
        return read_config(locate(name, store)[0])
    end = time.monotonic() + hub.ANSWER_S * 2
    with TemporaryDirectory() as made:
        try:
            listing = hub.look_up(name, end)
            if CONFIG not in listing.files:
                raise ModelError(f"{name} on the hub has no {CONFIG}; name another model")
            hub.download(listing, CONFIG, Path(made), end, lambda *_: None)
        except (ConnectionError, ValueError) as error:
            raise ModelError(
                f"{name} is no folder here and did not come from the hub: {error}; name a folder"
            ) from None
        return read_config(Path(made))


def look(folder: Path) -> ModelFiles:
    """What a folder holds of a model, without reading its weights.

    Raises:
        ModelError: It is not whole, not of the family, or has no tokenizer.
    """
    config = read_config(folder)
    check_family(config, str(folder))
    if not (folder / TOKENIZER).is_file():
        raise ModelError(
            f"{folder} has no {TOKENIZER}; transformers' AutoTokenizer writes one with "
            "save_pretrained, or fetch the model again"
        )
    weights = _weight_files(folder)
    sizes = {name: size for path in weights for name, size in _sizes(path).items()}
    blocks = {name.split(".")[2] for name in sizes if name.startswith("model.layers.")}
    if len(blocks) != config.get("num_hidden_layers"):
        raise ModelError(
            f"{folder} has weights of {len(blocks)} blocks, and its {CONFIG} speaks of "
            f"{config.get('num_hidden_layers')}; fetch the model again"
        )
    return ModelFiles(folder, config, weights, sum(sizes.values()))


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a folder.

    Raises:
        ModelError: It is missing or is none.
    """
    return _parsed(folder / CONFIG)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}); name the folder of a model"
        ) from None
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ModelError(f"{path} is no configuration of a model; fetch the model again")
    return config


def check_family(config: dict[str, Any], name: str) -> None:
    """Refuses what is not of the Llama family.

    Raises:
        ModelError: It is not.
    """
    found = config.get("model_type")
    if found not in FAMILY:
        remedy = "dovetail check-model says what is supported of it"
        if found in VISION_LANGUAGE:
            remedy += "; a model of dovetail finetune is named with --checkpoint"
        family = f"the Llama family ({', '.join(FAMILY)})"
        raise ModelError(f"{name} is of the type {found}, not of {family}; {remedy}")


def _fetch(name: str, folder: Path) -> Source:
    """Fetches a model of the hub; what would not be loaded is not downloaded."""
    end = time.monotonic() + HUB_S

    def silent(*_: object) -> None:
        pass

    try:
        listing = hub.look_up(name, end)
        if absent := {CONFIG, TOKENIZER} - set(listing.files):
            raise ModelError(f"{name} on the hub has no {min(absent)}; name another model")
        if not any(each.endswith(".safetensors") for each in listing.files):
            raise ModelError(f"{name} on the hub has no weights as safetensors; name another model")
        with model_store.workspace(folder) as made:
            files = {CONFIG: hub.download(listing, CONFIG, made, end, silent)}
            check_family(read_config(made), name)
            stored = sum(file.size for file in listing.files.values())
            # The hub's weights have 2 bytes a number, seldom 4; they are 4 in memory.
            if 3 * stored > available_bytes():
                raise ModelError(
                    f"{name} takes about {3 * stored / 1e9:.1f} GB to be loaded and "
                    f"{available_bytes() / 1e9:.1f} GB are free; take a smaller model"
                )
            for each in listing.files:
                if each != CONFIG:
                    files[each] = hub.download(listing, each, made, end, silent)
            together = "".join(files[each] for each in sorted(files))
            source = Source(
                model=name,
                origin="hub",
                place=f"revision {listing.revision}",
                origin_sha256=files.get(WEIGHTS, hashlib.sha256(together.encode()).hexdigest()),
                statement=f"weights of {name} on the hub, as published",
                files=files,
            )
            model_store.install(made, folder, source)
    except (ConnectionError, ValueError) as error:
        raise ModelError(
            f"{name} is no folder here and did not come from the hub: {error}; download it "
            "elsewhere and name its folder"
        ) from None
    except OSError as error:
        raise ModelError(f"{folder} cannot be written ({error.strerror})") from None
    return source


def _weight_files(folder: Path) -> tuple[Path, ...]:
    """The files of weights, by name, of which none is missing."""
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    index = folder / hub.INDEX
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
        paths = [folder / Path(name).name for name in sorted(names)]
    except FileNotFoundError:
        raise ModelError(
            f"{folder} has no {WEIGHTS}; fetch the model again, or save it as safetensors"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{index} cannot be read; fetch the model again") from None
    for path in paths:
        if not path.is_file():
            raise ModelError(f"{folder} is half downloaded: {path.name} is missing; fetch it again")
    return tuple(paths)


def _sizes(path: Path) -> dict[str, int]:
    """Numbers in each tensor of a safetensors file, whose length has to be what its head says.

    The format: 8 bytes that give the length of a JSON head, the head, and the tensors.
    """
    size = path.stat().st_size
    fault = ModelError(f"{path} is no whole safetensors file; fetch the model again")
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _HEADER_MAX):
                raise fault
            head = json.loads(file.read(length))
        tensors = {name: value for name, value in head.items() if name != "__metadata__"}
        end = max((int(tensor["data_offsets"][1]) for tensor in tensors.values()), default=0)
        sizes = {name: math.prod(tensor["shape"]) for name, tensor in tensors.items()}
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError):
        raise fault from None
    if size != 8 + length + end:
        raise ModelError(
            f"{path} is half downloaded: it has {size} bytes of {8 + length + end}; fetch the "
            "model again"
        )
    return sizes


def _tokenizer(folder: Path) -> "Tokenizer":
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception:  # tokenizers raises nothing narrower for a damaged file
        raise ModelError(f"{folder / TOKENIZER} is no tokenizer; fetch the model again") from None


def _model(files: ModelFiles) -> "torch.nn.Module":
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with _quiet():
            model, report = AutoModelForCausalLM.from_pretrained(
                files.folder,
                dtype=torch.float32,
                attn_implementation="eager",
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # they are in the report
                output_loading_info=True,
            )
    except Exception as error:  # transformers raises a dozen kinds for a configuration it dislikes
        first = str(error).strip().split("\n")[0] or type(error).__name__
        raise ModelError(f"{files.folder} cannot be loaded: {first}") from None
    other = [name for name, *_ in report["mismatched_keys"]]
    if absent := sorted([*report["missing_keys"], *other]):
        raise ModelError(
            f"{files.folder} lacks {absent[0]} of the shape that its {CONFIG} speaks of; fetch the "
            "model again"
        )
    loaded: torch.nn.Module = model
    return loaded.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers from drawing bars and giving advice while it loads."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
