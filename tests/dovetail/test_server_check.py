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


def test_the_offline_model_needs_none() -> None:
    assert check_server(LlmSettings()).state == "ok"
