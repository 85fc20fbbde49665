"""One call to a server, to see whether it can do the crew's work."""

import time

from agents.llm import Message
from agents.reply import read_reply
from agents.server import ChatServer
from agents.text import one_line
from agents.turn import reply_schema
from hwlib.frozen import Frozen

QUESTION: list[Message] = [
    {"role": "system", "content": "# probe\n\nAnswer with one JSON object that fits the schema."},
    {"role": "user", "content": 'Send {"ready": true} and nothing else.'},
]
"""What is asked."""


class Ready(Frozen):
    """The reply that is wanted."""

    ready: bool
    """True."""


class Probe(Frozen):
    """What one call showed."""

    answered: bool
    """Whether the server is reachable, takes the key and knows the model."""

    structured: bool
    """Whether it took the JSON schema as `response_format`; without, the prompt alone holds it."""

    readable: bool
    """Whether the reply was the JSON object that was asked for."""

    elapsed_s: float
    """Time the call took, retries included."""

    message: str
    """The finding in one sentence, with the remedy where there is one."""


def probe(server: ChatServer) -> Probe:
    """Asks `server` one short question."""
    begin_s = time.monotonic()
    answer = server.ask(QUESTION, reply_schema(Ready))
    elapsed_s = time.monotonic() - begin_s
    readable, message = False, one_line(answer.error)
    if not answer.error:
        message = "ready"
        try:
            readable = read_reply(answer.reply, Ready).ready
        except ValueError as error:
            message = f"it answers, but not with the JSON that it was asked for: {error}"
        if readable and not server.structured:
            message = "ready, without structured output: the schema stands in the prompt alone"
    return Probe(
        answered=not answer.error,
        structured=server.structured and not answer.error,
        readable=readable,
        elapsed_s=elapsed_s,
        message=message,
    )
