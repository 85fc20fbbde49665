"""Yosys in a process of its own: a crash, a hang or an error becomes a `YosysError`.

`python -m evaluators.silicon.yosys SCRIPT` is what the process runs: each line of the script is
one Yosys command, run through the `pyosys` wheel.
"""

import contextlib
import importlib.metadata
import os
import signal
import subprocess
import sys
from pathlib import Path

from evaluators.confinement.launch import confined

LAST_LINES = 12
"""How many lines of the tool's output an error quotes."""


ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
"""What Yosys gets of the environment: no key is among it."""


class YosysError(RuntimeError):
    """Yosys failed on a design; the message holds its last words."""


class YosysTimeout(YosysError):
    """Yosys was stopped at its deadline."""


class YosysDied(YosysError):
    """Yosys was ended by a signal, which says nothing of the design."""


def yosys_version() -> str:
    """Version of the installed `pyosys` wheel, which brings Yosys and abc.

    Raises:
        YosysError: it is not installed.
    """
    try:
        return importlib.metadata.version("pyosys")
    except importlib.metadata.PackageNotFoundError:
        raise YosysError("Yosys is missing: `pip install pyosys` brings it") from None


_running: set[int] = set()
"""Process groups of Yosys that threads of this process wait for."""


def stop_all() -> None:
    """Ends every Yosys that this process waits for, abc included: somebody interrupted it."""
    for group in list(_running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def run_yosys(commands: list[str], directory: Path, temporary: Path, deadline_s: float) -> str:
    """Runs Yosys commands in `directory` and returns what the tool printed.

    The whole process group is killed at the deadline, abc included.

    Args:
        commands: one Yosys command each.
        directory: working directory; the script is written there.
        temporary: where Yosys and abc put temporary files and the digest of the Liberty file.
        deadline_s: wall time allowed.

    Raises:
        YosysTimeout: the deadline passed.
        YosysError: the tool ended with an error or a signal.
    """
    script = directory / "script.ys"
    script.write_text("\n".join(commands) + "\n")
    temporary.mkdir(parents=True, exist_ok=True)
    # -P: the working directory holds untrusted files and must not be an import path.
    tool = [sys.executable, "-P", "-m", "evaluators.silicon.yosys", str(script)]
    process = subprocess.Popen(
        confined(tool, [directory, temporary], deadline_s),
        cwd=directory,
        env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        | {"TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    _running.add(process.pid)
    try:
        output, _ = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise YosysTimeout(
            f"Yosys was stopped after {deadline_s:g} s; its last words: {_last_words(output)}"
        ) from None
    except BaseException:  # Ctrl-C comes to whoever waits here, not to the group
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    finally:
        _running.discard(process.pid)
    if process.returncode == -signal.SIGXCPU:
        raise YosysTimeout(
            f"Yosys used up its {deadline_s:g} s of a processor; its last words: "
            f"{_last_words(output)}"
        )
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        raise YosysDied(f"Yosys died of {name}; its last words: {_last_words(output)}")
    if process.returncode != 0:
        raise YosysError(_last_words(output))
    return output


def _last_words(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    # Warnings come before the error that they explain.
    telling = [line for line in lines if line.startswith(("ERROR", "Warning"))]
    return "\n".join((telling or lines)[-LAST_LINES:]) or "(nothing)"


def _main(script: Path) -> None:
    from pyosys import libyosys

    design = libyosys.Design()
    for command in script.read_text().splitlines():
        libyosys.run_pass(command, design)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
