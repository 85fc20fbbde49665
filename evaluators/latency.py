"""Cycles of a model on a core: every linear layer through the RTL, bit for bit checked.

A question's linear layers run one after the other as the programs that lowering writes. What the
netlist sends back is compared with the integer model byte by byte, and its cycles with the closed
formula of `hwlib.cycles`; a difference in either is an error, not a figure.

Without a C++ compiler the core runs in Amaranth's simulator, some hundred cycles a second: then one
tile of each shape of layer is run and compared, and the cycles of the rest are the formula's.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from evaluators.silicon.simulation import SimulationResult, simulate
from hwlib.config import AcceleratorConfig
from hwlib.cycles import SHIPPED_TIMINGS, Timings, command_cycles, program_cycles
from hwlib.frozen import Frozen
from hwlib.isa import Command
from hwlib.traffic import Traffic, program_traffic
from swopt.compiler.lowering import Program, lower_matmul, unpack
from swopt.compressed import CompressedModel, LinearTrace
from swopt.techniques.quantization import packed_bits
from swopt.workloads.vqa import Questions
from swopt.workloads.workload import Workload


class NotBitExact(Exception):
    """The netlist computed something else than the integer model."""


class CyclesDiffer(Exception):
    """The netlist took another number of cycles than the formula says."""


class LayerOnCore(Frozen):
    """One linear layer of one question on the core."""

    name: str
    """The layer's name."""

    question: int
    """Index of the question among those that were simulated."""

    rows: int
    """Rows of the activations: tokens."""

    depth: int
    """Length of the inner products."""

    channels: int
    """Output channels."""

    weight_bits: int
    """Bits of a weight as the link carries it."""

    cycles: int
    """Cycles of the layer's program."""


class ModelOnCore(Frozen):
    """The linear layers of some questions on the core."""

    questions: int
    """Questions that were simulated, one of each image set."""

    layers: tuple[LayerOnCore, ...]
    """Each layer of each question, in order of execution."""

    traffic: Traffic
    """What all programs together moved and multiplied."""

    compared_values: int
    """Outputs that were compared with the integer model, all equal."""

    engine: str
    """What simulated the netlist."""

    @property
    def cycles_per_question(self) -> float:
        """Mean cycles of the covered operators of one question."""
        return sum(layer.cycles for layer in self.layers) / self.questions


def one_question_a_set(workload: Workload) -> Questions:
    """The first validation question of each image set: what the RTL is run on."""
    questions = workload.validation()
    firsts = [questions.sets.index(name) for name in dict.fromkeys(questions.sets)]
    return questions.take(firsts)


def run_on_core(
    model: CompressedModel,
    questions: Questions,
    rtlil: str,
    config: AcceleratorConfig,
    timings: Timings,
    cache_dir: Path,
) -> ModelOnCore:
    """Runs every linear layer of the questions' inferences on the netlist.

    Args:
        model: The compressed model.
        questions: What is asked; one inference each.
        rtlil: The linked netlist of `config`.
        config: The core's knobs.
        timings: The schedules of the netlist's units.
        cache_dir: Where built simulators are kept.

    Raises:
        NotBitExact: An output differs; the message names layer and place.
        CyclesDiffer: A command took other cycles than the formula; the message names it.
        swopt.compiler.lowering.LoweringError: A layer does not fit the core.
        evaluators.silicon.simulation.SimulationError: The netlist hung or broke its protocol.
    """
    tally = _Tally(config, timings)
    for trace in model.record(questions):
        program = lower(trace, config, timings)
        result = simulate(
            rtlil, program.commands, program.load_beats, program.store_bytes, cache_dir
        )
        tally.check(trace, program, result)
        tally.count(trace, program)
    return tally.result(len(questions), "verilator, every layer")


