"""The real workshop: the models, the evaluators, and the agents behind a chat server.

Everything heavy is imported inside the functions: `dovetail --help` and `trace` need none of it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agents.proposer import Context, ModelCall, Proposer
from dovetail.errors import BadInput, Missing, ServerRefused
from dovetail.settings import Settings
from dovetail.workshop import Bench, Estimate, OnCall
from evaluators.workloads import TINY_VLM
from swopt.workloads.model_store import expanded

if TYPE_CHECKING:
    from agents.llm import Server, ServerSettings
    from dovetail.compiling import Case
    from evaluators.design import DesignPoint
    from evaluators.pipeline import Pipeline

PRELOAD = (
    "evaluators.accuracy",
    "evaluators.gate.check",
    "evaluators.latency",
    "evaluators.pipeline",
    "evaluators.silicon.cost",
    "evaluators.silicon.simulation",
    "hwlib.elaborate",
    "swopt.compiler.program",
    "safetensors.torch",
    "transformers.models.idefics3.modeling_idefics3",
)
"""What an evaluation imports, once for all of them."""


PRELOAD_LANGUAGE = (
    "evaluators.language_cost",
    "evaluators.language_model",
    "evaluators.language_pipeline",
    "evaluators.language_rtl",
    "evaluators.silicon.cost",
    "hwlib.elaborate",
    "swopt.workloads.language_models",
    "transformers.models.llama.modeling_llama",
)
"""The same, of a language model."""


class Shipped:
    """What `dovetail run` works with."""

    def bench(self, settings: Settings) -> Bench:
        """The workload on its data, and the whole chain of evaluators.

        Raises:
            Missing: data, a tool or the model is not there or not whole.
        """
        return _medical(settings) if settings.workload == TINY_VLM else _language(settings)

    def case(
        self,
        design: "DesignPoint",
        question: int,
        data_dir: Path | None,
        checkpoint: Path | None = None,
    ) -> "Case":
        """tiny-vlm after the design's compression, and a validation question.

        Raises:
            Missing: data or the checkpoint is not there or not whole.
            BadInput: the design breaks a law of the model, or there is no such question.
        """
        from dovetail import compiling
        from evaluators import cache

        # The floor keeps figures off a front; whoever writes a design down has chosen it.
        cleared = frozenset(cache.sha256(edit.source) for edit in design.edits)
        return compiling.case_of(design, question, pipeline(data_dir, cleared, checkpoint))

    def proposer(
        self, settings: Settings, recorded: Mapping[int, Sequence[ModelCall]], on_call: OnCall
    ) -> Proposer:
        """The agents, or the sampler alone where the run file says so.

        Raises:
            ServerRefused: the server wants a key, or cannot be reached.
        """
        if settings.llm.provider == "none":
            return _sampler()
        return _agents(settings, self._server(settings), recorded, on_call)

    def replayer(
        self, settings: Settings, recorded: Mapping[int, Sequence[ModelCall]], on_call: OnCall
    ) -> Proposer:
        """The same, with recorded replies alone."""
        from agents.llm import Silent

        if settings.llm.provider == "none":
            return _sampler()
        silent = Silent(_server_settings(settings))
        return _agents(settings, silent, recorded, on_call)

    def estimate(self, settings: Settings, bench: Bench) -> Estimate | None:
        """Calls and tokens of a run against a server; `None` where none is asked."""
        if settings.llm.provider != "openai":
            return None
        from agents.crew import AgentProposer
        from agents.llm import ChatDoor, Silent
        from agents.rewrites import shipped_library

        door = ChatDoor(Silent(_server_settings(settings)))
        about = AgentProposer(door, shipped_library()).estimate(
            Context(
                trial=0,
                suggestion=settings.base,
                history=(),
                pending=(),
                target=settings.target,
                workload=bench.data,
                layers=bench.layers,
                seed=settings.seed,
            ),
            settings.iterations,
        )
        calls = min(about.calls, settings.llm.max_calls)
        return Estimate(calls, about.input_tokens, about.output_tokens)

    def _server(self, settings: Settings) -> "Server":
        from agents.llm import key_from_environment
        from agents.mock import OfflineModel
        from agents.server import ChatServer
        from dovetail.server_check import check_server

        about = _server_settings(settings)
        if settings.llm.provider == "mock":
            return ChatServer(about, None, OfflineModel())
        found = check_server(settings.llm)
        if found.state == "broken":
            raise ServerRefused(f"{found.detail}; {found.remedy}")
        return ChatServer(about, key_from_environment())


def _medical(settings: Settings) -> Bench:
    """tiny-vlm on the images that are found."""
    from swopt.workloads.checkpoint import CheckpointError
    from swopt.workloads.workload import load_workload

    data_dir, checkpoint = (
        expanded(named) if named else None for named in (settings.data_dir, settings.checkpoint)
    )
    try:
        workload = load_workload(data_dir, checkpoint)
    except (CheckpointError, FileNotFoundError, ValueError) as error:
        raise Missing(str(error)) from None
    if data_dir is not None and workload.vlm.has_own_questions:
        raise BadInput(
            f"data_dir: the model in {settings.checkpoint} has its own questions; leave the folder "
            "of images out"
        )
    return Bench(
        evaluator=pipeline(data_dir, frozenset(settings.cleared), checkpoint),
        data=workload.describe(),
        data_sha256=workload.data_sha256,
        layers=workload.layers,
        preload=PRELOAD,
    )


def _language(settings: Settings) -> Bench:
    """A language model on Python's standard library."""
    from evaluators.language_pipeline import LanguagePipeline
    from swopt.workloads import code, language_models
    from swopt.workloads.model_store import ModelError

    try:
        loaded = language_models.load(settings.workload)
        windows = [code.windows(loaded.tokenizer, split) for split in ("val", "test")]
    except (ModelError, code.CodeError) as error:
        raise Missing(str(error)) from None
    modules = {f"{name}.py": found for each in windows for name, found in each.sha256.items()}
    base = pipeline(None, frozenset(settings.cleared))
    return Bench(
        evaluator=LanguagePipeline(
            model=settings.workload,
            cache_dir=base.cache_dir,
            vetted=base.vetted,
            cleared=base.cleared,
        ),
        data=f"{loaded.name} on modules of Python's standard library; {loaded.source}",
        data_sha256={loaded.name: loaded.sha256} | modules,
        layers=loaded.layers,
        preload=PRELOAD_LANGUAGE,
    )


