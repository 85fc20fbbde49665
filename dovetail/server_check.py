"""`dovetail doctor --llm`: one call to the configured chat server, and what came of it in words."""

import re
from typing import TYPE_CHECKING

from dovetail.doctor import Check
from dovetail.settings import LlmSettings

if TYPE_CHECKING:
    from agents.probe import Probe
    from agents.server import ChatServer


def check_server(settings: LlmSettings, server: "ChatServer | None" = None) -> Check:
    """Whether the server answers, knows the model and keeps to a schema, and how fast.

    Args:
        settings: The run file's.
        server: In place of the one that the settings name.
    """
    if settings.provider != "openai":
        return Check(
            name="chat server",
            state="ok",
            detail=f"the provider is `{settings.provider}`, which needs no server",
        )
    from agents.probe import probe

    found = probe(server or _named(settings))
    if not found.readable:
        return Check(
            name="chat server",
            state="missing" if found.answered else "broken",
            detail=f"{settings.base_url}: {found.message}",
            remedy=f"{_remedy(found, settings)}, then: dovetail doctor --llm",
            without="everything, with the offline model (--llm mock)",
        )
    return Check(
        name="chat server",
        state="ok",
        detail=(
            f"{settings.base_url} answers as {settings.model} in {found.elapsed_s:.1f} s; "
            f"{found.message}"
        ),
    )


def _remedy(found: "Probe", settings: LlmSettings) -> str:
    """What to do about a server that cannot do the work."""
    if found.answered:
        return f"name a model that keeps to a JSON schema (llm.model is `{settings.model}`)"
    status = re.match(r"status (\d+)", found.message)
    if status is None:
        if found.message.startswith(("no connection", "no answer")):
            return "start the server, or mend the host and port in llm.base_url"
        return "mend llm.base_url: it is the root of the chat completions API, mostly with /v1"
    match int(status[1]):
        case 401:
            return "export OPENAI_API_KEY=KEY with a key that this server takes"
        case 403:
            return (
                f"ask whoever runs the server to let this key use `{settings.model}`, or name "
                "another model in llm.model"
            )
        case 404:
            return (
                "name a model that the server has in llm.model, and let llm.base_url end where its "
                "API begins, mostly in /v1"
            )
        case 429:
            return "wait, or ask whoever runs the server for a higher limit"
        case code if code >= 500:
            return "wait and try again, or look into the server's own log: the fault is there"
        case _:
            return "mend llm.base_url, llm.model or OPENAI_API_KEY"


def _named(settings: LlmSettings) -> "ChatServer":
    from agents.llm import ServerSettings, key_from_environment
    from agents.server import ChatServer

    about = ServerSettings(
        base_url=settings.base_url, model=settings.model, attempts=1, timeout_s=60.0
    )
    return ChatServer(about, key_from_environment())