def sample_on_core(
    model: CompressedModel, questions: Questions, config: AcceleratorConfig
) -> ModelOnCore:
    """What `run_on_core` finds, without a compiler: a sample is simulated, the rest computed.

    Amaranth's simulator runs the shipped sources. One tile of each shape of layer goes through it
    and is compared; the cycles of all programs are those of the formula.

    Raises:
        NotBitExact, CyclesDiffer, swopt.compiler.lowering.LoweringError,
        evaluators.silicon.simulation.SimulationError: As `run_on_core`.
    """
    from evaluators.silicon.interpreted import simulate_interpreted

    tally = _Tally(config, SHIPPED_TIMINGS)
    array = config.array
    seen = set()
    for trace in model.record(questions):
        shape = (trace.x_q.shape[1], trace.layer.output, packed_bits(trace.layer.weight_bits))
        if shape not in seen:
            seen.add(shape)
            tile = replace(trace, y_q=trace.y_q[: array.rows, : array.columns])
            program = lower(tile, config, SHIPPED_TIMINGS)
            result = simulate_interpreted(
                config, program.commands, program.load_beats, program.store_bytes
            )
            tally.check(tile, program, result)
        tally.count(trace, lower(trace, config, SHIPPED_TIMINGS))
    return tally.result(len(questions), "amaranth, one tile of each shape, other cycles by formula")


class _Tally:
    """Adds up what the layers of some questions took, and holds each to model and formula."""

    def __init__(self, config: AcceleratorConfig, timings: Timings) -> None:
        self._config, self._timings = config, timings
        self._layers: list[LayerOnCore] = []
        self._traffic = Traffic()
        self._compared = 0

    def check(self, trace: LinearTrace, program: Program, result: SimulationResult) -> None:
        """Holds a simulated program to the integer model and to the formula."""
        _check_outputs(trace, unpack(program, result.store))
        _check_cycles(trace, program.commands, result, self._config, self._timings)
        self._compared += trace.y_q.size

    def count(self, trace: LinearTrace, program: Program) -> None:
        """Counts a layer's cycles, which `check` held equal to the formula's, and its traffic."""
        cycles = program_cycles(program.commands, self._config, self._timings)
        self._layers.append(_on_core(trace, cycles))
        self._traffic += program_traffic(program.commands, self._config)

    def result(self, questions: int, engine: str) -> ModelOnCore:
        """All of it."""
        return ModelOnCore(
            questions=questions,
            layers=tuple(self._layers),
            traffic=self._traffic,
            compared_values=self._compared,
            engine=engine,
        )


def lower(trace: LinearTrace, config: AcceleratorConfig, timings: Timings) -> Program:
    """The program of one recorded linear layer on a core, or of the upper left part of it.

    Rows and channels are those of `trace.y_q`, which may be fewer than the layer has.
    """
    layer = trace.layer
    rows, channels = trace.y_q.shape
    requantized = layer.output == "int8"
    return lower_matmul(
        trace.x_q[:rows],
        layer.weight[:channels].numpy(),
        layer.bias[:channels].numpy(),
        layer.multiplier[:channels].numpy() if requantized else None,
        layer.shift[:channels].numpy() if requantized else None,
        layer.output_zero_point if requantized else 0,
        layer.output,
        packed_bits(layer.weight_bits),
        config,
        timings,
    )


def _check_outputs(trace: LinearTrace, y: np.ndarray) -> None:
    different = np.argwhere(y != trace.y_q)
    if len(different):
        row, channel = (int(index) for index in different[0])
        raise NotBitExact(
            f"layer {trace.name}: the RTL gives {y[row, channel]} at row {row}, channel {channel}, "
            f"the integer model {trace.y_q[row, channel]}; "
            f"{len(different)} of {y.size} outputs differ"
        )


def _check_cycles(
    trace: LinearTrace,
    commands: Sequence[Command],
    result: SimulationResult,
    config: AcceleratorConfig,
    timings: Timings,
) -> None:
    for index, (command, cycles) in enumerate(zip(commands, result.cycles, strict=True)):
        formula = command_cycles(command, config, timings)
        if cycles != formula:
            raise CyclesDiffer(
                f"layer {trace.name}: command {index}, {command.kind}, took {cycles} cycles "
                f"on the RTL and {formula} by the formula"
            )


def _on_core(trace: LinearTrace, cycles: int) -> LayerOnCore:
    rows, depth = trace.x_q.shape
    return LayerOnCore(
        name=trace.name,
        question=trace.question,
        rows=rows,
        depth=depth,
        channels=trace.y_q.shape[1],
        weight_bits=packed_bits(trace.layer.weight_bits),
        cycles=cycles,
    )
