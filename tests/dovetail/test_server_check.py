"""What `dovetail doctor --llm` and a run's beginning say of a chat server."""

import httpx2
import pytest

from agents.mock import OfflineModel
from dovetail.server_check import check_server
from dovetail.settings import LlmSettings
from tests.agents.scripted import Scripted, said, server

SETTINGS = LlmSettings(provider="openai")


def test_a_server_that_does_the_work_is_ok() -> None:
    found = check_server(SETTINGS, server(OfflineModel()))
    assert found.state == "ok"
    assert "answers as gpt-5-mini" in found.detail and found.detail.endswith("ready")


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        (said("with pleasure!"), "missing", "not with the JSON"),
        (httpx2.Response(401, json={}), "broken", "wants a key; set OPENAI_API_KEY"),
    ],
)
def test_one_that_does_not_is_named_with_the_remedy(
    answer: httpx2.Response, state: str, words: str
) -> None:
    found = check_server(SETTINGS, server(Scripted([answer])))
    assert found.state == state
    assert words in found.detail and "dovetail doctor --llm" in found.remedy


FAULTS: list[tuple[httpx2.Response | Exception, str]] = [
    (httpx2.Response(401, json={}), "export OPENAI_API_KEY=KEY"),
    (httpx2.Response(403, json={}), "let this key use `gpt-5-mini`"),
    (httpx2.Response(404, json={}), "name a model that the server has"),
    (httpx2.Response(429, json={}), "wait, or ask"),
    (httpx2.Response(500, json={}), "the server's own log"),
    (httpx2.Response(503, json={}), "the server's own log"),
    (httpx2.Response(200, text="<html>"), "root of the chat completions API"),
    (httpx2.ConnectError("refused"), "start the server, or mend the host and port"),
    (httpx2.ReadTimeout("slow"), "start the server, or mend the host and port"),
    (said("with pleasure!"), "keeps to a JSON schema"),
]


@pytest.mark.parametrize(("answer", "remedy"), FAULTS)
def test_each_fault_has_a_remedy_of_its_own(
    answer: httpx2.Response | Exception, remedy: str
) -> None:
    found = check_server(SETTINGS, server(Scripted([answer] * 10)))
    assert remedy in found.remedy
    others = {other for _, other in FAULTS} - {remedy}
    assert not any(other in found.remedy for other in others)


def test_the_offline_model_needs_none() -> None:
    assert check_server(LlmSettings()).state == "ok"
