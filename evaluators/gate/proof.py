"""How far an edit is shown to do what the shipped unit does: exhaustively, by proof, or by tests.

Exhaustive: each result hangs on one set of operands, whatever came before and after, as a solver
shows; and the vectors held each such set against the integer reference.

Proved: it does what the shipped unit does, at the parameters of the core, in every cycle after a
reset that the unit's protocol allows. Pipelines are unrolled to their depth from any state. All
others are proved by induction: after a reset both agree, and from any states that agree they go on
so. An edit may bring an invariant for the second part; it is proved with it.

Tested: neither; nothing beyond the vectors is known.

A solver's word that something cannot be counts only if the same solver, asked the same of the edit
with an inverter planted, says that it can. A difference that a solver finds from a reset on is
simulated and held against the reference; if it is one there, the edit is wrong.
"""

import bisect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from evaluators import cache
from evaluators.gate import questions, solvers
from evaluators.gate.frames import NotFramed, depth_of, frame_of
from evaluators.gate.invariants import BadInvariant, Invariant, invariant_in
from evaluators.gate.protocols import Streaming, protocol_of
from evaluators.gate.questions import Pair, Question
from evaluators.gate.stimuli import PUBLIC_SEED
from evaluators.metrics import Shown
from evaluators.silicon.yosys import YosysError, YosysTimeout
from hwlib.contracts.contract import Port, Trace, UnitContract
from hwlib.elaborate import UnitNetlist
from hwlib.frozen import Frozen

EXHAUSTIVE_BITS = 20
"""Most bits of operands that the vectors can go through."""

SEARCH_CYCLES = 5
"""Cycles after a reset that are searched for a difference where a proof does not close."""

Simulate = Callable[[Sequence[Trace]], str]
"""Drives the edit from a reset on, for each trace anew: the first difference from the reference in
words, or an empty string."""


class Asked(Frozen):
    """One question to the solvers, and how it went."""

    question: str
    """Its name."""

    outcome: Literal["shown", "not so", "open"]
    """`not so`: there is a counterexample; `open`: no solver found out."""

    tool: str = ""
    """Who found out; empty for `open`."""

    processor_s: float = 0.0
    """Processor time of that solver, for the planted question and the real one."""


class Proof(Frozen):
    """How far an edit was shown to be right."""

    shown: Shown
    """How far."""

    difference: str = ""
    """Where it is not: what it does and should do, and what to drive; empty where none is known."""

    note: str = ""
    """Why it is no proof, where it is none."""

    asked: tuple[Asked, ...] = ()
    """The questions, in their order."""


class Prover(Protocol):
    """Something that shows how far an edit is right, as `prove` does."""

    def __call__(
        self,
        contract: UnitContract,
        shipped: UnitNetlist,
        edit: UnitNetlist,
        source: str,
        simulate: Simulate,
        cache_dir: Path,
    ) -> Proof:
        """How far."""
        ...


def no_proof(
    contract: UnitContract,
    shipped: UnitNetlist,
    edit: UnitNetlist,
    source: str,
    simulate: Simulate,
    cache_dir: Path,
) -> Proof:
    """Leaves it at the vectors, for who has no time: a `Prover` that tries nothing."""
    return Proof(shown="tested", note="no proof was tried")


def prove(
    contract: UnitContract,
    shipped: UnitNetlist,
    edit: UnitNetlist,
    source: str,
    simulate: Simulate,
    cache_dir: Path,
) -> Proof:
    """Shows how far an edit that passed the vectors is right; the answer is kept by content.

    Args:
        contract: Of the unit, at the parameters of the core.
        shipped: The shipped unit at the same parameters.
        edit: The edit: a netlist that the gate's laws let through.
        source: The edit's text, for its invariant.
        simulate: Simulates the edit.
        cache_dir: The store's folder.
    """
    if contract.handshake:
        note = f"proofs are of units that never wait, and of no {contract.unit}"
        return Proof(shown="tested", note=note)
    try:
        tools = solvers.versions()
        invariant = invariant_in(source)
    except (solvers.Unanswered, BadInvariant) as error:
        return Proof(shown="tested", note=str(error))
    inputs = {
        "shipped": shipped.model_dump_json(),
        "edit": edit.model_dump_json(),
        "contract": f"{contract.class_name}{contract.class_arguments}",
        "invariant": str(invariant.lines),
        "limit": str(solvers.PROCESSOR_S),
        "tools": str(tools),
        "code": cache.code_sha256(),
    }

    def attempted() -> Proof:
        return _Attempt(contract, shipped, edit, invariant, simulate).proof()

    return cache.remembered(cache_dir, "proofs", cache.key(inputs), Proof, attempted)


