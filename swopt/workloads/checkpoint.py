"""The files of a `tiny-vlm` checkpoint, and the model that they hold, built when asked for.

The folder of a checkpoint holds `config.json`, `tokenizer.json`, `model.safetensors` (fp16) and
`training.json`; one that was fine-tuned holds its questions, too. The shipped one lies beside this
file. Names and hashes need no torch: a design whose figures are all kept is looked up without it.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

SHIPPED = Path(__file__).parent / "tiny_vlm"
"""The folder of the checkpoint that comes with the project."""

FILES = ("config.json", "tokenizer.json", "training.json", "model.safetensors")
"""The files of a checkpoint."""

QUESTIONS = "questions.npz"
"""What a model was fine-tuned to, which `swopt.workloads.own_questions` packs and reads."""

UNFINISHED = "progress.json"
"""What is in the folder of a checkpoint as long as it is being made."""

BLOCK_LAYERS = {
    "vision": {
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.out_proj",
        "mlp.up": "mlp.fc1",
        "mlp.down": "mlp.fc2",
    },
    "decoder": {
        "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj",
        "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.o_proj",
        "mlp.gate": "mlp.gate_proj",
        "mlp.up": "mlp.up_proj",
        "mlp.down": "mlp.down_proj",
    },
}
"""Tower -> our name of a linear layer of a block -> transformers' name, in order of execution."""

TOWERS = {"vision": "model.vision_model.encoder.layers", "decoder": "model.text_model.layers"}
"""Tower -> transformers' name of its list of blocks."""


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, or that is not what its config says."""


@dataclass(frozen=True)
class TinyVlm:
    """A model with its tokenizer; callers share it and must not change it.

    Attributes:
        folder: Of the checkpoint.
        config: Of the architecture, as transformers writes it.
        weights: The bytes of the safetensors file.
        tokenizer: One token a word.
        sets: Image sets that it was trained on; none where it has questions of its own.
        answers: The fixed answer set, each a single token.
        layers: Names of the model's blocks, then of its linear layers.
        training: What `training.json` holds.
        sha256: Of the checkpoint's files, one after the other.
    """

    folder: Path
    config: dict[str, Any]
    weights: bytes
    tokenizer: "Tokenizer"
    sets: tuple[str, ...]
    answers: tuple[str, ...]
    layers: tuple[str, ...]
    training: dict[str, Any]
    sha256: str

    @property
    def has_own_questions(self) -> bool:
        """Whether it was fine-tuned to questions, which lie beside it."""
        return QUESTIONS in self.training.get("files_sha256", {})

    @cached_property
    def model(self) -> "torch.nn.Module":
        """`Idefics3ForConditionalGeneration` in float32, in eval mode.

        Raises:
            CheckpointError: The file holds other weights than the config's.
        """
        from swopt.workloads import tiny_vlm

        try:
            return tiny_vlm.restored(self.config, self.weights)
        except Exception as error:  # transformers raises what it likes for an odd config
            raise unusable(self.folder, error) from error


@cache
def load(folder: Path = SHIPPED) -> TinyVlm:
    """Reads a checkpoint.

    Raises:
        CheckpointError: A file is missing or unreadable, or they are not of one model.
    """
    from safetensors.numpy import load as tensors_of
    from tokenizers import Tokenizer

    try:
        files = {name: (folder / name).read_bytes() for name in FILES}
        config = json.loads(files["config.json"])
        training = json.loads(files["training.json"])
        tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
        weights = files["model.safetensors"]
        _check(files, training)
        if (folder / QUESTIONS).exists() and QUESTIONS not in training.get("files_sha256", {}):
            raise ValueError(f"training.json names no {QUESTIONS}, which is there")
        counts = {
            "vision": config["vision_config"]["num_hidden_layers"],
            "decoder": config["text_config"]["num_hidden_layers"],
        }
        held = _counts(tensors_of(weights))
        if counts != held:
            raise ValueError(f"config.json has blocks {counts}, model.safetensors {held}")
        sets, answers = tuple(training.get("sets", ())), tuple(training["answers"])
        for answer in answers:
            token_id(tokenizer, answer)
    except Exception as error:  # tokenizers raises nothing narrower for a damaged file
        raise unusable(folder, error) from error
    digest = hashlib.sha256(b"".join(files[name] for name in FILES)).hexdigest()
    layers = layer_names(counts)
    return TinyVlm(folder, config, weights, tokenizer, sets, answers, layers, training, digest)


def _check(files: Mapping[str, bytes], training: Mapping[str, Any]) -> None:
    """Raises ValueError where a file is not the one that `training.json` names."""
    named = {"model.safetensors": training["weights_sha256"], **training.get("files_sha256", {})}
    for name, content in files.items():
        if name in named and hashlib.sha256(content).hexdigest() != named[name]:
            raise ValueError(f"{name} is not the file that training.json names")


def layer_names(counts: dict[str, int]) -> tuple[str, ...]:
    """Names of a model's blocks, then of its linear layers in order of execution.

    Args:
        counts: Blocks of each tower; a language model has a decoder alone.
    """
    blocks, linear = [], []
    for tower, count in counts.items():
        if tower == "decoder" and "vision" in counts:
            linear.append("connector")
        for index in range(count):
            blocks.append(f"{tower}.{index}")
            linear += [f"{tower}.{index}.{name}" for name in BLOCK_LAYERS[tower]]
    return (*blocks, *linear, "head")


def token_id(tokenizer: "Tokenizer", word: str) -> int:
    """The token of one word.

    Raises:
        ValueError: The tokenizer does not know the word.
    """
    found = tokenizer.token_to_id(word)
    if found is None:
        raise ValueError(f"the tokenizer has no token for {word!r}")
    return found


def _counts(tensors: Iterable[str]) -> dict[str, int]:
    """Blocks of each tower among the names of tensors."""
    indices: dict[str, set[str]] = defaultdict(set)
    for name in tensors:
        for tower, path in TOWERS.items():
            if name.startswith(f"{path}."):
                indices[tower].add(name.removeprefix(f"{path}.").partition(".")[0])
    return {tower: len(indices[tower]) for tower in TOWERS}


def unusable(folder: Path, error: Exception) -> CheckpointError:
    """The fault of a checkpoint, with the remedy."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, KeyError):
        first = f"its config.json or training.json lacks {first}"
    remedy = "name a folder that dovetail finetune made, put it back there, or make it anew"
    if folder == SHIPPED:
        remedy = "reinstall the project"
    elif (folder / UNFINISHED).is_file():
        first, remedy = "its fine-tuning has not ended", "give that command again"
    return CheckpointError(f"the checkpoint in {folder} cannot be used: {first}; {remedy}")
