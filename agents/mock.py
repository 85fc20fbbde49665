"""The offline model: answers behind the same client, and reads nothing but the prompt.

`OfflineModel` is an HTTP transport. It parses the request that the client sends, as a remote model
would, finds its role in the system message, the sections in the user message, and answers with a
chat completion. It holds no state and sees no Python object of ours: equal requests, equal replies.

The planner and the critic stand here, the three roles between them in `agents/craft.py`.
"""

import json
import math
import random
import re

import httpx2

from agents import craft
from agents.craft import PENDING
from agents.estimates import BITS, COMPOSABLE, MEAN_BITS, Json

MODEL_NAME = "dovetail-offline-2"
"""Its name in records; the number rises when its answers change."""

_SECTION = re.compile(r"^## ([^\n]+)\n(`{3,})([a-z]*)\n(.*?)\n\2$", re.MULTILINE | re.DOTALL)

QUALITY_BUDGET_NATS = (0.05, 0.15, 0.15, 0.003)
"""Increase of the NLL up to which more quality may be spent; it turns with the trial."""

SPENDING = ("prune", "prune", "narrow", "keep")
"""What quality is spent on; it turns with the trial, as the weighing of `_cost` does."""

EXPLORE_EVERY = 6
"""Every so many trials Optuna's suggestion gets a say."""

STALLED_TRIALS = 4
"""So many latest trials without a place on the front, and the suggestion is adopted as a whole."""


class OfflineModel(httpx2.BaseTransport):
    """Serves chat completions without a network."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answers one request."""
        body = json.loads(request.read())
        messages = body["messages"]
        text = json.dumps(answer(messages), sort_keys=True)
        asked = sum(len(m["content"]) for m in messages) // 4
        return httpx2.Response(200, json=_completion(body["model"], text, asked))


def answer(messages: list[dict[str, str]]) -> Json:
    """The reply to a prompt, as JSON."""
    role = messages[0]["content"].split("\n", 1)[0].removeprefix("# ").strip()
    if role == "probe":
        return {"ready": True}
    sections = read_sections(messages[1]["content"])
    run = sections["run"]
    chance = random.Random(f"{run['seed']}/{run['trial']}/{role}/{len(messages)}")
    match role:
        case "planner":
            return _plan(sections)
        case "hardware":
            return craft.hardware(sections, chance)
        case "rtl":
            return craft.rtl(sections)
        case "compression":
            return craft.compression(sections, chance)
        case "critic":
            return _criticise(sections, refused=len(messages) > 2)
        case _:
            return {"note": f"I know no role `{role}`."}


def read_sections(text: str) -> Json:
    """The sections of a prompt by title: JSON values, lists of them, or file texts."""
    found: Json = {}
    for title, _, language, body in _SECTION.findall(text):
        if language == "json":
            found[title] = json.loads(body)
        elif language == "jsonl":
            found[title] = [json.loads(line) for line in body.splitlines() if line]
        else:
            found[title] = body + "\n"
    return found


def _plan(sections: Json) -> Json:
    measured = [row for row in sections["history"] if row["status"] == "ok"]
    trial = sections["run"]["trial"]
    if not measured:
        return {
            "parent_trial": None,
            "hardware": "keep: measure the suggestion's hardware",
            "rtl": "keep: no worst path is known",
            "compression": "temper: measure the hardware with the model as it is",
            "why": "Nothing is measured yet, so Optuna's hardware is a start as good as any.",
        }
    explores = trial % EXPLORE_EVERY == EXPLORE_EVERY - 1
    if explores and not any(row["on_front"] for row in measured[-STALLED_TRIALS:]):
        return {
            "parent_trial": None,
            "hardware": "adopt: measure the suggestion as it is",
            "rtl": "adopt: measure the suggestion as it is",
            "compression": "adopt: measure the suggestion as it is",
            "why": f"None of the last {STALLED_TRIALS} trials reached the front: explore.",
        }
    parent = min(measured, key=lambda row: _cost(row, trial))
    share = parent["metrics"].get("area_share", 1.0)
    lost = parent["metrics"].get("nll_increase_nats", 0.0)
    hardware = "shrink" if share > 1 else "grow" if share < 0.9 else "trade"
    spent = any(path.startswith("compression.") for path in parent["knobs"])
    over = spent and lost > QUALITY_BUDGET_NATS[trial % 4]
    compression = "restore" if over else SPENDING[trial % 4]
    if explores and trial % (2 * EXPLORE_EVERY) < EXPLORE_EVERY:
        hardware = "merge"
    elif explores:
        compression = "merge"
    shipped = not parent["edits"] and not any(p.startswith("hardware.") for p in parent["knobs"])
    if compression == "keep" and shipped:
        hardware = "change"  # the accelerator alone: a faster one at the best quality
    elif hardware != "merge" and _composable_untried(parent, sections):
        hardware = "compose"  # what few bits are worth there, no other measurement tells
    if compression == "keep" and hardware != "change":
        compression = "prune"
    worst = parent["details"].get("worst_path_unit", "nothing known")
    return {
        "parent_trial": parent["trial"],
        "hardware": f"{hardware}: the area is {share:.0%} of the limit",
        "rtl": f"rewrite: the worst path runs through {worst}",
        "compression": f"{compression}: the NLL is {lost:+.3f} nats from the float model's",
        "why": f"Trial {parent['trial']} is the best by this trial's weighing of the objectives.",
    }


