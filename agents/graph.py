"""The wiring: planner -> hardware, RTL and compression side by side -> critic.

The graph's state holds plain JSON values, and no checkpoint store is used: the journal is the only
memory of a run. What is no plain value (the door, the context) comes in as the graph's runtime
context. A server that fails anywhere ends the trial's graph; the caller then takes the suggestion.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langsmith import tracing_context

from agents import compression, critic, hardware, planner, rtl
from agents.compression import CompressionReply
from agents.critic import Critique, Proposals
from agents.hardware import HardwareReply
from agents.llm import TrialDoor
from agents.planner import Plan
from agents.proposer import Context
from agents.rewrites import Library
from agents.rtl import RtlReply
from agents.turn import take_turn
from evaluators.design import DesignPoint


class State(TypedDict, total=False):
    """One turn of each role, as JSON; a role that did not run is missing."""

    planner: dict[str, Any]
    hardware: dict[str, Any]
    rtl: dict[str, Any]
    compression: dict[str, Any]
    critic: dict[str, Any]


@dataclass(frozen=True)
class Desk:
    """What lies on the table of one trial."""

    door: TrialDoor
    context: Context
    library: Library


def run_graph(desk: Desk) -> State:
    """Runs every role of one trial and returns their turns."""
    # Tracing to a hosted service could be on through the environment; prompts stay here.
    with tracing_context(enabled=False):
        state: State = _graph().invoke({}, context=desk)
    return state


def plan_of(state: State) -> Plan:
    """The plan that the other roles work by."""
    value = state["planner"]["value"]
    return Plan.model_validate(value) if value is not None else planner.without_plan()


def proposals_of(state: State) -> Proposals:
    """What the three roles propose."""
    return Proposals.model_validate(
        {
            "hardware": state["hardware"]["value"],
            "rtl": state["rtl"]["value"],
            "compression": state["compression"]["value"],
        }
    )


@cache
def _graph() -> Any:
    graph = StateGraph(State, context_schema=Desk)
    graph.add_node("planner", _planner)
    graph.add_node("hardware", _hardware)
    graph.add_node("rtl", _rtl)
    graph.add_node("compression", _compression)
    graph.add_node("critic", _critic)
    graph.add_edge(START, "planner")
    graph.add_conditional_edges("planner", _after_planner, [*_SIDE_BY_SIDE, END])
    graph.add_edge(list(_SIDE_BY_SIDE), "critic")
    graph.add_edge("critic", END)
    return graph.compile()


_SIDE_BY_SIDE = ("hardware", "rtl", "compression")


def _after_planner(state: State) -> list[str]:
    return [END] if state["planner"]["failed"] else list(_SIDE_BY_SIDE)


def _planner(state: State, runtime: Runtime[Desk]) -> State:
    desk = runtime.context
    turn = take_turn(
        desk.door,
        "planner",
        planner.ask(desk.context, desk.library),
        planner.SCHEMA,
        Plan,
        lambda plan: planner.parent_of(plan, desk.context),
    )
    return {"planner": turn.model_dump(mode="json")}


def _hardware(state: State, runtime: Runtime[Desk]) -> State:
    desk = runtime.context
    plan, parent = _start(state, desk)
    turn = take_turn(
        desk.door,
        "hardware",
        hardware.ask(desk.context, desk.library, plan, parent),
        hardware.SCHEMA,
        HardwareReply,
        lambda reply: hardware.apply(reply, parent),
    )
    return {"hardware": turn.model_dump(mode="json")}


def _rtl(state: State, runtime: Runtime[Desk]) -> State:
    desk = runtime.context
    plan, parent = _start(state, desk)
    turn = take_turn(
        desk.door,
        "rtl",
        rtl.ask(desk.context, desk.library, plan, parent),
        rtl.SCHEMA,
        RtlReply,
        lambda reply: rtl.apply(reply, parent),
    )
    return {"rtl": turn.model_dump(mode="json")}


def _compression(state: State, runtime: Runtime[Desk]) -> State:
    desk = runtime.context
    plan, parent = _start(state, desk)
    turn = take_turn(
        desk.door,
        "compression",
        compression.ask(desk.context, desk.library, plan, parent),
        compression.schema(desk.context.layers),
        CompressionReply,
        lambda reply: compression.apply(reply, parent, desk.context.layers),
    )
    return {"compression": turn.model_dump(mode="json")}


def _critic(state: State, runtime: Runtime[Desk]) -> State:
    if any(state[role]["failed"] for role in _SIDE_BY_SIDE):  # type: ignore[literal-required]
        return {}
    desk = runtime.context
    plan, parent = _start(state, desk)
    proposals = proposals_of(state)
    turn = take_turn(
        desk.door,
        "critic",
        critic.ask(desk.context, desk.library, plan, parent, proposals),
        critic.schema(desk.context.layers),
        Critique,
        lambda reply: critic.assemble(reply, desk.context, parent, proposals),
    )
    return {"critic": turn.model_dump(mode="json")}


def _start(state: State, desk: Desk) -> tuple[Plan, DesignPoint]:
    plan = plan_of(state)
    return plan, planner.parent_of(plan, desk.context)
