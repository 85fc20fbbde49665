"""The server's patience and limits."""

import json

import httpx2
import openai
import pytest

from agents.server import BODY_LIMIT_BYTES
from tests.agents.scripted import Scripted, said, server

ASK = [{"role": "user", "content": "design?"}]
SCHEMA = {"title": "Reply", "type": "object", "properties": {}}


def test_a_busy_server_is_asked_again_after_the_time_it_names():
    waits: list[float] = []
    busy = httpx2.Response(429, headers={"Retry-After": "7"}, json={"error": {"message": "busy"}})
    script = Scripted([busy, httpx2.Response(500, json={}), said("yes")])
    answer = server(script, sleep=waits.append).ask(ASK, SCHEMA)
    assert (answer.reply, answer.error) == ("yes", "")
    assert (answer.input_tokens, answer.output_tokens) == (11, 7)
    assert waits[0] == 7
    assert 1 <= waits[1] <= 2  # second backoff: 2 s with jitter above a half


def test_retry_after_may_be_a_date_and_nonsense_is_overlooked():
    waits: list[float] = []
    past = httpx2.Response(503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, json={})
    odd = httpx2.Response(503, headers={"Retry-After": "soon"}, json={})
    assert server(Scripted([past, odd, said("yes")]), sleep=waits.append).ask(ASK, SCHEMA).reply
    assert waits[0] == 0
    assert 1 <= waits[1] <= 2


def test_patience_ends_and_the_failure_is_said_in_words():
    script = Scripted([httpx2.ReadTimeout("slow")] * 4)
    answer = server(script).ask(ASK, SCHEMA)
    assert answer.error == "no answer within 180 s (4 attempts)"
    assert len(script.requests) == 4


def test_a_server_that_wants_a_long_wait_is_given_up():
    script = Scripted([httpx2.Response(429, headers={"Retry-After": "3600"}, json={})])
    assert "status 429" in server(script).ask(ASK, SCHEMA).error
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "set OPENAI_API_KEY"), (404, "no model `scripted`"), (403, "status 403")],
)
def test_a_refusal_for_good_is_not_tried_again(status: int, words: str):
    script = Scripted([httpx2.Response(status, json={"error": {"message": "no"}})])
    assert words in server(script).ask(ASK, SCHEMA).error
    assert len(script.requests) == 1


def test_a_server_without_structured_output_is_asked_without_it_from_then_on():
    refusal = httpx2.Response(400, json={"error": {"message": "unknown field response_format"}})
    script = Scripted([refusal, said("a"), said("b")])
    chat = server(script)
    assert (chat.ask(ASK, SCHEMA).reply, chat.ask(ASK, SCHEMA).reply) == ("a", "b")
    assert ["response_format" in body for body in script.bodies] == [True, False, False]
    assert not chat.structured


def test_structured_output_is_asked_for_strictly():
    script = Scripted([said("{}")])
    server(script).ask(ASK, SCHEMA)
    wanted = {"name": "Reply", "schema": SCHEMA, "strict": True}
    assert script.bodies[0]["response_format"] == {"type": "json_schema", "json_schema": wanted}


def test_a_reply_over_the_limit_is_not_read():
    script = Scripted([said("x" * 1_048_576)])
    answer = server(script).ask(ASK, SCHEMA)
    assert answer.reply == ""
    assert answer.error == f"the server's answer is larger than {BODY_LIMIT_BYTES} bytes"


def test_a_compressed_body_is_refused():
    script = Scripted([httpx2.Response(200, headers={"Content-Encoding": "gzip"}, content=b"")])
    assert "compressed" in server(script).ask(ASK, SCHEMA).error
    assert script.requests[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "body",
    [
        b"<html>hello</html>",
        b"[" * 100_000,
        b"[]",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b"null",
    ],
)
def test_an_answer_that_is_no_completion_is_a_failure_in_words(body: bytes):
    kind = {"Content-Type": "application/json"}
    answer = server(Scripted([httpx2.Response(200, headers=kind, content=body)])).ask(ASK, SCHEMA)
    assert answer.error.startswith("the server's answer")


def test_a_refusal_of_the_model_is_a_reply():
    assert server(Scripted([said(None, refusal="I cannot.")])).ask(ASK, SCHEMA).reply == "I cannot."


def test_the_key_goes_into_the_header_and_nowhere_else(monkeypatch: pytest.MonkeyPatch):
    key = "sk-canary-1234567890"
    echo = httpx2.Response(400, json={"error": {"message": f"bad key {key}"}})
    script = Scripted([echo, echo, said(f"your key is {key}")])
    chat = server(script, key=key)
    assert key not in chat.ask(ASK, SCHEMA).error
    assert chat.ask(ASK, SCHEMA).reply == "your key is [key]"
    assert script.requests[0].headers["Authorization"] == f"Bearer {key}"
    assert all(key.encode() not in request.content for request in script.requests)
    assert key not in repr(chat.settings)


def test_without_a_key_no_authorization_is_sent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-the-environment")
    script = Scripted([said("{}")])
    server(script).ask(ASK, SCHEMA)
    assert "Authorization" not in script.requests[0].headers


def test_the_client_does_not_retry_on_its_own():
    assert openai.DEFAULT_MAX_RETRIES > 0  # else this test could not fail
    script = Scripted([httpx2.ConnectError("refused")] * 9)
    assert "no connection to http://server.invalid/v1" in server(script).ask(ASK, SCHEMA).error
    assert len(script.requests) == 4


def test_requests_of_the_same_question_are_equal_byte_for_byte():
    script = Scripted([said("a"), said("b")])
    chat = server(script)
    chat.ask(ASK, SCHEMA)
    chat.ask(ASK, SCHEMA)
    assert script.requests[0].content == script.requests[1].content
    assert json.loads(script.requests[0].content)["messages"] == ASK


def test_the_list_of_models_tells_a_dead_server_from_one_without_a_list():
    listed = {"object": "list", "data": [{"id": "m", "object": "model", "created": 0}]}
    assert server(Scripted([httpx2.Response(200, json=listed)])).models() == ("m",)
    assert server(Scripted([httpx2.Response(404, json={})])).models() == ()
    with pytest.raises(ValueError, match="set OPENAI_API_KEY"):
        server(Scripted([httpx2.Response(401, json={})])).models()
    with pytest.raises(ValueError, match="no connection to"):
        server(Scripted([httpx2.ConnectError("refused")])).models()
