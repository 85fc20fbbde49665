"""MedMNIST v2 (Yang et al., Scientific Data 2023; CC BY 4.0, DermaMNIST CC BY-NC 4.0): its files.

Each set is one `<name>.npz` with uint8 `{train,val,test}_images` `[n, 28, 28(, 3)]` and
`{train,val,test}_labels` `[n, tasks]`. A file is read only where its MD5 is the published one.
"""

import hashlib
import os
import secrets
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np

from swopt.workloads.vqa import LabelledImages, Split

MD5: dict[str, str] = {
    "pathmnist": "a8b06965200029087d5bd730944a56c1",
    "chestmnist": "02c8a6516a18b556561a56cbdd36c4a8",
    "dermamnist": "0744692d530f8e62ec473284d019b0c7",
    "octmnist": "c68d92d5b585d8d81f7112f81e2d0842",
    "pneumoniamnist": "28209eda62fecd6e6a2d98b1501bb15f",
    "retinamnist": "bd4c0672f1bba3e3a89f0e4e876791e4",
    "breastmnist": "750601b1f35ba3300ea97c75c52ff8f6",
    "bloodmnist": "7053d0359d879ad8a5505303e11de1dc",
    "tissuemnist": "ebe78ee8b05294063de985d821c1c34b",
    "organamnist": "866b832ed4eeba67bfb9edee1d5544e6",
    "organcmnist": "0afa5834fb105f7705a7d93372119a21",
    "organsmnist": "e5c39f1af030238290b9557d9503af9d",
}
"""The 2-D sets and the MD5 of each file, as published in the `medmnist` package 2.1.0."""

ZENODO = "https://zenodo.org/records/6496656/files"
"""The record that those MD5 belong to."""

Progress = Callable[[str, int, int], None]
"""Told a set's name, bytes so far and bytes in all (0 where the server does not say)."""


def find_data_dir(named: Path | None, wanted: Collection[str] = ()) -> Path | None:
    """The folder to look for MedMNIST in: `named`, else `DOVETAIL_DATA_DIR`, else `~/.medmnist`.

    Args:
        named: The folder that the caller was given, if any.
        wanted: Names of sets; a named folder has to hold one of them at least, unless none is
            wanted. Whoever names a folder on a command line means its images.

    Returns:
        The folder, or `None` where nothing was named and `~/.medmnist` does not exist.

    Raises:
        FileNotFoundError: A folder was named, here or in the environment, and is not there, is no
            folder, or holds none of `wanted`.
    """
    if named is None and (variable := os.environ.get("DOVETAIL_DATA_DIR")):
        named = Path(variable)
    if named is None:
        usual = Path("~/.medmnist").expanduser()
        return usual if usual.is_dir() else None
    try:
        fault = _fault_of(named, wanted)
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
    if fault:
        raise FileNotFoundError(f"data folder {named} {fault}")
    return named.expanduser()


def read(path: Path, split: Split) -> LabelledImages:
    """Reads one split of `<set>.npz`; grey images get three equal channels.

    Raises:
        ValueError: The name is no 2-D MedMNIST set, or the content is not the published one.
    """
    check(path)
    name = path.stem
    with np.load(path) as arrays:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, -1)
    return LabelledImages(name, np.ascontiguousarray(images), labels.astype(np.int64))


def fetch(
    sets: tuple[str, ...],
    data_dir: Path,
    deadline_s: float,
    on_progress: Progress,
    source: str = ZENODO,
) -> tuple[Path, ...]:
    """Downloads what is missing from the Zenodo record; a file appears only once its MD5 fits.

    Args:
        sets: Names of 2-D sets.
        data_dir: Where the files go; made if it is not there.
        deadline_s: Seconds for all of it; a stalled read may add as many once.
        on_progress: Called after each chunk.
        source: The folder's address, where a mirror is used.

    Returns:
        The path of every set, in the order given.

    Raises:
        ConnectionError: The server cannot be reached, answers with an error, or is too slow.
        ValueError: A name is no 2-D set, or what came is not the published file.
    """
    end = time.monotonic() + deadline_s
    paths = []
    for name in sets:
        if name not in MD5:
            raise ValueError(f"{name} is no 2-D MedMNIST set; the sets are {', '.join(MD5)}")
        path = data_dir / f"{name}.npz"
        paths.append(path)
        if path.exists():
            check(path)
            continue
        data_dir.mkdir(parents=True, exist_ok=True)
        temporary = data_dir / f".{name}-{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as file:
                _download(f"{source}/{name}.npz?download=1", name, file, end, on_progress)
            _check_content(name, temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return tuple(paths)


def _fault_of(named: Path, wanted: Collection[str]) -> str:
    """Why a named folder cannot serve, with the remedy; empty where it can."""
    folder = named.expanduser()
    fetch = f"fetch them with: dovetail fetch medmnist --data-dir {shlex.quote(str(named))}"
    if not folder.exists():
        return f"does not exist; name the one that holds the MedMNIST images, or {fetch}"
    if not folder.is_dir():
        return "is a file, not a folder; name the folder that holds the MedMNIST images"
    if wanted and not any((folder / f"{name}.npz").is_file() for name in wanted):
        return f"holds none of the MedMNIST images; name the one that does, or {fetch}"
    return ""


def _download(url: str, name: str, file: BinaryIO, end: float, on_progress: Progress) -> None:
    done = 0
    try:
        timeout_s = max(end - time.monotonic(), 0.001)
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read1(65536):
                file.write(chunk)
                done += len(chunk)
                on_progress(name, done, total)
                if time.monotonic() > end:
                    raise TimeoutError(f"{done} of {total} bytes in the time given")
    except OSError as error:
        raise ConnectionError(
            f"{name} could not be fetched from {url}: {error}; copy {name}.npz into the data "
            "folder by hand, or go on with the synthetic set"
        ) from error


def check(path: Path) -> None:
    """Compares `<set>.npz` with the published file.

    Raises:
        ValueError: The name is no 2-D MedMNIST set, or the content is not the published one.
    """
    if path.stem not in MD5:
        raise ValueError(f"{path.stem} is no 2-D MedMNIST set; the sets are {', '.join(MD5)}")
    _check_content(path.stem, path)


def _check_content(name: str, path: Path) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != MD5[name]:
        raise ValueError(
            f"{path} is not the published {name}.npz (MD5 {found}, not {MD5[name]}); "
            "remove it and fetch it again"
        )