def _composable_untried(parent: Json, sections: Json) -> bool:
    """Whether the parent's weights have few bits, and composable elements have not met any such."""

    def narrow(row: Json) -> bool:
        return bool(min(row["knobs"].get(path, 8) for path in (f"{BITS}.bits", MEAN_BITS)) <= 4)

    return narrow(parent) and not any(
        narrow(row) and row["knobs"].get(COMPOSABLE)
        for row in [*sections["history"], *sections[PENDING]]
    )


def _cost(row: Json, trial: int) -> tuple[bool, float]:
    """Infeasible ones last and by area; else a weighing of the objectives that turns with `trial`.

    One nat of NLL is thought worth a factor of e**6 in latency or energy. The weighing leans to
    another objective each time, so that the front grows on all its sides.
    """
    metrics = row["metrics"]
    if not row["feasible"]:
        return True, metrics.get("area_share", math.inf)
    lean = {0: (1.0, 1.0, 6.0), 1: (1.5, 0.5, 4.0), 2: (0.5, 1.5, 4.0), 3: (1.0, 1.0, 12.0)}
    latency, energy, quality = lean[trial % 4]
    return False, (
        latency * math.log(max(metrics.get("latency_s", 1.0), 1e-12))
        + energy * math.log(max(metrics.get("energy_j", 1.0), 1e-15))
        + quality * metrics.get("nll_nats", 0.0)
    )


def _criticise(sections: Json, refused: bool) -> Json:
    """Accepts what makes a new design, with as little dropped as it takes.

    Args:
        refused: The first reply was refused, since a design that is not shown here is the same.
    """
    if "refused" in sections["together"]:
        return _verdict(sections, "hardware" if refused or not _edits_element(sections) else "rtl")
    drops = (
        ["compression", "rtl", "hardware"] if refused else ["", "compression", "rtl", "hardware"]
    )
    return _verdict(sections, next((role for role in drops if not _known(sections, role)), None))


def _edits_element(sections: Json) -> bool:
    """Whether the RTL proposal is of an array element, which a hardware proposal can take away."""
    proposal = sections["proposals"]["rtl"]
    return proposal is not None and proposal["unit"] in ("mac", "composable_mac")


def _verdict(sections: Json, dropped: str | None) -> Json:
    """Everything accepted but `dropped` (empty: nothing); `None` takes the suggestion."""
    measured = any(row["status"] == "ok" for row in sections["history"])
    adopts = sections["parent"]["parent_trial"] is None and measured
    take = "suggestion" if adopts or dropped is None else "proposals"
    words = {
        role: "drop" if role == dropped else "accept" for role in ("hardware", "rtl", "compression")
    }
    reasons = [
        proposal["why"]
        for role, proposal in sections["proposals"].items()
        if proposal is not None and words[role] == "accept"
    ]
    return {
        "take": take,
        "hardware": {"verdict": words["hardware"], "changes": []},
        "rtl": words["rtl"],
        "compression": {"verdict": words["compression"], "changes": []},
        "rationale": " ".join(reasons)
        if take == "proposals"
        else "The suggestion is measured as it is: it explores, and nothing better is at hand.",
    }


def _known(sections: Json, dropped: str) -> bool:
    """Whether the proposals together, one of them dropped, are measured or under measurement."""
    parent, proposal = sections["parent"], sections["proposals"].get(dropped)
    knobs, edits = dict(sections["together"]["knobs"]), sections["together"]["edits"]
    if dropped == "rtl":
        absent = "mac" if knobs.get(COMPOSABLE) else "composable_mac"
        edits = [edit for edit in parent["edits"] if edit["unit"] != absent]
    elif proposal is not None:
        paths = [change["path"] for change in proposal["changes"]]
        for path in [*paths, *([craft.OVERRIDES] if proposal.get("overrides") else [])]:
            knobs.pop(path, None)
            if path in parent["knobs"]:
                knobs[path] = parent["knobs"][path]
    return any(
        row["knobs"] == knobs and row["edits"] == edits
        for row in [*sections["history"], *sections[PENDING]]
    )


def _completion(model: str, text: str, input_tokens: int) -> Json:
    output_tokens = len(text) // 4
    return {
        "id": "offline",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text, "refusal": None},
            }
        ],
        "usage": {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        },
    }
