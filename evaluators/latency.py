"""Cycles of whole inferences on a core: every tensor and the answer's token compared, bit for bit.

A question is lowered twice. One program stores every tensor on its way, and what the netlist stored
must equal the integer model that gave the accuracy; the other stores the answer alone, and its
cycles are the question's. A difference is an error, not a figure. No command's cycles depend on
data, so questions of equal lengths share programs and cycles; each is compared by itself.

Without a C++ compiler no netlist can be run. Then the commands go through the numpy model of the
core, the same comparisons are made, and the cycles are those that `hwlib.timeline` predicts.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evaluators.meter import PowerMeter
from evaluators.roofline import completed_cycles, kind
from evaluators.silicon.core_power import CorePower
from evaluators.silicon.simulation import NOTHING, Dram, simulate_core
from evaluators.target import Target
from evaluators.traffic import Traffic, traffic
from hwlib.commands import QUEUES, AnyCommand, Queue, queue_of
from hwlib.config import CoreConfig
from hwlib.cycles import CoreLatencies
from hwlib.frozen import Frozen
from hwlib.reference.core import execute
from hwlib.timeline import timeline
from hwlib.unit_latencies import UnitLatencies
from swopt.compiler.choices import MAPPER, Choices
from swopt.compiler.host import Inputs
from swopt.compiler.network import Network
from swopt.compiler.program import Program, lower, token, unpack, unpack_result, with_inputs
from swopt.workloads.vqa import Questions
from swopt.workloads.workload import Workload

BURST_BEATS = 16
"""Beats over which the DRAM's bandwidth is kept, where the core could take more."""

Bytes = NDArray[np.uint8]


class NotBitExact(Exception):
    """The core computed something else than the integer model."""


class ModelOnCore(Frozen):
    """The whole inferences of some questions on a core."""

    cycles: tuple[int, ...]
    """Cycles of each question, from its first command until all are complete."""

    predicted_cycles: tuple[int, ...]
    """The same as `hwlib.timeline` predicts them."""

    operator_cycles: dict[str, int]
    """Cycles up to the last completion, shared out among the kinds of operators."""

    traffic: Traffic
    """What all programs together moved and computed, without the stores for comparison."""

    activation_words: int
    """Most words of the activation memory that are in use at once, of any question."""

    compared_tensors: int
    """Tensors that were compared with the integer model, all equal."""

    compared_values: int
    """Their values."""

    power: tuple[CorePower, ...]
    """Mean power of the core in each question; empty where none was measured."""

    engine: str
    """What ran the programs."""

    @property
    def questions(self) -> int:
        """Questions that were run."""
        return len(self.cycles)

    @property
    def cycles_per_question(self) -> float:
        """Mean cycles of one question."""
        return sum(self.cycles) / self.questions


@dataclass(frozen=True)
class Ran:
    """What a program did.

    Attributes:
        dram: The DRAM afterwards.
        completed: The cycle of each completion, by queue.
        cycles: All cycles.
        power: Mean power of the core; None where it was not asked for or cannot be measured.
    """

    dram: Bytes
    completed: Mapping[Queue, Sequence[int]]
    cycles: int
    power: CorePower | None = None


class Engine(Protocol):
    """Runs programs of one core beside one DRAM."""

    @property
    def name(self) -> str:
        """What it is, for reports."""
        ...

    def run(self, program: Program, metered_cycles: int | None = None) -> Ran:
        """Runs a program; with about how many cycles it takes, its power is measured."""
        ...


@dataclass(frozen=True)
class Rtl:
    """The linked netlist in Verilator.

    Attributes:
        rtlil: The netlist.
        config: Its knobs.
        dram: How the DRAM answers.
        cache_dir: Where built simulators are kept.
        meter: Measures its power; None for no power.
    """

    rtlil: str
    config: CoreConfig
    dram: Dram
    cache_dir: Path
    meter: PowerMeter | None = None
    name: str = "RTL in Verilator"

    def run(self, program: Program, metered_cycles: int | None = None) -> Ran:
        """As `Engine.run`."""
        meter, watched = self.meter, None
        if meter is not None and metered_cycles is not None:
            watched = meter.watch(metered_cycles)
        # One simulator does for all programs of a core that is metered.
        idle = NOTHING if meter is not None else None
        done = simulate_core(
            self.rtlil,
            program.commands,
            program.dram,
            self.config,
            self.cache_dir,
            self.dram,
            recording=watched.recording if watched else idle,
        )
        power = None
        if meter is not None and watched is not None:
            power = meter.read(watched, done, traffic(program.commands, self.config))
        return Ran(np.frombuffer(done.dram, np.uint8), done.completed, done.total_cycles, power)


