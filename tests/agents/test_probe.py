"""What one call to a server shows, and what importing the crew's light files costs."""

import subprocess
import sys

import httpx2
import pytest

from agents import compression, critic, hardware, planner, rtl
from agents.mock import OfflineModel
from agents.probe import probe
from tests.agents.scripted import Scripted, said, server
from tests.agents.toy import LAYERS


def test_the_offline_model_is_ready():
    found = probe(server(OfflineModel()))
    assert (found.answered, found.structured, found.readable) == (True, True, True)
    assert found.message == "ready"


def test_a_server_without_structured_output_is_told_apart():
    found = probe(server(Scripted([httpx2.Response(422, json={}), said('{"ready": true}')])))
    assert (found.answered, found.structured, found.readable) == (True, False, True)
    assert "without structured output" in found.message


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (httpx2.Response(401, json={}), "set OPENAI_API_KEY"),
        (httpx2.Response(404, json={}), "no model `scripted`"),
        (said("Hello there!"), "not with the JSON"),
    ],
)
def test_what_is_wrong_is_said_in_words(step: httpx2.Response, words: str):
    found = probe(server(Scripted([step])))
    assert not found.readable
    assert words in found.message


def test_light_files_import_nothing_heavy():
    code = (
        "import sys, agents.proposer, agents.sampler, agents.llm, agents.rewrites;"
        "import evaluators.space;"
        "evaluators.space.knobs();"
        "print([m for m in ('torch', 'openai', 'httpx2', 'langgraph', 'optuna', 'amaranth') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "schema",
    [
        *(room.SCHEMA for room in (planner, hardware, rtl)),
        *(room.schema(layers) for room in (compression, critic) for layers in ((), LAYERS)),
    ],
)
def test_schemas_keep_to_the_strict_subset(schema: object):
    """Every object names all its fields and allows no other; nothing stands beside a `$ref`."""

    def check(node: object) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                assert list(node) == ["$ref"]
            if node.get("type") == "object":
                assert node["additionalProperties"] is False
                assert sorted(node["required"]) == sorted(node["properties"])
            assert "default" not in node
            for below in node.values():
                check(below)
        elif isinstance(node, list):
            for below in node:
                check(below)

    check(schema)
