"""The one door to a chat model: every question goes through here and leaves a record.

A question is looked up among the calls that were recorded (resume, replay) and only then put to
the server (`agents/server.py`; the offline model of `agents/mock.py` sits behind the same client).
Importing this file imports no client.

What may be relied on
- Every call, answered or failed, becomes a `ModelCall` that `on_call` gets before anybody reads
  the reply. The roles of a trial run in threads; `on_call` runs under a lock.
- Nothing in a request depends on time, threads or chance: the same question has the same bytes,
  hence the same `request_sha256`.
- The budget of a trial depends on the calls of the trials before it alone, so a resumed or a
  replayed run spends it in the same way. Trials are proposed one after the other, in order.
"""

import hashlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, get_args

from pydantic import Field, SecretStr

from agents.proposer import ModelCall, Role
from agents.text import encodable
from hwlib.frozen import Frozen

ROLES: tuple[Role, ...] = get_args(Role)
"""The roles, in the order in which a trial's calls are paid for."""

Message = dict[str, str]


class ServerSettings(Frozen):
    """Which server, and how patient we are with it. Never holds the key."""

    base_url: str = "https://api.openai.com/v1"
    """Root of the chat completions API, up to and with `/v1`."""

    model: str = "gpt-5-mini"
    """The model's name as the server knows it."""

    timeout_s: Annotated[float, Field(gt=0)] = 180.0
    """Longest time of one attempt, from the connection to the last byte."""

    attempts: Annotated[int, Field(ge=1, le=10)] = 4
    """Attempts at one call before it counts as failed."""

    wait_limit_s: Annotated[float, Field(gt=0)] = 30.0
    """Longest wait between two attempts; a server that asks for more is given up."""

    output_tokens: Annotated[int, Field(ge=256)] = 16_384
    """Most tokens of one reply, thinking included."""


class Answer(Frozen):
    """What came of a call."""

    reply: str = ""
    """The reply's text, or the words of a refusal; empty where the call failed."""

    error: str = ""
    """One sentence, where the call failed."""

    input_tokens: int = 0
    """Tokens of the prompt, as the server counted."""

    output_tokens: int = 0
    """Tokens of the reply, as the server counted."""


Origin = Literal["server", "record"]
OnCall = Callable[[int, ModelCall, Origin], None]
"""Told (trial, call, where the reply came from)."""


class Server(Protocol):
    """What the door needs of a server; `agents.server.ChatServer` is the one that ships."""

    settings: ServerSettings

    def ask(self, messages: Sequence[Message], schema: dict[str, Any]) -> Answer: ...


class ReplayMiss(LookupError):
    """A replay asked a question that the record does not answer."""

    def __init__(self, trial: int, role: Role, call: int) -> None:
        super().__init__(
            f"trial {trial}, role {role}, call {call}: the record holds no reply to this question; "
            "what led to it differs from the recorded run"
        )
        self.trial, self.role, self.call = trial, role, call