class _Attempt:
    """One attempt at a proof; the questions asked so far."""

    def __init__(
        self,
        contract: UnitContract,
        shipped: UnitNetlist,
        edit: UnitNetlist,
        invariant: Invariant,
        simulate: Simulate,
    ) -> None:
        self._contract, self._shipped, self._edit = contract, shipped, edit
        self._invariant, self._simulate = invariant, simulate
        self._asked: list[Asked] = []
        self._end_s = time.monotonic() + solvers.DEADLINE_S

    def proof(self) -> Proof:
        """How far it goes; a tool that fails leaves it at the tests."""
        try:
            return self._proof()
        except (NotFramed, BadInvariant) as error:
            return self._tested(str(error))
        except YosysTimeout:
            return self._tested("the time for a proof was over")
        except YosysError:
            whose = " with the edit's invariant" if self._invariant.lines else ""
            return self._tested(f"Yosys cannot read a question{whose}")

    def _proof(self) -> Proof:
        unit, protocol = self._contract.unit, protocol_of(self._contract)
        pair = Pair(
            contract=self._contract,
            protocol=protocol,
            shipped=frame_of(unit, self._shipped.rtlil),
            edit=frame_of(unit, self._edit.rtlil),
            latencies=(self._shipped.latency, self._edit.latency),
            invariant=self._invariant,
        )
        enable = protocol.enable if isinstance(protocol, Streaming) else ""
        if isinstance(protocol, Streaming):
            if not enable and self._goes_through_all() and self._hangs_on_operands(pair):
                return Proof(shown="exhaustive", asked=tuple(self._asked))
            if self._edit.behaviour is not None:  # it does not do what the shipped unit does
                return self._tested("its results may hang on more than their operands")
            depths = tuple(
                depth_of(unit, netlist.rtlil, {enable: 1} if enable else {})
                for netlist in (self._shipped, self._edit)
            )
            if depths == pair.latencies:
                return self._by_depth(pair)
        return self._by_induction(pair)

    def _by_depth(self, pair: Pair) -> Proof:
        asked = [questions.after_its_depth(pair)]
        if pair.protocol.controls:
            asked.append(questions.standing(pair))
        return self._all_shown(pair, asked)

    def _by_induction(self, pair: Pair) -> Proof:
        # Some operands at least, or no planted bug would show: those that wait, or a cycle's.
        shipped, edit = pair.latencies
        cycles = 0 if edit < shipped else 1
        asked = [questions.from_reset(pair, cycles), questions.from_agreement(pair)]
        proof = self._all_shown(pair, asked)
        if proof.shown == "proved" or proof.difference:
            return proof
        bare = replace(pair, invariant=Invariant())
        search = questions.from_reset(bare, SEARCH_CYCLES)
        _, difference = self._ask(bare, search._replace(name="search"))
        return proof.model_copy(update={"difference": difference, "asked": tuple(self._asked)})

    def _all_shown(self, pair: Pair, asked: Sequence[Question]) -> Proof:
        for question in asked:
            outcome, difference = self._ask(pair, question)
            if outcome != "shown":
                why = "does not hold" if outcome == "not so" else "could not be decided in time"
                proof = self._tested(f"the question {question.name!r} {why}")
                return proof.model_copy(update={"difference": difference})
        return Proof(shown="proved", asked=tuple(self._asked))

    def _hangs_on_operands(self, pair: Pair) -> bool:
        """Whether each result of the edit is a function of one set of operands."""
        latency = self._edit.latency
        twins = replace(
            pair, shipped=pair.edit, latencies=(latency, latency), invariant=Invariant()
        )
        return self._ask(twins, questions.of_its_operands(twins))[0] == "shown"

    def _ask(self, pair: Pair, question: Question) -> tuple[str, str]:
        """The outcome, and where there is a counterexample that stands: the difference."""
        try:
            answer = solvers.answer(pair, question, max(1.0, self._end_s - time.monotonic()))
        except solvers.Unanswered:
            self._asked.append(Asked(question=question.name, outcome="open"))
            return "open", ""
        outcome: Literal["shown", "not so"] = "not so" if answer.possible else "shown"
        self._asked.append(
            Asked(
                question=question.name,
                outcome=outcome,
                tool=answer.tool,
                processor_s=round(answer.processor_s, 2),
            )
        )
        return outcome, self._difference(question, answer.values) if answer.possible else ""

    def _difference(self, question: Question, values: Mapping[str, int]) -> str:
        """Simulates every way that a counterexample may go; what differs from the reference."""
        ways = [question.came(trace, values) for trace in question.traces]
        stimuli = [stimulus for way in ways if (stimulus := self._stimulus(way)) is not None]
        stimuli = [each for each in stimuli if _is_allowed(each, self._edit.latency)]
        if not stimuli or not self._simulate(stimuli):
            return ""
        counts = range(1, len(stimuli) + 1)
        first = bisect.bisect_left(counts, True, key=lambda n: bool(self._simulate(stimuli[:n])))
        driven = "; ".join(
            f"{name} {', '.join(map(str, column))}" for name, column in stimuli[first].items()
        )
        mismatch = self._simulate(stimuli[first : first + 1])
        return f"{mismatch}; from a reset on, cycle by cycle: {driven}"

    def _stimulus(self, cycles: list[dict[str, int]]) -> Trace | None:
        """What comes after the last reset, as a contract's trace."""
        resets = [at for at, cycle in enumerate(cycles) if cycle["rst"]]
        rest = cycles[resets[-1] + 1 :] if resets else cycles
        if len(rest) <= self._edit.latency:  # no result comes
            return None
        return {
            port.name: _signed(np.array([cycle[port.name] for cycle in rest], np.int64), port)
            for port in self._contract.inputs
        }

    def _goes_through_all(self) -> bool:
        """Whether the vectors hold every set of operands that has a result."""
        inputs, latency = self._contract.inputs, self._edit.latency
        bits = sum(port.width for port in inputs)
        if bits > EXHAUSTIVE_BITS:
            return False
        every = np.arange(1 << bits)
        every = np.concatenate([every, every[:latency]])
        places = np.cumsum([0, *(port.width for port in inputs)])
        trace = {
            port.name: _signed(every >> place & (1 << port.width) - 1, port)
            for port, place in zip(inputs, places, strict=False)
        }
        seen = np.zeros(1 << bits, np.bool_)
        stimulus = self._contract.stimulus(latency, PUBLIC_SEED)
        codes = sum(
            (stimulus[port.name] & (1 << port.width) - 1) << place
            for port, place in zip(inputs, places, strict=False)
        )
        seen[np.asarray(codes)[self._checked(stimulus)]] = True
        needed = self._checked(trace)[: 1 << bits]
        return bool((seen | ~needed).all())

    def _checked(self, stimulus: Trace) -> npt.NDArray[np.bool_]:
        """Whether the result of each cycle's operands is compared, bool [cycles]."""
        (output,) = self._contract.outputs
        latency = self._edit.latency
        checked = self._contract.expected(stimulus, latency).checked[output.name]
        return np.concatenate([checked[latency:], np.zeros(latency, np.bool_)])

    def _tested(self, note: str) -> Proof:
        return Proof(shown="tested", note=note, asked=tuple(self._asked))


