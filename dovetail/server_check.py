"""`dovetail doctor --llm`: one call to the configured chat server, and what came of it in words."""

from typing import TYPE_CHECKING

from dovetail.doctor import Check
from dovetail.settings import LlmSettings

if TYPE_CHECKING:
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
            remedy="mend llm.base_url, llm.model or OPENAI_API_KEY, then: dovetail doctor --llm",
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


def _named(settings: LlmSettings) -> "ChatServer":
    from agents.llm import ServerSettings, key_from_environment
    from agents.server import ChatServer

    about = ServerSettings(
        base_url=settings.base_url, model=settings.model, attempts=1, timeout_s=60.0
    )
    return ChatServer(about, key_from_environment())
