"""The crew: the agents as one proposer."""

import json

from agents import compression, critic, hardware, planner, rtl
from agents.critic import Critique, Proposals
from agents.graph import Desk, State, plan_of, proposals_of, run_graph
from agents.llm import ROLES, ChatDoor
from agents.proposer import Context, Proposal
from agents.rewrites import Library
from agents.sampler import suggestion_alone
from agents.text import one_line
from agents.turn import Turn
from hwlib.frozen import Frozen

CHARS_PER_TOKEN = 3.5
"""Characters of English and JSON a token, about; for estimates alone."""

ROW_CHARS = 1600
"""Characters that one more trial adds to a prompt's history, about."""

REPLY_TOKENS = 700
"""Tokens of a reply without a source file, about, thinking left out."""


class Estimate(Frozen):
    """What a run would ask of a server, about; nothing of it is measured."""

    calls: int
    """Calls where nothing is refused; mends can add as many again."""

    input_tokens: int
    """Tokens of all prompts."""

    output_tokens: int
    """Tokens of all replies, a model's thinking left out."""


class AgentProposer:
    """LLM roles behind one door; falls back to the suggestion where they cannot go on.

    Args:
        door: The chat model, with the run's records and budget.
        library: The units and the playbook, as text.
    """

    def __init__(self, door: ChatDoor, library: Library) -> None:
        self._door, self._library = door, library

    def propose(self, context: Context) -> Proposal:
        """The agents' design, or the suggestion with the reason in its rationale.

        Raises:
            ReplayMiss: in a replay, where a question is not on record.
        """
        door = self._door.trial(context.trial)
        if not door.open:
            left = self._door.calls_left(context.trial)
            return suggestion_alone(
                context,
                f"the budget of calls leaves {left}, and a trial takes {len(ROLES)}",
            )
        state = run_graph(Desk(door, context, self._library))
        return _proposal(state, context)

    def estimate(self, context: Context, iterations: int) -> Estimate:
        """Calls and tokens of a run of `iterations` designs that begins with `context`."""
        plan, parent = planner.without_plan(), context.suggestion
        nothing = Proposals(hardware=None, rtl=None, compression=None)
        prompts = [
            planner.ask(context, self._library),
            hardware.ask(context, self._library, plan, parent),
            rtl.ask(context, self._library, plan, parent),
            compression.ask(context, self._library, plan, parent),
            critic.ask(context, self._library, plan, parent, nothing),
        ]
        chars = len(json.dumps(prompts))
        rows = iterations * (iterations - 1) // 2
        source = max((len(r.source) for r in self._library.rewrites), default=0)
        return Estimate(
            calls=len(ROLES) * iterations,
            input_tokens=int(
                (chars * iterations + len(ROLES) * ROW_CHARS * rows) / CHARS_PER_TOKEN
            ),
            output_tokens=int(iterations * (len(ROLES) * REPLY_TOKENS + source / CHARS_PER_TOKEN)),
        )


def _proposal(state: State, context: Context) -> Proposal:
    turns = [Turn.model_validate(state[role]) for role in ROLES if role in state]
    rejections = tuple(r for turn in turns for r in turn.rejections)
    if failed := next((turn.failed for turn in turns if turn.failed), ""):
        return suggestion_alone(context, f"the chat model failed ({failed})", rejections)
    plan, proposals = plan_of(state), proposals_of(state)
    value = state["critic"]["value"]
    skipped = _skipped_roles(state)
    if len(skipped) == len(ROLES):
        return suggestion_alone(context, "every role's reply was refused", rejections)
    critique = (
        Critique.model_validate(value)
        if value is not None
        else critic.accept_all("The critic's reply was refused; what was proposed stands.")
    )
    try:
        design = critic.assemble(critique, context, planner.parent_of(plan, context), proposals)
    except ValueError as error:
        return suggestion_alone(context, f"the proposals make no new design ({error})", rejections)
    if critique.take == "suggestion" or design == context.suggestion:
        return Proposal(
            parent_trial=None,
            design=context.suggestion,
            author="optuna",
            rationale=one_line(critique.rationale),
            rejections=rejections,
        )
    return Proposal(
        parent_trial=plan.parent_trial,
        design=design,
        author="agents",
        rationale=one_line(_with_skipped(critique.rationale, skipped)),
        rejections=rejections,
    )


def _skipped_roles(state: State) -> list[str]:
    """Roles whose replies were refused for good."""
    return [role for role in ROLES if role in state and state[role]["value"] is None]


def _with_skipped(rationale: str, skipped: list[str]) -> str:
    return f"{rationale} (Skipped: {', '.join(skipped)}.)" if skipped else rationale