def _is_allowed(stimulus: Trace, latency: int) -> bool:
    """Whether an element's trace keeps what questions do not ask of every probe."""
    if "capture" not in stimulus:
        return True
    capture, shift = stimulus["capture"] == 1, stimulus["shift"] == 1
    just = np.concatenate([[False], capture[:-1]])
    before = np.maximum.accumulate(just)
    if (shift & (capture | just | ~before)).any():
        return False
    return "mode" not in stimulus or _has_tiles_of_one_mode(stimulus, latency)


def _has_tiles_of_one_mode(stimulus: Trace, latency: int) -> bool:
    """Whether what adds to one sum is of one mode: the one law that no question knows."""
    # A capture takes what came up to `latency` cycles before it.
    captures = np.concatenate([stimulus["capture"], np.zeros(latency, np.int64)])
    tile = np.cumsum(captures)[latency - 1 : -1]
    adds = stimulus["a"] != 0
    modes: dict[int, set[int]] = {}
    for number, mode in zip(tile[adds].tolist(), stimulus["mode"][adds].tolist(), strict=True):
        modes.setdefault(number, set()).add(mode)
    return all(len(each) == 1 for each in modes.values())


def _signed(raw: npt.NDArray[np.int64], port: Port) -> npt.NDArray[np.int64]:
    if not port.signed:
        return raw
    half = np.int64(1) << (port.width - 1)
    value: npt.NDArray[np.int64] = (raw ^ half) - half
    return value