@dataclass(frozen=True)
class Predicted:
    """The numpy model of the core for the numbers, the timeline for the cycles.

    Attributes:
        config: The core.
        dram: How the DRAM answers.
        latencies: Of the core's units.
    """

    config: CoreConfig
    dram: Dram
    latencies: CoreLatencies
    name: str = "numpy model of the core, cycles predicted: no C++ compiler for the RTL"

    def run(self, program: Program, metered_cycles: int | None = None) -> Ran:
        """As `Engine.run`; it has no power."""
        after = execute(program.commands, program.dram, self.config)
        line = timeline(program.commands, self.config, self.dram, self.latencies)
        completed: dict[Queue, list[int]] = {queue: [] for queue in QUEUES}
        for command, cycle in zip(program.commands, line.completed, strict=True):
            completed[queue_of(command)].append(cycle)
        return Ran(after, completed, line.total_cycles)


def dram_of(target: Target, config: CoreConfig, clock_hz: float) -> Dram:
    """How the target's DRAM answers a core of some clock; a faster one brings no bandwidth.

    Where the core's link could take more than the DRAM gives, bursts of `BURST_BEATS` are followed
    by as many idle cycles as it takes, rounded up.
    """
    burst_cycles = math.ceil(
        BURST_BEATS * config.dma_bytes * clock_hz / target.dram_figures.bytes_per_s - 1e-9
    )
    gap = max(0, burst_cycles - BURST_BEATS)
    return Dram(
        latency_cycles=math.ceil(target.dram_latency_s * clock_hz - 1e-9),
        burst_beats=BURST_BEATS if gap else 0,
        gap_cycles=gap,
    )


def one_question_a_set(workload: Workload) -> Questions:
    """The first validation question of each image set: what the RTL is run on."""
    questions = workload.validation()
    firsts = [questions.sets.index(name) for name in dict.fromkeys(questions.sets)]
    return questions.take(firsts)


def longest_question(workload: Workload) -> Questions:
    """The validation or test question of the most tokens: it has to fit the core, too."""
    asked = [workload.validation(), workload.test()]
    tokenizer = workload.vlm.tokenizer
    lengths = [[len(tokenizer.encode(text).ids) for text in each.texts] for each in asked]
    of = max(range(len(asked)), key=lambda index: max(lengths[index]))
    return asked[of].take([lengths[of].index(max(lengths[of]))])


class Programs:
    """The programs of a model on a core, each lowered once for all questions of its lengths.

    Args:
        network: The integer model.
        config: The core's knobs.
        choices: What is chosen of the lowering.
    """

    def __init__(self, network: Network, config: CoreConfig, choices: Choices = MAPPER) -> None:
        self.network, self.config, self.choices = network, config, choices
        self._lowered: dict[tuple[int, int, bool], Program] = {}

    def of(self, inputs: Inputs, trace: bool = False) -> Program:
        """The program of a question of the same lengths; with `trace` it stores every tensor.

        Raises:
            swopt.compiler.lowering.LoweringError: The model does not fit the core.
        """
        key = (*_lengths(inputs), trace)
        if key not in self._lowered:
            self._lowered[key] = lower(
                self.network, inputs, self.config, choices=self.choices, trace=trace
            )
        return self._lowered[key]


def _lengths(inputs: Inputs) -> tuple[int, int]:
    return len(inputs.patches), len(inputs.words)