class Silent:
    """The server of a replay: there is none, and the door raises `ReplayMiss` in its place."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings

    def ask(self, messages: Sequence[Message], schema: dict[str, Any]) -> Answer:
        """Raises, always."""
        raise LookupError("a replay has no server")


def key_from_environment() -> SecretStr | None:
    """The key from `OPENAI_API_KEY`, the only place it is read from; `None` where it is not set."""
    key = os.environ.get("OPENAI_API_KEY", "")
    return SecretStr(key) if key else None


def request_sha256(model: str, messages: Sequence[Message], schema: dict[str, Any]) -> str:
    """SHA-256 of the canonical request.

    Whether the schema went along as `response_format` is left out: it stands in the prompt too,
    and a server that learns structured output must not make old records unreadable.
    """
    request = {"model": model, "messages": list(messages), "schema": schema}
    text = json.dumps(request, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class ChatDoor:
    """Asks a chat model for the whole of one run.

    Args:
        server: `ChatServer`, or `Silent` for a replay, which never opens a socket.
        recorded: Calls that are already in the journal, by trial.
        on_call: Told every call, at once; what it raises goes through to the caller.
        max_calls: Calls that the run may make, mends included; `None` for no limit.
    """

    def __init__(
        self,
        server: Server,
        *,
        recorded: Mapping[int, Sequence[ModelCall]] | None = None,
        on_call: OnCall = lambda trial, call, origin: None,
        max_calls: int | None = None,
    ) -> None:
        self._server = server
        self._recorded = {t: tuple(calls) for t, calls in (recorded or {}).items()}
        self._count = Counter({t: len(calls) for t, calls in self._recorded.items()})
        self._on_call = on_call
        self._max_calls = max_calls
        self._lock = threading.Lock()

    def calls_left(self, trial: int) -> int | None:
        """Calls that `trial` and those after it may still make; `None` for no limit."""
        if self._max_calls is None:
            return None
        return max(0, self._max_calls - sum(n for t, n in self._count.items() if t < trial))

    def trial(self, trial: int) -> "TrialDoor":
        """Begins a trial."""
        return TrialDoor(self, trial, _allowance(self.calls_left(trial)))

    def _ask(
        self,
        trial: int,
        role: Role,
        call: int,
        occurrences: Counter[str],
        messages: Sequence[Message],
        schema: dict[str, Any],
    ) -> ModelCall:
        model = self._server.settings.model
        sha256 = request_sha256(model, messages, schema)
        with self._lock:
            occurrence = occurrences[sha256]
            occurrences[sha256] += 1
        same = [c for c in self._recorded.get(trial, ()) if c.request_sha256 == sha256]
        known = same[occurrence] if occurrence < len(same) else None
        if known is None and isinstance(self._server, Silent):
            raise ReplayMiss(trial, role, call)
        begin_s = time.monotonic()
        answer = (
            Answer(
                reply=known.reply,
                error=known.error,
                input_tokens=known.input_tokens,
                output_tokens=known.output_tokens,
            )
            if known is not None
            else _encodable(self._server.ask(messages, schema))
        )
        made = ModelCall(
            role=role,
            call=call,
            model=model,
            request_sha256=sha256,
            messages=tuple(dict(m) for m in messages),
            elapsed_s=known.elapsed_s if known is not None else time.monotonic() - begin_s,
            **answer.model_dump(),
        )
        with self._lock:
            self._count[trial] += known is None
            self._on_call(trial, made, "record" if known is not None else "server")
        return made


class TrialDoor:
    """The door during one trial: it numbers the calls of each role and keeps to the budget."""

    def __init__(self, door: ChatDoor, trial: int, allowance: Mapping[Role, int]) -> None:
        self._door, self._trial, self._allowance = door, trial, allowance
        self._calls: Counter[Role] = Counter()
        self._occurrences: Counter[str] = Counter()

    @property
    def open(self) -> bool:
        """Whether the budget carries one call of each role."""
        return all(self._allowance[role] > 0 for role in ROLES)

    def may_ask(self, role: Role) -> bool:
        """Whether that role has a call left in this trial."""
        return self._calls[role] < self._allowance[role]

    def ask(self, role: Role, messages: Sequence[Message], schema: dict[str, Any]) -> ModelCall:
        """Asks one question; a call that failed carries its `error`.

        Raises:
            ReplayMiss: in a replay, where the question is not on record.
            ValueError: the role's calls are spent.
        """
        if not self.may_ask(role):
            raise ValueError(f"role {role} has spent its calls of trial {self._trial}")
        call = self._calls[role]
        self._calls[role] += 1
        return self._door._ask(self._trial, role, call, self._occurrences, messages, schema)


def _encodable(answer: Answer) -> Answer:
    """The answer as the journal can hold it."""
    return answer.model_copy(
        update={"reply": encodable(answer.reply), "error": encodable(answer.error)}
    )


def _allowance(left: int | None) -> dict[Role, int]:
    """Calls of each role: a first one for each, then one mend each, in the order of `ROLES`.

    Dealt out before the roles run side by side, so that no race decides who gets the last call.
    """
    most = 2 * len(ROLES)
    dealt = [ROLES[i % len(ROLES)] for i in range(most if left is None else min(left, most))]
    return {role: dealt.count(role) for role in ROLES}