def pipeline(
    data_dir: Path | None = None,
    cleared: frozenset[str] = frozenset(),
    checkpoint: Path | None = None,
) -> "Pipeline":
    """The shipped evaluator on the images in a folder, with the RTL sources that were cleared.

    Args:
        data_dir: The folder of images; None looks where they usually are.
        cleared: SHA-256 of the sources.
        checkpoint: Folder of another model than the shipped one.
    """
    from agents.rewrites import shipped_library
    from evaluators import cache
    from evaluators.pipeline import Pipeline

    vetted = frozenset(cache.sha256(r.source) for r in shipped_library().rewrites)
    return Pipeline(data_dir=data_dir, checkpoint=checkpoint, vetted=vetted, cleared=cleared)


def _agents(
    settings: Settings,
    server: "Server",
    recorded: Mapping[int, Sequence[ModelCall]],
    on_call: OnCall,
) -> Proposer:
    from agents.crew import AgentProposer
    from agents.llm import ChatDoor
    from agents.rewrites import shipped_library

    door = ChatDoor(server, recorded=recorded, on_call=on_call, max_calls=settings.llm.max_calls)
    return AgentProposer(door, shipped_library())


def _sampler() -> Proposer:
    from agents.sampler import SuggestionProposer

    return SuggestionProposer()


def _server_settings(settings: Settings) -> "ServerSettings":
    from agents.llm import ServerSettings
    from agents.mock import MODEL_NAME

    if settings.llm.provider == "mock":
        return ServerSettings(base_url="http://offline.invalid/v1", model=MODEL_NAME)
    return ServerSettings(base_url=settings.llm.base_url, model=settings.llm.model)
