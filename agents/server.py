"""A chat server behind the `openai` client: patience, limits, and failures in words.

The client's own defaults (600 s of patience, two silent retries) are off; what is tried again, and
for how long, is decided here. A failure is a value: `Answer.error` holds one sentence.
"""

import random
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import openai
from pydantic import SecretStr

from agents.llm import Answer, Message, ServerSettings
from agents.text import one_line

BODY_LIMIT_BYTES = 524_288
"""Largest HTTP body that is read: an RTL file of 64 kB, escaped twice, with room for thinking."""

AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which a second attempt may succeed."""

NO_SCHEMA = frozenset({400, 422, 501})
"""Statuses with which servers without structured output refuse `response_format`."""


class _Fault(Exception):
    """An attempt that failed, and whether it is worth another one."""

    def __init__(self, reason: str, *, again: bool = False, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.again, self.wait_s = again, wait_s


class ChatServer:
    """Asks one server. May be used from several threads.

    Args:
        settings: The server.
        key: Sent as the bearer token; `None` for a server without one.
        transport: In place of the network: the offline model, or a scripted server.
        sleep: Waits between attempts; an event's `wait` lets a run be stopped meanwhile.
    """

    def __init__(
        self,
        settings: ServerSettings,
        key: SecretStr | None = None,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.settings = settings
        self.structured = True
        """Whether requests carry `response_format`; `False` once the server refused it."""
        self._key = key.get_secret_value() if key is not None else ""
        self._sleep = sleep
        # Without a key no Authorization header goes out at all.
        self._headers: Any = None if self._key else {"Authorization": openai.Omit()}
        inner = transport or httpx2.HTTPTransport(proxy=_proxy(settings.base_url))
        self._client = openai.OpenAI(
            api_key=self._key or "none",
            base_url=settings.base_url,
            http_client=httpx2.Client(
                transport=_Capped(inner, settings.timeout_s), timeout=settings.timeout_s
            ),
            max_retries=0,
        )

    def ask(self, messages: Sequence[Message], schema: dict[str, Any]) -> Answer:
        """Asks until answered, or until patience ends; never raises for what the server does.

        Args:
            messages: Role and content of each message.
            schema: JSON schema of the reply, with its `title`.
        """
        for attempt in range(1, self.settings.attempts + 1):
            try:
                return self._attempt(messages, schema)
            except _Fault as fault:
                wait_s = fault.wait_s if fault.wait_s is not None else self._backoff_s(attempt)
                last = attempt == self.settings.attempts or wait_s > self.settings.wait_limit_s
                if last or not fault.again:
                    tried = f" ({attempt} attempts)" if attempt > 1 else ""
                    return Answer(error=self._scrub(f"{fault}{tried}"))
                self._sleep(wait_s)
        raise AssertionError("the last attempt returns")

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def models(self) -> tuple[str, ...]:
        """Names of the models that the server lists; empty where it keeps no list.

        Costs no tokens, so a run can find a dead server or a refused key before it begins.

        Raises:
            ValueError: the server cannot be reached or refuses; one sentence.
        """
        try:
            listed = self._client.models.list(extra_headers=self._headers).data
        except (openai.NotFoundError, openai.PermissionDeniedError):
            return ()
        except (openai.OpenAIError, httpx2.HTTPError, ValueError, RecursionError) as error:
            raise ValueError(self._scrub(str(self._fault(error)))) from None
        return tuple(model.id for model in listed or ())

    def _attempt(self, messages: Sequence[Message], schema: dict[str, Any]) -> Answer:
        structured = self.structured
        try:
            completion = self._client.chat.completions.create(
                model=self.settings.model,
                messages=messages,  # type: ignore[arg-type]
                extra_headers=self._headers,
                **self._options(schema if structured else None),
            )
        except (openai.OpenAIError, httpx2.HTTPError, ValueError, RecursionError) as error:
            refused = isinstance(error, openai.APIStatusError) and error.status_code in NO_SCHEMA
            if refused and structured:
                self.structured = False
                return self._attempt(messages, schema)
            raise self._fault(error) from None
        return self._answer(completion)

    def _options(self, schema: dict[str, Any] | None) -> dict[str, Any]:
        # Servers that know no structured output mostly know only the older name of the limit.
        if schema is None:
            return {"max_tokens": self.settings.output_tokens}
        return {
            "max_completion_tokens": self.settings.output_tokens,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": schema["title"], "schema": schema, "strict": True},
            },
        }

    def _answer(self, completion: Any) -> Answer:
        # The client builds its objects without validation, so nothing in them may be trusted.
        choices = getattr(completion, "choices", None)
        message = getattr(choices[0], "message", None) if choices else None
        reply = getattr(message, "content", None) or getattr(message, "refusal", None)
        if message is None or not isinstance(reply, str | None):
            raise _Fault("the server's answer is no chat completion; does base_url end in /v1?")
        usage = getattr(completion, "usage", None)
        return Answer(
            reply=self._scrub(reply or ""),
            input_tokens=_count(getattr(usage, "prompt_tokens", 0)),
            output_tokens=_count(getattr(usage, "completion_tokens", 0)),
        )

    def _fault(self, error: Exception) -> _Fault:
        match error:
            case openai.APIStatusError():
                return self._status_fault(error)
            case openai.APITimeoutError():
                return _Fault(f"no answer within {self.settings.timeout_s:g} s", again=True)
            case openai.APIConnectionError():
                cause = error.__cause__
                if isinstance(cause, TooLarge):
                    return _Fault(str(cause))
                why = f": {cause}" if cause is not None else ""
                return _Fault(f"no connection to {self.settings.base_url}{why}", again=True)
            case _:
                return _Fault(f"the server's answer cannot be read: {type(error).__name__}")

    def _status_fault(self, error: openai.APIStatusError) -> _Fault:
        status, model = error.status_code, self.settings.model
        if status == 401:
            return _Fault("status 401: the server wants a key; set OPENAI_API_KEY to a valid one")
        if status == 404:
            return _Fault(
                f"status 404: no model `{model}` or no chat completions at {self.settings.base_url}"
            )
        detail = one_line(error.message, 200)
        wait_s = _retry_after_s(error.response.headers)
        return _Fault(f"status {status}: {detail}", again=status in AGAIN, wait_s=wait_s)

    def _backoff_s(self, attempt: int) -> float:
        # Full jitter above a half, so that parallel roles do not knock at the same moment. Chance
        # decides only when we ask again, never what we ask.
        return min(2.0 ** (attempt - 1), self.settings.wait_limit_s) * random.uniform(0.5, 1.0)

    def _scrub(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


class TooLarge(httpx2.TransportError):
    """A body over the limit, or one that came too slowly."""


class _Capped(httpx2.BaseTransport):
    """Ends a response that is larger or slower than the limits, whatever its headers say."""

    def __init__(self, inner: httpx2.BaseTransport, timeout_s: float) -> None:
        self._inner, self._timeout_s = inner, timeout_s

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        # A compressed body could hide its size, so none is asked for.
        request.headers["Accept-Encoding"] = "identity"
        response = self._inner.handle_request(request)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise TooLarge("the server sent a compressed body, which was not asked for")
        assert isinstance(response.stream, httpx2.SyncByteStream)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_CappedStream(response.stream, self._timeout_s),
            extensions=response.extensions,
        )

    def close(self) -> None:
        self._inner.close()


class _CappedStream(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream, timeout_s: float) -> None:
        self._inner, self._deadline_s = inner, time.monotonic() + timeout_s

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._inner:
            size += len(chunk)
            if size > BODY_LIMIT_BYTES:
                raise TooLarge(f"the server's answer is larger than {BODY_LIMIT_BYTES} bytes")
            if time.monotonic() > self._deadline_s:
                raise httpx2.ReadTimeout("the answer came too slowly")
            yield chunk

    def close(self) -> None:
        self._inner.close()


def _count(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _retry_after_s(headers: httpx2.Headers) -> float | None:
    """Seconds from a `Retry-After` header, which holds seconds or a date; `None` without one."""
    said = headers.get("Retry-After")
    if said is None:
        return None
    with suppress(ValueError):
        wait_s = float(said)
        return wait_s if 0 <= wait_s < float("inf") else None
    with suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    return None


def _proxy(base_url: str) -> str | None:
    """The proxy of the environment for that URL; our own transport has to ask for it."""
    parts = urllib.parse.urlsplit(base_url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    return urllib.request.getproxies().get(parts.scheme)
