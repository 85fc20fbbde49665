"""A scripted chat server behind the client's own transport."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
from pydantic import SecretStr

from agents.llm import ChatDoor, ServerSettings
from agents.mock import MODEL_NAME, OfflineModel, answer
from agents.proposer import ModelCall
from agents.server import ChatServer

SETTINGS = ServerSettings(base_url="http://server.invalid/v1", model="scripted")
OFFLINE = ServerSettings(base_url="http://offline.invalid/v1", model=MODEL_NAME)


def said(text: str | None, **more: Any) -> httpx2.Response:
    """A chat completion with that text."""
    message = {"role": "assistant", "content": text, **more}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    return httpx2.Response(
        200,
        json={
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "scripted",
            "choices": [choice],
            "usage": usage,
        },
    )


class Scripted(httpx2.BaseTransport):
    """Answers with the script's steps in turn, and keeps what it was asked."""

    def __init__(self, steps: Sequence[httpx2.Response | Exception]) -> None:
        self.steps = list(steps)
        self.requests: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The requests' JSON."""
        return [json.loads(request.content) for request in self.requests]


class Meddler(httpx2.BaseTransport):
    """The offline model, but some roles' replies are somebody else's.

    `replies` maps a role to replies for its calls in turn: text, a response, or None for the
    offline model's own.
    """

    def __init__(self, **replies: Sequence[str | httpx2.Response | None]) -> None:
        self.replies = {role: list(texts) for role, texts in replies.items()}
        self.prompts: list[tuple[str, list[dict[str, str]]]] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        messages = json.loads(request.read())["messages"]
        role = messages[0]["content"].split("\n", 1)[0].removeprefix("# ")
        self.prompts.append((role, messages))
        queue = self.replies.get(role, [])
        step = queue.pop(0) if queue else None
        if isinstance(step, httpx2.Response):
            return step
        return said(step if step is not None else json.dumps(answer(messages)))


class Calls(list[tuple[int, ModelCall, str]]):
    """An `on_call` that keeps everything."""

    def __call__(self, trial: int, call: ModelCall, origin: str) -> None:
        self.append((trial, call, origin))


def server(
    transport: httpx2.BaseTransport,
    key: str | None = None,
    sleep: Callable[[float], object] = lambda s: None,
    settings: ServerSettings = SETTINGS,
) -> ChatServer:
    """A server on that transport that never really waits."""
    return ChatServer(settings, SecretStr(key) if key else None, transport, sleep)


def offline_door(**more: Any) -> ChatDoor:
    """A door with the offline model behind it."""
    return ChatDoor(ChatServer(OFFLINE, transport=OfflineModel()), **more)