def run_on_core(
    inputs: Sequence[Inputs],
    programs: Programs,
    engine: Engine,
    dram: Dram,
    units: UnitLatencies,
) -> ModelOnCore:
    """Runs the inference of each question.

    Args:
        inputs: What is asked, as the model's host part gives it.
        programs: The integer model on its core.
        engine: Runs the programs.
        dram: How its DRAM answers, for the prediction.
        units: Latencies of the core's units, likewise.

    Raises:
        NotBitExact: A value differs; the message names tensor and place.
        swopt.compiler.lowering.LoweringError: The model does not fit the core.
        evaluators.silicon.simulation.SimulationError: The netlist hung or broke its protocol.
        evaluators.silicon.gates.GatesError: The mapped netlist does something else than its RTL.
    """
    network, config = programs.network, programs.config
    latencies = CoreLatencies.of(units)
    traced = [programs.of(question, trace=True) for question in inputs]
    # The simulator leaves Python alone, so a second thread takes its share of the time.
    with ThreadPoolExecutor(1) as beside:
        held = [
            beside.submit(hold_to_model, network, question, program, engine)
            for question, program in zip(inputs, traced, strict=True)
        ]
        timed: dict[tuple[int, int], _Timed] = {}
        try:
            for question in inputs:
                if (lengths := _lengths(question)) not in timed:
                    program = programs.of(question)
                    predicted = timeline(program.commands, config, dram, latencies).total_cycles
                    timed[lengths] = _timed(network, question, program, engine, predicted)
            compared = [values for each in held for values in each.result()]
        except BaseException:
            beside.shutdown(cancel_futures=True)
            raise
    asked = [timed[_lengths(question)] for question in inputs]
    return ModelOnCore(
        cycles=tuple(each.cycles for each in asked),
        predicted_cycles=tuple(each.predicted_cycles for each in asked),
        operator_cycles=dict(sum((Counter(each.operator_cycles) for each in asked), Counter())),
        traffic=sum((traffic(each.commands, config) for each in asked), Traffic()),
        activation_words=max(each.activation_words for each in asked),
        compared_tensors=len(compared),
        compared_values=sum(compared),
        power=tuple(each.power for each in asked if each.power is not None),
        engine=engine.name,
    )


@dataclass(frozen=True)
class _Timed:
    """How long the program of questions of some lengths takes."""

    commands: Sequence[AnyCommand]
    activation_words: int
    cycles: int
    predicted_cycles: int
    operator_cycles: Mapping[str, int]
    power: CorePower | None


def _timed(
    network: Network, inputs: Inputs, program: Program, engine: Engine, predicted_cycles: int
) -> _Timed:
    from swopt.compiler import twin

    program = replace(program, dram=with_inputs(program, inputs))
    ran = engine.run(program, predicted_cycles)
    hold_answer(twin.tensors(network, inputs), program, ran.dram)
    by_kind: dict[str, int] = {}
    shares = completed_cycles(program, network, ran.completed)
    for operator, share in zip(network.operators, shares, strict=True):
        by_kind[kind(operator)] = by_kind.get(kind(operator), 0) + share
    return _Timed(
        program.commands,
        program.activation_words,
        ran.cycles,
        predicted_cycles,
        by_kind,
        ran.power,
    )


def hold_to_model(
    network: Network, inputs: Inputs, traced: Program, engine: Engine
) -> tuple[int, ...]:
    """Compares every tensor of one inference with the integer model.

    Args:
        network: The integer model.
        inputs: The question's tensors.
        traced: The program that stores every tensor, of a question of the same lengths.
        engine: Runs it.

    Returns:
        The number of values of each tensor, all equal.

    Raises:
        NotBitExact: A value differs, or a tensor is not stored.
    """
    from swopt.compiler import twin

    program = replace(traced, dram=with_inputs(traced, inputs))
    after = engine.run(program).dram
    expected = twin.results(network, inputs)
    stored = {result.name for result in program.results} | {network.logits}
    if missing := {operator.y for operator in network.operators} - stored:
        raise NotBitExact(f"the program stores no tensor {', '.join(sorted(missing))} to compare")
    for result in program.results:
        found = unpack_result(program, result, after)
        _hold(result.name, found, expected[result.operator])
    names = (operator.y for operator in network.operators)
    hold_answer(dict(zip(names, expected, strict=True)), program, after)
    return tuple(expected[result.operator].size for result in program.results)


def hold_answer(expected: Mapping[str, NDArray[Any]], program: Program, after: Bytes) -> None:
    """Holds logits and token in the DRAM after a program to the integer model's.

    Args:
        expected: The integer model's tensors by name, as `twin.tensors` gives them.
        program: What ran.
        after: The DRAM afterwards.

    Raises:
        NotBitExact: A logit or the token is another one.
    """
    if program.logits is None:
        return
    name = program.logits.name
    logits = expected[name]
    _hold(name, unpack(program, after)[name], logits)
    answer = int(np.argmax(logits[-1]))
    if token(program, after) != answer:
        raise NotBitExact(
            f"the core's token is {token(program, after)}, the integer model's {answer}"
        )


def _hold(name: str, found: NDArray[Any], expected: NDArray[Any]) -> None:
    different = np.argwhere(found != expected)
    if len(different):
        row, channel = (int(index) for index in different[0])
        raise NotBitExact(
            f"tensor {name}: the core gives {found[row, channel]} at token {row}, channel "
            f"{channel}, the integer model {expected[row, channel]}; {len(different)} of "
            f"{found.size} values differ"
        )
